/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* Any bytes as a record; what is accepted must fit into the documented buffers, as JSON of both kinds. */
#include "libs/senml/senml.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition) {
        abort();
    }
}

static void check_number(struct sp_decimal number)
{
    uint8_t text[SP_DECIMAL_TEXT_MAX];
    struct sp_writer w;
    sp_writer_init(&w, text, sizeof(text));
    sp_decimal_write(&w, number);
    require(w.err == SP_OK);
    require(sp_decimal_compare(number, sp_decimal_normal(number)) == 0);
    double back = sp_decimal_to_double(number);
    require(back - back == 0 || number.exponent > 280);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t out[SP_SENML_JSON_MAX(4096)];
    struct sp_senml_record record;
    struct sp_senml_context context = {.device = SP_VIEW_LIT("dev1"),
                                       .accepted_ms = 1800000000123,
                                       .protection = "clear",
                                       .message_id = SP_VIEW_LIT("gw-1/1")};
    if (size > 4096 || sp_senml_parse(sp_view(data, size), context.device, &record) != SP_OK) {
        return 0;
    }
    require(record.count >= 1 && record.count <= SP_SENML_ENTRIES_MAX);
    for (size_t i = 0; i < record.count; i++) {
        check_number(record.entries[i].number);
        check_number(record.entries[i].time);
    }
    struct sp_writer w;
    sp_writer_init(&w, out, SP_SENML_JSON_MAX(size));
    sp_senml_to_json(&record, &context, &w);
    require(w.err == SP_OK);
    sp_writer_init(&w, out, SP_SENML_JSON_MAX(size));
    sp_senml_to_senml_json(&record, &context, &w);
    require(w.err == SP_OK);
    return 0;
}
