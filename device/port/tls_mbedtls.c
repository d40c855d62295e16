/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/port/tls_mbedtls.h"

#include "device/port/suites.h"
#include "device/port/tls_mbedtls_internal.h"
#include "libs/link/link.h"

#include <mbedtls/platform.h>
#include <mbedtls/psa_util.h>
#include <ssl_misc.h> /* whether extended master secret was agreed on: the public API does not say */

struct sp_tls_client {
    struct sp_stream stream;
    int suites[SP_DEVICE_SUITES_MAX + 1U];
    mbedtls_ssl_config config;
    mbedtls_ssl_context ssl;
    bool connected;
    bool secured;
    size_t unsent;    /* bytes of a write that the stream did not take whole; 0 = none */
    const char *what; /* for describe() */
};

static int bio_send(void *ctx, const unsigned char *bytes, size_t len)
{
    struct sp_tls_client *tls = ctx;
    size_t sent = 0;
    enum sp_err err = tls->stream.write(tls->stream.ctx, sp_view(bytes, len), &sent);
    if (err == SP_ERR_AGAIN) {
        return MBEDTLS_ERR_SSL_WANT_WRITE;
    }
    return err == SP_OK ? (int)sent : MBEDTLS_ERR_SSL_CONN_EOF;
}

static int bio_recv(void *ctx, unsigned char *out, size_t cap)
{
    struct sp_tls_client *tls = ctx;
    size_t len = 0;
    enum sp_err err = tls->stream.read(tls->stream.ctx, out, cap, &len);
    if (err == SP_ERR_AGAIN) {
        return MBEDTLS_ERR_SSL_WANT_READ;
    }
    return err == SP_OK ? (int)len : MBEDTLS_ERR_SSL_CONN_EOF;
}

static const char *error_text(const struct sp_tls_client *tls, int code)
{
    static const struct {
        int code;
        const char *text;
    } texts[] = {
        {MBEDTLS_ERR_SSL_CONN_EOF, "the connection broke"},
        {MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY, "the gateway closed"},
        {MBEDTLS_ERR_SSL_INVALID_MAC, "a record with a wrong MAC: another PSK, or damage"},
        {MBEDTLS_ERR_SSL_BAD_INPUT_DATA, "bad input data"},
        {MBEDTLS_ERR_SSL_ALLOC_FAILED, "out of memory"},
        {MBEDTLS_ERR_SSL_HANDSHAKE_FAILURE, "no common TLS parameters"},
        {MBEDTLS_ERR_SSL_ILLEGAL_PARAMETER, "the gateway chose what was not offered"},
        {MBEDTLS_ERR_SSL_BAD_PROTOCOL_VERSION, "not TLS 1.2"},
        {MBEDTLS_ERR_SSL_INVALID_RECORD, "not a TLS record"},
        {MBEDTLS_ERR_SSL_UNEXPECTED_MESSAGE, "a TLS message out of turn"},
    };
    if (code == MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE) {
        return tls->secured ? "the gateway sent a fatal alert"
                            : "the gateway refused the handshake: PSK identity, key or suites";
    }
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (texts[i].code == code) {
            return texts[i].text;
        }
    }
    return "TLS failed";
}

static enum sp_err result(struct sp_tls_client *tls, int code)
{
    if (code == MBEDTLS_ERR_SSL_WANT_READ || code == MBEDTLS_ERR_SSL_WANT_WRITE) {
        return SP_ERR_AGAIN;
    }
    tls->what = error_text(tls, code);
    return code == MBEDTLS_ERR_SSL_CONN_EOF || code == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY
               ? SP_ERR_CLOSED
               : SP_ERR_PROTOCOL;
}

static enum sp_err tls_open(void *ctx)
{
    struct sp_tls_client *tls = ctx;
    tls->connected = false;
    tls->secured = false;
    tls->unsent = 0;
    tls->what = "";
    if (mbedtls_ssl_session_reset(&tls->ssl) != 0) {
        tls->what = "out of memory";
        return SP_ERR_NOMEM;
    }
    enum sp_err err = tls->stream.open(tls->stream.ctx);
    if (err != SP_OK) {
        tls->what = tls->stream.describe(tls->stream.ctx);
    }
    return err;
}

static enum sp_err connect_stream(struct sp_tls_client *tls)
{
    if (tls->connected) {
        return SP_OK;
    }
    enum sp_err err = tls->stream.ready(tls->stream.ctx);
    if (err == SP_OK) {
        tls->connected = true;
    } else if (err != SP_ERR_AGAIN) {
        tls->what = tls->stream.describe(tls->stream.ctx);
    }
    return err;
}

/* Once ServerHello is in: what docs/protocol.md 1 demands of it. */
static bool server_hello_acceptable(struct sp_tls_client *tls)
{
    const mbedtls_ssl_context *ssl = &tls->ssl;
    if (ssl->state <= MBEDTLS_SSL_SERVER_HELLO || ssl->handshake == NULL) {
        return true;
    }
    if (ssl->handshake->extended_ms != MBEDTLS_SSL_EXTENDED_MS_ENABLED) {
        tls->what = "the gateway does not do extended master secret";
        return false;
    }
    if (ssl->session_negotiate != NULL && !sp_tls_variant_acceptable(ssl->session_negotiate)) {
        tls->what = "the gateway does not do encrypt-then-MAC with a CBC suite";
        return false;
    }
    return true;
}

