/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/secure/partitions/appkeys/appkeys_core.h"

#include "psa/internal_trusted_storage.h"

#define IDENTITY_UID 1U /* asset: device, group, KEK */
#define SERIAL_UID   2U
#define SLOT_UID     16U /* and on, one asset per slot */
#define VERSION      1U
#define IDENTITY_MAX (3U + SP_LINK_IDENTITY_MAX + SP_RECORD_GROUP_MAX + SP_GRANT_KEK_LEN)
#define SLOT_MAX     (8U + SP_RECORD_GROUP_MAX + SP_RECORD_GROUP_KEY + 8U)

static struct sp_view group_of(const struct sp_appkeys_slot *slot)
{
    return sp_view(slot->group, slot->group_len);
}

static size_t key_len(const struct sp_appkeys_slot *slot)
{
    return slot->kind == SP_GRANT_GROUP_KEY ? SP_RECORD_GROUP_KEY
                                            : sp_record_key_len(slot->algorithm);
}

/* ---- storage ---- */

static psa_status_t store_identity(const struct sp_appkeys *k)
{
    uint8_t asset[IDENTITY_MAX];
    struct sp_writer w;
    sp_writer_init(&w, asset, sizeof(asset));
    sp_write_u8(&w, VERSION);
    sp_write_u8(&w, k->device_len);
    sp_write_view(&w, sp_view(k->device, k->device_len));
    sp_write_u8(&w, k->group_len);
    sp_write_view(&w, sp_view(k->group, k->group_len));
    sp_write_view(&w, SP_VIEW_ARRAY(k->kek));
    psa_status_t status = psa_its_set(IDENTITY_UID, w.used, asset, PSA_STORAGE_FLAG_NONE);
    sp_wipe(asset, sizeof(asset));
    return status;
}

static void take(struct sp_view from, uint8_t *to, uint8_t *len)
{
    sp_copy(to, from.ptr, from.len);
    *len = (uint8_t)from.len;
}

static bool parse_identity(struct sp_view asset, struct sp_appkeys *k)
{
    struct sp_reader r;
    sp_reader_init(&r, asset);
    uint8_t version = sp_read_u8(&r);
    struct sp_view device = sp_read_bytes(&r, sp_read_u8(&r));
    struct sp_view group = sp_read_bytes(&r, sp_read_u8(&r));
    struct sp_view kek = sp_read_bytes(&r, SP_GRANT_KEK_LEN);
    if (sp_reader_finish(&r) != SP_OK || version != VERSION || !sp_link_identity_valid(device) ||
        (group.len > 0 && !sp_record_group_valid(group))) {
        return false;
    }
    take(device, k->device, &k->device_len);
    take(group, k->group, &k->group_len);
    sp_copy(k->kek, kek.ptr, kek.len);
    return true;
}

static psa_status_t store_slot(const struct sp_appkeys *k, const struct sp_appkeys_slot *slot)
{
    uint8_t asset[SLOT_MAX];
    struct sp_writer w;
    sp_writer_init(&w, asset, sizeof(asset));
    sp_write_u8(&w, VERSION);
    sp_write_u32(&w, slot->epoch);
    sp_write_u8(&w, slot->algorithm);
    sp_write_u8(&w, slot->kind);
    sp_write_u8(&w, slot->group_len);
    sp_write_view(&w, group_of(slot));
    sp_write_view(&w, SP_VIEW_ARRAY(slot->key));
    sp_write_u64(&w, slot->limit);
    psa_status_t status = psa_its_set(SLOT_UID + (psa_storage_uid_t)(slot - k->slots), w.used,
                                      asset, PSA_STORAGE_FLAG_NONE);
    sp_wipe(asset, sizeof(asset));
    return status;
}

static bool parse_slot(struct sp_view asset, struct sp_appkeys_slot *slot)
{
    struct sp_reader r;
    sp_reader_init(&r, asset);
    uint8_t version = sp_read_u8(&r);
    slot->epoch = sp_read_u32(&r);
    slot->algorithm = sp_read_u8(&r);
    slot->kind = sp_read_u8(&r);
    struct sp_view group = sp_read_bytes(&r, sp_read_u8(&r));
    struct sp_view key = sp_read_bytes(&r, SP_RECORD_GROUP_KEY);
    slot->limit = sp_read_u64(&r);
    slot->next = slot->limit;
    if (sp_reader_finish(&r) != SP_OK || version != VERSION || slot->epoch == 0 ||
        !sp_record_group_valid(group) || sp_record_key_len(slot->algorithm) == 0 ||
        slot->kind > SP_GRANT_GROUP_KEY || slot->limit == 0) {
        return false;
    }
    take(group, slot->group, &slot->group_len);
    sp_copy(slot->key, key.ptr, key.len);
    return true;
}

