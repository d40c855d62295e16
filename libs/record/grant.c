/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "libs/record/grant.h"

#include "libs/cbor/cbor.h"
#include "libs/link/link.h"

#define LABEL_ALGORITHM 1
#define LABEL_IV        5
#define AAD_MAX         (16U + SP_LINK_IDENTITY_MAX)

/* Members of grants and acks */
enum {
    SERIAL = 1,
    GROUP = 2,
    EPOCH = 3,
    ALGORITHM = 4,
    KIND = 5,
    KEY = 6,
    NOT_AFTER = 7,
    STATUS = 8,
    NEXT_COUNTER = 9
};

struct sp_grant_kek sp_grant_kek(const uint8_t *kek)
{
    return (struct sp_grant_kek){.encrypt = {.bytes = sp_view(kek, 16)},
                                 .mac = {.bytes = sp_view(kek + 16, 32)}};
}

static struct sp_view write_aad(const char *what, struct sp_view identity, uint8_t out[AAD_MAX])
{
    struct sp_writer w;
    sp_writer_init(&w, out, AAD_MAX);
    sp_write_str(&w, what);
    sp_write_view(&w, identity);
    return sp_writer_view(&w);
}

static void write_uint(struct sp_writer *w, int label, uint64_t value)
{
    sp_cbor_write_int(w, label);
    sp_cbor_write_int(w, (int64_t)value);
}

static uint64_t read_uint(struct sp_cbor_reader *r, int label)
{
    if (sp_cbor_read_uint(r) != (uint64_t)label) {
        sp_reader_fail(&r->in, SP_ERR_MALFORMED);
    }
    uint64_t value = sp_cbor_read_uint(r);
    if (value > INT64_MAX) {
        sp_reader_fail(&r->in, SP_ERR_MALFORMED);
    }
    return value;
}

/* serial, group, epoch: how both maps begin */
static void write_start(struct sp_writer *w, uint64_t serial, struct sp_view group, uint32_t epoch)
{
    write_uint(w, SERIAL, serial);
    sp_cbor_write_int(w, GROUP);
    sp_cbor_write_text(w, group);
    write_uint(w, EPOCH, epoch);
}

static void read_start(struct sp_cbor_reader *r, uint64_t *serial, struct sp_view *group,
                       uint32_t *epoch)
{
    *serial = read_uint(r, SERIAL);
    if (sp_cbor_read_uint(r) != GROUP) {
        sp_reader_fail(&r->in, SP_ERR_MALFORMED);
    }
    *group = sp_cbor_read_text(r);
    uint64_t number = read_uint(r, EPOCH);
    if (!sp_record_group_valid(*group) || number == 0 || number > UINT32_MAX) {
        sp_reader_fail(&r->in, SP_ERR_MALFORMED);
    }
    *epoch = (uint32_t)number;
}

/* ---- grants ---- */

static bool grant_valid(const struct sp_grant *g)
{
    size_t len =
        g->kind == SP_GRANT_GROUP_KEY ? SP_RECORD_GROUP_KEY : sp_record_key_len(g->algorithm);
    return sp_record_group_valid(g->group) && g->epoch != 0 && g->serial <= INT64_MAX &&
           (g->kind == SP_GRANT_GROUP_KEY || g->kind == SP_GRANT_RECORD_KEY) &&
           sp_record_key_len(g->algorithm) != 0 && g->key.len == len && g->not_after <= INT64_MAX;
}

static struct sp_view write_grant(const struct sp_grant *g, uint8_t out[SP_GRANT_PLAIN_MAX])
{
    struct sp_writer w;
    sp_writer_init(&w, out, SP_GRANT_PLAIN_MAX);
    sp_cbor_write_map(&w, g->has_not_after ? 7 : 6);
    write_start(&w, g->serial, g->group, g->epoch);
    write_uint(&w, ALGORITHM, (uint64_t)g->algorithm);
    write_uint(&w, KIND, (uint64_t)g->kind);
    sp_cbor_write_int(&w, KEY);
    sp_cbor_write_bytes(&w, g->key);
    if (g->has_not_after) {
        write_uint(&w, NOT_AFTER, g->not_after);
    }
    return sp_writer_view(&w);
}

