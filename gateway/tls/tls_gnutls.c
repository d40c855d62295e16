/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/tls/tls_internal.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/uio.h>

#include "gateway/tls/suites.h"

struct sp_slab sp_tls_sessions = SP_SLAB_INIT(sizeof(struct sp_tls));

/* ---- transport ---- */

/* Where in a record the bytes end that GnuTLS has taken: it does not tell. */
static void follow(struct sp_tls_attached *attached, struct sp_view taken)
{
    while (taken.len > 0) {
        size_t len = 1;
        if (attached->head_len < SP_RECORD_HEADER) {
            attached->head[attached->head_len++] = taken.ptr[0];
            attached->record_left = (size_t)attached->head[3] << 8 | attached->head[4];
        } else {
            len = taken.len < attached->record_left ? taken.len : attached->record_left;
            attached->record_left -= len;
        }
        if (attached->head_len == SP_RECORD_HEADER && attached->record_left == 0) {
            attached->head_len = 0;
        }
        taken = sp_view_from(taken, len);
    }
}

static ssize_t pull(gnutls_transport_ptr_t ptr, void *buf, size_t cap)
{
    struct sp_tls *tls = ptr;
    size_t len = tls->flow->in.len < cap ? tls->flow->in.len : cap;
    if (len == 0) {
        gnutls_transport_set_errno(sp_tls_attached(tls)->session, EAGAIN);
        return -1;
    }
    sp_copy(buf, tls->flow->in.ptr, len);
    follow(sp_tls_attached(tls), sp_view_first(tls->flow->in, len));
    tls->flow->in = sp_view_from(tls->flow->in, len);
    return (ssize_t)len;
}

static int pull_timeout(gnutls_transport_ptr_t ptr, unsigned ms)
{
    (void)ms;
    const struct sp_tls *tls = ptr;
    return tls->flow->in.len > 0;
}

static ssize_t push(gnutls_transport_ptr_t ptr, const giovec_t *parts, int count)
{
    struct sp_tls *tls = ptr;
    size_t sum = 0;
    for (int i = 0; i < count; i++) {
        if (sp_tls_attached(tls)->out == NULL ||
            !sp_tls_out_append(sp_tls_attached(tls)->out, parts[i].iov_base, parts[i].iov_len)) {
            gnutls_transport_set_errno(sp_tls_attached(tls)->session, ENOMEM);
            return -1;
        }
        sum += parts[i].iov_len;
    }
    return (ssize_t)sum;
}

void sp_tls_lend(struct sp_tls *tls, struct sp_tls_out *out)
{
    if (tls->attached) {
        sp_tls_attached(tls)->out = out;
    }
}

/* ---- from the first to the last ---- */

struct sp_tls *sp_tls_create(void)
{
    struct sp_tls *tls = sp_slab_take(&sp_tls_sessions);
    struct sp_tls_attached *attached = calloc(1, sizeof(*attached));
    if (tls == NULL || attached == NULL) {
        free(attached);
        sp_slab_give(&sp_tls_sessions, tls);
        return NULL;
    }
    tls->attached = true;
    tls->flow = &attached->flow;
    return tls;
}

bool sp_tls_session_open(struct sp_tls *tls, unsigned flags)
{
    gnutls_session_t session = NULL;
    if (gnutls_init(&session, flags | GNUTLS_NONBLOCK | GNUTLS_NO_TICKETS) != 0) {
        return false;
    }
    sp_tls_attached(tls)->session = session;
    gnutls_session_set_ptr(session, tls);
    gnutls_transport_set_ptr(session, tls);
    gnutls_transport_set_pull_function(session, pull);
    gnutls_transport_set_pull_timeout_function(session, pull_timeout);
    gnutls_transport_set_vec_push_function(session, push);
    gnutls_handshake_set_timeout(session, 0);
    gnutls_handshake_set_max_packet_length(session, 64U * 1024U);
    return true;
}

void sp_tls_forget_psk(struct sp_tls *tls)
{
    struct sp_tls_attached *attached = sp_tls_attached(tls);
    if (tls->attached && attached->psk != NULL) {
        sp_wipe(attached->psk, SP_PSK_MAX);
        free(attached->psk);
        attached->psk = NULL;
        attached->psk_len = 0;
    }
}

