/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/tls/tls_internal.h"

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sp_tls_client {
    gnutls_certificate_credentials_t certificate;
    gnutls_priority_t priority;
    char *host;
    gnutls_typed_vdata_st expected[2]; /* its certificate is for that name, and a server's */
    bool alpn;
};

/* ---- what the links share ---- */

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

/* ---- a session ---- */

static bool is_address(const char *host)
{
    return strchr(host, ':') != NULL || strspn(host, "0123456789.") == strlen(host);
}

enum sp_err sp_tls_connect(struct sp_tls_client *client, struct sp_tls **out)
{
    static const gnutls_datum_t aws = {(unsigned char *)(uintptr_t) "x-amzn-mqtt-ca", 14};
    *out = NULL;
    struct sp_tls *tls = sp_tls_create();
    if (tls == NULL || !sp_tls_session_open(tls, GNUTLS_CLIENT)) {
        sp_tls_destroy(tls);
        return SP_ERR_NOMEM;
    }
    sp_tls_attached(tls)->client = client;
    sp_tls_attached(tls)->stage = SP_TLS_STAGE_REST;
    gnutls_session_set_verify_cert2(sp_tls_attached(tls)->session, client->expected, 2, 0);
    int code = gnutls_priority_set(sp_tls_attached(tls)->session, client->priority);
    if (code == 0) {
        code = gnutls_credentials_set(sp_tls_attached(tls)->session, GNUTLS_CRD_CERTIFICATE,
                                      client->certificate);
    }
    if (code == 0 && !is_address(client->host)) {
        code = gnutls_server_name_set(sp_tls_attached(tls)->session, GNUTLS_NAME_DNS, client->host,
                                      strlen(client->host));
    }
    if (code == 0 && client->alpn) {
        code = gnutls_alpn_set_protocols(sp_tls_attached(tls)->session, &aws, 1,
                                         GNUTLS_ALPN_MANDATORY);
    }
    if (code != 0) {
        sp_tls_destroy(tls);
        return SP_ERR_NOMEM;
    }
    *out = tls;
    return SP_OK;
}
