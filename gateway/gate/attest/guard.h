/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file The guard between the doors: challenge, token, verdict (docs/protocol.md 3), for one client at a time. */
#ifndef SP_GATEWAY_GATE_ATTEST_GUARD_H
#define SP_GATEWAY_GATE_ATTEST_GUARD_H

#include "gateway/gate/session/client.h"

/** First challenge, with the nonce that came with the PSK: AUTH for MQTT 5, PUBLISH for 3.1.1. */
void sp_guard_begin(struct sp_client *client);

/** Challenge an admitted client again; after the open challenge, if there is one. */
void sp_guard_again(struct sp_client *client);

/** A new configuration is in force: the next challenge comes no later than its interval says. */
void sp_guard_configure(struct sp_client *client);

/** Keep a nonce until the challenge is sent. @return false: no memory. */
bool sp_guard_keep_nonce(struct sp_client *client, const uint8_t *nonce);

/** keys answered with a nonce. */
void sp_guard_nonce(struct sp_client *client, const struct sp_msg_nonce_answer *answer);

/** Send a challenge that waited for room in the peer's window. */
void sp_guard_pump(struct sp_client *client);

/** A token has come; out of turn if no challenge is open. */
void sp_guard_token(struct sp_client *client, struct sp_view token);

/**
 * keys has judged. For a guest the owner must have read what was there to be read first (docs/protocol.md 3.2: it was
 * sent early).
 */
void sp_guard_verdict(struct sp_client *client, const struct sp_msg_verdict *verdict);

/** attest_due_ms has come: no answer, or time for the next challenge. */
void sp_guard_due(struct sp_client *client);

/** keys is gone. */
void sp_guard_lost(struct sp_client *client);

/** The client ends: keys may drop its nonce. */
void sp_guard_forget(struct sp_client *client);

/** It is admitted, or was judged anew: tell what follows an `ok`. */
void sp_guard_admitted(struct sp_client *client);

#endif
