/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/tls/tls_internal.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/tls/hello.h"
#include "gateway/tls/suites.h"

#define SUITE_MAX 64U

struct sp_tls_server {
    gnutls_psk_server_credentials_t psk;
    gnutls_certificate_credentials_t certificate; /* NULL: no RSA-PSK */
    uint32_t sets;
    gnutls_priority_t
        priority[SUITE_MAX]; /* by position in sp_tls_suites; NULL: not offered here */
    gnutls_priority_t tls13; /* NULL: not offered here */
    gnutls_priority_t any;   /* what an unacceptable client is refused with */
};

/* ---- what a listener's sessions share ---- */

/* GnuTLS looks identities up through this call. By the time it comes, keys has answered. */
static int give_psk(gnutls_session_t session, const gnutls_datum_t *name, gnutls_datum_t *key)
{
    const struct sp_tls *tls = gnutls_session_get_ptr(session);
    bool same =
        sp_tls_attached(tls)->psk != NULL &&
        sp_view_equal(sp_view(name->data, name->size),
                      sp_view(sp_tls_attached(tls)->identity, sp_tls_attached(tls)->identity_len));
    size_t len = same ? sp_tls_attached(tls)->psk_len : 32;
    key->data = gnutls_malloc(len);
    if (key->data == NULL) {
        return GNUTLS_E_MEMORY_ERROR;
    }
    key->size = (unsigned)len;
    if (same) {
        sp_copy(key->data, sp_tls_attached(tls)->psk, len);
        return 0;
    }
    return gnutls_rnd(GNUTLS_RND_NONCE, key->data, len);
}

static int make_priority(gnutls_priority_t *out, const char *version, const char *suite)
{
    char text[400];
    snprintf(text, sizeof(text),
             "NONE:+VERS-%s:%s:+GROUP-X25519:+GROUP-SECP256R1:+GROUP-SECP384R1:+GROUP-SECP521R1:"
             "+GROUP-FFDHE2048:+GROUP-FFDHE3072:+GROUP-FFDHE4096:+SIGN-ALL:+COMP-NULL:"
             "%%SERVER_PRECEDENCE",
             version, suite);
    return gnutls_priority_init(out, text, NULL);
}

static bool listener_has(const struct sp_listener_config *listener,
                         const struct sp_tls_suite *suite)
{
    if ((suite->sets & listener->suites) != 0) {
        return true;
    }
    for (char **name = listener->suite_names; name != NULL && *name != NULL; name++) {
        if (strcmp(*name, suite->name) == 0) {
            return true;
        }
    }
    return false;
}

static enum sp_err server_priorities(const struct sp_listener_config *listener,
                                     struct sp_tls_server *server, char *why, size_t why_cap)
{
    for (size_t i = 0; i < sp_tls_suite_count; i++) {
        const struct sp_tls_suite *suite = &sp_tls_suites[i];
        bool rsa = strncmp(suite->priority, "+RSA-PSK", 8) == 0;
        if (!listener_has(listener, suite) || (rsa && server->certificate == NULL)) {
            continue;
        }
        if (make_priority(&server->priority[i], "TLS1.2", suite->priority) != 0) {
            snprintf(why, why_cap, "the TLS library does not have suite %s", suite->name);
            return SP_ERR_UNSUPPORTED;
        }
    }
    const uint32_t tls13_sets = SP_SUITES_PROFILE_SMALL | SP_SUITES_FORWARD_SECRET | SP_SUITES_ALL;
    if ((listener->suites & tls13_sets) != 0 &&
        make_priority(&server->tls13, "TLS1.3", sp_tls13_priority) != 0) {
        snprintf(why, why_cap, "the TLS library does not have TLS 1.3");
        return SP_ERR_UNSUPPORTED;
    }
    if (make_priority(&server->any, "TLS1.2", "+PSK:+AES-128-CCM:+AEAD") != 0) {
        return SP_ERR_CRYPTO;
    }
    return SP_OK;
}

