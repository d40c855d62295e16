/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/tls/tls_internal.h"

#include "gateway/tls/suites.h"

bool sp_tls_can_pack(const struct sp_tls *tls)
{
    return tls->state == SP_TLS_OPEN && !tls->attached && !tls->broken &&
           (tls->flow == NULL ||
            (tls->flow->in.len == 0 && tls->flow->held_len <= SP_RECORD_WIRE_MAX));
}

enum sp_err sp_tls_pack(const struct sp_tls *tls, struct sp_writer *w)
{
    const struct sp_tls_record *record = &tls->record;
    if (!sp_tls_can_pack(tls)) {
        return SP_ERR_UNSUPPORTED;
    }
    sp_write_u16(w, sp_tls_suites[tls->suite].code);
    sp_write_u8(w, record->suite);
    sp_write_u8(w, record->quiet);
    sp_write_u16(w, record->send_max);
    sp_write_u64(w, record->read_sequence);
    sp_write_u64(w, record->write_sequence);
    sp_write_view(w, SP_VIEW_ARRAY(record->read_key));
    sp_write_view(w, SP_VIEW_ARRAY(record->write_key));
    sp_write_view(w, SP_VIEW_ARRAY(record->read_salt));
    sp_write_view(w, SP_VIEW_ARRAY(record->write_salt));
    sp_write_view(w, SP_VIEW_ARRAY(tls->exporter));
    struct sp_view held =
        tls->flow == NULL ? sp_view(NULL, 0) : sp_view(tls->flow->held, tls->flow->held_len);
    sp_write_u16(w, (uint16_t)held.len);
    sp_write_view(w, held);
    return w->err;
}

/* The position of a suite in our table, which may be another one in another build. */
static bool find_suite(uint16_t code, uint8_t *position)
{
    for (size_t i = 0; i < sp_tls_suite_count; i++) {
        if (sp_tls_suites[i].code == code) {
            *position = (uint8_t)i;
            return true;
        }
    }
    return false;
}

static void unpack_bytes(struct sp_reader *r, uint8_t *to, size_t len)
{
    struct sp_view bytes = sp_read_bytes(r, len);
    sp_copy(to, bytes.ptr, bytes.len);
}

static enum sp_err unpack(struct sp_reader *r, struct sp_tls *tls)
{
    struct sp_tls_record *record = &tls->record;
    bool known = find_suite(sp_read_u16(r), &tls->suite);
    record->suite = sp_read_u8(r);
    record->quiet = sp_read_u8(r);
    record->send_max = sp_read_u16(r);
    record->read_sequence = sp_read_u64(r);
    record->write_sequence = sp_read_u64(r);
    unpack_bytes(r, record->read_key, sizeof(record->read_key));
    unpack_bytes(r, record->write_key, sizeof(record->write_key));
    unpack_bytes(r, record->read_salt, sizeof(record->read_salt));
    unpack_bytes(r, record->write_salt, sizeof(record->write_salt));
    unpack_bytes(r, tls->exporter, sizeof(tls->exporter));
    struct sp_view held = sp_read_bytes(r, sp_read_u16(r));
    if (r->err != SP_OK || !known || record->suite < SP_RECORD_CCM ||
        record->suite > SP_RECORD_GCM || record->send_max == 0 ||
        record->send_max > SP_RECORD_PLAIN_MAX || held.len > SP_RECORD_WIRE_MAX) {
        return SP_ERR_MALFORMED;
    }
    if (held.len == 0) {
        return SP_OK;
    }
    if (!sp_tls_may_flow(tls)) {
        return SP_ERR_NOMEM;
    }
    tls->flow->in = held;
    return sp_flow_hold(tls->flow, held.len, held.len);
}

enum sp_err sp_tls_unpack(struct sp_reader *r, struct sp_tls **out)
{
    *out = NULL;
    struct sp_tls *tls = sp_slab_take(&sp_tls_sessions);
    if (tls == NULL) {
        return SP_ERR_NOMEM;
    }
    tls->state = SP_TLS_OPEN;
    enum sp_err err = unpack(r, tls);
    if (err != SP_OK) {
        sp_tls_destroy(tls);
        return err;
    }
    *out = tls;
    return SP_OK;
}