static enum sp_err read_grant(struct sp_view plain, struct sp_grant *out)
{
    struct sp_cbor_reader r;
    struct sp_grant g = {0};
    sp_cbor_reader_init(&r, plain, true);
    size_t pairs = sp_cbor_read_map(&r);
    read_start(&r, &g.serial, &g.group, &g.epoch);
    g.algorithm = (enum sp_cose_algorithm)read_uint(&r, ALGORITHM);
    g.kind = (enum sp_grant_kind)read_uint(&r, KIND);
    if (sp_cbor_read_uint(&r) != KEY) {
        sp_reader_fail(&r.in, SP_ERR_MALFORMED);
    }
    g.key = sp_cbor_read_bytes(&r);
    g.has_not_after = pairs == 7;
    if (g.has_not_after) {
        g.not_after = read_uint(&r, NOT_AFTER);
    }
    if (sp_cbor_finish(&r) != SP_OK || pairs < 6 || pairs > 7 || !grant_valid(&g)) {
        return SP_ERR_MALFORMED;
    }
    *out = g;
    return SP_OK;
}

enum sp_err sp_grant_seal(const struct sp_grant *grant, const struct sp_grant_kek *kek,
                          struct sp_view iv, struct sp_view identity, uint8_t *out, size_t cap,
                          size_t *out_len)
{
    if (!grant_valid(grant) || iv.len != SP_COSE_IV_LEN || !sp_link_identity_valid(identity)) {
        return SP_ERR_ARGUMENT;
    }
    uint8_t aad[AAD_MAX];
    uint8_t maps[32];
    uint8_t plain[SP_GRANT_PLAIN_MAX];
    struct sp_writer map;
    sp_writer_init(&map, maps, sizeof(maps));
    sp_cbor_write_map(&map, 1);
    write_uint(&map, LABEL_ALGORITHM, SP_COSE_AES_CCM_16_128_128);
    size_t protected_len = map.used;
    sp_cbor_write_map(&map, 1);
    sp_cbor_write_int(&map, LABEL_IV);
    sp_cbor_write_bytes(&map, iv);
    const struct sp_cose_headers headers = {.protected_map = sp_view(maps, protected_len),
                                            .unprotected_map =
                                                sp_view_from(sp_writer_view(&map), protected_len)};
    const struct sp_cose_encrypt0 how = {SP_COSE_AES_CCM_16_128_128, kek->encrypt, iv,
                                         write_aad("sp-grant-1", identity, aad)};
    struct sp_writer w;
    sp_writer_init(&w, out, cap);
    enum sp_err err = sp_cose_encrypt0_seal(&w, &headers, &how, write_grant(grant, plain));
    sp_wipe(plain, sizeof(plain));
    SP_TRY(err);
    *out_len = w.used;
    return w.err;
}

/* Exactly {1: 30} and {5: IV}; anything else would be something nobody looked at. */
static bool grant_headers_fit(const struct sp_cose_message *m)
{
    return m->protected_header.seen == SP_COSE_SEEN_ALGORITHM &&
           m->unprotected_header.seen == SP_COSE_SEEN_IV &&
           m->protected_header.algorithm == SP_COSE_AES_CCM_16_128_128 &&
           m->unprotected_header.iv.len == SP_COSE_IV_LEN && m->content.len >= 16 &&
           m->content.len - 16 <= SP_GRANT_PLAIN_MAX;
}

