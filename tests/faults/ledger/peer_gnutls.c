/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "tests/faults/ledger/peer.h"

#include <gnutls/gnutls.h>
#include <stdlib.h>

struct sp_peer {
    gnutls_session_t session;
    bool shaken;
};

static gnutls_certificate_credentials_t credentials;

enum sp_err sp_peer_setup(const char *ca, const char *certificate, const char *key)
{
    bool good = gnutls_certificate_allocate_credentials(&credentials) == 0 &&
                gnutls_certificate_set_x509_trust_file(credentials, ca, GNUTLS_X509_FMT_PEM) > 0 &&
                gnutls_certificate_set_x509_key_file(credentials, certificate, key,
                                                     GNUTLS_X509_FMT_PEM) == 0;
    return good ? SP_OK : SP_ERR_ARGUMENT;
}

enum sp_err sp_peer_create(int fd, struct sp_peer **out)
{
    struct sp_peer *peer = calloc(1, sizeof(*peer));
    *out = NULL;
    if (peer == NULL) {
        return SP_ERR_NOMEM;
    }
    if (gnutls_init(&peer->session, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL) != 0) {
        free(peer);
        return SP_ERR_NOMEM;
    }
    (void)gnutls_set_default_priority(peer->session);
    (void)gnutls_credentials_set(peer->session, GNUTLS_CRD_CERTIFICATE, credentials);
    gnutls_certificate_server_set_request(peer->session, GNUTLS_CERT_REQUIRE);
    gnutls_session_set_verify_cert(peer->session, NULL, 0);
    gnutls_transport_set_int(peer->session, fd);
    *out = peer;
    return SP_OK;
}

void sp_peer_destroy(struct sp_peer *peer)
{
    if (peer != NULL) {
        gnutls_deinit(peer->session);
        free(peer);
    }
}

static enum sp_err err_of(ssize_t code)
{
    return code == GNUTLS_E_AGAIN || code == GNUTLS_E_INTERRUPTED ? SP_ERR_AGAIN : SP_ERR_CLOSED;
}

static enum sp_err shake(struct sp_peer *peer)
{
    int code = peer->shaken ? 0 : gnutls_handshake(peer->session);
    peer->shaken = peer->shaken || code == 0;
    return code == 0 ? SP_OK : err_of(code);
}

enum sp_err sp_peer_read(struct sp_peer *peer, uint8_t *buf, size_t cap, size_t *len)
{
    SP_TRY(shake(peer));
    ssize_t got = gnutls_record_recv(peer->session, buf, cap);
    if (got <= 0) {
        return got == 0 ? SP_ERR_CLOSED : err_of(got);
    }
    *len = (size_t)got;
    return SP_OK;
}

enum sp_err sp_peer_write(struct sp_peer *peer, struct sp_view plain, size_t *taken)
{
    SP_TRY(shake(peer));
    ssize_t got = gnutls_record_send(peer->session, plain.ptr, plain.len);
    if (got < 0) {
        return err_of(got);
    }
    *taken = (size_t)got;
    return SP_OK;
}
