/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "libs/cose/cose.h"

#include "libs/cbor/cbor.h"

#define TAG_ENCRYPT0    16U
#define TAG_MAC0        17U
#define FIRST_BYTE(tag) ((uint8_t)(((unsigned)SP_CBOR_TAG << 5) | (tag)))

/* RFC 9052, 3.1 */
enum { LABEL_ALGORITHM = 1, LABEL_CRIT = 2, LABEL_KID = 4, LABEL_IV = 5, LABEL_PARTIAL_IV = 6 };

size_t sp_cose_hmac_len(int64_t algorithm)
{
    switch (algorithm) {
    case SP_COSE_HMAC256:
        return 32;
    case SP_COSE_HMAC384:
        return 48;
    case SP_COSE_HMAC512:
        return 64;
    default:
        return 0;
    }
}

size_t sp_cose_ccm_tag_len(int64_t algorithm)
{
    switch (algorithm) {
    case SP_COSE_AES_CCM_16_64_128:
        return 8;
    case SP_COSE_AES_CCM_16_128_128:
        return 16;
    default:
        return 0;
    }
}

int64_t sp_cose_message_algorithm(const struct sp_cose_message *message)
{
    bool in_protected = (message->protected_header.seen & SP_COSE_SEEN_ALGORITHM) != 0;
    return in_protected ? message->protected_header.algorithm
                        : message->unprotected_header.algorithm;
}

static void read_algorithm(struct sp_cbor_reader *r, struct sp_cose_header *out)
{
    if (sp_cbor_peek(r) == SP_CBOR_TEXT) { /* allowed in COSE; no algorithm here has one */
        (void)sp_cbor_read_text(r);
    } else {
        out->algorithm = sp_cbor_read_int(r);
    }
    out->seen |= SP_COSE_SEEN_ALGORITHM;
}

static void read_parameter(struct sp_cbor_reader *r, struct sp_cose_header *out)
{
    struct sp_cbor_label label = sp_cbor_read_label(r);
    int64_t number = label.is_text ? 0 : label.number;
    if (number == LABEL_ALGORITHM) {
        read_algorithm(r, out);
    } else if (number == LABEL_CRIT) {
        sp_reader_fail(&r->in, SP_ERR_UNSUPPORTED);
    } else if (number == LABEL_KID) {
        out->kid = sp_cbor_read_bytes(r);
        out->seen |= SP_COSE_SEEN_KID;
    } else if (number == LABEL_IV) {
        out->iv = sp_cbor_read_bytes(r);
        out->seen |= SP_COSE_SEEN_IV;
    } else if (number == LABEL_PARTIAL_IV) {
        out->partial_iv = sp_cbor_read_bytes(r);
        out->seen |= SP_COSE_SEEN_PARTIAL_IV;
    } else {
        (void)sp_cbor_skip(r, SP_CBOR_DEPTH_MAX - 2);
        out->seen |= SP_COSE_SEEN_OTHER;
    }
}

static void read_header(struct sp_cbor_reader *r, struct sp_cose_header *out)
{
    *out = (struct sp_cose_header){0};
    enum sp_err err = sp_cbor_check_map(r, SP_COSE_HEADERS_MAX, SP_CBOR_DEPTH_MAX - 2);
    if (err != SP_OK) {
        sp_reader_fail(&r->in, err);
    }
    size_t pairs = sp_cbor_read_map(r);
    for (size_t i = 0; i < pairs; i++) {
        read_parameter(r, out);
    }
}

static void read_protected(struct sp_cbor_reader *r, struct sp_cose_message *out)
{
    struct sp_view bytes = sp_cbor_read_bytes(r);
    out->protected_header = (struct sp_cose_header){0};
    out->protected_bytes = bytes;
    if (bytes.len == 0) {
        return;
    }
    struct sp_cbor_reader inner;
    sp_cbor_reader_init(&inner, bytes, false);
    read_header(&inner, &out->protected_header);
    enum sp_err err = sp_cbor_finish(&inner);
    if (err != SP_OK) {
        sp_reader_fail(&r->in, err);
    }
    if (out->protected_header.seen == 0) { /* 5.3, 6.3: an empty map counts as an empty string */
        out->protected_bytes = (struct sp_view){NULL, 0};
    }
}

