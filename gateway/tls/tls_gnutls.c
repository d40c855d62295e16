/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * The TLS seam over GnuTLS 3.7: the only file that knows it, beside gateway/crypto.
 *
 * GnuTLS does every handshake. Where that ends in TLS 1.2 with an AES-128 AEAD suite, the record state is taken out, the
 * GnuTLS session freed, and record.h carries on (docs/decisions/0004-detached-tls.md); the rest stays attached.
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

#include "gateway/slab/slab.h"
#include "gateway/tls/flow.h"
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
    gnutls_typed_vdata_st expected[2]; /* its certificate is for that name, and a server's */
    bool alpn;
};

enum stage {
    STAGE_HELLO, /* waits for a whole ClientHello */
    STAGE_KEY,   /* waits for a whole ClientKeyExchange */
    STAGE_PSK,   /* waits for sp_tls_set_psk() */
    STAGE_REST,  /* everything goes to GnuTLS as it comes */
};

/* GnuTLS's session and what only a handshake needs. */
struct attached {
    struct sp_flow flow;          /* first: found by casting back from sp_tls.flow */
    gnutls_session_t session;     /* NULL: a server's, before sp_tls_step() */
    struct sp_tls_server *server; /* NULL on the cloud's door */
    struct sp_tls_client *client;
    struct sp_tls_out *out; /* the caller's, during a call */
    size_t record_left;     /* bytes of the body of the record that GnuTLS has begun to read */
    uint8_t head[RECORD_HEADER];
    uint8_t head_len;                 /* of that record; 0: GnuTLS stands between two records */
    const struct sp_tls_suite *suite; /* TLS 1.2: the one that was picked */
    uint8_t *psk;                     /* SP_PSK_MAX bytes while a handshake needs it */
    size_t psk_len;
    enum stage stage;
    bool flooded;      /* more came than a first message may have */
    bool decoy;        /* the key is random because the device may not use this suite */
    bool answered;     /* a PSK was given */
    bool opened;       /* the handshake was finished once */
    uint16_t send_max; /* the peer's record_size_limit (RFC 8449); 0: none */
    unsigned idle_records;
    int error; /* GnuTLS code */
    uint16_t identity_len;
    uint8_t identity[IDENTITY_MAX];
};

/* All that is left of an idle connection which is detached. */
struct sp_tls {
    struct sp_tls_record record; /* while detached */
    uint8_t state;               /* enum sp_tls_state */
    uint8_t suite;               /* detached: position in sp_tls_suites */
    bool attached : 1;           /* its flow is the one in struct attached */
    bool wrong_key : 1;
    bool broken : 1; /* fatal alert sent or received: no close_notify */
    uint8_t exporter[SP_LINK_EXPORTER_LEN];
    struct sp_flow *flow; /* NULL: detached, and nothing is in it */
};
_Static_assert(sizeof(struct sp_tls) == 104, "what an idle connection costs");

/* Of one that is attached. */
static struct attached *attached_of(const struct sp_tls *tls)
{
    return (struct attached *)tls->flow;
}

static struct sp_slab sessions = SP_SLAB_INIT(sizeof(struct sp_tls));

/* ---- transport ---- */

