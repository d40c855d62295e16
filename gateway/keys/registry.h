/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file The device registry: who may connect, under which keys, and which software is trusted.
 *
 * One SQLite file, state_dir/registry.db, mode 0600, used by the command line and a running `keys` process at the
 * same time. Every change is one transaction, durable on return; a crash in the middle leaves the old state or
 * the new one. Secrets lie in it encrypted under the master key, each tied to its device and its kind.
 *
 * A registry is used by one thread. Functions that return an error other than SP_OK leave a sentence for the
 * operator in sp_registry_fault().
 */
#ifndef SP_GATEWAY_KEYS_REGISTRY_H
#define SP_GATEWAY_KEYS_REGISTRY_H

#include "gateway/keys/fault.h"
#include "gateway/keys/vault.h"
#include "gateway/proc/messages.h"

#define SP_REGISTRY_FILE       "registry.db"
#define SP_PSK_MIN             16U
#define SP_PSK_NEW             32U /**< bytes of the PSKs that we make */
#define SP_KEK_LEN             48U
#define SP_IAK_MAX             64U
#define SP_REFERENCE_TEXT_MAX  64U /**< with the NUL */
#define SP_REFERENCE_BYTES_MAX 64U
#define SP_REFERENCES_MAX      4096U

enum sp_device_state { SP_DEVICE_ACTIVE = 0, SP_DEVICE_REVOKED = 1 };

#define SP_GROUP_KEY_LEN 32U
#define SP_GROUP_GRACE_S 600U /**< default: how long an old epoch is accepted */
#define SP_GROUPS_MAX    1024U
#define SP_EPOCHS_KEPT   64U /**< of one group, for those who open old records */

/** A key group: devices whose records are sealed under one group key per epoch. */
struct sp_group {
    char name[SP_GROUP_NAME_MAX];
    uint8_t mode;      /**< enum sp_group_mode */
    uint8_t algorithm; /**< 10 (AES-CCM-16-64-128) or 5 (HMAC 256/256) */
    uint32_t grace_s;
    uint32_t last_epoch;
    int64_t created; /**< seconds since 1970 */
};

struct sp_group_epoch {
    uint32_t epoch;
    int64_t created_ms; /**< milliseconds since 1970; likewise below */
    int64_t active_ms;  /**< since when sensors are to use it; 0: monitors are getting it first */
    int64_t until_ms;   /**< accepted until then; 0: no end yet */
    uint8_t key[SP_GROUP_KEY_LEN];
};

/** The highest serial of a grant that went to a device. */
struct sp_grant_serial {
    char id[SP_LINK_IDENTITY_MAX + 1];
    uint64_t serial;
};

/** A device without its secrets. */
struct sp_device {
    char id[SP_LINK_IDENTITY_MAX + 1];
    char group[SP_GROUP_NAME_MAX]; /**< "" = none */
    struct sp_device_row row;      /**< answer_timeout_ms 0 = the configuration's */
    enum sp_attest_algorithm iak_algorithm;
    enum sp_device_state state;
    uint8_t instance_id
        [SP_ATTEST_UEID_LEN]; /**< UEID; made from the IAK when the device is added or rotated */
    bool allow_no_software;
    int64_t created;  /**< seconds since 1970; likewise below */
    int64_t rotated;  /**< 0 = never */
    uint64_t version; /**< rises with every change to the registry; given by it */
};

struct sp_device_secrets {
    uint8_t psk[SP_PSK_MAX];
    uint8_t iak[SP_IAK_MAX];
    uint8_t kek[SP_KEK_LEN];
    size_t psk_len;
    size_t iak_len; /**< as iak_algorithm fixes: 32, 48 or 64 */
};

/** How a device's attestations went; `ok` and `refused` are added to what the registry has. */
struct sp_device_history {
    char id[SP_LINK_IDENTITY_MAX + 1];
    enum sp_attest_check last_check;
    int64_t last_time; /**< seconds since 1970; 0 = never attested */
    uint64_t ok;
    uint64_t refused;
};