enum sp_err sp_grant_open(struct sp_view sealed, const struct sp_grant_kek *kek,
                          struct sp_view identity, uint8_t *plain, struct sp_grant *out)
{
    struct sp_cose_message message;
    uint8_t aad[AAD_MAX];
    size_t len = 0;
    if (sealed.len > SP_GRANT_MAX ||
        sp_cose_encrypt0_decode(sealed, SP_COSE_TAGGED, &message) != SP_OK ||
        !grant_headers_fit(&message)) {
        return SP_ERR_MALFORMED;
    }
    const struct sp_cose_encrypt0 how = {SP_COSE_AES_CCM_16_128_128, kek->encrypt,
                                         message.unprotected_header.iv,
                                         write_aad("sp-grant-1", identity, aad)};
    SP_TRY(sp_cose_encrypt0_open(&message, &how, plain, SP_GRANT_PLAIN_MAX, &len));
    return read_grant(sp_view(plain, len), out);
}

/* ---- acknowledgements ---- */

static bool ack_valid(const struct sp_grant_ack *a)
{
    return sp_record_group_valid(a->group) && a->epoch != 0 && a->serial <= INT64_MAX &&
           (unsigned)a->status <= SP_GRANT_NO_ROOM && a->next_counter <= SP_RECORD_COUNTER_MAX + 1;
}

enum sp_err sp_ack_seal(const struct sp_grant_ack *ack, const struct sp_grant_kek *kek,
                        struct sp_view identity, uint8_t *out, size_t cap, size_t *out_len)
{
    if (!ack_valid(ack) || !sp_link_identity_valid(identity)) {
        return SP_ERR_ARGUMENT;
    }
    uint8_t aad[AAD_MAX];
    uint8_t plain[SP_ACK_MAX];
    struct sp_writer p;
    struct sp_writer w;
    sp_writer_init(&p, plain, sizeof(plain));
    sp_cbor_write_map(&p, 5);
    write_start(&p, ack->serial, ack->group, ack->epoch);
    write_uint(&p, STATUS, (uint64_t)ack->status);
    write_uint(&p, NEXT_COUNTER, ack->next_counter);
    sp_writer_init(&w, out, cap);
    SP_TRY(sp_cose_mac0_encode(&w, SP_COSE_HMAC256, &kek->mac, write_aad("sp-ack-1", identity, aad),
                               sp_writer_view(&p)));
    *out_len = w.used;
    return w.err;
}

static enum sp_err read_ack(struct sp_view sealed, struct sp_cose_message *message,
                            struct sp_grant_ack *out)
{
    if (sealed.len > SP_ACK_MAX || sp_cose_mac0_decode(sealed, SP_COSE_TAGGED, message) != SP_OK ||
        message->protected_header.seen != SP_COSE_SEEN_ALGORITHM ||
        message->unprotected_header.seen != 0) {
        return SP_ERR_MALFORMED;
    }
    struct sp_cbor_reader r;
    struct sp_grant_ack a = {0};
    sp_cbor_reader_init(&r, message->content, true);
    size_t pairs = sp_cbor_read_map(&r);
    read_start(&r, &a.serial, &a.group, &a.epoch);
    a.status = (enum sp_grant_status)read_uint(&r, STATUS);
    a.next_counter = read_uint(&r, NEXT_COUNTER);
    if (sp_cbor_finish(&r) != SP_OK || pairs != 5 || !ack_valid(&a)) {
        return SP_ERR_MALFORMED;
    }
    *out = a;
    return SP_OK;
}

enum sp_err sp_ack_peek(struct sp_view sealed, struct sp_grant_ack *out)
{
    struct sp_cose_message message;
    return read_ack(sealed, &message, out);
}

enum sp_err sp_ack_open(struct sp_view sealed, const struct sp_grant_kek *kek,
                        struct sp_view identity, struct sp_grant_ack *out)
{
    struct sp_cose_message message;
    struct sp_grant_ack ack;
    uint8_t aad[AAD_MAX];
    SP_TRY(read_ack(sealed, &message, &ack));
    SP_TRY(sp_cose_mac0_verify(&message, SP_COSE_HMAC256, &kek->mac,
                               write_aad("sp-ack-1", identity, aad)));
    *out = ack;
    return SP_OK;
}
