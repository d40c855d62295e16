/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/tls/tls_internal.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/tls/hello.h"
#include "gateway/tls/suites.h"

#define HELD_MAX \
    (SP_HELLO_MAX * 2U) /* a message in tiny records carries five bytes more for each */

static bool is_key_failure(const struct sp_tls *tls, int code)
{
    return sp_tls_attached(tls)->answered &&
           (code == GNUTLS_E_DECRYPTION_FAILED || code == GNUTLS_E_ERROR_IN_FINISHED_PACKET ||
            (sp_tls_attached(tls)->suite == NULL && code != GNUTLS_E_FATAL_ALERT_RECEIVED));
}

static void finish(struct sp_tls *tls)
{
    gnutls_session_t session = sp_tls_attached(tls)->session;
    sp_tls_forget_psk(tls);
    sp_flow_forget(tls->flow);
    if (sp_tls_attached(tls)->server != NULL &&
        gnutls_session_ext_master_secret_status(session) == 0 &&
        gnutls_protocol_get_version(session) == GNUTLS_TLS1_2) {
        sp_tls_refuse(tls, GNUTLS_A_HANDSHAKE_FAILURE, "no extended master secret");
    } else {
        tls->state = SP_TLS_OPEN;
        sp_tls_attached(tls)->opened = true;
        sp_tls_detach(tls);
    }
}

static void run_handshake(struct sp_tls *tls)
{
    for (;;) {
        size_t before = tls->flow->in.len;
        int code = gnutls_handshake(sp_tls_attached(tls)->session);
        if (code == 0) {
            finish(tls);
            return;
        }
        if (code == GNUTLS_E_AGAIN || code == GNUTLS_E_INTERRUPTED) {
            /* It also says so after each record of a message that comes in several. */
            if (tls->flow->in.len == 0 || tls->flow->in.len == before) {
                return;
            }
            continue;
        }
        if (code == GNUTLS_E_WARNING_ALERT_RECEIVED || code == GNUTLS_E_GOT_APPLICATION_DATA) {
            if (++sp_tls_attached(tls)->idle_records > SP_TLS_IDLE_RECORDS_MAX) {
                sp_tls_refuse(tls, GNUTLS_A_UNEXPECTED_MESSAGE, "too many warning alerts");
                return;
            }
            continue;
        }
        (void)gnutls_alert_send_appropriate(sp_tls_attached(tls)->session, code);
        tls->wrong_key = is_key_failure(tls, code);
        sp_tls_fail(tls, code,
                    tls->wrong_key && sp_tls_attached(tls)->decoy
                        ? "suite not allowed for this device"
                        : NULL);
        return;
    }
}

/* Held bytes go to the library first, then what came with this call. */
static void feed(struct sp_tls *tls)
{
    if (tls->flow->held_len == 0) {
        run_handshake(tls);
        return;
    }
    if (sp_flow_hold(tls->flow, tls->flow->in.len, HELD_MAX) != SP_OK) {
        sp_tls_fail(tls, 0, "handshake message too large");
        return;
    }
    uint8_t *held = tls->flow->held;
    tls->flow->in = sp_view(held, tls->flow->held_len);
    tls->flow->held = NULL;
    tls->flow->held_len = 0;
    run_handshake(tls);
    if (tls->flow->in.len > 0 && tls->state == SP_TLS_OPEN) {
        /* Application data glued behind the client's Finished: sp_tls_read() takes it from here. */
        memmove(held, tls->flow->in.ptr, tls->flow->in.len);
        tls->flow->held = held;
        tls->flow->held_len = (uint32_t)tls->flow->in.len;
    } else {
        free(held);
    }
    tls->flow->in = (struct sp_view){NULL, 0};
}

