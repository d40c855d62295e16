/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file COSE_Mac0 and COSE_Encrypt0 (RFC 9052) with the algorithms that devices here use (RFC 9053).
 *
 * Messages are decoded in place, without allocation: definite lengths only, at most
 * SP_COSE_HEADERS_MAX entries in a header, none twice, in neither header twice. `crit` is refused, because no
 * extension is understood. Heads may be longer than needed, but for the message's tag, which is one byte.
 */
#ifndef SP_LIBS_COSE_COSE_H
#define SP_LIBS_COSE_COSE_H

#include "libs/base/bytes.h"
#include "libs/cose/crypto.h"

enum sp_cose_algorithm {
    SP_COSE_NO_ALGORITHM = 0,
    SP_COSE_HMAC256 = 5,
    SP_COSE_HMAC384 = 6,
    SP_COSE_HMAC512 = 7,
    SP_COSE_AES_CCM_16_64_128 = 10,
    SP_COSE_AES_CCM_16_128_128 = 30,
};

#define SP_COSE_HEADERS_MAX 16U
#define SP_COSE_AAD_MAX \
    384U /**< bytes of protected header and external_aad of an Encrypt0 message */
#define SP_COSE_IV_LEN 13U

/** Header parameters that were seen, as bits of sp_cose_header.seen. */
#define SP_COSE_SEEN_ALGORITHM  1U
#define SP_COSE_SEEN_KID        2U
#define SP_COSE_SEEN_IV         4U
#define SP_COSE_SEEN_PARTIAL_IV 8U
#define SP_COSE_SEEN_OTHER      16U /**< any other label; its value was skipped */

/** One header bucket. */
struct sp_cose_header {
    unsigned seen; /**< SP_COSE_SEEN_* */
    int64_t
        algorithm; /**< SP_COSE_NO_ALGORITHM when absent or a text, which no algorithm here is */
    struct sp_view kid;
    struct sp_view iv;
    struct sp_view partial_iv;
};

/** A decoded message, borrowed from the input. */
struct sp_cose_message {
    struct sp_view
        protected_bytes; /**< as it enters the MAC: empty for an empty map (RFC 9052, 5.3) */
    struct sp_cose_header protected_header;
    struct sp_cose_header unprotected_header;
    struct sp_view content; /**< payload, or ciphertext with its tag */
    struct sp_view tag;     /**< of a Mac0 message; else empty */
};

enum sp_cose_tagging { SP_COSE_TAGGED, SP_COSE_UNTAGGED };

/** Digest length and hash of an HMAC algorithm; 0 for any other number. */
size_t sp_cose_hmac_len(int64_t algorithm);

/** Length of an AES-CCM algorithm's tag; 0 for any other number. */
size_t sp_cose_ccm_tag_len(int64_t algorithm);

/** The algorithm of the protected header, or else of the unprotected one. */
int64_t sp_cose_message_algorithm(const struct sp_cose_message *message);

/**
 * Take a COSE_Mac0 message apart: [protected, unprotected, payload, tag], payload present.
 *
 * @param[out] out Filled on SP_OK only.
 * @retval SP_ERR_MALFORMED   Anything but such a message, or trailing bytes.
 * @retval SP_ERR_UNSUPPORTED A header has `crit`.
 * @retval SP_ERR_LIMIT       Too many header entries, or too deep.
 * Uses under 700 bytes of stack.
 */
SP_MUST_CHECK enum sp_err sp_cose_mac0_decode(struct sp_view input, enum sp_cose_tagging tagging,
                                              struct sp_cose_message *out);

/**
 * Check the tag of a decoded COSE_Mac0 message, all of it, in constant time.
 *
 * @param[in] algorithm The one expected: the message's is held against it.
 * @retval SP_OK              The tag is right.
 * @retval SP_ERR_UNTRUSTED   It is wrong, or of the wrong length, or the message names another algorithm.
 * @retval SP_ERR_UNSUPPORTED `algorithm` is not 5, 6 or 7.
 */
