/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file What a device and the gateway say to each other beyond MQTT (docs/protocol.md): method names,
 * topics, identities, and the challenge that ties a token to its connection.
 */
#ifndef SP_LIBS_LINK_LINK_H
#define SP_LIBS_LINK_LINK_H

#include "libs/base/bytes.h"

#define SP_LINK_IDENTITY_MAX  64U /**< bytes of a PSK identity = device id */
#define SP_LINK_NONCE_LEN     32U
#define SP_LINK_EXPORTER_LEN  32U
#define SP_LINK_CHALLENGE_LEN 32U
#define SP_LINK_TOKEN_MAX     4096U /**< bytes of an attestation token */
#define SP_LINK_EXPORTER_LABEL \
    "EXPORTER-Channel-Binding" /**< RFC 9266; context present and empty */

#define SP_LINK_TOPIC_CHALLENGE "$sp/attest/challenge"
#define SP_LINK_TOPIC_TOKEN     "$sp/attest/token"
#define SP_LINK_TOPIC_VERDICT   "$sp/attest/verdict"
#define SP_LINK_TOPIC_GRANT     "$sp/key/grant"
#define SP_LINK_TOPIC_ACK       "$sp/key/ack"
#define SP_LINK_TOPIC_TIME      "$sp/time"
#define SP_LINK_TOPIC_PREFIX    "$sp/"
#define SP_LINK_VERDICT_OK      "ok"

/** How a token is tied to its connection; a row of the registry has exactly one. */
enum sp_link_binding { SP_LINK_BINDING_TLS = 0, SP_LINK_BINDING_NONE = 1 };

/** `sp-psa-iat-1` or `sp-psa-iat-raw-1`: MQTT 5 Authentication Method and first part of the challenge. */
const char *sp_link_method(enum sp_link_binding binding);

/** `[A-Za-z0-9][A-Za-z0-9._-]{0,63}` */
bool sp_link_identity_valid(struct sp_view identity);

/**
 * The 32 bytes given to psa_initial_attest_get_token (docs/protocol.md 3.1).
 *
 * @param[in]  nonce    32 bytes from the gateway.
 * @param[in]  exporter 32 bytes; looked at with SP_LINK_BINDING_TLS only.
 * @param[in]  identity The PSK identity as sent in the handshake.
 * @param[out] out      SP_LINK_CHALLENGE_LEN bytes.
 * @retval SP_ERR_ARGUMENT A part has the wrong length.
 */
SP_MUST_CHECK enum sp_err sp_link_challenge(enum sp_link_binding binding, struct sp_view nonce,
                                            struct sp_view exporter, struct sp_view identity,
                                            uint8_t *out);

#endif
