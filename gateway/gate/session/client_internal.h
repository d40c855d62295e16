/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file A client (client.h), in six files: what it consists of, from its beginning until it is given back (client.c), what it
 * sends (client_in.c) and is sent (client_out.c), the answers to its messages (client_acks.c), what becomes due (client_time.c) and
 * how it ends (client_end.c). Private to them.
 */
#ifndef SP_GATEWAY_GATE_SESSION_CLIENT_INTERNAL_H
#define SP_GATEWAY_GATE_SESSION_CLIENT_INTERNAL_H

#include "gateway/gate/session/client.h"

/** It is heard of, and what it owes was paid off in the meantime (client_time.c). */
void sp_client_hear(struct sp_client *client);

/** Nobody is there any more for the answers that wait (client_acks.c). */
void sp_client_forget_receipts(struct sp_client_work *work, struct sp_home *home);

#endif