SP_MUST_CHECK enum sp_err sp_cose_mac0_verify(const struct sp_cose_message *message,
                                              enum sp_cose_algorithm algorithm,
                                              const struct sp_crypto_key *key,
                                              struct sp_view external_aad);

/**
 * Write a tagged COSE_Mac0 message: {1: algorithm} protected, nothing unprotected.
 * The writer's error says when it did not fit.
 */
SP_MUST_CHECK enum sp_err sp_cose_mac0_encode(struct sp_writer *w, enum sp_cose_algorithm algorithm,
                                              const struct sp_crypto_key *key,
                                              struct sp_view external_aad, struct sp_view payload);

/** The same in two steps, for a payload that is written in place: `payload_len` bytes must follow … */
void sp_cose_mac0_begin(struct sp_writer *w, enum sp_cose_algorithm algorithm, size_t payload_len);

/** … and then the tag over the last `payload_len` bytes of `w`. */
SP_MUST_CHECK enum sp_err sp_cose_mac0_end(struct sp_writer *w, enum sp_cose_algorithm algorithm,
                                           const struct sp_crypto_key *key,
                                           struct sp_view external_aad, size_t payload_len);

struct sp_cose_headers;

/** As sp_cose_mac0_encode(), with headers of the caller's, who names the algorithm in the protected one. */
SP_MUST_CHECK enum sp_err sp_cose_mac0_seal(struct sp_writer *w,
                                            const struct sp_cose_headers *headers,
                                            enum sp_cose_algorithm algorithm,
                                            const struct sp_crypto_key *key,
                                            struct sp_view external_aad, struct sp_view payload);

/**
 * Take a COSE_Encrypt0 message apart: [protected, unprotected, ciphertext]. As sp_cose_mac0_decode().
 */
SP_MUST_CHECK enum sp_err sp_cose_encrypt0_decode(struct sp_view input,
                                                  enum sp_cose_tagging tagging,
                                                  struct sp_cose_message *out);

/** How a COSE_Encrypt0 message is protected. */
struct sp_cose_encrypt0 {
    enum sp_cose_algorithm algorithm; /**< 10 or 30, the one expected */
    struct sp_crypto_key key;         /**< 16 bytes */
    struct sp_view iv;                /**< SP_COSE_IV_LEN bytes */
    struct sp_view external_aad;
};

/**
 * Check and decrypt a decoded COSE_Encrypt0 message. The IV comes from the caller, who builds it from `iv`
 * or `partial_iv` of a header.
 *
 * @retval SP_ERR_UNTRUSTED   Wrong tag, or the message names another algorithm; nothing was written.
 * @retval SP_ERR_UNSUPPORTED No AES-CCM algorithm known here.
 * @retval SP_ERR_MALFORMED   The IV has another length.
 * @retval SP_ERR_SPACE       `cap` is too small for the plaintext.
 * @retval SP_ERR_LIMIT       Protected header and external_aad exceed SP_COSE_AAD_MAX.
 * Uses under 600 bytes of stack.
 */
SP_MUST_CHECK enum sp_err sp_cose_encrypt0_open(const struct sp_cose_message *message,
                                                const struct sp_cose_encrypt0 *how, uint8_t *out,
                                                size_t cap, size_t *out_len);

/** The header buckets of a message to be written, as encoded CBOR maps. */
struct sp_cose_headers {
    struct sp_view protected_map;   /**< names the algorithm */
    struct sp_view unprotected_map; /**< empty = no entries */
};

/** Encrypt and write a tagged COSE_Encrypt0 message. Errors as above; SP_ERR_SPACE when it does not fit. */
SP_MUST_CHECK enum sp_err sp_cose_encrypt0_seal(struct sp_writer *w,
                                                const struct sp_cose_headers *headers,
                                                const struct sp_cose_encrypt0 *how,
                                                struct sp_view plain);

#endif