static enum sp_err tls_secure(void *ctx)
{
    struct sp_tls_client *tls = ctx;
    SP_TRY(connect_stream(tls));
    while (!mbedtls_ssl_is_handshake_over(&tls->ssl)) {
        int code = mbedtls_ssl_handshake_step(&tls->ssl);
        if (code != 0) {
            return result(tls, code);
        }
        if (!server_hello_acceptable(tls)) {
            (void)mbedtls_ssl_send_alert_message(&tls->ssl, MBEDTLS_SSL_ALERT_LEVEL_FATAL,
                                                 MBEDTLS_SSL_ALERT_MSG_HANDSHAKE_FAILURE);
            return SP_ERR_PROTOCOL;
        }
    }
    tls->secured = true;
    tls->what = sp_device_suite_name(mbedtls_ssl_get_ciphersuite_id_from_ssl(&tls->ssl));
    return SP_OK;
}

static enum sp_err tls_read(void *ctx, uint8_t *out, size_t cap, size_t *len)
{
    struct sp_tls_client *tls = ctx;
    int code = mbedtls_ssl_read(&tls->ssl, out, cap);
    if (code > 0) {
        *len = (size_t)code;
        return SP_OK;
    }
    return result(tls, code == 0 ? MBEDTLS_ERR_SSL_CONN_EOF : code);
}

static enum sp_err tls_write(void *ctx, struct sp_view bytes, size_t *len)
{
    struct sp_tls_client *tls = ctx;
    /* The library wants an interrupted write repeated with the length it had. */
    struct sp_view now = tls->unsent != 0 ? sp_view_first(bytes, tls->unsent) : bytes;
    int code = mbedtls_ssl_write(&tls->ssl, now.ptr, now.len);
    tls->unsent = code == MBEDTLS_ERR_SSL_WANT_WRITE ? now.len : 0;
    if (code >= 0) {
        *len = (size_t)code;
        return SP_OK;
    }
    return result(tls, code);
}

static enum sp_err tls_exporter(void *ctx, uint8_t *out)
{
    static const char label[] = SP_LINK_EXPORTER_LABEL;
    struct sp_tls_client *tls = ctx;
    int code =
        mbedtls_ssl_export_keying_material(&tls->ssl, out, SP_LINK_EXPORTER_LEN, label,
                                           sizeof(label) - 1U, (const unsigned char *)"", 0, 1);
    return code == 0 ? SP_OK : SP_ERR_CRYPTO;
}

static void tls_close(void *ctx)
{
    struct sp_tls_client *tls = ctx;
    if (tls->secured) {
        (void)mbedtls_ssl_close_notify(&tls->ssl);
    }
    tls->secured = false;
    tls->connected = false;
    tls->stream.close(tls->stream.ctx);
}

static const char *tls_describe(void *ctx)
{
    const struct sp_tls_client *tls = ctx;
    return tls->what;
}

static int configure(struct sp_tls_client *tls, const struct sp_tls_client_opts *opts)
{
    mbedtls_ssl_config *config = &tls->config;
    int code = mbedtls_ssl_config_defaults(
        config, MBEDTLS_SSL_IS_CLIENT, MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT);
    if (code != 0) {
        return code;
    }
    mbedtls_ssl_conf_rng(config, mbedtls_psa_get_random, MBEDTLS_PSA_RANDOM_STATE);
    mbedtls_ssl_conf_min_tls_version(config, MBEDTLS_SSL_VERSION_TLS1_2);
    mbedtls_ssl_conf_max_tls_version(config, MBEDTLS_SSL_VERSION_TLS1_2);
    mbedtls_ssl_conf_ciphersuites(config, tls->suites);
    mbedtls_ssl_conf_extended_master_secret(config, MBEDTLS_SSL_EXTENDED_MS_ENABLED);
    sp_tls_variant_configure(config);
    code = mbedtls_ssl_conf_psk_opaque(config, opts->psk, opts->identity.ptr, opts->identity.len);
    return code != 0 ? code : mbedtls_ssl_setup(&tls->ssl, config);
}

enum sp_err sp_tls_client_create(const struct sp_tls_client_opts *opts, struct sp_tls_client **out)
{
    *out = NULL;
    if (opts->suites == 0) {
        return SP_ERR_ARGUMENT;
    }
    struct sp_tls_client *tls = mbedtls_calloc(1, sizeof(*tls));
    if (tls == NULL) {
        return SP_ERR_NOMEM;
    }
    tls->stream = opts->stream;
    tls->what = "";
    sp_device_suites_list(opts->suites, tls->suites);
    mbedtls_ssl_config_init(&tls->config);
    mbedtls_ssl_init(&tls->ssl);
    int code = configure(tls, opts);
    if (code != 0) {
        sp_tls_client_destroy(tls);
        return code == MBEDTLS_ERR_SSL_ALLOC_FAILED ? SP_ERR_NOMEM : SP_ERR_ARGUMENT;
    }
    mbedtls_ssl_set_bio(&tls->ssl, tls, bio_send, bio_recv, NULL);
    *out = tls;
    return SP_OK;
}

void sp_tls_client_destroy(struct sp_tls_client *tls)
{
    if (tls == NULL) {
        return;
    }
    mbedtls_ssl_free(&tls->ssl);
    mbedtls_ssl_config_free(&tls->config);
    mbedtls_free(tls);
}

struct sp_channel sp_tls_client_channel(struct sp_tls_client *tls)
{
    return (struct sp_channel){
        .ctx = tls,
        .open = tls_open,
        .secure = tls_secure,
        .read = tls_read,
        .write = tls_write,
        .exporter = tls_exporter,
        .close = tls_close,
        .describe = tls_describe,
    };
}
