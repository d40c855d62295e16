/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "libs/record/record.h"

#include "libs/cbor/cbor.h"
#include "libs/link/link.h"

#define EPOCH_LEN   4U
#define COUNTER_LEN 5U
#define KID_MAX     (EPOCH_LEN + SP_RECORD_GROUP_MAX)
#define MAP_MAX     (KID_MAX + 16U) /* map, three labels, algorithm, heads, counter */

/* RFC 9052, 3.1 */
enum { LABEL_ALGORITHM = 1, LABEL_KID = 4, LABEL_PARTIAL_IV = 6 };

bool sp_record_group_valid(struct sp_view group)
{
    return group.len <= SP_RECORD_GROUP_MAX && sp_link_identity_valid(group);
}

size_t sp_record_key_len(int64_t algorithm)
{
    return algorithm == SP_COSE_AES_CCM_16_64_128 ? 16U : algorithm == SP_COSE_HMAC256 ? 32U : 0U;
}

enum sp_err sp_record_key(const struct sp_crypto_key *group_key, enum sp_cose_algorithm algorithm,
                          struct sp_view device, uint8_t *out)
{
    size_t len = sp_record_key_len(algorithm);
    bool sized = group_key->bytes.len == 0 || group_key->bytes.len == SP_RECORD_GROUP_KEY;
    if (len == 0 || !sized || !sp_link_identity_valid(device)) {
        return SP_ERR_ARGUMENT;
    }
    const uint8_t number = (uint8_t)algorithm;
    const struct sp_view parts[] = {SP_VIEW_LIT("sp-record-1"), sp_view(&number, 1), device};
    uint8_t whole[SP_HASH_MAX];
    enum sp_err err = sp_crypto_hmac(SP_SHA256, group_key, parts, 3, whole);
    if (err == SP_OK) {
        sp_copy(out, whole, len);
    }
    sp_wipe(whole, sizeof(whole));
    return err;
}

/* ---- the head ---- */

static bool head_valid(const struct sp_record_head *head)
{
    return sp_record_key_len(head->algorithm) != 0 && head->epoch != 0 && head->counter != 0 &&
           head->counter <= SP_RECORD_COUNTER_MAX && sp_record_group_valid(head->group);
}

static void write_counter(struct sp_writer *w, uint64_t counter)
{
    sp_write_u8(w, (uint8_t)(counter >> 32));
    sp_write_u32(w, (uint32_t)counter);
}

/* {1: alg, 4: kid, 6: Partial IV}, in this order, all in their shortest form. */
static struct sp_view write_map(const struct sp_record_head *head, uint8_t out[MAP_MAX])
{
    struct sp_writer w;
    sp_writer_init(&w, out, MAP_MAX);
    sp_cbor_write_map(&w, 3);
    sp_cbor_write_int(&w, LABEL_ALGORITHM);
    sp_cbor_write_int(&w, head->algorithm);
    sp_cbor_write_int(&w, LABEL_KID);
    sp_cbor_write_bytes_head(&w, EPOCH_LEN + head->group.len);
    sp_write_u32(&w, head->epoch);
    sp_write_view(&w, head->group);
    sp_cbor_write_int(&w, LABEL_PARTIAL_IV);
    sp_cbor_write_bytes_head(&w, COUNTER_LEN);
    write_counter(&w, head->counter);
    return sp_writer_view(&w);
}

static bool read_head(const struct sp_cose_message *message, int64_t algorithm,
                      struct sp_record_head *out)
{
    struct sp_reader kid;
    struct sp_reader iv;
    sp_reader_init(&kid, message->protected_header.kid);
    sp_reader_init(&iv, message->protected_header.partial_iv);
    out->epoch = sp_read_u32(&kid);
    out->group = sp_read_rest(&kid);
    out->counter = (uint64_t)sp_read_u8(&iv) << 32;
    out->counter |= sp_read_u32(&iv);
    out->algorithm = (enum sp_cose_algorithm)algorithm;
    return kid.err == SP_OK && sp_reader_finish(&iv) == SP_OK &&
           message->protected_header.algorithm == algorithm && head_valid(out);
}

static bool is_mac(struct sp_view record)
{
    return record.len > 0 && record.ptr[0] == SP_RECORD_FIRST_MAC;
}

/*
 * COSE leaves room for many encodings of one message, and the unprotected part and the heads are under no MAC. So the
 * record is written anew from what it says, up to its content, and held against what came.
 */
