/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/tls/tls_internal.h"

#include <gnutls/gnutls.h>
#include <string.h>

#include "gateway/tls/suites.h"
#include "libs/link/link.h"

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
static uint16_t send_max(const struct sp_tls_attached *attached)
{
    size_t most = gnutls_record_get_max_size(attached->session);
    if (attached->send_max != 0 && attached->send_max < most) {
        most = attached->send_max;
    }
    return (uint16_t)(most < SP_RECORD_PLAIN_MAX ? most : SP_RECORD_PLAIN_MAX);
}

enum sp_err sp_tls_make_exporter(struct sp_tls *tls, uint8_t *out)
{
    /* An empty context that is present: "" and not NULL (RFC 5705, 4). */
    int code = gnutls_prf_rfc5705(sp_tls_attached(tls)->session, strlen(SP_LINK_EXPORTER_LABEL),
                                  SP_LINK_EXPORTER_LABEL, 0, "", SP_LINK_EXPORTER_LEN, (char *)out);
    return code == 0 ? SP_OK : SP_ERR_CRYPTO;
}

void sp_tls_detach(struct sp_tls *tls)
{
    struct sp_tls_attached *attached = sp_tls_attached(tls);
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
        sp_tls_make_exporter(tls, tls->exporter) == SP_OK) {
        record->read_sequence = read_sequence;
        record->write_sequence = write_sequence;
        tls->suite = (uint8_t)(attached->suite - sp_tls_suites);
        *flow = attached->flow;
        sp_tls_free_attached(tls, flow);
    } else {
        sp_flow_destroy(flow);
        sp_wipe(record, sizeof(*record));
    }
}
