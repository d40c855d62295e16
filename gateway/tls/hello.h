/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file Looking into the first messages of a handshake before the TLS library does.
 *
 * The library asks for a PSK by a call that must answer at once; our keys live in another process. So the
 * identity is read from the bytes first, the key is fetched, and only then the library goes on. Reading the
 * ClientHello first also lets us pick exactly one suite. Pure: bytes in, structs out.
 * Sources: RFC 5246 6.2.1 and 7.4, RFC 4279 2, RFC 8446 4.2.
 */
#ifndef SP_GATEWAY_TLS_HELLO_H
#define SP_GATEWAY_TLS_HELLO_H

#include "libs/base/bytes.h"

#define SP_HELLO_MAX 4096U /**< bytes of one handshake message that we are willing to gather */

enum sp_hello_type { SP_HELLO_CLIENT_HELLO = 1, SP_HELLO_CLIENT_KEY_EXCHANGE = 16 };

/**
 * Gather the first handshake message from the records in `raw`.
 *
 * @param[in]  raw     Bytes as they came from the socket, from a record boundary on.
 * @param[in]  scratch SP_HELLO_MAX bytes; the body of the message is put together here.
 * @param[out] body    The message without its four-byte header.
 * @retval SP_ERR_AGAIN     Not all of it is there.
 * @retval SP_ERR_NOT_FOUND The bytes are something else: another record type or another message. Let the TLS library
 *                          say what it thinks of them.
 * @retval SP_ERR_LIMIT     The message is larger than SP_HELLO_MAX.
 */
SP_MUST_CHECK enum sp_err sp_hello_gather(struct sp_view raw, enum sp_hello_type type,
                                          uint8_t *scratch, struct sp_view *body);

struct sp_client_hello {
    struct sp_view suites;       /**< two bytes each */
    bool tls12;                  /**< offers TLS 1.2 */
    bool tls13;                  /**< offers TLS 1.3 … */
    bool psk_dhe;                /**< … with psk_dhe_ke … */
    struct sp_view psk_identity; /**< … and this first external identity; empty: none */
    bool extended_master_secret; /**< RFC 7627 */
    bool encrypt_then_mac;       /**< RFC 7366 */
    uint16_t record_size_limit;  /**< RFC 8449; 0: none that counts */
};

/** @retval SP_ERR_MALFORMED The TLS library will refuse it too. */
SP_MUST_CHECK enum sp_err sp_hello_parse(struct sp_view body, struct sp_client_hello *out);

/** The suite is among those offered. */
bool sp_hello_offers(const struct sp_client_hello *hello, uint16_t suite);

/** The identity at the start of any PSK ClientKeyExchange. @retval SP_ERR_MALFORMED */
SP_MUST_CHECK enum sp_err sp_hello_identity(struct sp_view body, struct sp_view *identity);

#endif
