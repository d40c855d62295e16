/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/tls/tls_internal.h"

#include <gnutls/gnutls.h>

/* ---- detached ---- */

/* The peer ends it, or has broken the rules. */
static void record_ended(struct sp_tls *tls, enum sp_err err, const struct sp_record_in *found,
                         struct sp_tls_out *out)
{
    if (err == SP_ERR_MALFORMED) {
        sp_flow_say(&tls->record, (enum sp_alert)found->alert, out);
        sp_tls_fail(tls, 0, found->why);
    } else if (found->alert == SP_ALERT_CLOSE_NOTIFY) {
        tls->state = SP_TLS_CLOSED;
    } else {
        const char *name = gnutls_alert_get_name((gnutls_alert_description_t)found->alert);
        sp_tls_fail(tls, 0, name == NULL ? found->why : name);
    }
}

static enum sp_err read_detached(struct sp_tls *tls, uint8_t *buf, size_t cap, size_t *len,
                                 struct sp_tls_out *out)
{
    struct sp_record_in found;
    if (tls->flow == NULL) {
        return SP_ERR_AGAIN;
    }
    enum sp_err err = sp_flow_read(tls->flow, &tls->record, buf, cap, &found);
    if (err == SP_OK) {
        *len = found.len;
    } else if (err == SP_ERR_AGAIN && sp_flow_is_empty(tls->flow)) {
        sp_flow_destroy(tls->flow);
        tls->flow = NULL;
    } else if (err == SP_ERR_NOMEM) {
        sp_tls_fail(tls, 0, "out of memory");
        err = SP_ERR_MALFORMED;
    } else if (err == SP_ERR_CLOSED || err == SP_ERR_MALFORMED) {
        record_ended(tls, err, &found, out);
    }
    return err;
}

static enum sp_err write_detached(struct sp_tls *tls, struct sp_view plain, struct sp_tls_out *out)
{
    enum sp_err err = sp_flow_write(&tls->record, plain, out);
    if (err != SP_OK) {
        sp_tls_fail(tls, 0, "a record cannot be made");
    }
    return err;
}

/* ---- attached ---- */

static enum sp_err read_failed(struct sp_tls *tls, int code)
{
    if (code == GNUTLS_E_REHANDSHAKE) {
        sp_tls_refuse(tls, GNUTLS_A_NO_RENEGOTIATION, "renegotiation");
        return SP_ERR_MALFORMED;
    }
    if (code == GNUTLS_E_PREMATURE_TERMINATION || code == GNUTLS_E_FATAL_ALERT_RECEIVED) {
        sp_tls_fail(tls, code, NULL);
        return SP_ERR_CLOSED;
    }
    (void)gnutls_alert_send_appropriate(sp_tls_attached(tls)->session, code);
    sp_tls_fail(tls, code, NULL);
    return SP_ERR_MALFORMED;
}

static enum sp_err read_some(struct sp_tls *tls, uint8_t *buf, size_t cap, size_t *len)
{
    for (;;) {
        ssize_t got = gnutls_record_recv(sp_tls_attached(tls)->session, buf, cap);
        if (got > 0) {
            sp_tls_attached(tls)->idle_records = 0;
            *len = (size_t)got;
            return SP_OK;
        }
        if (got == 0) {
            tls->state = SP_TLS_CLOSED;
            return SP_ERR_CLOSED;
        }
        if (got == GNUTLS_E_AGAIN || got == GNUTLS_E_INTERRUPTED) {
            if (tls->flow->in.len == 0) {
                return SP_ERR_AGAIN;
            }
        } else if (got != GNUTLS_E_WARNING_ALERT_RECEIVED) {
            return read_failed(tls, (int)got);
        }
        if (++sp_tls_attached(tls)->idle_records > SP_TLS_IDLE_RECORDS_MAX) {
            sp_tls_refuse(tls, GNUTLS_A_UNEXPECTED_MESSAGE,
                          "too many empty records or warning alerts");
            return SP_ERR_MALFORMED;
        }
    }
}

static enum sp_err read_attached(struct sp_tls *tls, uint8_t *buf, size_t cap, size_t *len)
{
    enum sp_err err = SP_ERR_AGAIN;
    if (tls->flow->held_len > 0) {
        /* What came glued to the handshake is older than what the caller gives now. */
        struct sp_view now = tls->flow->in;
        size_t held = tls->flow->held_len;
        tls->flow->in = sp_view(tls->flow->held, held);
        err = read_some(tls, buf, cap, len);
        sp_flow_unhold(tls->flow, held - tls->flow->in.len);
        tls->flow->in = now;
    }
    return err == SP_ERR_AGAIN ? read_some(tls, buf, cap, len) : err;
}

static enum sp_err write_attached(struct sp_tls *tls, struct sp_view plain)
{
    while (plain.len > 0) {
        ssize_t sent = gnutls_record_send(sp_tls_attached(tls)->session, plain.ptr, plain.len);
        if (sent <= 0) {
            sp_tls_fail(tls, (int)sent, NULL);
            return SP_ERR_CRYPTO;
        }
        plain = sp_view_from(plain, (size_t)sent);
    }
    return SP_OK;
}

/* ---- either ---- */

enum sp_err sp_tls_read(struct sp_tls *tls, uint8_t *buf, size_t cap, size_t *len,
                        struct sp_tls_out *out)
{
    if (tls->state != SP_TLS_OPEN) {
        bool starved = tls->broken && tls->flow == NULL; /* no memory for its input */
        return starved ? SP_ERR_NOMEM : SP_ERR_CLOSED;
    }
    if (!tls->attached) {
        return read_detached(tls, buf, cap, len, out);
    }
    sp_tls_lend(tls, out);
    enum sp_err err = read_attached(tls, buf, cap, len);
    sp_tls_lend(tls, NULL);
    return err;
}

bool sp_tls_has_part(const struct sp_tls *tls)
{
    bool begun = tls->attached && sp_tls_attached(tls)->head_len > 0;
    return begun || (tls->flow != NULL && !sp_flow_is_empty(tls->flow));
}

enum sp_err sp_tls_write(struct sp_tls *tls, struct sp_view plain, struct sp_tls_out *out)
{
    if (tls->state != SP_TLS_OPEN) {
        return SP_ERR_CLOSED;
    }
    if (!tls->attached) {
        return write_detached(tls, plain, out);
    }
    sp_tls_lend(tls, out);
    enum sp_err err = write_attached(tls, plain);
    sp_tls_lend(tls, NULL);
    return err;
}

void sp_tls_close(struct sp_tls *tls, struct sp_tls_out *out)
{
    bool secured = tls->state == SP_TLS_OPEN || tls->state == SP_TLS_CLOSED;
    tls->state = SP_TLS_CLOSED;
    if (tls->broken || !secured) {
        return;
    }
    if (!tls->attached) {
        sp_flow_say(&tls->record, SP_ALERT_CLOSE_NOTIFY, out);
        tls->broken = true;
        sp_wipe(&tls->record, sizeof(tls->record));
        return;
    }
    sp_tls_lend(tls, out);
    (void)gnutls_bye(sp_tls_attached(tls)->session, GNUTLS_SHUT_WR);
    sp_tls_lend(tls, NULL);
}

enum sp_err sp_tls_exporter(struct sp_tls *tls, uint8_t out[32])
{
    if (tls->state != SP_TLS_OPEN) {
        return SP_ERR_STATE;
    }
    if (tls->attached) {
        return sp_tls_make_exporter(tls, out);
    }
    sp_copy(out, tls->exporter, sizeof(tls->exporter));
    return SP_OK;
}
