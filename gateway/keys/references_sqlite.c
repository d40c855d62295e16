/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/keys/registry_internal.h"

#include <sqlite3.h>
#include <time.h>

#include "gateway/keys/rules.h"

#define DIGEST_INPUT_MAX 8192U

static void write_counted(struct sp_writer *w, struct sp_view bytes)
{
    sp_write_u8(w, (uint8_t)bytes.len);
    sp_write_view(w, bytes);
}

static enum sp_err digest_of(const struct sp_reference *ref, uint8_t *out)
{
    uint8_t buf[DIGEST_INPUT_MAX];
    struct sp_writer w;
    sp_writer_init(&w, buf, sizeof(buf));
    write_counted(&w, sp_view(ref->implementation_id, ref->implementation_id_len));
    for (size_t i = 0; i < ref->component_count; i++) {
        const struct sp_reference_component *c = &ref->components[i];
        write_counted(&w, sp_view_str(c->type));
        write_counted(&w, sp_view(c->value, c->value_len));
        write_counted(&w, sp_view(c->signer_id, c->signer_id_len));
        write_counted(&w, sp_view_str(c->version));
    }
    struct sp_view input = sp_writer_view(&w);
    return sp_crypto_hash(SP_SHA256, &input, 1, out);
}

static enum sp_err check_new_reference(struct sp_registry *reg, struct sp_view digest,
                                       int64_t *number)
{
    struct sp_query q;
    sp_query_start(&q, reg,
                   "SELECT number, (SELECT count(*) FROM software) FROM software WHERE digest = ?"
                   " UNION ALL SELECT 0, count(*) FROM software");
    sp_query_put_blob(&q, digest);
    if (sp_query_row(&q)) {
        int64_t same = sp_query_int(&q, 0);
        if (same != 0) {
            *number = same;
            sp_fault_set(&reg->fault, "reference %lld says the same already", (long long)same);
            q.err = SP_ERR_EXISTS;
        } else if (sp_query_int(&q, 1) >= (int64_t)SP_REFERENCES_MAX) {
            q.err = sp_registry_refuse(
                reg, SP_ERR_LIMIT,
                "too many references; remove those of software that is no longer used");
        }
    }
    return sp_query_end(&q);
}

static enum sp_err insert_component(struct sp_registry *reg, int64_t number, size_t position,
                                    const struct sp_reference_component *c)
{
    struct sp_query q;
    sp_query_start(&q, reg, "INSERT INTO software_component VALUES(?, ?, ?, ?, ?, ?)");
    sp_query_put_int(&q, number);
    sp_query_put_int(&q, (int64_t)position);
    sp_query_put_text(&q, c->type);
    sp_query_put_blob(&q, sp_view(c->value, c->value_len));
    sp_query_put_blob(&q, sp_view(c->signer_id, c->signer_id_len));
    sp_query_put_text(&q, c->version);
    return sp_query_run(&q);
}

static enum sp_err add_reference(struct sp_registry *reg, const struct sp_reference *ref,
                                 struct sp_view digest, int64_t *number)
{
    uint64_t version = 0;
    SP_TRY(check_new_reference(reg, digest, number));
    SP_TRY(sp_registry_number_next(reg, "software_version", &version));
    struct sp_query q;
    sp_query_start(&q, reg,
                   "INSERT INTO software(added, implementation_id, digest) VALUES(?, ?, ?)");
    sp_query_put_int(&q, (int64_t)time(NULL));
    sp_query_put_blob(&q, sp_view(ref->implementation_id, ref->implementation_id_len));
    sp_query_put_blob(&q, digest);
    SP_TRY(sp_query_run(&q));
    int64_t added = sqlite3_last_insert_rowid(reg->db);
    for (size_t i = 0; i < ref->component_count; i++) {
        SP_TRY(insert_component(reg, added, i, &ref->components[i]));
    }
    *number = added;
    return SP_OK;
}

enum sp_err sp_registry_reference_add(struct sp_registry *reg, const struct sp_reference *reference,
                                      int64_t *number)
{
    uint8_t digest[SP_SHA256];
    SP_TRY(sp_rules_check_reference(reference, &reg->fault));
    SP_TRY(digest_of(reference, digest));
    SP_TRY(sp_registry_transaction_begin(reg, "BEGIN IMMEDIATE"));
    return sp_registry_transaction_end(
        reg, add_reference(reg, reference, SP_VIEW_ARRAY(digest), number));
}

static enum sp_err remove_reference(struct sp_registry *reg, int64_t number)
{
    uint64_t version = 0;
    SP_TRY(sp_registry_number_next(reg, "software_version", &version));
    struct sp_query q;
    sp_query_start(&q, reg, "DELETE FROM software WHERE number = ?");
    sp_query_put_int(&q, number);
    SP_TRY(sp_query_run(&q));
    if (sqlite3_changes(reg->db) != 1) {
        return sp_registry_refuse(
            reg, SP_ERR_NOT_FOUND,
            "there is no such reference; `sallyport reference list` shows all");
    }
    return SP_OK;
}

enum sp_err sp_registry_reference_remove(struct sp_registry *reg, int64_t number)
{
    SP_TRY(sp_registry_transaction_begin(reg, "BEGIN IMMEDIATE"));
    return sp_registry_transaction_end(reg, remove_reference(reg, number));
}

static void get_component(struct sp_query *q, struct sp_reference *ref)
{
    if (ref->component_count == SP_ATTEST_COMPONENTS_MAX) {
        sp_query_damaged(q);
        return;
    }
    struct sp_reference_component *c = &ref->components[ref->component_count++];
    sp_query_text(q, 3, c->type, sizeof(c->type));
    c->value_len = sp_query_bytes(q, 4, c->value, sizeof(c->value));
    c->signer_id_len = sp_query_bytes(q, 5, c->signer_id, sizeof(c->signer_id));
    sp_query_text(q, 6, c->version, sizeof(c->version));
}

enum sp_err sp_registry_reference_each(struct sp_registry *reg, sp_reference_fn fn, void *arg)
{
    struct sp_query q;
    struct sp_reference ref = {0};
    sp_query_start(&q, reg,
                   "SELECT s.number, s.added, s.implementation_id, c.type, c.value, c.signer_id,"
                   " c.version FROM software s JOIN software_component c ON c.software = s.number"
                   " ORDER BY s.number, c.position");
    while (sp_query_row(&q)) {
        int64_t number = sp_query_int(&q, 0);
        if (number != ref.number) {
            if (ref.number != 0 && q.err == SP_OK) {
                q.err = fn(arg, &ref);
            }
            ref = (struct sp_reference){.number = number, .added = sp_query_int(&q, 1)};
            ref.implementation_id_len =
                sp_query_bytes(&q, 2, ref.implementation_id, sizeof(ref.implementation_id));
        }
        get_component(&q, &ref);
    }
    if (q.err == SP_OK && ref.number != 0) {
        q.err = fn(arg, &ref);
    }
    return sp_query_end(&q);
}

enum sp_err sp_registry_reference_version(struct sp_registry *reg, uint64_t *version)
{
    return sp_registry_number_read(reg, "software_version", version);
}
