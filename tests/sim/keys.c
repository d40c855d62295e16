/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* keys, as gate sees it: every device is known, every nonce is fresh, and almost every token is right. */
#include "tests/sim/run.h"

#include <string.h>

#include "gateway/proc/channel.h"

static struct sim_end *ends[SIM_LOOPS_MAX];

static void answer(struct sim_end *end, uint16_t type, uint64_t tag, const void *body, size_t len)
{
    const struct sp_frame frame = {.length = (uint32_t)len, .type = type, .tag = tag};
    sim_end_send(end, sp_view(&frame, sizeof(frame)));
    sim_end_send(end, sp_view(body, len));
}

/* The first few devices. */
static bool has_to_attest(struct sp_view identity)
{
    return identity.len > 0 && (uint32_t)(identity.ptr[identity.len - 1] - '0') < sim_plan.attested;
}

static void psk(struct sim_end *end, uint64_t tag, struct sp_view identity)
{
    struct sp_msg_psk_answer message = {
        .known = 1,
        .psk_len = 16,
        .nonce_ok = 1,
        .row = {.role = "client",
                .attestation =
                    has_to_attest(identity) ? SP_ATTESTATION_REQUIRED : SP_ATTESTATION_NONE,
                .binding = SP_LINK_BINDING_NONE},
    };
    answer(end, SP_MSG_PSK_ANSWER, tag, &message, sizeof(message));
}

static void nonce(struct sim_end *end, uint64_t tag)
{
    const struct sp_msg_nonce_answer message = {.ok = 1};
    answer(end, SP_MSG_NONCE_ANSWER, tag, &message, sizeof(message));
}

static void verdict(struct sim_end *end, uint64_t tag)
{
    bool refuses = !sim_healing && sim_chance(30);
    struct sp_msg_verdict message = {.unavailable = refuses};
    answer(end, SP_MSG_VERDICT, tag, &message, sizeof(message));
}

static void input(void *arg)
{
    struct sim_end **slot = arg;
    struct sim_end *end = *slot;
    struct sp_view in = sim_end_view(end);
    struct sp_frame frame;
    while (in.len >= sizeof(frame)) {
        memcpy(&frame, in.ptr, sizeof(frame));
        if (in.len < sizeof(frame) + frame.length) {
            break;
        }
        struct sp_view body = sp_view_first(sp_view_from(in, sizeof(frame)), frame.length);
        if (frame.type == SP_MSG_PSK) {
            psk(end, frame.tag, body);
        } else if (frame.type == SP_MSG_NONCE) {
            nonce(end, frame.tag);
        } else if (frame.type == SP_MSG_APPRAISE) {
            verdict(end, frame.tag);
        }
        sim_end_take(end, sizeof(frame) + frame.length);
        in = sim_end_view(end);
    }
    if (sim_end_over(end)) {
        sim_end_close(end);
        *slot = NULL;
    }
}

void sim_keys_reset(void)
{
    memset(ends, 0, sizeof(ends));
}

void sim_keys_attach(uint32_t loop, struct sim_end *end)
{
    if (ends[loop] != NULL) {
        sim_end_close(ends[loop]);
    }
    ends[loop] = end;
    sim_end_listen(end, input, &ends[loop]);
    answer(end, SP_MSG_GROUPS, 0, NULL, 0);
}

void sim_keys_die(void)
{
    for (uint32_t i = 0; i < SIM_LOOPS_MAX; i++) {
        if (ends[i] != NULL) {
            sim_end_close(ends[i]);
            ends[i] = NULL;
        }
    }
}
