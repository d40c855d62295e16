/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file Every active device in memory, keys included, found by its id in well under a microsecond.
 *
 * Entries lie in locked memory and are wiped when their device is dropped. Revoked devices are not in it: to the rest
 * of `keys` they do not exist.
 */
#ifndef SP_GATEWAY_KEYS_DEVICES_H
#define SP_GATEWAY_KEYS_DEVICES_H

#include "gateway/keys/registry.h"
#include "libs/cose/crypto.h"

struct sp_devices; /* opaque */

/** One device; borrowed from the table until the next reload. */
struct sp_keys_device {
    struct sp_device row;
    uint8_t psk[SP_PSK_MAX];
    uint8_t iak[SP_IAK_MAX];
    size_t psk_len;
    size_t iak_len;
    struct sp_crypto_midstates iak_midstates; /**< made once, and not for each token */
};

/** @retval SP_ERR_NOMEM */
SP_MUST_CHECK enum sp_err sp_devices_create(struct sp_devices **out);

/** Wipes everything. NULL is fine. */
void sp_devices_destroy(struct sp_devices *t);

/** Told of every device whose connections must end: revoked, removed, new keys, or treated differently. */
/** `version`: of the row that is in force now; 0: there is none. */
typedef void (*sp_devices_lost_fn)(void *arg, struct sp_view id, uint64_t version);

/** What a reload did. */
struct sp_devices_reload {
    size_t added;
    size_t changed;
    size_t removed;
    size_t unreadable; /**< rows whose secrets do not open: logged, and as if they were not there */
};

/**
 * Take over what has changed in the registry since the last call; the first call takes all. What was taken over
 * before an error stays, the rest is left for the next call.
 *
 * @param[in] heard Devices changed after this version count as lost although they are new here: their changes fell
 *                  into a time when no `keys` process ran. Used by the first call only.
 */
SP_MUST_CHECK enum sp_err sp_devices_reload(struct sp_devices *t, struct sp_registry *reg,
                                            uint64_t heard, sp_devices_lost_fn lost, void *arg,
                                            struct sp_devices_reload *out);

size_t sp_devices_count(const struct sp_devices *t);

/** The registry's version that the table shows. */
uint64_t sp_devices_version(const struct sp_devices *t);

/** NULL when there is none that is active. */
struct sp_keys_device *sp_devices_find(struct sp_devices *t, struct sp_view id);

/** Fewer than `attempts` tokens of this device were refused within the last minute; 0 = no limit. */
bool sp_devices_may_attest(const struct sp_keys_device *d, uint32_t attempts, uint64_t now_ms);

/** Count a verdict: for the limit above, and for the history that the registry keeps. */
void sp_devices_note(struct sp_devices *t, struct sp_keys_device *d, enum sp_attest_check check,
                     uint64_t now_ms);

/** Write some of the history that is not in the registry yet, in one transaction. @retval SP_ERR_AGAIN */
SP_MUST_CHECK enum sp_err sp_devices_write_history(struct sp_devices *t, struct sp_registry *reg);

#endif
