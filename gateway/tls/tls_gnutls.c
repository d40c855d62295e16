/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * The TLS seam over GnuTLS 3.7: the only file that knows it, beside gateway/crypto.
 *
 * Transport is memory: the pull function takes from the view that the caller gave, the push function appends to
 * the caller's sp_tls_out. GnuTLS keeps partial records itself, so all input is always used up, but for the two
 * messages that we look at first (hello.h): while one of them is not whole, bytes wait in `held`.
 */
#include "gateway/tls/tls.h"

#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "gateway/tls/hello.h"
#include "gateway/tls/suites.h"
#include "libs/link/link.h"

#define HELD_MAX \
    (SP_HELLO_MAX * 2U)    /* a message in tiny records carries five bytes more for each */
#define RECORD_HEADER 5U   /* bytes: type, version, length */
#define IDENTITY_MAX  256U /* kept for the log; longer ones are unknown anyway */
#define SUITE_MAX     64U
#define IDLE_RECORDS_MAX \
    64U /* warning alerts and empty records in a row, before the session is closed */

struct sp_tls_server {
    gnutls_psk_server_credentials_t psk;
    gnutls_certificate_credentials_t certificate; /* NULL: no RSA-PSK */
    uint32_t sets;
    gnutls_priority_t
        priority[SUITE_MAX]; /* by position in sp_tls_suites; NULL: not offered here */
    gnutls_priority_t tls13; /* NULL: not offered here */
    gnutls_priority_t any;   /* what an unacceptable client is refused with */
};

struct sp_tls_client {
    gnutls_certificate_credentials_t certificate;
    gnutls_priority_t priority;
    char *host;
    bool alpn;
};

enum stage {
    STAGE_HELLO, /* waits for a whole ClientHello */
    STAGE_KEY,   /* waits for a whole ClientKeyExchange */
    STAGE_PSK,   /* waits for sp_tls_set_psk() */
    STAGE_REST,  /* everything goes to GnuTLS as it comes */
};

struct sp_tls {
    gnutls_session_t session;
    struct sp_tls_server *server; /* NULL on the cloud's door */
    struct sp_tls_client *client;
    struct sp_view in;      /* given by the caller, not used yet */
    struct sp_tls_out *out; /* the caller's, during a call */
    uint8_t *held;          /* bytes of a message that is not whole yet */
    size_t held_len;
    size_t record_left; /* bytes of the body of the record that GnuTLS has begun to read */
    uint8_t head[RECORD_HEADER];
    uint8_t head_len;                 /* of that record; 0: GnuTLS stands between two records */
    const struct sp_tls_suite *suite; /* TLS 1.2: the one that was picked */
    uint8_t *psk;                     /* SP_PSK_MAX bytes while a handshake needs it */
    size_t psk_len;
    uint16_t identity_len;
    uint8_t *identity;
    enum sp_tls_state state;
    enum stage stage;
    bool no_ems;   /* TLS 1.2 without RFC 7627 */
    bool opened;   /* the handshake was finished once */
    bool decoy;    /* the key is random because the device may not use this suite */
    bool answered; /* a PSK was given */
    bool wrong_key;
    bool broken; /* fatal alert sent or received: no close_notify */
    unsigned idle_records;
    int error; /* GnuTLS code */
    const char *why;
};

/* ---- output buffer ---- */

void sp_tls_out_deinit(struct sp_tls_out *out)
{
    free(out->buf);
    *out = (struct sp_tls_out){NULL, 0, 0};
}

static bool out_append(struct sp_tls_out *out, const void *bytes, size_t len)
{
    if (len > out->cap - out->used) {
        size_t cap = out->cap == 0 ? 1024 : out->cap;
        while (cap - out->used < len) {
            cap *= 2;
        }
        uint8_t *grown = realloc(out->buf, cap);
        if (grown == NULL) {
            return false;
        }
        out->buf = grown;
        out->cap = cap;
    }
    sp_copy(out->buf + out->used, bytes, len);
    out->used += len;
    return true;
}

/* ---- transport ---- */

