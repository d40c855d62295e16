/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file The record layer of TLS 1.2 with AES-128-CCM, CCM-8 and GCM, for after the handshake.
 *
 * Its state is 60 bytes without pointers, so that an idle connection costs no more than that and may be moved as it is. It knows
 * application data and alerts; everything else is refused, so there is no renegotiation. Pure: no I/O, no allocation.
 * Sources: RFC 5246 6.2 and 7.2, RFC 5288 3, RFC 6655 3, RFC 8449 4.
 */
#ifndef SP_GATEWAY_TLS_RECORD_H
#define SP_GATEWAY_TLS_RECORD_H

#include "libs/base/bytes.h"

#define SP_RECORD_HEADER    5U
#define SP_RECORD_PLAIN_MAX 16384U /**< plaintext of one record */
#define SP_RECORD_GROWTH    29U /**< at most, from plaintext to wire: header, explicit nonce, tag */
#define SP_RECORD_WIRE_MAX  (SP_RECORD_PLAIN_MAX + SP_RECORD_GROWTH)
#define SP_RECORD_QUIET_MAX 64U /**< empty records and warning alerts in a row */

enum sp_record_suite {
    SP_RECORD_NONE,
    SP_RECORD_CCM,   /**< AEAD_AES_128_CCM */
    SP_RECORD_CCM_8, /**< AEAD_AES_128_CCM_8: the tag has 8 bytes */
    SP_RECORD_GCM,   /**< AEAD_AES_128_GCM */
};

enum sp_record_type { SP_RECORD_ALERT = 21, SP_RECORD_HANDSHAKE = 22, SP_RECORD_DATA = 23 };

enum sp_alert_level { SP_ALERT_WARNING = 1, SP_ALERT_FATAL = 2 };

/** Alert descriptions that are said here (RFC 5246 7.2). */
enum sp_alert {
    SP_ALERT_CLOSE_NOTIFY = 0,
    SP_ALERT_UNEXPECTED_MESSAGE = 10,
    SP_ALERT_BAD_RECORD_MAC = 20,
    SP_ALERT_RECORD_OVERFLOW = 22,
    SP_ALERT_ILLEGAL_PARAMETER = 47,
    SP_ALERT_DECODE_ERROR = 50,
    SP_ALERT_PROTOCOL_VERSION = 70,
    SP_ALERT_NO_RENEGOTIATION = 100, /**< said as a warning, the others as fatal */
};

/** The state of a connection. Secret: sp_wipe() it. Packed, so that who has one can put four bytes of its own behind it. */
struct __attribute__((packed, aligned(4))) sp_tls_record {
    uint64_t read_sequence; /**< of the next record; UINT64_MAX: no more */
    uint64_t write_sequence;
    uint8_t read_key[16];
    uint8_t write_key[16];
    uint8_t read_salt[4]; /**< the implicit part of the nonce */
    uint8_t write_salt[4];
    uint16_t
        send_max;  /**< plaintext bytes that the peer takes in one record, 1..SP_RECORD_PLAIN_MAX */
    uint8_t suite; /**< enum sp_record_suite */
    uint8_t quiet; /**< empty records and warnings since the last data */
};
_Static_assert(sizeof(struct sp_tls_record) == 60, "what an idle connection costs");

/** What sp_record_open() found. */
struct sp_record_in {
    size_t used;     /**< bytes of `in` that were taken */
    size_t len;      /**< bytes of plaintext */
    uint8_t alert;   /**< CLOSED: what the peer said; MALFORMED: what it is to be told */
    const char *why; /**< CLOSED and MALFORMED: for logs, static */
};

/**
 * Open the record at the start of `in`.
 *
 * @param[out] out Plaintext; zeroed where a record turns out to be forged.
 * @param[in]  cap Size of `out`; SP_RECORD_PLAIN_MAX is always enough.
 * @retval SP_OK            `found->len` bytes are in `out`; 0: an empty record or a warning, go on.
 * @retval SP_ERR_AGAIN     The record is not whole; nothing was taken.
 * @retval SP_ERR_SPACE     Its plaintext is larger than `cap`; nothing was taken.
 * @retval SP_ERR_CLOSED    close_notify (alert 0) or a fatal alert: nothing more will come.
 * @retval SP_ERR_MALFORMED Forged, replayed, out of order, too large, of another type. Send found->alert and wipe the state.
 */
SP_MUST_CHECK enum sp_err sp_record_open(struct sp_tls_record *record, struct sp_view in,
                                         uint8_t *out, size_t cap, struct sp_record_in *found);

/** Bytes on the wire of a record with `len` bytes of plaintext. */
size_t sp_record_sealed(const struct sp_tls_record *record, size_t len);

/**
 * Make one record.
 *
 * @param[in]  plain At most send_max bytes.
 * @param[out] out   sp_record_sealed() bytes; does not overlap `plain`.
 * @retval SP_ERR_ARGUMENT Too long.
 * @retval SP_ERR_LIMIT    Its sequence numbers are used up.
 */
SP_MUST_CHECK enum sp_err sp_record_seal(struct sp_tls_record *record, enum sp_record_type type,
                                         struct sp_view plain, uint8_t *out);

/** Make the record of an alert: sp_record_sealed(record, 2) bytes. @retval SP_ERR_LIMIT As above. */
SP_MUST_CHECK enum sp_err sp_record_seal_alert(struct sp_tls_record *record, enum sp_alert alert,
                                               uint8_t *out);

/**
 * Bytes of the record at the start of `in` on the wire, as its header says; SP_RECORD_HEADER while that is not
 * whole. At most SP_RECORD_WIRE_MAX: what claims more will be refused by sp_record_open().
 */
size_t sp_record_wire_size(struct sp_view in);

#endif