struct sp_reference_component {
    char type[SP_REFERENCE_TEXT_MAX];
    char version[SP_REFERENCE_TEXT_MAX]; /**< "" = any */
    uint8_t value[SP_REFERENCE_BYTES_MAX];
    uint8_t signer_id[SP_REFERENCE_BYTES_MAX];
    size_t value_len;
    size_t signer_id_len; /**< 0 = any */
};

struct sp_reference {
    int64_t number; /**< given by the registry, never used again */
    int64_t added;  /**< seconds since 1970 */
    uint8_t implementation_id[SP_REFERENCE_BYTES_MAX];
    size_t implementation_id_len;
    size_t component_count;
    struct sp_reference_component components[SP_ATTEST_COMPONENTS_MAX];
};

/* --- names of what the rows hold: the words of the command line and of the bundle --- */

/** NULL for a number that has no name. */
const char *sp_attestation_mode_name(unsigned mode);
const char *sp_binding_name(unsigned binding);
const char *sp_records_name(unsigned records);
const char *sp_algorithm_name(unsigned algorithm);
/** The name of one bit of SP_SUITES_*. */
const char *sp_suites_name(uint32_t bit);

/** False when `name` is none; else `out` has the number. */
bool sp_attestation_mode_parse(const char *name, uint8_t *out);
bool sp_binding_parse(const char *name, uint8_t *out);
bool sp_algorithm_parse(const char *name, enum sp_attest_algorithm *out);
/** Names with commas between them, added up. */
bool sp_suites_parse(const char *names, uint32_t *out);

/** Length of an IAK: 32, 48 or 64; 0 for a number that is no algorithm. */
size_t sp_iak_length(enum sp_attest_algorithm algorithm);

/**
 * Fill in the secrets that are not there yet (length 0) at random, and a new KEK always.
 * @retval SP_ERR_CRYPTO
 */
SP_MUST_CHECK enum sp_err sp_device_secrets_make(enum sp_attest_algorithm algorithm,
                                                 struct sp_device_secrets *secrets);

/* --- the registry --- */

struct sp_registry; /* opaque */

enum sp_registry_use {
    SP_REGISTRY_TOOL, /**< waits up to 5 s for another writer; every change synced to the disk */
    SP_REGISTRY_SERVICE, /**< never waits; what it writes itself (history) may lag behind in a power cut */
};

/**
 * Make a new, empty registry in an existing folder, and its master key unless that file is there already.
 * @retval SP_ERR_EXISTS There is a registry; it was left alone.
 */
SP_MUST_CHECK enum sp_err sp_registry_create(const char *state_dir, const char *master_key_file,
                                             struct sp_fault *fault);

/**
 * @param[out] out   On SP_OK owned by the caller: sp_registry_close(). Else NULL.
 * @param[out] fault Filled on any error.
 * @retval SP_ERR_NOT_FOUND   There is none.
 * @retval SP_ERR_DENIED      Registry or master key can be read by others, or are links.
 * @retval SP_ERR_UNTRUSTED   The master key is not this registry's.
 * @retval SP_ERR_UNSUPPORTED Made by another version of Sallyport.
 * @retval SP_ERR_MALFORMED   The file is damaged.
 */
SP_MUST_CHECK enum sp_err sp_registry_open(const char *state_dir, const char *master_key_file,
                                           enum sp_registry_use use, struct sp_registry **out,
                                           struct sp_fault *fault);

/** NULL is fine. */
void sp_registry_close(struct sp_registry *reg);

/** The last error in a sentence, borrowed until the next call. */
const char *sp_registry_fault(const struct sp_registry *reg);

/** Borrowed. */
struct sp_vault *sp_registry_vault(struct sp_registry *reg);

/** Make the changes from here to sp_registry_batch_end() one transaction: quick for many, and all or none. */
SP_MUST_CHECK enum sp_err sp_registry_batch_begin(struct sp_registry *reg);

/** @param[in] err SP_OK: keep the changes; else take them all back and return it. */
SP_MUST_CHECK enum sp_err sp_registry_batch_end(struct sp_registry *reg, enum sp_err err);

/**
 * Add a device; id, row, algorithm, group and secrets are looked at, the rest is filled in.
 * @retval SP_ERR_EXISTS   A device has that id.
 * @retval SP_ERR_DENIED   A key is too short, published, or in use already (by any device, for anything).
 * @retval SP_ERR_ARGUMENT The id or another field is not valid.
 * @retval SP_ERR_AGAIN    Another writer was in the way for too long.
 * @retval SP_ERR_IO       Not written.
 */