static enum sp_err server_names(const struct sp_listener_config *listener, char *why,
                                size_t why_cap)
{
    for (char **name = listener->suite_names; name != NULL && *name != NULL; name++) {
        if (sp_tls_suite_find(*name) == NULL) {
            snprintf(why, why_cap, "no TLS-PSK suite is called %s", *name);
            return SP_ERR_UNSUPPORTED;
        }
    }
    return SP_OK;
}

enum sp_err sp_tls_server_create(const struct sp_listener_config *listener, char *why,
                                 size_t why_cap, struct sp_tls_server **out)
{
    *out = NULL;
    _Static_assert(SUITE_MAX >= 54, "one place for each suite");
    struct sp_tls_server *server = calloc(1, sizeof(*server));
    if (server == NULL) {
        return SP_ERR_NOMEM;
    }
    enum sp_err err = SP_ERR_NOMEM;
    server->sets = listener->suites;
    if (gnutls_psk_allocate_server_credentials(&server->psk) != 0) {
        goto out;
    }
    gnutls_psk_set_server_credentials_function2(server->psk, give_psk);
    if (gnutls_psk_set_server_known_dh_params(server->psk, GNUTLS_SEC_PARAM_MEDIUM) != 0) {
        goto out;
    }
    if (listener->certificate != NULL) {
        if (gnutls_certificate_allocate_credentials(&server->certificate) != 0) {
            goto out;
        }
        int code =
            gnutls_certificate_set_x509_key_file2(server->certificate, listener->certificate,
                                                  listener->key, GNUTLS_X509_FMT_PEM, NULL, 0);
        if (code < 0) {
            snprintf(why, why_cap, "certificate %s: %s", listener->certificate,
                     gnutls_strerror(code));
            err = SP_ERR_UNSUPPORTED;
            goto out;
        }
    }
    err = server_names(listener, why, why_cap);
    if (err == SP_OK) {
        err = server_priorities(listener, server, why, why_cap);
    }
out:
    if (err != SP_OK) {
        sp_tls_server_destroy(server);
        return err;
    }
    *out = server;
    return SP_OK;
}

void sp_tls_server_destroy(struct sp_tls_server *server)
{
    if (server == NULL) {
        return;
    }
    for (size_t i = 0; i < SUITE_MAX; i++) {
        if (server->priority[i] != NULL) {
            gnutls_priority_deinit(server->priority[i]);
        }
    }
    if (server->tls13 != NULL) {
        gnutls_priority_deinit(server->tls13);
    }
    if (server->any != NULL) {
        gnutls_priority_deinit(server->any);
    }
    if (server->certificate != NULL) {
        gnutls_certificate_free_credentials(server->certificate);
    }
    if (server->psk != NULL) {
        gnutls_psk_free_server_credentials(server->psk);
    }
    free(server);
}

/* ---- a session ---- */

enum sp_err sp_tls_accept(struct sp_tls_server *server, struct sp_tls **out)
{
    *out = NULL;
    struct sp_tls *tls = sp_tls_create();
    if (tls == NULL) {
        return SP_ERR_NOMEM;
    }
    sp_tls_attached(tls)->server = server;
    sp_tls_attached(tls)->stage = SP_TLS_STAGE_HELLO;
    *out = tls;
    return SP_OK;
}

bool sp_tls_server_begin(struct sp_tls *tls)
{
    const struct sp_tls_server *server = sp_tls_attached(tls)->server;
    if (!sp_tls_session_open(tls, GNUTLS_SERVER) ||
        gnutls_priority_set(sp_tls_attached(tls)->session, server->any) != 0 ||
        gnutls_credentials_set(sp_tls_attached(tls)->session, GNUTLS_CRD_PSK, server->psk) != 0 ||
        (server->certificate != NULL &&
         gnutls_credentials_set(sp_tls_attached(tls)->session, GNUTLS_CRD_CERTIFICATE,
                                server->certificate) != 0)) {
        return false;
    }
    gnutls_handshake_set_max_packet_length(sp_tls_attached(tls)->session, SP_HELLO_MAX);
    return true;
}

/* ---- its first messages ---- */

