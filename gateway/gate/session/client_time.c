/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* What becomes due for a client: silence, attestation, what its owner waits for, and how fast it may publish. */
#include "gateway/gate/attest/guard.h"
#include "gateway/gate/core/debt.h"
#include "gateway/gate/session/client_internal.h"
#include "gateway/log/log.h"

#include <stddef.h>

#define GIVE_UP_MS 10000U /* to one that is stalled */

/* ---- the deadline ---- */

static uint64_t silence_ends(const struct sp_client *client)
{
    if (client->stalled) {
        return client->heard_ms + GIVE_UP_MS;
    }
    bool may_be_silent = client->keep_alive_s == 0 || client->slowed;
    return may_be_silent ? UINT64_MAX : client->heard_ms + sp_client_silence_ms(client);
}

/* When one that is slowed goes on. */
static uint64_t slowed_until(const struct sp_client *client)
{
    if (!client->slowed) {
        return UINT64_MAX;
    }
    const struct sp_role_config *role = sp_client_role(client);
    return client->heard_ms + (client->debt == 0 ? 0
                                                 : sp_debt_wait(client->debt, role->message_rate,
                                                                role->message_burst));
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static struct sp_client *client_of(const struct sp_wheel_node *node)
{
    return (struct sp_client *)(uintptr_t)((const char *)node -
                                           offsetof(struct sp_client, deadline));
}

uint64_t sp_client_deadline(const struct sp_wheel_node *node)
{
    const struct sp_client *client = client_of(node);
    uint64_t owner = sp_client_now(client)->owner_due_ms;
    uint64_t next = owner == 0 ? UINT64_MAX : owner;
    if (client->state != SP_CLIENT_CLOSED) {
        next = earlier(next, earlier(silence_ends(client), client->attest_due_ms));
        next = earlier(next, slowed_until(client));
    }
    return next;
}

/* Input does not set the deadline anew; when it comes, it looks how long ago the last input was. */
void sp_client_arm(struct sp_client *client)
{
    sp_wheel_set(&client->home->deadlines, &client->deadline);
}

void sp_client_fire(struct sp_wheel_node *node)
{
    struct sp_client *client = client_of(node);
    if (client->home->due != NULL) {
        client->home->due(client);
    } else {
        sp_client_due(client);
    }
}

void sp_client_due(struct sp_client *client)
{
    uint64_t now = client->home->timers->now_ms;
    if (client->state == SP_CLIENT_CLOSED) {
        sp_client_arm(client);
        return;
    }
    if (now >= slowed_until(client)) {
        client->slowed = false;
        if (!client->stalled) {
            sp_client_hear(client);
        }
        sp_client_mark(client);
    }
    if (now >= client->attest_due_ms) {
        client->attest_due_ms = UINT64_MAX;
        sp_guard_due(client);
    }
    if (now >= silence_ends(client) && client->stalled) {
        sp_client_end(client, true);
    } else if (now >= silence_ends(client)) {
        sp_client_refuse(client, &(struct sp_refusal){.metric = SP_M_KEEPALIVE_TIMEOUTS,
                                                      .event = "keepalive_timeout",
                                                      .code = SP_MQTT_RC_KEEP_ALIVE_TIMEOUT});
    }
    sp_client_arm(client);
}

/* ---- messages in a time ---- */

void sp_client_hear(struct sp_client *client)
{
    uint64_t now = client->home->timers->now_ms;
    if (client->debt > 0) {
        uint64_t passed = now > client->heard_ms ? now - client->heard_ms : 0;
        client->debt = sp_debt_after(client->debt, passed, sp_client_role(client)->message_rate);
        client->fast = client->fast && client->debt > 0;
    }
    client->heard_ms = now;
}

void sp_client_count(struct sp_client *client)
{
    const struct sp_role_config *role = sp_client_role(client);
    char peer[SP_PEER_TEXT_MAX];
    client->debt += SP_DEBT_MESSAGE;
    if (!sp_debt_is_full(client->debt, role->message_burst)) {
        return;
    }
    sp_client_hear(client); /* it may have come from the buffer, long after the last input */
    if (!sp_debt_is_full(client->debt, role->message_burst)) {
        return;
    }
    client->slowed = true;
    sp_client_arm(client);
    sp_client_mark(client);
    if (!client->fast) {
        client->fast = true;
        sp_metric_inc(SP_M_SLOWED);
        sp_log_limited(SP_EVENT("device_slowed"), SP_F_VIEW("device", sp_client_identity(client)),
                       SP_F_STR("peer", sp_client_peer_text(client, peer)),
                       SP_F_INT("message_rate", role->message_rate));
    }
}

void sp_client_recount(struct sp_client *client)
{
    const struct sp_role_config *role = sp_client_role(client);
    uint32_t most = role->message_rate == 0 ? 0 : (role->message_burst - 1) * SP_DEBT_MESSAGE;
    client->debt = client->debt < most ? client->debt : most;
    if (client->slowed) {
        sp_client_arm(client);
    }
}