static psa_status_t load_slot(struct sp_appkeys *k, size_t index)
{
    uint8_t asset[SLOT_MAX];
    size_t len = 0;
    struct sp_appkeys_slot *slot = &k->slots[index];
    psa_status_t status = psa_its_get(SLOT_UID + index, 0, sizeof(asset), asset, &len);
    *slot = (struct sp_appkeys_slot){.epoch = 0};
    if (status == PSA_SUCCESS && !parse_slot(sp_view(asset, len), slot)) {
        status = PSA_ERROR_DATA_CORRUPT;
    }
    sp_wipe(asset, sizeof(asset));
    return status == PSA_ERROR_DOES_NOT_EXIST ? PSA_SUCCESS : status;
}

static psa_status_t load_serial(struct sp_appkeys *k)
{
    uint8_t asset[8];
    size_t len = 0;
    struct sp_reader r;
    psa_status_t status = psa_its_get(SERIAL_UID, 0, sizeof(asset), asset, &len);
    k->serial = 0;
    if (status == PSA_ERROR_DOES_NOT_EXIST) {
        return PSA_SUCCESS;
    }
    sp_reader_init(&r, sp_view(asset, len));
    k->serial = sp_read_u64(&r);
    return status == PSA_SUCCESS && sp_reader_finish(&r) != SP_OK ? PSA_ERROR_DATA_CORRUPT : status;
}

static psa_status_t store_serial(struct sp_appkeys *k, uint64_t serial)
{
    uint8_t asset[8];
    struct sp_writer w;
    sp_writer_init(&w, asset, sizeof(asset));
    sp_write_u64(&w, serial);
    psa_status_t status = psa_its_set(SERIAL_UID, w.used, asset, PSA_STORAGE_FLAG_NONE);
    k->serial = status == PSA_SUCCESS ? serial : k->serial;
    return status;
}

psa_status_t sp_appkeys_load(struct sp_appkeys *k)
{
    uint8_t asset[IDENTITY_MAX];
    size_t len = 0;
    *k = (struct sp_appkeys){.usable = false};
    psa_status_t status = psa_its_get(IDENTITY_UID, 0, sizeof(asset), asset, &len);
    if (status == PSA_ERROR_DOES_NOT_EXIST) {
        k->usable = true; /* not provisioned */
        return PSA_SUCCESS;
    }
    if (status == PSA_SUCCESS && !parse_identity(sp_view(asset, len), k)) {
        status = PSA_ERROR_DATA_CORRUPT;
    }
    sp_wipe(asset, sizeof(asset));
    for (size_t i = 0; i < SP_APPKEYS_SLOTS && status == PSA_SUCCESS; i++) {
        status = load_slot(k, i);
    }
    if (status == PSA_SUCCESS) {
        status = load_serial(k);
    }
    k->usable = status == PSA_SUCCESS;
    return status;
}

/* ---- slots ---- */

static struct sp_appkeys_slot *find_slot(struct sp_appkeys *k, struct sp_view group, uint32_t epoch)
{
    for (size_t i = 0; i < SP_APPKEYS_SLOTS; i++) {
        if (k->slots[i].epoch == epoch && sp_view_equal(group_of(&k->slots[i]), group)) {
            return &k->slots[i];
        }
    }
    return NULL;
}

/* A free slot, or that of the oldest epoch; NULL when the new one would be the oldest itself. */
static struct sp_appkeys_slot *room_for(struct sp_appkeys *k, uint32_t epoch)
{
    struct sp_appkeys_slot *oldest = &k->slots[0];
    for (size_t i = 0; i < SP_APPKEYS_SLOTS; i++) {
        if (k->slots[i].epoch < oldest->epoch) { /* a free one has epoch 0 */
            oldest = &k->slots[i];
        }
    }
    return oldest->epoch < epoch ? oldest : NULL;
}

static psa_status_t put_key(struct sp_appkeys *k, const struct sp_grant *g,
                            enum sp_grant_status *status)
{
    struct sp_appkeys_slot *slot = find_slot(k, g->group, g->epoch);
    if (slot != NULL) {
        bool same = slot->algorithm == (uint8_t)g->algorithm && slot->kind == (uint8_t)g->kind &&
                    g->key.len == key_len(slot) && sp_ct_equal(slot->key, g->key.ptr, g->key.len);
        *status = same ? SP_GRANT_HAD_IT : SP_GRANT_DIFFERS;
        return PSA_SUCCESS;
    }
    slot = room_for(k, g->epoch);
    if (slot == NULL) {
        *status = SP_GRANT_NO_ROOM;
        return PSA_SUCCESS;
    }
    struct sp_appkeys_slot before = *slot;
    *slot = (struct sp_appkeys_slot){.epoch = g->epoch,
                                     .algorithm = (uint8_t)g->algorithm,
                                     .kind = (uint8_t)g->kind,
                                     .limit = 1,
                                     .next = 1};
    take(g->group, slot->group, &slot->group_len);
    sp_copy(slot->key, g->key.ptr, g->key.len);
    psa_status_t stored = store_slot(k, slot);
    if (stored != PSA_SUCCESS) {
        *slot = before;
    }
    sp_wipe(&before, sizeof(before));
    *status = SP_GRANT_IN_USE;
    return stored;
}

