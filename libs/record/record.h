/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file Protected sensor records (docs/protocol.md 5): the key of one device from the key of its group, and the one
 * form in which a record is sealed.
 *
 * There is exactly one byte string for a record's head, so whatever differs from it is refused before any key is
 * used. No state, no allocation; thread-safe.
 */
#ifndef SP_LIBS_RECORD_RECORD_H
#define SP_LIBS_RECORD_RECORD_H

#include "libs/base/bytes.h"
#include "libs/cose/cose.h"

#define SP_RECORD_GROUP_MAX    32U                        /**< bytes of a group's name */
#define SP_RECORD_GROUP_KEY    32U                        /**< bytes of a group key G */
#define SP_RECORD_KEY_MAX      32U                        /**< bytes of a record key R, at most */
#define SP_RECORD_PLAIN_MAX    1024U                      /**< bytes of the clear record inside */
#define SP_RECORD_COUNTER_MAX  ((UINT64_C(1) << 40) - 1U) /**< five bytes */
#define SP_RECORD_OVERHEAD     100U  /**< more than what protection adds to a record */
#define SP_RECORD_FIRST_SEALED 0xD0U /**< first byte of a COSE_Encrypt0 */
#define SP_RECORD_FIRST_MAC    0xD1U /**< first byte of a COSE_Mac0 */

/** `[A-Za-z0-9][A-Za-z0-9._-]{0,31}` */
bool sp_record_group_valid(struct sp_view group);

/** 16 for SP_COSE_AES_CCM_16_64_128, 32 for SP_COSE_HMAC256; 0: no algorithm of a group. */
size_t sp_record_key_len(int64_t algorithm);

/**
 * R of a device: the first bytes of HMAC-SHA-256( G, "sp-record-1" || a || device ).
 *
 * @param[in]  group_key SP_RECORD_GROUP_KEY bytes, or a key that lives elsewhere.
 * @param[out] out       sp_record_key_len() bytes.
 * @retval SP_ERR_ARGUMENT Another algorithm, key length or device name.
 */
SP_MUST_CHECK enum sp_err sp_record_key(const struct sp_crypto_key *group_key,
                                        enum sp_cose_algorithm algorithm, struct sp_view device,
                                        uint8_t *out);

/** What the head of a protected record says; the group is borrowed. */
struct sp_record_head {
    enum sp_cose_algorithm algorithm; /**< 10: sealed; 5: authenticated */
    uint32_t epoch;                   /**< ≥ 1 */
    uint64_t counter;                 /**< 1..SP_RECORD_COUNTER_MAX */
    struct sp_view group;
};

/**
 * Read the head of a protected record, before anything of it is trusted.
 *
 * @retval SP_ERR_MALFORMED Anything but the one form that such a record can have.
 */
SP_MUST_CHECK enum sp_err sp_record_peek(struct sp_view record, struct sp_record_head *out);

/**
 * Protect a clear record.
 *
 * @param[in]  key   R of the device: of the length that the algorithm asks for.
 * @param[in]  topic As it will be published.
 * @param[out] out   At least plain.len + SP_RECORD_OVERHEAD bytes are enough.
 * @retval SP_ERR_ARGUMENT A head that cannot be, or a plaintext that is too long.
 * @retval SP_ERR_SPACE    `cap` is too small.
 */
SP_MUST_CHECK enum sp_err sp_record_protect(const struct sp_record_head *head,
                                            const struct sp_crypto_key *key, struct sp_view topic,
                                            struct sp_view plain, uint8_t *out, size_t cap,
                                            size_t *out_len);

/**
 * Check a record and give what is inside.
 *
 * @param[in]  algorithm The group's, never the message's.
 * @param[in]  key       R of the device in the topic.
 * @param[out] head      On SP_OK: now to be trusted.
 * @param[out] out       The clear record, at least SP_RECORD_PLAIN_MAX bytes; on SP_OK only.
 * @retval SP_ERR_MALFORMED Not in form.
 * @retval SP_ERR_UNTRUSTED Another algorithm, or it does not open.
 */
SP_MUST_CHECK enum sp_err sp_record_unprotect(struct sp_view record,
                                              enum sp_cose_algorithm algorithm,
                                              const struct sp_crypto_key *key, struct sp_view topic,
                                              struct sp_record_head *head, uint8_t *out,
                                              size_t *out_len);

/** The `<device>` of `dt/<device>/…`; empty for any other topic or a name that cannot be. */
struct sp_view sp_record_device(struct sp_view topic);

#endif