/* Where in a record the bytes end that GnuTLS has taken: it does not tell. */
static void follow(struct sp_tls *tls, struct sp_view taken)
{
    while (taken.len > 0) {
        size_t len = 1;
        if (tls->head_len < RECORD_HEADER) {
            tls->head[tls->head_len++] = taken.ptr[0];
            tls->record_left = (size_t)tls->head[3] << 8 | tls->head[4];
        } else {
            len = taken.len < tls->record_left ? taken.len : tls->record_left;
            tls->record_left -= len;
        }
        if (tls->head_len == RECORD_HEADER && tls->record_left == 0) {
            tls->head_len = 0;
        }
        taken = sp_view_from(taken, len);
    }
}

static ssize_t pull(gnutls_transport_ptr_t ptr, void *buf, size_t cap)
{
    struct sp_tls *tls = ptr;
    size_t len = tls->in.len < cap ? tls->in.len : cap;
    if (len == 0) {
        gnutls_transport_set_errno(tls->session, EAGAIN);
        return -1;
    }
    sp_copy(buf, tls->in.ptr, len);
    follow(tls, sp_view_first(tls->in, len));
    tls->in = sp_view_from(tls->in, len);
    return (ssize_t)len;
}

static int pull_timeout(gnutls_transport_ptr_t ptr, unsigned ms)
{
    (void)ms;
    const struct sp_tls *tls = ptr;
    return tls->in.len > 0;
}

static ssize_t push(gnutls_transport_ptr_t ptr, const giovec_t *parts, int count)
{
    struct sp_tls *tls = ptr;
    size_t sum = 0;
    for (int i = 0; i < count; i++) {
        if (tls->out == NULL || !out_append(tls->out, parts[i].iov_base, parts[i].iov_len)) {
            gnutls_transport_set_errno(tls->session, ENOMEM);
            return -1;
        }
        sum += parts[i].iov_len;
    }
    return (ssize_t)sum;
}

/* ---- shared state ---- */