SP_MUST_CHECK enum sp_err sp_registry_device_add(struct sp_registry *reg,
                                                 const struct sp_device *device,
                                                 const struct sp_device_secrets *secrets);

/** New keys for a device; the rest stays. Same errors, and SP_ERR_NOT_FOUND. */
SP_MUST_CHECK enum sp_err sp_registry_device_rotate(struct sp_registry *reg, const char *id,
                                                    const struct sp_device_secrets *secrets);

/** @retval SP_ERR_NOT_FOUND */
SP_MUST_CHECK enum sp_err sp_registry_device_set_state(struct sp_registry *reg, const char *id,
                                                       enum sp_device_state state);

/** Forget a device, its keys and its history. @retval SP_ERR_NOT_FOUND */
SP_MUST_CHECK enum sp_err sp_registry_device_remove(struct sp_registry *reg, const char *id);

/** @param[out] history May be NULL. @retval SP_ERR_NOT_FOUND */
SP_MUST_CHECK enum sp_err sp_registry_device_find(struct sp_registry *reg, const char *id,
                                                  struct sp_device *out,
                                                  struct sp_device_history *history);

/** Everything borrowed for the call. An error ends the walk and is returned from it. */
typedef enum sp_err (*sp_device_fn)(void *arg, const struct sp_device *device,
                                    const struct sp_device_history *history);

/** Every device in the order of their ids. */
SP_MUST_CHECK enum sp_err sp_registry_device_each(struct sp_registry *reg, sp_device_fn fn,
                                                  void *arg);

/** What has changed since a version. Everything borrowed for the call. A function may be NULL. */
struct sp_registry_changes {
    void *arg;
    /** `secrets` (without the KEK) is NULL when they do not open: tampered with, or of another row. */
    enum sp_err (*device)(void *arg, const struct sp_device *device,
                          const struct sp_device_secrets *secrets);
    enum sp_err (*removed)(void *arg, const char *id);
};

/**
 * Hand over every device that was added or changed and every name that was removed after `*version`, from one
 * consistent view, then move `*version` on. Version 0 = everything.
 */
SP_MUST_CHECK enum sp_err sp_registry_changes_since(struct sp_registry *reg, uint64_t *version,
                                                    const struct sp_registry_changes *changes);

/** Another process has written since the last call. Cheap: for polling. @retval SP_ERR_AGAIN */
SP_MUST_CHECK enum sp_err sp_registry_poll(struct sp_registry *reg, bool *changed);

/** Add to the history of devices, in one transaction; those that are gone are left out. @retval SP_ERR_AGAIN */
SP_MUST_CHECK enum sp_err sp_registry_history_add(struct sp_registry *reg,
                                                  const struct sp_device_history *entries,
                                                  size_t count);

/**
 * Add an accepted set of software; number and time are filled in.
 * @param[out] number The new entry's, or with SP_ERR_EXISTS the one that says the same.
 * @retval SP_ERR_ARGUMENT No component, a type twice, or a length that no token can have.
 * @retval SP_ERR_LIMIT    SP_REFERENCES_MAX are there.
 */
SP_MUST_CHECK enum sp_err sp_registry_reference_add(struct sp_registry *reg,
                                                    const struct sp_reference *reference,
                                                    int64_t *number);

/** @retval SP_ERR_NOT_FOUND */
SP_MUST_CHECK enum sp_err sp_registry_reference_remove(struct sp_registry *reg, int64_t number);

/* --- key groups --- */

const char *sp_group_mode_name(unsigned mode);
const char *sp_group_algorithm_name(unsigned algorithm);
bool sp_group_mode_parse(const char *name, uint8_t *out);
bool sp_group_algorithm_parse(const char *name, uint8_t *out);
bool sp_records_parse(const char *name, uint8_t *out);

/** Monitors hold group keys, every other role the record key of its own device. */
bool sp_role_holds_group_key(const char *role);

