/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "bench/fleet/tls.h"

#include "libs/link/link.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <stdlib.h>
#include <string.h>

struct sp_fleet_tls {
    gnutls_session_t session;
    struct sp_fleet_tls_key key;
    sp_fleet_tls_send *send;
    void *context;
    struct sp_view input;
    int error;
};

/* GnuTLS takes no TLS 1.2 list without a signature algorithm, though PSK suites use none. */
static const struct {
    const char *name;
    const char *priority;
} suites[] = {
    {"ccm-8", "NONE:+VERS-TLS1.2:+PSK:+AES-128-CCM-8:+AEAD:+COMP-NULL:+SIGN-RSA-SHA256"},
    {"ccm", "NONE:+VERS-TLS1.2:+PSK:+AES-128-CCM:+AEAD:+COMP-NULL:+SIGN-RSA-SHA256"},
    {"gcm", "NONE:+VERS-TLS1.2:+PSK:+AES-128-GCM:+AEAD:+COMP-NULL:+SIGN-RSA-SHA256"},
};

static gnutls_priority_t priority;
static gnutls_psk_client_credentials_t credentials;

/* GnuTLS frees what it is given. */
static int copy_datum(struct sp_view from, gnutls_datum_t *to)
{
    to->data = gnutls_malloc(from.len);
    if (to->data == NULL) {
        return -1;
    }
    sp_copy(to->data, from.ptr, from.len);
    to->size = (unsigned)from.len;
    return 0;
}

static int on_credentials(gnutls_session_t session, gnutls_datum_t *identity, gnutls_datum_t *psk)
{
    const struct sp_fleet_tls *tls = gnutls_session_get_ptr(session);
    if (copy_datum(tls->key.identity, identity) != 0) {
        return -1;
    }
    return copy_datum(tls->key.psk, psk);
}

enum sp_err sp_fleet_tls_init(const char *suite)
{
    for (size_t i = 0; i < sizeof(suites) / sizeof(suites[0]); i++) {
        if (strcmp(suites[i].name, suite) != 0) {
            continue;
        }
        if (gnutls_priority_init(&priority, suites[i].priority, NULL) != GNUTLS_E_SUCCESS ||
            gnutls_psk_allocate_client_credentials(&credentials) != GNUTLS_E_SUCCESS) {
            return SP_ERR_CRYPTO;
        }
        gnutls_psk_set_client_credentials_function2(credentials, on_credentials);
        return SP_OK;
    }
    return SP_ERR_ARGUMENT;
}

void sp_fleet_tls_deinit(void)
{
    gnutls_psk_free_client_credentials(credentials);
    gnutls_priority_deinit(priority);
    credentials = NULL;
    priority = NULL;
}

static ssize_t on_push(gnutls_transport_ptr_t ptr, const void *data, size_t len)
{
    struct sp_fleet_tls *tls = ptr;
    tls->send(tls->context, sp_view(data, len));
    return (ssize_t)len;
}

static ssize_t on_pull(gnutls_transport_ptr_t ptr, void *data, size_t len)
{
    struct sp_fleet_tls *tls = ptr;
    if (tls->input.len == 0) {
        gnutls_transport_set_errno(tls->session, EAGAIN);
        return -1;
    }
    struct sp_view part = sp_view_first(tls->input, len);
    sp_copy(data, part.ptr, part.len);
    tls->input = sp_view_from(tls->input, part.len);
    return (ssize_t)part.len;
}

enum sp_err sp_fleet_tls_create(const struct sp_fleet_tls_key *key, sp_fleet_tls_send *send,
                                void *context, struct sp_fleet_tls **out)
{
    *out = NULL;
    struct sp_fleet_tls *tls = calloc(1, sizeof(*tls));
    if (tls == NULL) {
        return SP_ERR_NOMEM;
    }
    *tls = (struct sp_fleet_tls){.key = *key, .send = send, .context = context};
    unsigned flags = GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_TICKETS | GNUTLS_NO_SIGNAL;
    if (gnutls_init(&tls->session, flags) != GNUTLS_E_SUCCESS) {
        free(tls);
        return SP_ERR_NOMEM;
    }
    gnutls_session_set_ptr(tls->session, tls);
    gnutls_transport_set_ptr(tls->session, tls);
    gnutls_transport_set_push_function(tls->session, on_push);
    gnutls_transport_set_pull_function(tls->session, on_pull);
    if (gnutls_priority_set(tls->session, priority) != GNUTLS_E_SUCCESS ||
        gnutls_credentials_set(tls->session, GNUTLS_CRD_PSK, credentials) != GNUTLS_E_SUCCESS) {
        sp_fleet_tls_destroy(tls);
        return SP_ERR_CRYPTO;
    }
    *out = tls;
    return SP_OK;
}

void sp_fleet_tls_destroy(struct sp_fleet_tls *tls)
{
    if (tls != NULL) {
        gnutls_deinit(tls->session);
        free(tls);
    }
}

void sp_fleet_tls_input(struct sp_fleet_tls *tls, struct sp_view ciphertext)
{
    tls->input = ciphertext;
}

enum sp_err sp_fleet_tls_handshake(struct sp_fleet_tls *tls)
{
    int got = gnutls_handshake(tls->session);
    while (got == GNUTLS_E_WARNING_ALERT_RECEIVED || got == GNUTLS_E_INTERRUPTED) {
        got = gnutls_handshake(tls->session);
    }
    if (got == GNUTLS_E_AGAIN) {
        return SP_ERR_AGAIN;
    }
    tls->error = got;
    return got == GNUTLS_E_SUCCESS ? SP_OK : SP_ERR_UNTRUSTED;
}

enum sp_err sp_fleet_tls_read(struct sp_fleet_tls *tls, uint8_t *buf, size_t cap, size_t *len)
{
    ssize_t got = gnutls_record_recv(tls->session, buf, cap);
    if (got > 0) {
        *len = (size_t)got;
        return SP_OK;
    }
    if (got == GNUTLS_E_AGAIN || got == GNUTLS_E_INTERRUPTED) {
        return SP_ERR_AGAIN;
    }
    tls->error = (int)got;
    return SP_ERR_CLOSED;
}

enum sp_err sp_fleet_tls_write(struct sp_fleet_tls *tls, struct sp_view plain)
{
    ssize_t sent = gnutls_record_send(tls->session, plain.ptr, plain.len);
    if (sent == (ssize_t)plain.len) {
        return SP_OK;
    }
    tls->error = (int)sent;
    return SP_ERR_CLOSED;
}

void sp_fleet_tls_close(struct sp_fleet_tls *tls)
{
    (void)gnutls_bye(tls->session, GNUTLS_SHUT_WR);
}

enum sp_err sp_fleet_tls_exporter(struct sp_fleet_tls *tls, uint8_t out[32])
{
    static const char label[] = SP_LINK_EXPORTER_LABEL;
    /* "" and not NULL: the context is present and empty (docs/protocol.md 3.1) */
    int got = gnutls_prf_rfc5705(tls->session, sizeof(label) - 1U, label, 0, "",
                                 SP_LINK_EXPORTER_LEN, (char *)out);
    return got == GNUTLS_E_SUCCESS ? SP_OK : SP_ERR_CRYPTO;
}

const char *sp_fleet_tls_error(const struct sp_fleet_tls *tls)
{
    if (tls->error == GNUTLS_E_FATAL_ALERT_RECEIVED) {
        return gnutls_alert_get_name(gnutls_alert_get(tls->session));
    }
    return tls->error == 0 ? "closed" : gnutls_strerror(tls->error);
}
