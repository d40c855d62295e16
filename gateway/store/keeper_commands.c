/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/store/keeper_internal.h"

#include <stdlib.h>

static bool send_command(struct sp_keeper *k, const struct sp_command *c)
{
    const struct sp_msg_command head = {
        .payload_len = (uint32_t)c->payload.len,
        .topic_len = (uint16_t)c->topic.len,
        .qos = c->qos,
        .retain = c->retain,
    };
    const struct sp_view parts[] = {sp_view(&head, sizeof(head)), c->topic, c->payload};
    for (uint32_t i = 0; i < k->door_count; i++) {
        if (k->doors[i].channel != NULL) {
            sp_door_tell(&k->doors[i], SP_MSG_COMMAND, c->tag, parts, 3);
            return true;
        }
    }
    return false;
}

void sp_keeper_take_commands(struct sp_keeper *k, struct sp_command *list)
{
    struct sp_command **end = &k->commands;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    while (list != NULL) {
        struct sp_command *c = list;
        list = c->next;
        c->next = NULL;
        (void)send_command(k, c); /* one that is waited for is sent again when gate is back */
        if (c->qos == 0) {
            free(c);
        } else {
            *end = c;
            end = &c->next;
        }
    }
}

void sp_keeper_resend_commands(struct sp_keeper *k)
{
    for (const struct sp_command *c = k->commands; c != NULL; c = c->next) {
        (void)send_command(k, c);
    }
}

void sp_keeper_command_taken(struct sp_keeper *k, uint64_t tag, uint8_t reason)
{
    for (struct sp_command **at = &k->commands; *at != NULL; at = &(*at)->next) {
        struct sp_command *c = *at;
        if (c->tag == tag) {
            *at = c->next;
            free(c);
            sp_handoff_command_taken(k->handoff, tag, reason);
            return;
        }
    }
}