static bool one_form(struct sp_view record, const struct sp_cose_message *message,
                     const struct sp_record_head *head)
{
    uint8_t map[MAP_MAX];
    uint8_t start[MAP_MAX + 16U];
    struct sp_writer w;
    sp_writer_init(&w, start, sizeof(start));
    sp_cbor_write_tag(&w, is_mac(record) ? 17U : 16U);
    sp_cbor_write_array(&w, is_mac(record) ? 4U : 3U);
    sp_cbor_write_bytes(&w, write_map(head, map));
    sp_cbor_write_map(&w, 0);
    sp_cbor_write_bytes_head(&w, message->content.len);
    struct sp_view want = sp_writer_view(&w);
    size_t behind = is_mac(record) ? 2U + message->tag.len : 0U;
    return want.len > 0 && sp_view_starts(record, want) &&
           record.len == want.len + message->content.len + behind;
}

static enum sp_err decode(struct sp_view record, struct sp_cose_message *message,
                          struct sp_record_head *head)
{
    bool mac = is_mac(record);
    enum sp_err err = mac ? sp_cose_mac0_decode(record, SP_COSE_TAGGED, message)
                          : sp_cose_encrypt0_decode(record, SP_COSE_TAGGED, message);
    int64_t algorithm = mac ? SP_COSE_HMAC256 : SP_COSE_AES_CCM_16_64_128;
    if (err != SP_OK || !read_head(message, algorithm, head) || !one_form(record, message, head)) {
        return SP_ERR_MALFORMED;
    }
    size_t tag_len = mac ? 0 : sp_cose_ccm_tag_len(algorithm);
    bool sized = message->content.len >= tag_len &&
                 message->content.len - tag_len <= SP_RECORD_PLAIN_MAX &&
                 (!mac || message->tag.len == sp_cose_hmac_len(algorithm));
    return sized ? SP_OK : SP_ERR_MALFORMED;
}

enum sp_err sp_record_peek(struct sp_view record, struct sp_record_head *out)
{
    struct sp_cose_message message;
    struct sp_record_head head;
    SP_TRY(decode(record, &message, &head));
    *out = head;
    return SP_OK;
}

/* ---- seal and open ---- */

static struct sp_view make_iv(uint64_t counter, uint8_t out[SP_COSE_IV_LEN])
{
    struct sp_writer w;
    sp_writer_init(&w, out, SP_COSE_IV_LEN);
    sp_write_u64(&w, 0);
    write_counter(&w, counter);
    return sp_writer_view(&w);
}

enum sp_err sp_record_protect(const struct sp_record_head *head, const struct sp_crypto_key *key,
                              struct sp_view topic, struct sp_view plain, uint8_t *out, size_t cap,
                              size_t *out_len)
{
    if (!head_valid(head) || plain.len > SP_RECORD_PLAIN_MAX) {
        return SP_ERR_ARGUMENT;
    }
    uint8_t map[MAP_MAX];
    uint8_t iv[SP_COSE_IV_LEN];
    const struct sp_cose_headers headers = {.protected_map = write_map(head, map)};
    struct sp_writer w;
    enum sp_err err;
    sp_writer_init(&w, out, cap);
    if (head->algorithm == SP_COSE_HMAC256) {
        err = sp_cose_mac0_seal(&w, &headers, head->algorithm, key, topic, plain);
    } else {
        const struct sp_cose_encrypt0 how = {head->algorithm, *key, make_iv(head->counter, iv),
                                             topic};
        err = sp_cose_encrypt0_seal(&w, &headers, &how, plain);
    }
    SP_TRY(err);
    *out_len = w.used;
    return w.err;
}

enum sp_err sp_record_unprotect(struct sp_view record, enum sp_cose_algorithm algorithm,
                                const struct sp_crypto_key *key, struct sp_view topic,
                                struct sp_record_head *head, uint8_t *out, size_t *out_len)
{
    struct sp_cose_message message;
    struct sp_record_head said;
    SP_TRY(decode(record, &message, &said));
    if (said.algorithm != algorithm) {
        return SP_ERR_UNTRUSTED;
    }
    if (algorithm == SP_COSE_HMAC256) {
        SP_TRY(sp_cose_mac0_verify(&message, algorithm, key, topic));
        sp_copy(out, message.content.ptr, message.content.len);
        *out_len = message.content.len;
    } else {
        uint8_t iv[SP_COSE_IV_LEN];
        const struct sp_cose_encrypt0 how = {algorithm, *key, make_iv(said.counter, iv), topic};
        SP_TRY(sp_cose_encrypt0_open(&message, &how, out, SP_RECORD_PLAIN_MAX, out_len));
    }
    *head = said;
    return SP_OK;
}

struct sp_view sp_record_device(struct sp_view topic)
{
    static const struct sp_view none = {NULL, 0};
    if (!sp_view_starts(topic, SP_VIEW_LIT("dt/"))) {
        return none;
    }
    struct sp_view rest = sp_view_from(topic, 3);
    size_t len = 0;
    while (len < rest.len && rest.ptr[len] != '/') {
        len++;
    }
    struct sp_view device = sp_view_first(rest, len);
    return len < rest.len && sp_link_identity_valid(device) ? device : none;
}