static void keep_identity(struct sp_tls *tls, struct sp_view identity)
{
    struct sp_view kept = sp_view_first(identity, SP_TLS_IDENTITY_MAX);
    sp_copy(sp_tls_attached(tls)->identity, kept.ptr, kept.len);
    sp_tls_attached(tls)->identity_len = (uint16_t)kept.len;
}

/* Choose exactly one suite, so that the library can't negotiate another one; NULL: none fits. */
static gnutls_priority_t pick(struct sp_tls *tls, const struct sp_client_hello *hello)
{
    if (hello->tls13 && hello->psk_dhe && hello->psk_identity.len > 0 &&
        sp_tls_attached(tls)->server->tls13 != NULL) {
        return sp_tls_attached(tls)->server->tls13;
    }
    bool etm = hello->encrypt_then_mac || (sp_tls_attached(tls)->server->sets & SP_SUITES_ALL) != 0;
    for (size_t i = 0; i < sp_tls_suite_count; i++) {
        const struct sp_tls_suite *suite = &sp_tls_suites[i];
        if (sp_tls_attached(tls)->server->priority[i] != NULL &&
            sp_hello_offers(hello, suite->code) && (etm || !suite->needs_etm)) {
            sp_tls_attached(tls)->suite = suite;
            return sp_tls_attached(tls)->server->priority[i];
        }
    }
    return NULL;
}

static enum sp_tls_stage look_at_hello(struct sp_tls *tls, struct sp_view body)
{
    struct sp_client_hello hello;
    if (sp_hello_parse(body, &hello) != SP_OK) {
        sp_tls_refuse(tls, GNUTLS_A_DECODE_ERROR, "malformed ClientHello");
        return SP_TLS_STAGE_REST;
    }
    gnutls_priority_t priority = pick(tls, &hello);
    bool tls13 = priority != NULL && priority == sp_tls_attached(tls)->server->tls13;
    if (!tls13 && !hello.tls12) {
        sp_tls_refuse(tls, GNUTLS_A_PROTOCOL_VERSION,
                      "neither TLS 1.2 nor TLS 1.3 with psk_dhe_ke");
    } else if (priority == NULL) {
        sp_tls_refuse(tls, GNUTLS_A_HANDSHAKE_FAILURE, "no suite in common");
    } else if (!tls13 && !hello.extended_master_secret) {
        sp_tls_refuse(tls, GNUTLS_A_HANDSHAKE_FAILURE, "no extended master secret");
    } else if (gnutls_priority_set(sp_tls_attached(tls)->session, priority) != 0) {
        sp_tls_fail(tls, GNUTLS_E_MEMORY_ERROR, NULL);
    } else if (tls13) {
        keep_identity(tls, hello.psk_identity);
    }
    sp_tls_attached(tls)->send_max = hello.record_size_limit;
    return tls13 ? SP_TLS_STAGE_PSK : SP_TLS_STAGE_KEY;
}

static enum sp_tls_stage look_at_key(struct sp_tls *tls, struct sp_view body)
{
    struct sp_view identity;
    if (sp_hello_identity(body, &identity) != SP_OK) {
        return SP_TLS_STAGE_REST;
    }
    keep_identity(tls, identity);
    return SP_TLS_STAGE_PSK;
}

enum sp_err sp_tls_look(struct sp_tls *tls)
{
    uint8_t scratch[SP_HELLO_MAX];
    struct sp_view raw =
        tls->flow->held_len > 0 ? sp_view(tls->flow->held, tls->flow->held_len) : tls->flow->in;
    struct sp_view body;
    bool hello = sp_tls_attached(tls)->stage == SP_TLS_STAGE_HELLO;
    enum sp_err err = sp_hello_gather(
        raw, hello ? SP_HELLO_CLIENT_HELLO : SP_HELLO_CLIENT_KEY_EXCHANGE, scratch, &body);
    if (err == SP_OK) {
        sp_tls_attached(tls)->stage = hello ? look_at_hello(tls, body) : look_at_key(tls, body);
    } else if (err == SP_ERR_NOT_FOUND) {
        /* An alert, or nonsense: the library knows the right answer. */
        sp_tls_attached(tls)->stage = SP_TLS_STAGE_REST;
        err = SP_OK;
    }
    return err;
}
