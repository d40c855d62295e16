/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/secure/partitions/its/its_core.h"

#include <string.h>

#define MAGIC      0x53504954U /* "SPIT" */
#define ENTRY_HEAD 20U         /* owner 4, uid 8, flags 4, size 4 */

/* An entry of the image, decoded. */
struct entry {
    size_t start; /* in the image */
    int32_t owner;
    psa_storage_uid_t uid;
    psa_storage_create_flags_t flags;
    struct sp_view data;
};

struct header {
    uint32_t generation;
    uint32_t length;
    uint32_t checksum;
};

/* CRC-32 (IEEE 802.3), bit by bit: a few KiB at a time, and no table in flash. */
static uint32_t crc32(struct sp_view bytes)
{
    uint32_t crc = 0xFFFFFFFFU;
    for (size_t i = 0; i < bytes.len; i++) {
        crc ^= bytes.ptr[i];
        for (unsigned bit = 0; bit < 8; bit++) {
            crc = (crc >> 1) ^ (0xEDB88320U & (0U - (crc & 1U)));
        }
    }
    return ~crc;
}

static bool next_entry(struct sp_reader *r, size_t total, struct entry *out)
{
    if (sp_reader_left(r) == 0) {
        return false;
    }
    out->start = total - sp_reader_left(r);
    out->owner = (int32_t)sp_read_u32(r);
    out->uid = sp_read_u64(r);
    out->flags = sp_read_u32(r);
    out->data = sp_read_bytes(r, sp_read_u32(r));
    return r->err == SP_OK;
}

static bool find_entry(const struct sp_its *its, int32_t owner, psa_storage_uid_t uid,
                       struct entry *out)
{
    struct sp_reader r;
    sp_reader_init(&r, sp_view(its->image, its->used));
    while (next_entry(&r, its->used, out)) {
        if (out->owner == owner && out->uid == uid) {
            return true;
        }
    }
    return false;
}

/* Whole entries, and no asset twice: of two values nobody could say which one is the newer. */
static bool image_is_sound(const struct sp_its *its)
{
    struct sp_reader r;
    struct entry entry;
    struct entry first;
    sp_reader_init(&r, sp_view(its->image, its->used));
    while (next_entry(&r, its->used, &entry)) {
        if (find_entry(its, entry.owner, entry.uid, &first) && first.start != entry.start) {
            return false;
        }
    }
    return r.err == SP_OK;
}

/* False for a bank without a whole header: never written, or cut while it was. */
static bool decode_header(struct sp_view raw, struct header *out)
{
    struct sp_reader r;
    sp_reader_init(&r, raw);
    uint32_t magic = sp_read_u32(&r);
    out->generation = sp_read_u32(&r);
    out->length = sp_read_u32(&r);
    out->checksum = sp_read_u32(&r);
    uint32_t own = sp_read_u32(&r);
    return r.err == SP_OK && magic == MAGIC && out->generation != 0 &&
           own == crc32(sp_view_first(raw, SP_ITS_HEADER_SIZE - 4U));
}

static psa_status_t load_bank(struct sp_its *its, size_t bank, const struct header *header)
{
    if (header->length > sizeof(its->image)) {
        return PSA_ERROR_DATA_CORRUPT;
    }
    size_t offset = bank * SP_ITS_BANK_SIZE + SP_ITS_HEADER_SIZE;
    if (its->medium.read(its->medium.ctx, offset, its->image, header->length) != SP_OK) {
        return PSA_ERROR_STORAGE_FAILURE;
    }
    its->used = header->length;
    if (!image_is_sound(its) || crc32(sp_view(its->image, its->used)) != header->checksum) {
        return PSA_ERROR_DATA_CORRUPT;
    }
    its->bank = bank;
    its->generation = header->generation;
    return PSA_SUCCESS;
}

static bool blank(struct sp_view raw)
{
    for (size_t i = 0; i < raw.len; i++) {
        if (raw.ptr[i] != raw.ptr[0]) {
            return false;
        }
    }
    return raw.ptr[0] == 0x00 || raw.ptr[0] == 0xFF;
}

/* Fill the image from the newest bank. */
static psa_status_t load(struct sp_its *its)
{
    struct header headers[2];
    bool valid[2];
    uint8_t raw[SP_ITS_HEADER_SIZE];
    for (size_t bank = 0; bank < 2; bank++) {
        if (its->medium.read(its->medium.ctx, bank * SP_ITS_BANK_SIZE, raw, sizeof(raw)) != SP_OK) {
            return PSA_ERROR_STORAGE_FAILURE;
        }
        valid[bank] = decode_header(SP_VIEW_ARRAY(raw), &headers[bank]);
    }
    if (!valid[0] && !valid[1]) {
        if (!blank(SP_VIEW_ARRAY(raw))) { /* bank 1 is written only while bank 0 is whole */
            return PSA_ERROR_DATA_CORRUPT;
        }
        its->generation = 0;
        its->bank = 1; /* so that the first change goes to bank 0 */
        its->used = 0;
        return PSA_SUCCESS;
    }
    size_t newest = valid[1] && (!valid[0] || headers[1].generation > headers[0].generation);
    return load_bank(its, newest, &headers[newest]);
}

psa_status_t sp_its_open(struct sp_its *its, const struct sp_its_medium *medium)
{
    its->medium = *medium;
    psa_status_t status = load(its);
    its->usable = status == PSA_SUCCESS;
    return status;
}

