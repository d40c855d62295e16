/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file App keys on their way to a device, and its answers (docs/protocol.md 6): sealed and opened under the device's
 * key-encryption key. No state, no allocation; thread-safe.
 */
#ifndef SP_LIBS_RECORD_GRANT_H
#define SP_LIBS_RECORD_GRANT_H

#include "libs/record/record.h"

#define SP_GRANT_KEK_LEN   48U /**< KE: 0..15, AES-128; KM: 16..47, HMAC-SHA-256 */
#define SP_GRANT_PLAIN_MAX 256U
#define SP_GRANT_MAX       320U /**< bytes of a sealed grant */
#define SP_ACK_MAX         192U /**< bytes of an acknowledgement */

enum sp_grant_kind {
    SP_GRANT_RECORD_KEY = 0, /**< R of this device */
    SP_GRANT_GROUP_KEY = 1,  /**< G */
};

enum sp_grant_status {
    SP_GRANT_IN_USE = 0,
    SP_GRANT_HAD_IT = 1,
    SP_GRANT_STALE = 2,   /**< a serial that is not higher than the last one obeyed */
    SP_GRANT_DIFFERS = 3, /**< another key under a known (group, epoch) */
    SP_GRANT_NO_ROOM = 4,
};

/** The two keys of a KEK. */
struct sp_grant_kek {
    struct sp_crypto_key encrypt; /**< 16 bytes */
    struct sp_crypto_key mac;     /**< 32 bytes */
};

/** Both parts of SP_GRANT_KEK_LEN bytes, borrowed. */
struct sp_grant_kek sp_grant_kek(const uint8_t *kek);

/** One key for one device; views are borrowed. */
struct sp_grant {
    uint64_t serial;
    struct sp_view group;
    uint32_t epoch;
    enum sp_cose_algorithm algorithm;
    enum sp_grant_kind kind;
    struct sp_view key; /**< sp_record_key_len() bytes, or SP_RECORD_GROUP_KEY of a group key */
    bool has_not_after;
    uint64_t not_after; /**< seconds since 1970 */
};

/**
 * @param[in]  iv       SP_COSE_IV_LEN random bytes, never used before under this KEK.
 * @param[out] out      At least SP_GRANT_MAX bytes are enough.
 * @retval SP_ERR_ARGUMENT A grant that cannot be.
 * @retval SP_ERR_SPACE    `cap` is too small.
 */
SP_MUST_CHECK enum sp_err sp_grant_seal(const struct sp_grant *grant,
                                        const struct sp_grant_kek *kek, struct sp_view iv,
                                        struct sp_view identity, uint8_t *out, size_t cap,
                                        size_t *out_len);

/**
 * @param[out] plain SP_GRANT_PLAIN_MAX bytes, into which `out` points; the caller wipes it.
 * @retval SP_ERR_MALFORMED Not in form, inside or outside.
 * @retval SP_ERR_UNTRUSTED It does not open under this KEK for this identity.
 */
SP_MUST_CHECK enum sp_err sp_grant_open(struct sp_view sealed, const struct sp_grant_kek *kek,
                                        struct sp_view identity, uint8_t *plain,
                                        struct sp_grant *out);

/** What a device answers; the group is borrowed. */
struct sp_grant_ack {
    uint64_t serial;
    struct sp_view group;
    uint32_t epoch;
    enum sp_grant_status status;
    uint64_t
        next_counter; /**< what the next record under that key would have; 0 with a group key */
};

/** @param[out] out At least SP_ACK_MAX bytes are enough. @retval SP_ERR_ARGUMENT, SP_ERR_SPACE */
SP_MUST_CHECK enum sp_err sp_ack_seal(const struct sp_grant_ack *ack,
                                      const struct sp_grant_kek *kek, struct sp_view identity,
                                      uint8_t *out, size_t cap, size_t *out_len);

/** What an acknowledgement says, before it is trusted; borrowed from it. @retval SP_ERR_MALFORMED */
SP_MUST_CHECK enum sp_err sp_ack_peek(struct sp_view sealed, struct sp_grant_ack *out);

/** Check it. @retval SP_ERR_MALFORMED @retval SP_ERR_UNTRUSTED */
SP_MUST_CHECK enum sp_err sp_ack_open(struct sp_view sealed, const struct sp_grant_kek *kek,
                                      struct sp_view identity, struct sp_grant_ack *out);

#endif