/**
 * Make a group with its first epoch, in use at once. A name that existed before goes on with its numbers.
 * @retval SP_ERR_EXISTS, SP_ERR_ARGUMENT @retval SP_ERR_LIMIT SP_GROUPS_MAX are there.
 */
SP_MUST_CHECK enum sp_err sp_registry_group_add(struct sp_registry *reg,
                                                const struct sp_group *group);

/**
 * A new epoch with a new key, which a running gateway hands out: to monitors first.
 * @param[in] force Where too many old epochs are in their grace period, end the oldest; else they are in the way.
 * @retval SP_ERR_NOT_FOUND @retval SP_ERR_LIMIT SP_EPOCHS_MAX are accepted now.
 */
SP_MUST_CHECK enum sp_err sp_registry_group_rotate(struct sp_registry *reg, const char *name,
                                                   bool force);

/** From now on sensors use `epoch`: the grace period of the older ones begins. */
SP_MUST_CHECK enum sp_err sp_registry_group_activate(struct sp_registry *reg, const char *name,
                                                     uint32_t epoch);

/** @retval SP_ERR_NOT_FOUND @retval SP_ERR_DENIED Devices are in it. */
SP_MUST_CHECK enum sp_err sp_registry_group_remove(struct sp_registry *reg, const char *name);

/** @retval SP_ERR_NOT_FOUND */
SP_MUST_CHECK enum sp_err sp_registry_group_find(struct sp_registry *reg, const char *name,
                                                 struct sp_group *out);

typedef enum sp_err (*sp_group_fn)(void *arg, const struct sp_group *group);
SP_MUST_CHECK enum sp_err sp_registry_group_each(struct sp_registry *reg, sp_group_fn fn,
                                                 void *arg);

/** Every epoch that is kept, by rising number; the key is wiped when `fn` returns. */
typedef enum sp_err (*sp_group_epoch_fn)(void *arg, const struct sp_group_epoch *epoch);
SP_MUST_CHECK enum sp_err sp_registry_group_epochs(struct sp_registry *reg, const char *name,
                                                   sp_group_epoch_fn fn, void *arg);

/** A number that changes with every change to the groups. */
SP_MUST_CHECK enum sp_err sp_registry_group_version(struct sp_registry *reg, uint64_t *version);

/** The KEK of an active device: SP_KEK_LEN bytes, wiped by the caller. @retval SP_ERR_NOT_FOUND, SP_ERR_UNTRUSTED */
SP_MUST_CHECK enum sp_err sp_registry_device_kek(struct sp_registry *reg, const char *id,
                                                 uint8_t *out);

/** 0 when none was ever granted. */
SP_MUST_CHECK enum sp_err sp_registry_serial_read(struct sp_registry *reg, const char *id,
                                                  uint64_t *out);
/** In one transaction; those of devices that are gone are left out. @retval SP_ERR_AGAIN */
SP_MUST_CHECK enum sp_err sp_registry_serials_write(struct sp_registry *reg,
                                                    const struct sp_grant_serial *serials,
                                                    size_t count);

typedef enum sp_err (*sp_reference_fn)(void *arg, const struct sp_reference *reference);

/** Every reference by rising number. */
SP_MUST_CHECK enum sp_err sp_registry_reference_each(struct sp_registry *reg, sp_reference_fn fn,
                                                     void *arg);

/** A number that changes with every change to the references. */
SP_MUST_CHECK enum sp_err sp_registry_reference_version(struct sp_registry *reg, uint64_t *version);

/** Versions of devices and references up to which a running gateway has heard of every change. */
struct sp_registry_heard {
    uint64_t devices;
    uint64_t references;
};

/** Kept in the registry, so that a `keys` process that was killed goes on where the last one stopped. */
SP_MUST_CHECK enum sp_err sp_registry_heard_read(struct sp_registry *reg,
                                                 struct sp_registry_heard *out);
/** @retval SP_ERR_AGAIN */
/** There is no change that no running gateway has heard of. */
SP_MUST_CHECK enum sp_err sp_registry_heard_all(struct sp_registry *reg, bool *out);
SP_MUST_CHECK enum sp_err sp_registry_heard_write(struct sp_registry *reg,
                                                  const struct sp_registry_heard *heard);

#endif