static enum sp_err write_bank(struct sp_its *its, size_t bank)
{
    const struct sp_its_medium *m = &its->medium;
    size_t offset = bank * SP_ITS_BANK_SIZE;
    struct sp_view content = sp_view(its->image, its->used);
    uint8_t raw[SP_ITS_HEADER_SIZE];
    struct sp_writer w;
    sp_writer_init(&w, raw, sizeof(raw));
    sp_write_u32(&w, MAGIC);
    sp_write_u32(&w, its->generation + 1U);
    sp_write_u32(&w, (uint32_t)its->used);
    sp_write_u32(&w, crc32(content));
    sp_write_u32(&w, crc32(sp_writer_view(&w)));
    SP_TRY(m->write(m->ctx, offset + SP_ITS_HEADER_SIZE, content));
    SP_TRY(m->sync(m->ctx));
    SP_TRY(m->write(m->ctx, offset, sp_writer_view(&w)));
    return m->sync(m->ctx);
}

/* Make the image durable. After a failure the image is read again, so that it tells what is stored. */
static psa_status_t commit(struct sp_its *its)
{
    size_t bank = 1U - its->bank;
    if (write_bank(its, bank) == SP_OK) {
        its->bank = bank;
        its->generation++;
        return PSA_SUCCESS;
    }
    its->usable = load(its) == PSA_SUCCESS;
    return PSA_ERROR_STORAGE_FAILURE;
}

static void cut_entry(struct sp_its *its, const struct entry *entry)
{
    size_t end = entry->start + ENTRY_HEAD + entry->data.len;
    memmove(its->image + entry->start, its->image + end, its->used - end);
    its->used -= end - entry->start;
}

/* Whether a change of the asset may go on; `old` is filled when it exists. */
static psa_status_t check_change(const struct sp_its *its, int32_t owner, psa_storage_uid_t uid,
                                 struct entry *old, bool *exists)
{
    if (!its->usable) {
        return PSA_ERROR_STORAGE_FAILURE;
    }
    if (uid == 0) {
        return PSA_ERROR_INVALID_ARGUMENT;
    }
    *exists = find_entry(its, owner, uid, old);
    if (*exists && (old->flags & PSA_STORAGE_FLAG_WRITE_ONCE) != 0) {
        return PSA_ERROR_NOT_PERMITTED;
    }
    return PSA_SUCCESS;
}

psa_status_t sp_its_set(struct sp_its *its, int32_t owner, psa_storage_uid_t uid,
                        struct sp_view data, psa_storage_create_flags_t flags)
{
    struct entry old;
    bool exists = false;
    if ((flags & ~PSA_STORAGE_FLAG_WRITE_ONCE) != 0) {
        return PSA_ERROR_NOT_SUPPORTED;
    }
    psa_status_t status = check_change(its, owner, uid, &old, &exists);
    if (status != PSA_SUCCESS) {
        return status;
    }
    size_t freed = exists ? ENTRY_HEAD + old.data.len : 0;
    if (data.len > SP_ITS_ASSET_MAX ||
        its->used - freed + ENTRY_HEAD + data.len > sizeof(its->image)) {
        return PSA_ERROR_INSUFFICIENT_STORAGE;
    }
    if (exists) {
        cut_entry(its, &old);
    }
    struct sp_writer w;
    sp_writer_init(&w, its->image + its->used, sizeof(its->image) - its->used);
    sp_write_u32(&w, (uint32_t)owner);
    sp_write_u64(&w, uid);
    sp_write_u32(&w, flags);
    sp_write_u32(&w, (uint32_t)data.len);
    sp_write_view(&w, data);
    its->used += sp_writer_view(&w).len;
    return commit(its);
}

psa_status_t sp_its_remove(struct sp_its *its, int32_t owner, psa_storage_uid_t uid)
{
    struct entry old;
    bool exists = false;
    psa_status_t status = check_change(its, owner, uid, &old, &exists);
    if (status != PSA_SUCCESS) {
        return status;
    }
    if (!exists) {
        return PSA_ERROR_DOES_NOT_EXIST;
    }
    cut_entry(its, &old);
    sp_wipe(its->image + its->used, sizeof(its->image) - its->used);
    status = commit(its);
    return status == PSA_SUCCESS ? commit(its) : status; /* twice: gone from both banks */
}

static psa_status_t check_read(const struct sp_its *its, int32_t owner, psa_storage_uid_t uid,
                               struct entry *out)
{
    if (!its->usable) {
        return PSA_ERROR_STORAGE_FAILURE;
    }
    if (uid == 0) {
        return PSA_ERROR_INVALID_ARGUMENT;
    }
    return find_entry(its, owner, uid, out) ? PSA_SUCCESS : PSA_ERROR_DOES_NOT_EXIST;
}

psa_status_t sp_its_get(const struct sp_its *its, int32_t owner, psa_storage_uid_t uid,
                        size_t offset, size_t size, struct sp_view *out)
{
    struct entry entry;
    psa_status_t status = check_read(its, owner, uid, &entry);
    if (status != PSA_SUCCESS) {
        return status;
    }
    if (offset > entry.data.len) {
        return PSA_ERROR_INVALID_ARGUMENT;
    }
    *out = sp_view_first(sp_view_from(entry.data, offset), size);
    return PSA_SUCCESS;
}

psa_status_t sp_its_get_info(const struct sp_its *its, int32_t owner, psa_storage_uid_t uid,
                             struct psa_storage_info_t *out)
{
    struct entry entry;
    psa_status_t status = check_read(its, owner, uid, &entry);
    if (status != PSA_SUCCESS) {
        return status;
    }
    *out = (struct psa_storage_info_t){
        .capacity = entry.data.len, .size = entry.data.len, .flags = entry.flags};
    return PSA_SUCCESS;
}