/* GnuTLS looks identities up through this call. By the time it comes, keys has answered. */
static int give_psk(gnutls_session_t session, const gnutls_datum_t *name, gnutls_datum_t *key)
{
    const struct sp_tls *tls = gnutls_session_get_ptr(session);
    bool same = tls->psk != NULL && sp_view_equal(sp_view(name->data, name->size),
                                                  sp_view(tls->identity, tls->identity_len));
    size_t len = same ? tls->psk_len : 32;
    key->data = gnutls_malloc(len);
    if (key->data == NULL) {
        return GNUTLS_E_MEMORY_ERROR;
    }
    key->size = (unsigned)len;
    if (same) {
        sp_copy(key->data, tls->psk, len);
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

static enum sp_err client_files(const struct sp_cloud_config *cloud, struct sp_tls_client *client,
                                char *why, size_t why_cap)
{
    int code =
        gnutls_certificate_set_x509_trust_file(client->certificate, cloud->ca, GNUTLS_X509_FMT_PEM);
    if (code <= 0) {
        snprintf(why, why_cap, "CA file %s: %s", cloud->ca,
                 code == 0 ? "no certificate in it" : gnutls_strerror(code));
        return SP_ERR_UNSUPPORTED;
    }
    if (cloud->certificate == NULL) {
        return SP_OK;
    }
    code = gnutls_certificate_set_x509_key_file2(client->certificate, cloud->certificate,
                                                 cloud->key, GNUTLS_X509_FMT_PEM, NULL, 0);
    if (code < 0) {
        snprintf(why, why_cap, "certificate %s with key %s: %s", cloud->certificate, cloud->key,
                 gnutls_strerror(code));
        return SP_ERR_UNSUPPORTED;
    }
    return SP_OK;
}

enum sp_err sp_tls_client_create(const struct sp_cloud_config *cloud, char *why, size_t why_cap,
                                 struct sp_tls_client **out)
{
    *out = NULL;
    struct sp_tls_client *client = calloc(1, sizeof(*client));
    if (client == NULL) {
        return SP_ERR_NOMEM;
    }
    enum sp_err err = SP_ERR_NOMEM;
    client->alpn = cloud->alpn;
    client->host = strdup(cloud->host);
    if (client->host == NULL ||
        gnutls_certificate_allocate_credentials(&client->certificate) != 0 ||
        gnutls_priority_init(&client->priority, "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2",
                             NULL) != 0) {
        snprintf(why, why_cap, "out of memory");
    } else {
        err = client_files(cloud, client, why, why_cap);
    }
    if (err != SP_OK) {
        sp_tls_client_destroy(client);
        return err;
    }
    *out = client;
    return SP_OK;
}

void sp_tls_client_destroy(struct sp_tls_client *client)
{
    if (client == NULL) {
        return;
    }
    if (client->priority != NULL) {
        gnutls_priority_deinit(client->priority);
    }
    if (client->certificate != NULL) {
        gnutls_certificate_free_credentials(client->certificate);
    }
    free(client->host);
    free(client);
}

/* ---- sessions ---- */

static struct sp_tls *session_create(unsigned flags)
{
    struct sp_tls *tls = calloc(1, sizeof(*tls));
    if (tls == NULL) {
        return NULL;
    }
    if (gnutls_init(&tls->session, flags | GNUTLS_NONBLOCK | GNUTLS_NO_TICKETS) != 0) {
        free(tls);
        return NULL;
    }
    gnutls_session_set_ptr(tls->session, tls);
    gnutls_transport_set_ptr(tls->session, tls);
    gnutls_transport_set_pull_function(tls->session, pull);
    gnutls_transport_set_pull_timeout_function(tls->session, pull_timeout);
    gnutls_transport_set_vec_push_function(tls->session, push);
    gnutls_handshake_set_timeout(tls->session, 0);
    gnutls_handshake_set_max_packet_length(tls->session, 64U * 1024U);
    return tls;
}

enum sp_err sp_tls_accept(struct sp_tls_server *server, struct sp_tls **out)
{
    *out = NULL;
    struct sp_tls *tls = session_create(GNUTLS_SERVER);
    if (tls == NULL) {
        return SP_ERR_NOMEM;
    }
    tls->server = server;
    tls->stage = STAGE_HELLO;
    if (gnutls_priority_set(tls->session, server->any) != 0 ||
        gnutls_credentials_set(tls->session, GNUTLS_CRD_PSK, server->psk) != 0 ||
        (server->certificate != NULL &&
         gnutls_credentials_set(tls->session, GNUTLS_CRD_CERTIFICATE, server->certificate) != 0)) {
        sp_tls_destroy(tls);
        return SP_ERR_NOMEM;
    }
    gnutls_handshake_set_max_packet_length(tls->session, SP_HELLO_MAX);
    *out = tls;
    return SP_OK;
}

static bool is_address(const char *host)
{
    return strchr(host, ':') != NULL || strspn(host, "0123456789.") == strlen(host);
}

enum sp_err sp_tls_connect(struct sp_tls_client *client, struct sp_tls **out)
{
    static const gnutls_datum_t aws = {(unsigned char *)(uintptr_t) "x-amzn-mqtt-ca", 14};
    *out = NULL;
    struct sp_tls *tls = session_create(GNUTLS_CLIENT);
    if (tls == NULL) {
        return SP_ERR_NOMEM;
    }
    tls->client = client;
    tls->stage = STAGE_REST;
    gnutls_session_set_verify_cert(tls->session, client->host, 0);
    int code = gnutls_priority_set(tls->session, client->priority);
    if (code == 0) {
        code = gnutls_credentials_set(tls->session, GNUTLS_CRD_CERTIFICATE, client->certificate);
    }
    if (code == 0 && !is_address(client->host)) {
        code = gnutls_server_name_set(tls->session, GNUTLS_NAME_DNS, client->host,
                                      strlen(client->host));
    }
    if (code == 0 && client->alpn) {
        code = gnutls_alpn_set_protocols(tls->session, &aws, 1, GNUTLS_ALPN_MANDATORY);
    }
    if (code != 0) {
        sp_tls_destroy(tls);
        return SP_ERR_NOMEM;
    }
    *out = tls;
    return SP_OK;
}

static void forget_psk(struct sp_tls *tls)
{
    if (tls->psk != NULL) {
        sp_wipe(tls->psk, SP_PSK_MAX);
        free(tls->psk);
        tls->psk = NULL;
        tls->psk_len = 0;
    }
}

static void forget_held(struct sp_tls *tls)
{
    free(tls->held);
    tls->held = NULL;
    tls->held_len = 0;
}

void sp_tls_destroy(struct sp_tls *tls)
{
    if (tls == NULL) {
        return;
    }
    forget_psk(tls);
    forget_held(tls);
    gnutls_deinit(tls->session);
    free(tls->identity);
    free(tls);
}

enum sp_tls_state sp_tls_state(const struct sp_tls *tls)
{
    return tls->state;
}

void sp_tls_input(struct sp_tls *tls, struct sp_view ciphertext)
{
    tls->in = ciphertext;
}

struct sp_view sp_tls_identity(const struct sp_tls *tls)
{
    return sp_view(tls->identity, tls->identity_len);
}

static void fail(struct sp_tls *tls, int error, const char *why)
{
    tls->error = error;
    tls->why = why;
    tls->state = SP_TLS_CLOSED;
    tls->broken = true;
    forget_psk(tls);
    forget_held(tls);
}

static void refuse(struct sp_tls *tls, gnutls_alert_description_t alert, const char *why)
{
    (void)gnutls_alert_send(tls->session, GNUTLS_AL_FATAL, alert);
    fail(tls, 0, why);
}

static bool keep_identity(struct sp_tls *tls, struct sp_view identity)
{
    if (tls->identity == NULL) {
        tls->identity = malloc(IDENTITY_MAX);
        if (tls->identity == NULL) {
            return false;
        }
    }
    struct sp_view kept = sp_view_first(identity, IDENTITY_MAX);
    sp_copy(tls->identity, kept.ptr, kept.len);
    tls->identity_len = (uint16_t)kept.len;
    return true;
}

/* Choose exactly one suite, so that the library can't negotiate another one; NULL: none fits. */
static gnutls_priority_t pick(struct sp_tls *tls, const struct sp_client_hello *hello)
{
    if (hello->tls13 && hello->psk_dhe && hello->psk_identity.len > 0 &&
        tls->server->tls13 != NULL) {
        return tls->server->tls13;
    }
    bool etm = hello->encrypt_then_mac || (tls->server->sets & SP_SUITES_ALL) != 0;
    for (size_t i = 0; i < sp_tls_suite_count; i++) {
        const struct sp_tls_suite *suite = &sp_tls_suites[i];
        if (tls->server->priority[i] != NULL && sp_hello_offers(hello, suite->code) &&
            (etm || !suite->needs_etm)) {
            tls->suite = suite;
            return tls->server->priority[i];
        }
    }
    return NULL;
}

static enum stage look_at_hello(struct sp_tls *tls, struct sp_view body)
{
    struct sp_client_hello hello;
    if (sp_hello_parse(body, &hello) != SP_OK) {
        refuse(tls, GNUTLS_A_DECODE_ERROR, "malformed ClientHello");
        return STAGE_REST;
    }
    gnutls_priority_t priority = pick(tls, &hello);
    bool tls13 = priority != NULL && priority == tls->server->tls13;
    if (!tls13 && !hello.tls12) {
        refuse(tls, GNUTLS_A_PROTOCOL_VERSION, "neither TLS 1.2 nor TLS 1.3 with psk_dhe_ke");
    } else if (priority == NULL) {
        refuse(tls, GNUTLS_A_HANDSHAKE_FAILURE, "no suite in common");
    } else if (!tls13 && !hello.extended_master_secret) {
        refuse(tls, GNUTLS_A_HANDSHAKE_FAILURE, "no extended master secret");
    } else if (gnutls_priority_set(tls->session, priority) != 0 ||
               (tls13 && !keep_identity(tls, hello.psk_identity))) {
        fail(tls, GNUTLS_E_MEMORY_ERROR, NULL);
    }
    return tls13 ? STAGE_PSK : STAGE_KEY;
}

static enum stage look_at_key(struct sp_tls *tls, struct sp_view body)
{
    struct sp_view identity;
    if (sp_hello_identity(body, &identity) != SP_OK || !keep_identity(tls, identity)) {
        return STAGE_REST;
    }
    return STAGE_PSK;
}

/* Put aside what has come in while a message is not whole. */
static enum sp_err hold(struct sp_tls *tls)
{
    if (tls->in.len > HELD_MAX - tls->held_len) {
        return SP_ERR_LIMIT;
    }
    uint8_t *grown = realloc(tls->held, tls->held_len + tls->in.len + 1);
    if (grown == NULL) {
        return SP_ERR_NOMEM;
    }
    tls->held = grown;
    sp_copy(tls->held + tls->held_len, tls->in.ptr, tls->in.len);
    tls->held_len += tls->in.len;
    tls->in = (struct sp_view){NULL, 0};
    return SP_OK;
}

/* Look at the message that this stage waits for; SP_ERR_AGAIN while it is not whole. */
static enum sp_err look(struct sp_tls *tls)
{
    uint8_t scratch[SP_HELLO_MAX];
    struct sp_view raw = tls->held_len > 0 ? sp_view(tls->held, tls->held_len) : tls->in;
    struct sp_view body;
    bool hello = tls->stage == STAGE_HELLO;
    enum sp_err err = sp_hello_gather(
        raw, hello ? SP_HELLO_CLIENT_HELLO : SP_HELLO_CLIENT_KEY_EXCHANGE, scratch, &body);
    if (err == SP_OK) {
        tls->stage = hello ? look_at_hello(tls, body) : look_at_key(tls, body);
    } else if (err == SP_ERR_NOT_FOUND) {
        /* An alert, or nonsense: the library knows the right answer. */
        tls->stage = STAGE_REST;
        err = SP_OK;
    }
    return err;
}

static bool is_key_failure(const struct sp_tls *tls, int code)
{
    return tls->answered &&
           (code == GNUTLS_E_DECRYPTION_FAILED || code == GNUTLS_E_ERROR_IN_FINISHED_PACKET ||
            (tls->suite == NULL && code != GNUTLS_E_FATAL_ALERT_RECEIVED));
}

static void finish(struct sp_tls *tls)
{
    forget_psk(tls);
    forget_held(tls);
    if (tls->server != NULL && gnutls_session_ext_master_secret_status(tls->session) == 0 &&
        gnutls_protocol_get_version(tls->session) == GNUTLS_TLS1_2) {
        refuse(tls, GNUTLS_A_HANDSHAKE_FAILURE, "no extended master secret");
    } else {
        tls->state = SP_TLS_OPEN;
        tls->opened = true;
    }
}

static void run_handshake(struct sp_tls *tls)
{
    for (;;) {
        size_t before = tls->in.len;
        int code = gnutls_handshake(tls->session);
        if (code == 0) {
            finish(tls);
            return;
        }
        if (code == GNUTLS_E_AGAIN || code == GNUTLS_E_INTERRUPTED) {
            /* It also says so after each record of a message that comes in several. */
            if (tls->in.len == 0 || tls->in.len == before) {
                return;
            }
            continue;
        }
        if (code == GNUTLS_E_WARNING_ALERT_RECEIVED || code == GNUTLS_E_GOT_APPLICATION_DATA) {
            if (++tls->idle_records > IDLE_RECORDS_MAX) {
                refuse(tls, GNUTLS_A_UNEXPECTED_MESSAGE, "too many warning alerts");
                return;
            }
            continue;
        }
        (void)gnutls_alert_send_appropriate(tls->session, code);
        tls->wrong_key = is_key_failure(tls, code);
        fail(tls, code, tls->wrong_key && tls->decoy ? "suite not allowed for this device" : NULL);
        return;
    }
}

/* Held bytes go to the library first, then what came with this call. */
static void feed(struct sp_tls *tls)
{
    if (tls->held_len == 0) {
        run_handshake(tls);
        return;
    }
    if (hold(tls) != SP_OK) {
        fail(tls, 0, "handshake message too large");
        return;
    }
    uint8_t *held = tls->held;
    tls->in = sp_view(held, tls->held_len);
    tls->held = NULL;
    tls->held_len = 0;
    run_handshake(tls);
    if (tls->in.len > 0 && tls->state == SP_TLS_OPEN) {
        /* Application data glued behind the client's Finished: sp_tls_read() takes it from here. */
        memmove(held, tls->in.ptr, tls->in.len);
        tls->held = held;
        tls->held_len = tls->in.len;
    } else {
        free(held);
    }
    tls->in = (struct sp_view){NULL, 0};
}

/* Wait for the message that this stage looks at; SP_ERR_AGAIN while it is not whole. */
static enum sp_err await_message(struct sp_tls *tls)
{
    if (tls->held_len > 0) {
        SP_TRY(hold(tls));
    }
    enum sp_err err = look(tls);
    if ((err == SP_ERR_AGAIN || tls->stage == STAGE_PSK) && tls->in.len > 0) {
        SP_TRY(hold(tls));
    }
    return err;
}

enum sp_tls_state sp_tls_step(struct sp_tls *tls, struct sp_tls_out *out)
{
    if (tls->state != SP_TLS_HANDSHAKE) {
        return tls->state;
    }
    tls->out = out;
    enum sp_err err = SP_OK;
    if (tls->stage == STAGE_HELLO || tls->stage == STAGE_KEY) {
        err = await_message(tls);
    }
    if (tls->state == SP_TLS_CLOSED) {
        tls->out = NULL;
        return tls->state;
    }
    if (err == SP_OK && tls->stage == STAGE_PSK) {
        tls->state = SP_TLS_NEED_PSK;
    } else if (err == SP_OK) {
        feed(tls);
    } else if (err != SP_ERR_AGAIN) {
        refuse(tls, GNUTLS_A_DECODE_ERROR, "handshake message too large");
    }
    tls->out = NULL;
    return tls->state;
}

void sp_tls_set_psk(struct sp_tls *tls, struct sp_view psk, uint32_t suites)
{
    if (tls->state != SP_TLS_NEED_PSK) {
        return;
    }
    tls->psk = malloc(SP_PSK_MAX);
    if (tls->psk == NULL) {
        fail(tls, GNUTLS_E_MEMORY_ERROR, NULL);
        return;
    }
    uint32_t tls13 = SP_SUITES_PROFILE_SMALL | SP_SUITES_FORWARD_SECRET | SP_SUITES_ALL;
    uint32_t sets = tls->suite == NULL ? tls13 : tls->suite->sets;
    tls->decoy = suites != 0 && (sets & suites) == 0;
    struct sp_view used = sp_view_first(psk, SP_PSK_MAX);
    if (tls->decoy) {
        /* The same end as a wrong key: an outsider learns nothing about the row. */
        (void)gnutls_rnd(GNUTLS_RND_NONCE, tls->psk, used.len);
    } else {
        sp_copy(tls->psk, used.ptr, used.len);
    }
    tls->psk_len = used.len;
    tls->answered = true;
    tls->stage = STAGE_REST;
    tls->state = SP_TLS_HANDSHAKE;
}

/* ---- application data ---- */

static enum sp_err read_failed(struct sp_tls *tls, int code)
{
    if (code == GNUTLS_E_REHANDSHAKE) {
        refuse(tls, GNUTLS_A_NO_RENEGOTIATION, "renegotiation");
        return SP_ERR_MALFORMED;
    }
    if (code == GNUTLS_E_PREMATURE_TERMINATION || code == GNUTLS_E_FATAL_ALERT_RECEIVED) {
        fail(tls, code, NULL);
        return SP_ERR_CLOSED;
    }
    (void)gnutls_alert_send_appropriate(tls->session, code);
    fail(tls, code, NULL);
    return SP_ERR_MALFORMED;
}

static enum sp_err read_some(struct sp_tls *tls, uint8_t *buf, size_t cap, size_t *len)
{
    for (;;) {
        ssize_t got = gnutls_record_recv(tls->session, buf, cap);
        if (got > 0) {
            tls->idle_records = 0;
            *len = (size_t)got;
            return SP_OK;
        }
        if (got == 0) {
            tls->state = SP_TLS_CLOSED;
            return SP_ERR_CLOSED;
        }
        if (got == GNUTLS_E_AGAIN || got == GNUTLS_E_INTERRUPTED) {
            if (tls->in.len == 0) {
                return SP_ERR_AGAIN;
            }
        } else if (got != GNUTLS_E_WARNING_ALERT_RECEIVED) {
            return read_failed(tls, (int)got);
        }
        if (++tls->idle_records > IDLE_RECORDS_MAX) {
            refuse(tls, GNUTLS_A_UNEXPECTED_MESSAGE, "too many empty records or warning alerts");
            return SP_ERR_MALFORMED;
        }
    }
}

enum sp_err sp_tls_read(struct sp_tls *tls, uint8_t *buf, size_t cap, size_t *len,
                        struct sp_tls_out *out)
{
    if (tls->state != SP_TLS_OPEN) {
        return SP_ERR_CLOSED;
    }
    tls->out = out;
    enum sp_err err = SP_ERR_AGAIN;
    if (tls->held_len > 0) {
        /* What came glued to the handshake is older than what the caller gives now. */
        struct sp_view now = tls->in;
        size_t held = tls->held_len;
        tls->in = sp_view(tls->held, held);
        err = read_some(tls, buf, cap, len);
        size_t left = tls->in.len;
        if (left > 0) {
            memmove(tls->held, tls->held + held - left, left);
            tls->held_len = left;
        } else {
            forget_held(tls);
        }
        tls->in = now;
    }
    if (err == SP_ERR_AGAIN) {
        err = read_some(tls, buf, cap, len);
    }
    tls->out = NULL;
    return err;
}

bool sp_tls_has_part(const struct sp_tls *tls)
{
    return tls->head_len > 0 || tls->held_len > 0 || tls->in.len > 0;
}

enum sp_err sp_tls_write(struct sp_tls *tls, struct sp_view plain, struct sp_tls_out *out)
{
    if (tls->state != SP_TLS_OPEN) {
        return SP_ERR_CLOSED;
    }
    tls->out = out;
    enum sp_err err = SP_OK;
    while (plain.len > 0 && err == SP_OK) {
        ssize_t sent = gnutls_record_send(tls->session, plain.ptr, plain.len);
        if (sent <= 0) {
            fail(tls, (int)sent, NULL);
            err = SP_ERR_CRYPTO;
        } else {
            plain = sp_view_from(plain, (size_t)sent);
        }
    }
    tls->out = NULL;
    return err;
}

void sp_tls_close(struct sp_tls *tls, struct sp_tls_out *out)
{
    if (tls->broken || tls->state == SP_TLS_HANDSHAKE || tls->state == SP_TLS_NEED_PSK) {
        tls->state = SP_TLS_CLOSED;
        return;
    }
    tls->out = out;
    (void)gnutls_bye(tls->session, GNUTLS_SHUT_WR);
    tls->out = NULL;
    tls->state = SP_TLS_CLOSED;
}

enum sp_err sp_tls_exporter(struct sp_tls *tls, uint8_t out[32])
{
    if (tls->state != SP_TLS_OPEN) {
        return SP_ERR_STATE;
    }
    /* An empty context that is present: "" and not NULL (RFC 5705, 4). */
    int code = gnutls_prf_rfc5705(tls->session, strlen(SP_LINK_EXPORTER_LABEL),
                                  SP_LINK_EXPORTER_LABEL, 0, "", SP_LINK_EXPORTER_LEN, (char *)out);
    return code == 0 ? SP_OK : SP_ERR_CRYPTO;
}

const char *sp_tls_describe(const struct sp_tls *tls)
{
    static _Thread_local char text[96];
    if (!tls->opened) {
        return tls->suite == NULL ? "TLS, nothing agreed"
                                  : tls->suite->name; /* nothing to ask yet */
    }
    const char *version = gnutls_protocol_get_name(gnutls_protocol_get_version(tls->session));
    const char *suite =
        tls->suite != NULL ? tls->suite->name : gnutls_ciphersuite_get(tls->session);
    snprintf(text, sizeof(text), "%s %s", version == NULL ? "TLS" : version,
             suite == NULL ? "?" : suite);
    return text;
}

const char *sp_tls_error(const struct sp_tls *tls)
{
    if (tls->why != NULL) {
        return tls->why;
    }
    if (tls->error == GNUTLS_E_FATAL_ALERT_RECEIVED) {
        const char *alert = gnutls_alert_get_name(gnutls_alert_get(tls->session));
        return alert == NULL ? "the peer sent an alert" : alert;
    }
    if (tls->error == GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR) {
        unsigned status = gnutls_session_get_verify_cert_status(tls->session);
        static _Thread_local char text[160];
        gnutls_datum_t said = {NULL, 0};
        if (gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &said, 0) == 0) {
            snprintf(text, sizeof(text), "%.*s", (int)said.size, (const char *)said.data);
            gnutls_free(said.data);
            return text;
        }
    }
    return tls->error == 0 ? "closed" : gnutls_strerror(tls->error);
}

bool sp_tls_wrong_key(const struct sp_tls *tls)
{
    return tls->wrong_key;
}