/* RFC 9052, 3: a label occurs in one of the buckets. Others than these we would not use. */
static bool buckets_overlap(const struct sp_cose_message *message)
{
    unsigned both = message->protected_header.seen & message->unprotected_header.seen;
    return (both & ~SP_COSE_SEEN_OTHER) != 0;
}

static void read_tag(struct sp_cbor_reader *r, unsigned tag)
{
    if (sp_read_u8(&r->in) != FIRST_BYTE(tag)) {
        sp_reader_fail(&r->in, SP_ERR_MALFORMED);
    }
}

static enum sp_err decode(struct sp_view input, bool tagged, unsigned tag,
                          struct sp_cose_message *out)
{
    struct sp_cbor_reader r;
    struct sp_cose_message message;
    sp_cbor_reader_init(&r, input, false);
    if (tagged) {
        read_tag(&r, tag);
    }
    if (sp_cbor_read_array(&r) != (tag == TAG_MAC0 ? 4U : 3U)) {
        sp_reader_fail(&r.in, SP_ERR_MALFORMED);
    }
    read_protected(&r, &message);
    read_header(&r, &message.unprotected_header);
    message.content = sp_cbor_read_bytes(&r);
    message.tag = tag == TAG_MAC0 ? sp_cbor_read_bytes(&r) : (struct sp_view){NULL, 0};
    SP_TRY(sp_cbor_finish(&r));
    if (buckets_overlap(&message)) {
        return SP_ERR_MALFORMED;
    }
    *out = message;
    return SP_OK;
}

enum sp_err sp_cose_mac0_decode(struct sp_view input, enum sp_cose_tagging tagging,
                                struct sp_cose_message *out)
{
    return decode(input, tagging == SP_COSE_TAGGED, TAG_MAC0, out);
}

enum sp_err sp_cose_encrypt0_decode(struct sp_view input, enum sp_cose_tagging tagging,
                                    struct sp_cose_message *out)
{
    return decode(input, tagging == SP_COSE_TAGGED, TAG_ENCRYPT0, out);
}

/* HMAC over MAC_structure (RFC 9052, 6.3), ["MAC0", protected, external_aad, payload], part by part. */
static enum sp_err compute_tag(struct sp_view protected_bytes, enum sp_cose_algorithm algorithm,
                               const struct sp_crypto_key *key, const struct sp_view content[2],
                               uint8_t out[SP_HASH_MAX])
{
    struct sp_view external_aad = content[0];
    struct sp_view payload = content[1];
    uint8_t start_bytes[16];
    uint8_t aad_bytes[9];
    uint8_t payload_bytes[9];
    struct sp_writer start;
    struct sp_writer aad_head;
    struct sp_writer payload_head;
    sp_writer_init(&start, start_bytes, sizeof(start_bytes));
    sp_writer_init(&aad_head, aad_bytes, sizeof(aad_bytes));
    sp_writer_init(&payload_head, payload_bytes, sizeof(payload_bytes));
    sp_cbor_write_array(&start, 4);
    sp_cbor_write_text(&start, SP_VIEW_LIT("MAC0"));
    sp_cbor_write_bytes_head(&start, protected_bytes.len);
    sp_cbor_write_bytes_head(&aad_head, external_aad.len);
    sp_cbor_write_bytes_head(&payload_head, payload.len);
    const struct sp_view parts[] = {
        sp_writer_view(&start),        protected_bytes, sp_writer_view(&aad_head), external_aad,
        sp_writer_view(&payload_head), payload,
    };
    return sp_crypto_hmac((enum sp_hash)sp_cose_hmac_len(algorithm), key, parts,
                          sizeof(parts) / sizeof(parts[0]), out);
}

