/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/route/record.h"

#include "libs/senml/senml.h"

const char *sp_record_check(struct sp_view payload, struct sp_view device, enum sp_records allowed)
{
    uint8_t first = payload.len == 0 ? 0 : payload.ptr[0];
    if (first == 0xD0 || first == 0xD1) {
        return "protected record without a key for it";
    }
    if (first < 0x81 || first > 0x88) {
        return "not a sensor record";
    }
    if (allowed != SP_RECORDS_ANY) {
        return "weaker than the device's records must be";
    }
    struct sp_senml_record record;
    return sp_senml_parse(payload, device, &record) == SP_OK ? NULL : "malformed record";
}