/* Where in a record the bytes end that GnuTLS has taken: it does not tell. */
static void follow(struct attached *attached, struct sp_view taken)
{
    while (taken.len > 0) {
        size_t len = 1;
        if (attached->head_len < RECORD_HEADER) {
            attached->head[attached->head_len++] = taken.ptr[0];
            attached->record_left = (size_t)attached->head[3] << 8 | attached->head[4];
        } else {
            len = taken.len < attached->record_left ? taken.len : attached->record_left;
            attached->record_left -= len;
        }
        if (attached->head_len == RECORD_HEADER && attached->record_left == 0) {
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
        gnutls_transport_set_errno(attached_of(tls)->session, EAGAIN);
        return -1;
    }
    sp_copy(buf, tls->flow->in.ptr, len);
    follow(attached_of(tls), sp_view_first(tls->flow->in, len));
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
        if (attached_of(tls)->out == NULL ||
            !sp_tls_out_append(attached_of(tls)->out, parts[i].iov_base, parts[i].iov_len)) {
            gnutls_transport_set_errno(attached_of(tls)->session, ENOMEM);
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
    bool same = attached_of(tls)->psk != NULL &&
                sp_view_equal(sp_view(name->data, name->size),
                              sp_view(attached_of(tls)->identity, attached_of(tls)->identity_len));
    size_t len = same ? attached_of(tls)->psk_len : 32;
    key->data = gnutls_malloc(len);
    if (key->data == NULL) {
        return GNUTLS_E_MEMORY_ERROR;
    }
    key->size = (unsigned)len;
    if (same) {
        sp_copy(key->data, attached_of(tls)->psk, len);
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

/* Without an extended key usage a certificate is anybody's; with one it has to be a server's (RFC 5280, 4.2.1.12). */
static void expect_server(struct sp_tls_client *client)
{
    client->expected[0] = (gnutls_typed_vdata_st){.type = GNUTLS_DT_DNS_HOSTNAME,
                                                  .data = (unsigned char *)client->host};
    client->expected[1] =
        (gnutls_typed_vdata_st){.type = GNUTLS_DT_KEY_PURPOSE_OID,
                                .data = (unsigned char *)(uintptr_t)GNUTLS_KP_TLS_WWW_SERVER};
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
        expect_server(client);
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

static struct sp_tls *tls_create(void)
{
    struct sp_tls *tls = sp_slab_take(&sessions);
    struct attached *attached = calloc(1, sizeof(*attached));
    if (tls == NULL || attached == NULL) {
        free(attached);
        sp_slab_give(&sessions, tls);
        return NULL;
    }
    tls->attached = true;
    tls->flow = &attached->flow;
    return tls;
}

static bool session_open(struct sp_tls *tls, unsigned flags)
{
    gnutls_session_t session = NULL;
    if (gnutls_init(&session, flags | GNUTLS_NONBLOCK | GNUTLS_NO_TICKETS) != 0) {
        return false;
    }
    attached_of(tls)->session = session;
    gnutls_session_set_ptr(session, tls);
    gnutls_transport_set_ptr(session, tls);
    gnutls_transport_set_pull_function(session, pull);
    gnutls_transport_set_pull_timeout_function(session, pull_timeout);
    gnutls_transport_set_vec_push_function(session, push);
    gnutls_handshake_set_timeout(session, 0);
    gnutls_handshake_set_max_packet_length(session, 64U * 1024U);
    return true;
}

enum sp_err sp_tls_accept(struct sp_tls_server *server, struct sp_tls **out)
{
    *out = NULL;
    struct sp_tls *tls = tls_create();
    if (tls == NULL) {
        return SP_ERR_NOMEM;
    }
    attached_of(tls)->server = server;
    attached_of(tls)->stage = STAGE_HELLO;
    *out = tls;
    return SP_OK;
}

/* What a handshake costs is spent now, and not while a peer is silent. */
static bool server_begin(struct sp_tls *tls)
{
    const struct sp_tls_server *server = attached_of(tls)->server;
    if (!session_open(tls, GNUTLS_SERVER) ||
        gnutls_priority_set(attached_of(tls)->session, server->any) != 0 ||
        gnutls_credentials_set(attached_of(tls)->session, GNUTLS_CRD_PSK, server->psk) != 0 ||
        (server->certificate != NULL &&
         gnutls_credentials_set(attached_of(tls)->session, GNUTLS_CRD_CERTIFICATE,
                                server->certificate) != 0)) {
        return false;
    }
    gnutls_handshake_set_max_packet_length(attached_of(tls)->session, SP_HELLO_MAX);
    return true;
}

static bool is_address(const char *host)
{
    return strchr(host, ':') != NULL || strspn(host, "0123456789.") == strlen(host);
}

enum sp_err sp_tls_connect(struct sp_tls_client *client, struct sp_tls **out)
{
    static const gnutls_datum_t aws = {(unsigned char *)(uintptr_t) "x-amzn-mqtt-ca", 14};
    *out = NULL;
    struct sp_tls *tls = tls_create();
    if (tls == NULL || !session_open(tls, GNUTLS_CLIENT)) {
        sp_tls_destroy(tls);
        return SP_ERR_NOMEM;
    }
    attached_of(tls)->client = client;
    attached_of(tls)->stage = STAGE_REST;
    gnutls_session_set_verify_cert2(attached_of(tls)->session, client->expected, 2, 0);
    int code = gnutls_priority_set(attached_of(tls)->session, client->priority);
    if (code == 0) {
        code = gnutls_credentials_set(attached_of(tls)->session, GNUTLS_CRD_CERTIFICATE,
                                      client->certificate);
    }
    if (code == 0 && !is_address(client->host)) {
        code = gnutls_server_name_set(attached_of(tls)->session, GNUTLS_NAME_DNS, client->host,
                                      strlen(client->host));
    }
    if (code == 0 && client->alpn) {
        code = gnutls_alpn_set_protocols(attached_of(tls)->session, &aws, 1, GNUTLS_ALPN_MANDATORY);
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
    struct attached *attached = attached_of(tls);
    if (tls->attached && attached->psk != NULL) {
        sp_wipe(attached->psk, SP_PSK_MAX);
        free(attached->psk);
        attached->psk = NULL;
        attached->psk_len = 0;
    }
}

/* From now on it is detached, and its flow is `flow`. */
static void free_attached(struct sp_tls *tls, struct sp_flow *flow)
{
    struct attached *attached = attached_of(tls);
    forget_psk(tls);
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
        free_attached(tls, NULL);
    }
    sp_flow_destroy(tls->flow);
    sp_wipe(tls, sizeof(*tls));
    sp_slab_give(&sessions, tls);
}

enum sp_tls_state sp_tls_state(const struct sp_tls *tls)
{
    return (enum sp_tls_state)tls->state;
}

struct sp_view sp_tls_identity(const struct sp_tls *tls)
{
    const struct attached *attached = attached_of(tls);
    return !tls->attached ? (struct sp_view){NULL, 0}
                          : sp_view(attached->identity, attached->identity_len);
}

static void fail(struct sp_tls *tls, int error, const char *why)
{
    if (tls->attached) {
        attached_of(tls)->error = error;
    }
    tls->state = SP_TLS_CLOSED;
    tls->broken = true;
    sp_wipe(&tls->record, sizeof(tls->record));
    forget_psk(tls);
    if (tls->flow != NULL) {
        tls->flow->why = why;
        sp_flow_forget(tls->flow);
    }
}

/* Room for input; false: it has failed. */
static bool may_flow(struct sp_tls *tls)
{
    if (tls->flow == NULL) {
        tls->flow = sp_flow_create();
    }
    if (tls->flow == NULL) {
        fail(tls, GNUTLS_E_MEMORY_ERROR, NULL);
    }
    return tls->flow != NULL;
}

void sp_tls_input(struct sp_tls *tls, struct sp_view ciphertext)
{
    if (may_flow(tls)) {
        tls->flow->in = ciphertext;
    }
}

static void refuse(struct sp_tls *tls, gnutls_alert_description_t alert, const char *why)
{
    (void)gnutls_alert_send(attached_of(tls)->session, GNUTLS_AL_FATAL, alert);
    fail(tls, 0, why);
}

static void keep_identity(struct sp_tls *tls, struct sp_view identity)
{
    struct sp_view kept = sp_view_first(identity, IDENTITY_MAX);
    sp_copy(attached_of(tls)->identity, kept.ptr, kept.len);
    attached_of(tls)->identity_len = (uint16_t)kept.len;
}

/* Choose exactly one suite, so that the library can't negotiate another one; NULL: none fits. */
static gnutls_priority_t pick(struct sp_tls *tls, const struct sp_client_hello *hello)
{
    if (hello->tls13 && hello->psk_dhe && hello->psk_identity.len > 0 &&
        attached_of(tls)->server->tls13 != NULL) {
        return attached_of(tls)->server->tls13;
    }
    bool etm = hello->encrypt_then_mac || (attached_of(tls)->server->sets & SP_SUITES_ALL) != 0;
    for (size_t i = 0; i < sp_tls_suite_count; i++) {
        const struct sp_tls_suite *suite = &sp_tls_suites[i];
        if (attached_of(tls)->server->priority[i] != NULL && sp_hello_offers(hello, suite->code) &&
            (etm || !suite->needs_etm)) {
            attached_of(tls)->suite = suite;
            return attached_of(tls)->server->priority[i];
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
    bool tls13 = priority != NULL && priority == attached_of(tls)->server->tls13;
    if (!tls13 && !hello.tls12) {
        refuse(tls, GNUTLS_A_PROTOCOL_VERSION, "neither TLS 1.2 nor TLS 1.3 with psk_dhe_ke");
    } else if (priority == NULL) {
        refuse(tls, GNUTLS_A_HANDSHAKE_FAILURE, "no suite in common");
    } else if (!tls13 && !hello.extended_master_secret) {
        refuse(tls, GNUTLS_A_HANDSHAKE_FAILURE, "no extended master secret");
    } else if (gnutls_priority_set(attached_of(tls)->session, priority) != 0) {
        fail(tls, GNUTLS_E_MEMORY_ERROR, NULL);
    } else if (tls13) {
        keep_identity(tls, hello.psk_identity);
    }
    attached_of(tls)->send_max = hello.record_size_limit;
    return tls13 ? STAGE_PSK : STAGE_KEY;
}

static enum stage look_at_key(struct sp_tls *tls, struct sp_view body)
{
    struct sp_view identity;
    if (sp_hello_identity(body, &identity) != SP_OK) {
        return STAGE_REST;
    }
    keep_identity(tls, identity);
    return STAGE_PSK;
}

/* Look at the message that this stage waits for; SP_ERR_AGAIN while it is not whole. */
static enum sp_err look(struct sp_tls *tls)
{
    uint8_t scratch[SP_HELLO_MAX];
    struct sp_view raw =
        tls->flow->held_len > 0 ? sp_view(tls->flow->held, tls->flow->held_len) : tls->flow->in;
    struct sp_view body;
    bool hello = attached_of(tls)->stage == STAGE_HELLO;
    enum sp_err err = sp_hello_gather(
        raw, hello ? SP_HELLO_CLIENT_HELLO : SP_HELLO_CLIENT_KEY_EXCHANGE, scratch, &body);
    if (err == SP_OK) {
        attached_of(tls)->stage = hello ? look_at_hello(tls, body) : look_at_key(tls, body);
    } else if (err == SP_ERR_NOT_FOUND) {
        /* An alert, or nonsense: the library knows the right answer. */
        attached_of(tls)->stage = STAGE_REST;
        err = SP_OK;
    }
    return err;
}

static bool is_key_failure(const struct sp_tls *tls, int code)
{
    return attached_of(tls)->answered &&
           (code == GNUTLS_E_DECRYPTION_FAILED || code == GNUTLS_E_ERROR_IN_FINISHED_PACKET ||
            (attached_of(tls)->suite == NULL && code != GNUTLS_E_FATAL_ALERT_RECEIVED));
}

/* ---- detaching ---- */

static enum sp_record_suite record_suite(gnutls_session_t session)
{
    if (gnutls_protocol_get_version(session) != GNUTLS_TLS1_2) {
        return SP_RECORD_NONE;
    }
    gnutls_cipher_algorithm_t cipher = gnutls_cipher_get(session);
    return cipher == GNUTLS_CIPHER_AES_128_CCM     ? SP_RECORD_CCM
           : cipher == GNUTLS_CIPHER_AES_128_CCM_8 ? SP_RECORD_CCM_8
           : cipher == GNUTLS_CIPHER_AES_128_GCM   ? SP_RECORD_GCM
                                                   : SP_RECORD_NONE;
}

/* Key, salt and next sequence number of one direction; they lie inside the session. */
static bool copy_half(gnutls_session_t session, unsigned read, uint8_t *key, uint8_t *salt,
                      uint64_t *sequence)
{
    gnutls_datum_t mac = {NULL, 0};
    gnutls_datum_t iv = {NULL, 0};
    gnutls_datum_t secret = {NULL, 0};
    uint8_t number[8];
    if (gnutls_record_get_state(session, read, &mac, &iv, &secret, number) != 0 || iv.size != 4 ||
        secret.size != 16) {
        return false;
    }
    struct sp_reader r;
    sp_copy(key, secret.data, secret.size);
    sp_copy(salt, iv.data, iv.size);
    sp_reader_init(&r, SP_VIEW_ARRAY(number));
    *sequence = sp_read_u64(&r);
    return true;
}

/* The most plaintext that the peer takes in one record: max_fragment_length, which the library knows, or its
 * record_size_limit, which the library does not tell. */
static uint16_t send_max(const struct attached *attached)
{
    size_t most = gnutls_record_get_max_size(attached->session);
    if (attached->send_max != 0 && attached->send_max < most) {
        most = attached->send_max;
    }
    return (uint16_t)(most < SP_RECORD_PLAIN_MAX ? most : SP_RECORD_PLAIN_MAX);
}

static enum sp_err make_exporter(struct sp_tls *tls, uint8_t *out)
{
    /* An empty context that is present: "" and not NULL (RFC 5705, 4). */
    int code = gnutls_prf_rfc5705(attached_of(tls)->session, strlen(SP_LINK_EXPORTER_LABEL),
                                  SP_LINK_EXPORTER_LABEL, 0, "", SP_LINK_EXPORTER_LEN, (char *)out);
    return code == 0 ? SP_OK : SP_ERR_CRYPTO;
}

/* Right after the handshake, before GnuTLS has read any other record: what it left in the transport starts with one. Where something is not as expected, the session stays attached. */
static void detach(struct sp_tls *tls)
{
    struct attached *attached = attached_of(tls);
    struct sp_tls_record *record = &tls->record;
    gnutls_session_t session = attached->session;
    struct sp_flow *flow = sp_flow_create();
    uint64_t read_sequence = 0;
    uint64_t write_sequence = 0;
    record->suite = (uint8_t)record_suite(session);
    record->send_max = send_max(attached);
    if (flow != NULL && attached->server != NULL && attached->suite != NULL &&
        record->suite != SP_RECORD_NONE && record->send_max > 0 && attached->head_len == 0 &&
        gnutls_record_check_pending(session) == 0 &&
        copy_half(session, 1, record->read_key, record->read_salt, &read_sequence) &&
        copy_half(session, 0, record->write_key, record->write_salt, &write_sequence) &&
        make_exporter(tls, tls->exporter) == SP_OK) {
        record->read_sequence = read_sequence;
        record->write_sequence = write_sequence;
        tls->suite = (uint8_t)(attached->suite - sp_tls_suites);
        *flow = attached->flow;
        free_attached(tls, flow);
    } else {
        sp_flow_destroy(flow);
        sp_wipe(record, sizeof(*record));
    }
}

static void finish(struct sp_tls *tls)
{
    gnutls_session_t session = attached_of(tls)->session;
    forget_psk(tls);
    sp_flow_forget(tls->flow);
    if (attached_of(tls)->server != NULL && gnutls_session_ext_master_secret_status(session) == 0 &&
        gnutls_protocol_get_version(session) == GNUTLS_TLS1_2) {
        refuse(tls, GNUTLS_A_HANDSHAKE_FAILURE, "no extended master secret");
    } else {
        tls->state = SP_TLS_OPEN;
        attached_of(tls)->opened = true;
        detach(tls);
    }
}

static void run_handshake(struct sp_tls *tls)
{
    for (;;) {
        size_t before = tls->flow->in.len;
        int code = gnutls_handshake(attached_of(tls)->session);
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
            if (++attached_of(tls)->idle_records > IDLE_RECORDS_MAX) {
                refuse(tls, GNUTLS_A_UNEXPECTED_MESSAGE, "too many warning alerts");
                return;
            }
            continue;
        }
        (void)gnutls_alert_send_appropriate(attached_of(tls)->session, code);
        tls->wrong_key = is_key_failure(tls, code);
        fail(tls, code,
             tls->wrong_key && attached_of(tls)->decoy ? "suite not allowed for this device"
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
        fail(tls, 0, "handshake message too large");
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
    enum sp_err err = look(tls);
    if ((err == SP_ERR_AGAIN || attached_of(tls)->stage == STAGE_PSK) && tls->flow->in.len > 0) {
        SP_TRY(sp_flow_hold(tls->flow, tls->flow->in.len, HELD_MAX));
    }
    return err;
}

/* The caller's output is lent for a call, and detaching may end the borrower. */
static void lend(struct sp_tls *tls, struct sp_tls_out *out)
{
    if (tls->attached) {
        attached_of(tls)->out = out;
    }
}

bool sp_tls_greet(struct sp_tls *tls)
{
    struct attached *attached = attached_of(tls);
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
    if (attached_of(tls)->session == NULL && !server_begin(tls)) {
        fail(tls, GNUTLS_E_MEMORY_ERROR, NULL);
        return;
    }
    if (attached_of(tls)->flooded) {
        refuse(tls, GNUTLS_A_DECODE_ERROR, "handshake message too large");
        return;
    }
    if (attached_of(tls)->stage == STAGE_HELLO || attached_of(tls)->stage == STAGE_KEY) {
        err = await_message(tls);
    }
    if (tls->state == SP_TLS_CLOSED) {
        return;
    }
    if (err == SP_OK && attached_of(tls)->stage == STAGE_PSK) {
        tls->state = SP_TLS_NEED_PSK;
    } else if (err == SP_OK) {
        feed(tls);
    } else if (err != SP_ERR_AGAIN) {
        refuse(tls, GNUTLS_A_DECODE_ERROR, "handshake message too large");
    }
}

enum sp_tls_state sp_tls_step(struct sp_tls *tls, struct sp_tls_out *out)
{
    if (tls->state == SP_TLS_HANDSHAKE) {
        lend(tls, out);
        step(tls);
        lend(tls, NULL);
    }
    return sp_tls_state(tls);
}

void sp_tls_set_psk(struct sp_tls *tls, struct sp_view psk, uint32_t suites)
{
    if (tls->state != SP_TLS_NEED_PSK) {
        return;
    }
    attached_of(tls)->psk = malloc(SP_PSK_MAX);
    if (attached_of(tls)->psk == NULL) {
        fail(tls, GNUTLS_E_MEMORY_ERROR, NULL);
        return;
    }
    uint32_t tls13 = SP_SUITES_PROFILE_SMALL | SP_SUITES_FORWARD_SECRET | SP_SUITES_ALL;
    uint32_t sets = attached_of(tls)->suite == NULL ? tls13 : attached_of(tls)->suite->sets;
    attached_of(tls)->decoy = suites != 0 && (sets & suites) == 0;
    struct sp_view used = sp_view_first(psk, SP_PSK_MAX);
    if (attached_of(tls)->decoy) {
        /* The same end as a wrong key: an outsider learns nothing about the row. */
        (void)gnutls_rnd(GNUTLS_RND_NONCE, attached_of(tls)->psk, used.len);
    } else {
        sp_copy(attached_of(tls)->psk, used.ptr, used.len);
    }
    attached_of(tls)->psk_len = used.len;
    attached_of(tls)->answered = true;
    attached_of(tls)->stage = STAGE_REST;
    tls->state = SP_TLS_HANDSHAKE;
}

/* ---- application data, detached ---- */

/* The peer ends it, or has broken the rules. */
static void record_ended(struct sp_tls *tls, enum sp_err err, const struct sp_record_in *found,
                         struct sp_tls_out *out)
{
    if (err == SP_ERR_MALFORMED) {
        sp_flow_say(&tls->record, (enum sp_alert)found->alert, out);
        fail(tls, 0, found->why);
    } else if (found->alert == SP_ALERT_CLOSE_NOTIFY) {
        tls->state = SP_TLS_CLOSED;
    } else {
        const char *name = gnutls_alert_get_name((gnutls_alert_description_t)found->alert);
        fail(tls, 0, name == NULL ? found->why : name);
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
        fail(tls, 0, "out of memory");
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
        fail(tls, 0, "a record cannot be made");
    }
    return err;
}

/* ---- application data, attached ---- */

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
    (void)gnutls_alert_send_appropriate(attached_of(tls)->session, code);
    fail(tls, code, NULL);
    return SP_ERR_MALFORMED;
}

static enum sp_err read_some(struct sp_tls *tls, uint8_t *buf, size_t cap, size_t *len)
{
    for (;;) {
        ssize_t got = gnutls_record_recv(attached_of(tls)->session, buf, cap);
        if (got > 0) {
            attached_of(tls)->idle_records = 0;
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
        if (++attached_of(tls)->idle_records > IDLE_RECORDS_MAX) {
            refuse(tls, GNUTLS_A_UNEXPECTED_MESSAGE, "too many empty records or warning alerts");
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
        ssize_t sent = gnutls_record_send(attached_of(tls)->session, plain.ptr, plain.len);
        if (sent <= 0) {
            fail(tls, (int)sent, NULL);
            return SP_ERR_CRYPTO;
        }
        plain = sp_view_from(plain, (size_t)sent);
    }
    return SP_OK;
}

/* ---- application data ---- */

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
    lend(tls, out);
    enum sp_err err = read_attached(tls, buf, cap, len);
    lend(tls, NULL);
    return err;
}

bool sp_tls_has_part(const struct sp_tls *tls)
{
    bool begun = tls->attached && attached_of(tls)->head_len > 0;
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
    lend(tls, out);
    enum sp_err err = write_attached(tls, plain);
    lend(tls, NULL);
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
    lend(tls, out);
    (void)gnutls_bye(attached_of(tls)->session, GNUTLS_SHUT_WR);
    lend(tls, NULL);
}

enum sp_err sp_tls_exporter(struct sp_tls *tls, uint8_t out[32])
{
    if (tls->state != SP_TLS_OPEN) {
        return SP_ERR_STATE;
    }
    if (tls->attached) {
        return make_exporter(tls, out);
    }
    sp_copy(out, tls->exporter, sizeof(tls->exporter));
    return SP_OK;
}

/* ---- to another process ---- */

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
    if (!may_flow(tls)) {
        return SP_ERR_NOMEM;
    }
    tls->flow->in = held;
    return sp_flow_hold(tls->flow, held.len, held.len);
}

enum sp_err sp_tls_unpack(struct sp_reader *r, struct sp_tls **out)
{
    *out = NULL;
    struct sp_tls *tls = sp_slab_take(&sessions);
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

const char *sp_tls_describe(const struct sp_tls *tls)
{
    static _Thread_local char text[96];
    const struct attached *attached = attached_of(tls);
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
    const struct attached *attached = attached_of(tls);
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