enum sp_err sp_cose_mac0_verify(const struct sp_cose_message *message,
                                enum sp_cose_algorithm algorithm, const struct sp_crypto_key *key,
                                struct sp_view external_aad)
{
    size_t len = sp_cose_hmac_len(algorithm);
    if (len == 0) {
        return SP_ERR_UNSUPPORTED;
    }
    if (sp_cose_message_algorithm(message) != (int64_t)algorithm || message->tag.len != len) {
        return SP_ERR_UNTRUSTED;
    }
    uint8_t want[SP_HASH_MAX];
    const struct sp_view content[2] = {external_aad, message->content};
    SP_TRY(compute_tag(message->protected_bytes, algorithm, key, content, want));
    bool equal = sp_ct_equal(want, message->tag.ptr, len);
    sp_wipe(want, sizeof(want)); /* the right tag of a forged message is a secret */
    return equal ? SP_OK : SP_ERR_UNTRUSTED;
}

/* {1: algorithm}; algorithms here are one or two bytes. */
static struct sp_view protected_map(enum sp_cose_algorithm algorithm, uint8_t out[4])
{
    struct sp_writer w;
    sp_writer_init(&w, out, 4);
    sp_cbor_write_map(&w, 1);
    sp_cbor_write_int(&w, LABEL_ALGORITHM);
    sp_cbor_write_int(&w, algorithm);
    return sp_writer_view(&w);
}

void sp_cose_mac0_begin(struct sp_writer *w, enum sp_cose_algorithm algorithm, size_t payload_len)
{
    uint8_t map[4];
    sp_cbor_write_tag(w, TAG_MAC0);
    sp_cbor_write_array(w, 4);
    sp_cbor_write_bytes(w, protected_map(algorithm, map));
    sp_cbor_write_map(w, 0);
    sp_cbor_write_bytes_head(w, payload_len);
}

enum sp_err sp_cose_mac0_end(struct sp_writer *w, enum sp_cose_algorithm algorithm,
                             const struct sp_crypto_key *key, struct sp_view external_aad,
                             size_t payload_len)
{
    size_t len = sp_cose_hmac_len(algorithm);
    struct sp_view written = sp_writer_view(w);
    if (len == 0) {
        return SP_ERR_UNSUPPORTED;
    }
    if (w->err != SP_OK || payload_len > written.len) {
        return w->err != SP_OK ? w->err : SP_ERR_ARGUMENT;
    }
    uint8_t map[4];
    uint8_t tag[SP_HASH_MAX];
    const struct sp_view content[2] = {external_aad,
                                       sp_view_from(written, written.len - payload_len)};
    SP_TRY(compute_tag(protected_map(algorithm, map), algorithm, key, content, tag));
    sp_cbor_write_bytes(w, sp_view(tag, len));
    return w->err;
}

enum sp_err sp_cose_mac0_encode(struct sp_writer *w, enum sp_cose_algorithm algorithm,
                                const struct sp_crypto_key *key, struct sp_view external_aad,
                                struct sp_view payload)
{
    sp_cose_mac0_begin(w, algorithm, payload.len);
    sp_write_view(w, payload);
    return sp_cose_mac0_end(w, algorithm, key, external_aad, payload.len);
}

enum sp_err sp_cose_mac0_seal(struct sp_writer *w, const struct sp_cose_headers *headers,
                              enum sp_cose_algorithm algorithm, const struct sp_crypto_key *key,
                              struct sp_view external_aad, struct sp_view payload)
{
    size_t len = sp_cose_hmac_len(algorithm);
    if (len == 0) {
        return SP_ERR_UNSUPPORTED;
    }
    uint8_t tag[SP_HASH_MAX];
    const struct sp_view content[2] = {external_aad, payload};
    SP_TRY(compute_tag(headers->protected_map, algorithm, key, content, tag));
    sp_cbor_write_tag(w, TAG_MAC0);
    sp_cbor_write_array(w, 4);
    sp_cbor_write_bytes(w, headers->protected_map);
    if (headers->unprotected_map.len == 0) {
        sp_cbor_write_map(w, 0);
    } else {
        sp_write_view(w, headers->unprotected_map);
    }
    sp_cbor_write_bytes(w, payload);
    sp_cbor_write_bytes(w, sp_view(tag, len));
    return w->err;
}

