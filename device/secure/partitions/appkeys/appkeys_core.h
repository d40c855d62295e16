/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file App keys on a device: which there are, which is used, and the counters that never repeat under a key.
 *
 * Keys and counter limits lie in internal trusted storage. A counter is used only below its stored limit; the limit is
 * raised by SP_APPKEYS_RESERVE, and stored, before the first use at or above it; after a start counting goes on at the
 * stored limit. So a cut loses numbers and never repeats one. Memory: about 0.7 KiB, static.
 */
#ifndef SP_DEVICE_SECURE_PARTITIONS_APPKEYS_CORE_H
#define SP_DEVICE_SECURE_PARTITIONS_APPKEYS_CORE_H

#include "libs/link/link.h"
#include "libs/record/grant.h"
#include "psa/error.h"
#include "sallyport/appkeys.h"

#define SP_APPKEYS_SLOTS   4U
#define SP_APPKEYS_RESERVE 1024U
#define SP_APPKEYS_PEERS   32U /**< devices whose last counter a monitor remembers */

struct sp_appkeys_slot {
    uint32_t epoch; /**< 0: free */
    uint8_t algorithm;
    uint8_t kind; /**< enum sp_grant_kind */
    uint8_t group_len;
    uint8_t group[SP_RECORD_GROUP_MAX];
    uint8_t key[SP_RECORD_GROUP_KEY];
    uint64_t limit; /* counters below it may be used without storing */
    uint64_t next;  /* in RAM: the next counter */
};

/** What a monitor saw of a device; in RAM. */
struct sp_appkeys_peer {
    uint32_t epoch;
    uint8_t device_len;
    uint8_t device[SP_LINK_IDENTITY_MAX];
    uint64_t counter;
    uint32_t used; /* rises; the least one makes room */
};

struct sp_appkeys {
    bool usable;        /* storage could be read */
    uint8_t device_len; /* 0: not provisioned */
    uint8_t group_len;  /* 0: in no group, records are clear */
    uint8_t device[SP_LINK_IDENTITY_MAX];
    uint8_t group[SP_RECORD_GROUP_MAX];
    uint8_t kek[SP_GRANT_KEK_LEN];
    uint64_t serial; /* highest obeyed */
    struct sp_appkeys_slot slots[SP_APPKEYS_SLOTS];
    struct sp_appkeys_peer peers[SP_APPKEYS_PEERS];
    uint32_t clock;
};

/** Read what storage holds. @retval PSA_ERROR_DATA_CORRUPT, PSA_ERROR_STORAGE_FAILURE Nothing is sealed from now on. */
psa_status_t sp_appkeys_load(struct sp_appkeys *k);

/** An app key of a bundle. */
struct sp_appkeys_preshared {
    uint32_t epoch;
    enum sp_cose_algorithm algorithm;
    enum sp_grant_kind kind;
    struct sp_view key;
};

/** What provisioning says; borrowed. */
struct sp_appkeys_bundle {
    struct sp_view device;
    struct sp_view kek;   /**< SP_GRANT_KEK_LEN bytes; empty: no app keys */
    struct sp_view group; /**< empty: none */
    const struct sp_appkeys_preshared *keys;
    size_t key_count;
};

/** Take a bundle over. A key that is known keeps its counter. @retval PSA_ERROR_INVALID_ARGUMENT */
psa_status_t sp_appkeys_provision(struct sp_appkeys *k, const struct sp_appkeys_bundle *bundle);

psa_status_t sp_appkeys_obey(struct sp_appkeys *k, struct sp_view grant, uint8_t *ack, size_t cap,
                             size_t *ack_len);

/**
 * Protect a record under the newest key of this device.
 * @retval PSA_ERROR_NOT_SUPPORTED   The device is in no group: its records are clear.
 * @retval PSA_ERROR_DOES_NOT_EXIST  It has no key yet.
 * @retval PSA_ERROR_STORAGE_FAILURE The counter could not be kept: nothing was sealed.
 */
psa_status_t sp_appkeys_seal(struct sp_appkeys *k, struct sp_view topic, struct sp_view plain,
                             uint8_t *out, size_t cap, size_t *out_len);

/** As sp_appkeys_open() of sallyport/appkeys.h. */
psa_status_t sp_appkeys_unseal(struct sp_appkeys *k, struct sp_view topic, struct sp_view payload,
                               struct sp_appkeys_record *out);

#endif