/* ---- provisioning and grants ---- */

psa_status_t sp_appkeys_provision(struct sp_appkeys *k, const struct sp_appkeys_bundle *b)
{
    if (b->kek.len == 0) {
        return PSA_SUCCESS;
    }
    if (b->kek.len != SP_GRANT_KEK_LEN || !sp_link_identity_valid(b->device) ||
        (b->group.len > 0 && !sp_record_group_valid(b->group))) {
        return PSA_ERROR_INVALID_ARGUMENT;
    }
    bool same_kek = k->device_len != 0 && sp_ct_equal(k->kek, b->kek.ptr, SP_GRANT_KEK_LEN);
    take(b->device, k->device, &k->device_len);
    take(b->group, k->group, &k->group_len);
    sp_copy(k->kek, b->kek.ptr, b->kek.len);
    psa_status_t status = store_identity(k);
    if (status == PSA_SUCCESS && !same_kek) {
        status = store_serial(k, 0);
    }
    for (size_t i = 0; i < b->key_count && status == PSA_SUCCESS; i++) {
        const struct sp_appkeys_preshared *key = &b->keys[i];
        const struct sp_grant g = {.group = b->group,
                                   .epoch = key->epoch,
                                   .algorithm = key->algorithm,
                                   .kind = key->kind,
                                   .key = key->key};
        enum sp_grant_status outcome;
        size_t len = key->kind == SP_GRANT_GROUP_KEY ? SP_RECORD_GROUP_KEY
                                                     : sp_record_key_len(key->algorithm);
        bool good = b->group.len > 0 && key->epoch != 0 && len != 0 && key->key.len == len;
        status = good ? put_key(k, &g, &outcome) : PSA_ERROR_INVALID_ARGUMENT;
    }
    return status;
}

static uint64_t next_counter(struct sp_appkeys *k, const struct sp_grant *g)
{
    const struct sp_appkeys_slot *slot = find_slot(k, g->group, g->epoch);
    return slot == NULL || slot->kind == SP_GRANT_GROUP_KEY ? 0 : slot->next;
}

psa_status_t sp_appkeys_obey(struct sp_appkeys *k, struct sp_view grant, uint8_t *ack, size_t cap,
                             size_t *ack_len)
{
    uint8_t plain[SP_GRANT_PLAIN_MAX];
    struct sp_grant g;
    struct sp_view device = sp_view(k->device, k->device_len);
    const struct sp_grant_kek kek = sp_grant_kek(k->kek);
    enum sp_grant_status outcome = SP_GRANT_STALE;
    psa_status_t status = PSA_SUCCESS;
    if (!k->usable || k->device_len == 0) {
        return k->usable ? PSA_ERROR_DOES_NOT_EXIST : PSA_ERROR_STORAGE_FAILURE;
    }
    if (sp_grant_open(grant, &kek, device, plain, &g) != SP_OK) {
        sp_wipe(plain, sizeof(plain));
        return PSA_ERROR_INVALID_SIGNATURE;
    }
    if (g.serial > k->serial) {
        status = store_serial(k, g.serial);
        if (status == PSA_SUCCESS) {
            status = put_key(k, &g, &outcome);
        }
    }
    if (status == PSA_SUCCESS) {
        const struct sp_grant_ack answer = {g.serial, g.group, g.epoch, outcome,
                                            next_counter(k, &g)};
        status = sp_ack_seal(&answer, &kek, device, ack, cap, ack_len) == SP_OK
                     ? PSA_SUCCESS
                     : PSA_ERROR_GENERIC_ERROR;
    }
    sp_wipe(plain, sizeof(plain));
    return status;
}

/* ---- sealing ---- */

static struct sp_appkeys_slot *newest(struct sp_appkeys *k)
{
    struct sp_appkeys_slot *found = NULL;
    struct sp_view group = sp_view(k->group, k->group_len);
    for (size_t i = 0; i < SP_APPKEYS_SLOTS; i++) {
        struct sp_appkeys_slot *slot = &k->slots[i];
        if (slot->epoch != 0 && slot->kind == SP_GRANT_RECORD_KEY &&
            sp_view_equal(group_of(slot), group) && (found == NULL || slot->epoch > found->epoch)) {
            found = slot;
        }
    }
    return found;
}