/* Enc_structure (RFC 9052, 5.3): ["Encrypt0", protected, external_aad]. */
static enum sp_err write_enc_structure(struct sp_writer *w, struct sp_view protected_bytes,
                                       struct sp_view external_aad)
{
    sp_cbor_write_array(w, 3);
    sp_cbor_write_text(w, SP_VIEW_LIT("Encrypt0"));
    sp_cbor_write_bytes(w, protected_bytes);
    sp_cbor_write_bytes(w, external_aad);
    return w->err == SP_ERR_SPACE ? SP_ERR_LIMIT : w->err;
}

#define ENC_STRUCTURE_MAX \
    (SP_COSE_AAD_MAX + 16U) /* array, context and two string heads of 3 bytes */

static enum sp_err check_how(const struct sp_cose_encrypt0 *how)
{
    if (sp_cose_ccm_tag_len(how->algorithm) == 0) {
        return SP_ERR_UNSUPPORTED;
    }
    return how->iv.len == SP_COSE_IV_LEN ? SP_OK : SP_ERR_MALFORMED; /* it may come off the wire */
}

enum sp_err sp_cose_encrypt0_open(const struct sp_cose_message *message,
                                  const struct sp_cose_encrypt0 *how, uint8_t *out, size_t cap,
                                  size_t *out_len)
{
    SP_TRY(check_how(how));
    if (sp_cose_message_algorithm(message) != (int64_t)how->algorithm) {
        return SP_ERR_UNTRUSTED;
    }
    uint8_t aad[ENC_STRUCTURE_MAX];
    struct sp_writer w;
    sp_writer_init(&w, aad, sizeof(aad));
    SP_TRY(write_enc_structure(&w, message->protected_bytes, how->external_aad));
    struct sp_crypto_aead aead = {how->key, how->iv, sp_writer_view(&w),
                                  sp_cose_ccm_tag_len(how->algorithm)};
    return sp_crypto_open(&aead, message->content, out, cap, out_len);
}

enum sp_err sp_cose_encrypt0_seal(struct sp_writer *w, const struct sp_cose_headers *headers,
                                  const struct sp_cose_encrypt0 *how, struct sp_view plain)
{
    SP_TRY(check_how(how));
    uint8_t aad[ENC_STRUCTURE_MAX];
    struct sp_writer aad_writer;
    sp_writer_init(&aad_writer, aad, sizeof(aad));
    SP_TRY(write_enc_structure(&aad_writer, headers->protected_map, how->external_aad));
    struct sp_crypto_aead aead = {how->key, how->iv, sp_writer_view(&aad_writer),
                                  sp_cose_ccm_tag_len(how->algorithm)};
    size_t sealed_len = plain.len + aead.tag_len;
    sp_cbor_write_tag(w, TAG_ENCRYPT0);
    sp_cbor_write_array(w, 3);
    sp_cbor_write_bytes(w, headers->protected_map);
    if (headers->unprotected_map.len == 0) {
        sp_cbor_write_map(w, 0);
    } else {
        sp_write_view(w, headers->unprotected_map);
    }
    sp_cbor_write_bytes_head(w, sealed_len);
    uint8_t *sealed = sp_write_reserve(w, sealed_len);
    if (sealed == NULL) {
        return w->err;
    }
    size_t len = 0;
    return sp_crypto_seal(&aead, plain, sealed, sealed_len, &len);
}