/* Wait for the message that this stage looks at; SP_ERR_AGAIN while it is not whole. */
static enum sp_err await_message(struct sp_tls *tls)
{
    if (tls->flow->held_len > 0) {
        SP_TRY(sp_flow_hold(tls->flow, tls->flow->in.len, HELD_MAX));
    }
    enum sp_err err = sp_tls_look(tls);
    if ((err == SP_ERR_AGAIN || sp_tls_attached(tls)->stage == SP_TLS_STAGE_PSK) &&
        tls->flow->in.len > 0) {
        SP_TRY(sp_flow_hold(tls->flow, tls->flow->in.len, HELD_MAX));
    }
    return err;
}

bool sp_tls_greet(struct sp_tls *tls)
{
    struct sp_tls_attached *attached = sp_tls_attached(tls);
    if (sp_flow_hold(tls->flow, tls->flow->in.len, HELD_MAX) != SP_OK) {
        tls->flow->in = (struct sp_view){NULL, 0};
        attached->flooded = true;
        return true;
    }
    uint8_t scratch[SP_HELLO_MAX];
    struct sp_view body;
    return sp_hello_gather(sp_view(tls->flow->held, tls->flow->held_len), SP_HELLO_CLIENT_HELLO,
                           scratch, &body) != SP_ERR_AGAIN;
}

static void step(struct sp_tls *tls)
{
    enum sp_err err = SP_OK;
    if (sp_tls_attached(tls)->session == NULL && !sp_tls_server_begin(tls)) {
        sp_tls_fail(tls, GNUTLS_E_MEMORY_ERROR, NULL);
        return;
    }
    if (sp_tls_attached(tls)->flooded) {
        sp_tls_refuse(tls, GNUTLS_A_DECODE_ERROR, "handshake message too large");
        return;
    }
    if (sp_tls_attached(tls)->stage == SP_TLS_STAGE_HELLO ||
        sp_tls_attached(tls)->stage == SP_TLS_STAGE_KEY) {
        err = await_message(tls);
    }
    if (tls->state == SP_TLS_CLOSED) {
        return;
    }
    if (err == SP_OK && sp_tls_attached(tls)->stage == SP_TLS_STAGE_PSK) {
        tls->state = SP_TLS_NEED_PSK;
    } else if (err == SP_OK) {
        feed(tls);
    } else if (err != SP_ERR_AGAIN) {
        sp_tls_refuse(tls, GNUTLS_A_DECODE_ERROR, "handshake message too large");
    }
}

enum sp_tls_state sp_tls_step(struct sp_tls *tls, struct sp_tls_out *out)
{
    if (tls->state == SP_TLS_HANDSHAKE) {
        sp_tls_lend(tls, out);
        step(tls);
        sp_tls_lend(tls, NULL);
    }
    return sp_tls_state(tls);
}

void sp_tls_set_psk(struct sp_tls *tls, struct sp_view psk, uint32_t suites)
{
    if (tls->state != SP_TLS_NEED_PSK) {
        return;
    }
    sp_tls_attached(tls)->psk = malloc(SP_PSK_MAX);
    if (sp_tls_attached(tls)->psk == NULL) {
        sp_tls_fail(tls, GNUTLS_E_MEMORY_ERROR, NULL);
        return;
    }
    uint32_t tls13 = SP_SUITES_PROFILE_SMALL | SP_SUITES_FORWARD_SECRET | SP_SUITES_ALL;
    uint32_t sets = sp_tls_attached(tls)->suite == NULL ? tls13 : sp_tls_attached(tls)->suite->sets;
    sp_tls_attached(tls)->decoy = suites != 0 && (sets & suites) == 0;
    struct sp_view used = sp_view_first(psk, SP_PSK_MAX);
    if (sp_tls_attached(tls)->decoy) {
        /* The same end as a wrong key: an outsider learns nothing about the row. */
        (void)gnutls_rnd(GNUTLS_RND_NONCE, sp_tls_attached(tls)->psk, used.len);
    } else {
        sp_copy(sp_tls_attached(tls)->psk, used.ptr, used.len);
    }
    sp_tls_attached(tls)->psk_len = used.len;
    sp_tls_attached(tls)->answered = true;
    sp_tls_attached(tls)->stage = SP_TLS_STAGE_REST;
    tls->state = SP_TLS_HANDSHAKE;
}