static psa_status_t reserve(struct sp_appkeys *k, struct sp_appkeys_slot *slot)
{
    uint64_t limit = slot->limit;
    if (slot->next < limit) {
        return PSA_SUCCESS;
    }
    slot->limit += SP_APPKEYS_RESERVE;
    psa_status_t status = store_slot(k, slot);
    if (status != PSA_SUCCESS) {
        slot->limit = limit;
    }
    return status;
}

psa_status_t sp_appkeys_seal(struct sp_appkeys *k, struct sp_view topic, struct sp_view plain,
                             uint8_t *out, size_t cap, size_t *out_len)
{
    if (!k->usable) {
        return PSA_ERROR_STORAGE_FAILURE;
    }
    if (k->group_len == 0) {
        return PSA_ERROR_NOT_SUPPORTED;
    }
    struct sp_appkeys_slot *slot = newest(k);
    if (slot == NULL) {
        return PSA_ERROR_DOES_NOT_EXIST;
    }
    psa_status_t status = reserve(k, slot);
    if (status != PSA_SUCCESS) {
        return status;
    }
    const struct sp_record_head head = {(enum sp_cose_algorithm)slot->algorithm, slot->epoch,
                                        slot->next, group_of(slot)};
    const struct sp_crypto_key key = {.bytes = sp_view(slot->key, key_len(slot))};
    slot->next++; /* used up, whatever comes of it */
    return sp_record_protect(&head, &key, topic, plain, out, cap, out_len) == SP_OK
               ? PSA_SUCCESS
               : PSA_ERROR_GENERIC_ERROR;
}

/* ---- opening ---- */

static struct sp_appkeys_peer *peer_of(struct sp_appkeys *k, struct sp_view device)
{
    struct sp_appkeys_peer *least = &k->peers[0];
    for (size_t i = 0; i < SP_APPKEYS_PEERS; i++) {
        struct sp_appkeys_peer *p = &k->peers[i];
        if (sp_view_equal(sp_view(p->device, p->device_len), device)) {
            return p;
        }
        least = p->used < least->used ? p : least;
    }
    *least = (struct sp_appkeys_peer){.epoch = 0};
    take(device, least->device, &least->device_len);
    return least;
}

/* Of two epochs in a grace period the later one counts: a device does not go back to the earlier. */
static bool is_repeat(struct sp_appkeys *k, struct sp_view device,
                      const struct sp_record_head *head)
{
    struct sp_appkeys_peer *p = peer_of(k, device);
    p->used = ++k->clock;
    if (head->epoch < p->epoch || (head->epoch == p->epoch && head->counter <= p->counter)) {
        return true;
    }
    p->epoch = head->epoch;
    p->counter = head->counter;
    return false;
}

psa_status_t sp_appkeys_unseal(struct sp_appkeys *k, struct sp_view topic, struct sp_view payload,
                               struct sp_appkeys_record *out)
{
    struct sp_record_head head;
    uint8_t record_key[SP_RECORD_KEY_MAX];
    uint8_t plain[SP_RECORD_PLAIN_MAX];
    size_t len = 0;
    struct sp_view device = sp_record_device(topic);
    if (device.len == 0 || sp_record_peek(payload, &head) != SP_OK) {
        return PSA_ERROR_INVALID_SIGNATURE;
    }
    const struct sp_appkeys_slot *slot = find_slot(k, head.group, head.epoch);
    if (slot == NULL || slot->kind != SP_GRANT_GROUP_KEY) {
        return PSA_ERROR_DOES_NOT_EXIST;
    }
    const enum sp_cose_algorithm algorithm = (enum sp_cose_algorithm)slot->algorithm;
    const struct sp_crypto_key group_key = {.bytes = SP_VIEW_ARRAY(slot->key)};
    enum sp_err err = sp_record_key(&group_key, algorithm, device, record_key);
    if (err == SP_OK) {
        const struct sp_crypto_key key = {.bytes =
                                              sp_view(record_key, sp_record_key_len(algorithm))};
        err = sp_record_unprotect(payload, algorithm, &key, topic, &head, plain, &len);
    }
    sp_wipe(record_key, sizeof(record_key));
    if (err != SP_OK || len > sizeof(out->plain)) {
        return PSA_ERROR_INVALID_SIGNATURE;
    }
    if (is_repeat(k, device, &head)) {
        return PSA_ERROR_ALREADY_EXISTS;
    }
    out->counter = head.counter;
    out->epoch = head.epoch;
    out->sealed = algorithm != SP_COSE_HMAC256;
    out->len = len;
    sp_copy(out->plain, plain, len);
    return PSA_SUCCESS;
}