void sp_tls_free_attached(struct sp_tls *tls, struct sp_flow *flow)
{
    struct sp_tls_attached *attached = sp_tls_attached(tls);
    sp_tls_forget_psk(tls);
    if (attached->session != NULL) {
        gnutls_deinit(attached->session);
    }
    free(attached);
    tls->attached = false;
    tls->flow = flow;
}

void sp_tls_destroy(struct sp_tls *tls)
{
    if (tls == NULL) {
        return;
    }
    if (tls->attached) {
        sp_flow_forget(tls->flow);
        sp_tls_free_attached(tls, NULL);
    }
    sp_flow_destroy(tls->flow);
    sp_wipe(tls, sizeof(*tls));
    sp_slab_give(&sp_tls_sessions, tls);
}

void sp_tls_fail(struct sp_tls *tls, int error, const char *why)
{
    if (tls->attached) {
        sp_tls_attached(tls)->error = error;
    }
    tls->state = SP_TLS_CLOSED;
    tls->broken = true;
    sp_wipe(&tls->record, sizeof(tls->record));
    sp_tls_forget_psk(tls);
    if (tls->flow != NULL) {
        tls->flow->why = why;
        sp_flow_forget(tls->flow);
    }
}

void sp_tls_refuse(struct sp_tls *tls, int alert, const char *why)
{
    (void)gnutls_alert_send(sp_tls_attached(tls)->session, GNUTLS_AL_FATAL,
                            (gnutls_alert_description_t)alert);
    sp_tls_fail(tls, 0, why);
}

/* ---- input ---- */

bool sp_tls_may_flow(struct sp_tls *tls)
{
    if (tls->flow == NULL) {
        tls->flow = sp_flow_create();
    }
    if (tls->flow == NULL) {
        sp_tls_fail(tls, GNUTLS_E_MEMORY_ERROR, NULL);
    }
    return tls->flow != NULL;
}

void sp_tls_input(struct sp_tls *tls, struct sp_view ciphertext)
{
    if (sp_tls_may_flow(tls)) {
        tls->flow->in = ciphertext;
    }
}

/* ---- what it tells ---- */

enum sp_tls_state sp_tls_state(const struct sp_tls *tls)
{
    return (enum sp_tls_state)tls->state;
}

struct sp_view sp_tls_identity(const struct sp_tls *tls)
{
    const struct sp_tls_attached *attached = sp_tls_attached(tls);
    return !tls->attached ? (struct sp_view){NULL, 0}
                          : sp_view(attached->identity, attached->identity_len);
}

const char *sp_tls_describe(const struct sp_tls *tls)
{
    static _Thread_local char text[96];
    const struct sp_tls_attached *attached = sp_tls_attached(tls);
    if (!tls->attached) {
        snprintf(text, sizeof(text), "TLS1.2 %s", sp_tls_suites[tls->suite].name);
        return text;
    }
    if (!attached->opened) {
        return attached->suite == NULL ? "TLS, nothing agreed"
                                       : attached->suite->name; /* nothing to ask yet */
    }
    const char *version = gnutls_protocol_get_name(gnutls_protocol_get_version(attached->session));
    const char *suite =
        attached->suite != NULL ? attached->suite->name : gnutls_ciphersuite_get(attached->session);
    snprintf(text, sizeof(text), "%s %s", version == NULL ? "TLS" : version,
             suite == NULL ? "?" : suite);
    return text;
}

const char *sp_tls_error(const struct sp_tls *tls)
{
    const struct sp_tls_attached *attached = sp_tls_attached(tls);
    if (tls->flow != NULL && tls->flow->why != NULL) {
        return tls->flow->why;
    }
    if (!tls->attached) {
        return "closed";
    }
    if (attached->error == GNUTLS_E_FATAL_ALERT_RECEIVED) {
        const char *alert = gnutls_alert_get_name(gnutls_alert_get(attached->session));
        return alert == NULL ? "the peer sent an alert" : alert;
    }
    if (attached->error == GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR) {
        unsigned status = gnutls_session_get_verify_cert_status(attached->session);
        static _Thread_local char text[160];
        gnutls_datum_t said = {NULL, 0};
        if (gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &said, 0) == 0) {
            snprintf(text, sizeof(text), "%.*s", (int)said.size, (const char *)said.data);
            gnutls_free(said.data);
            return text;
        }
    }
    return attached->error == 0 ? "closed" : gnutls_strerror(attached->error);
}

bool sp_tls_wrong_key(const struct sp_tls *tls)
{
    return tls->wrong_key;
}
