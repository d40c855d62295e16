/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "bench/guard/guard.h"
#include "gateway/tls/record.h"

void sp_guard_tls_record(unsigned long times)
{
    struct sp_tls_record ours = {.suite = SP_RECORD_CCM_8, .send_max = SP_RECORD_PLAIN_MAX};
    struct sp_tls_record theirs = ours;
    struct sp_view record = SP_VIEW_LIT(SP_GUARD_RECORD);
    uint8_t wire[256];
    uint8_t plain[256];
    for (unsigned long i = 0; i < times; i++) {
        struct sp_record_in in;
        size_t len = sp_record_sealed(&ours, record.len);
        sp_guard_need(sp_record_seal(&ours, SP_RECORD_DATA, record, wire) == SP_OK, "not sealed");
        sp_guard_need(sp_record_open(&theirs, sp_view(wire, len), plain, sizeof(plain), &in) ==
                          SP_OK,
                      "not opened");
    }
}
