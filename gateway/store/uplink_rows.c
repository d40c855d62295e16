/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/store/uplink_internal.h"

#include <time.h>

#include "gateway/log/log.h"
#include "gateway/metrics/metrics.h"

#define OUT_HIGH   (256U * 1024U) /* ciphertext waiting for the socket: send no more */
#define LOSSES_MAX 3U             /* connections lost in a row with the same row at the head */

static uint64_t wall_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000U + (uint64_t)t.tv_nsec / 1000000U;
}

struct sp_row *sp_uplink_take_row(struct sp_row_list *list, uint64_t seq)
{
    if (list->head != NULL && list->head->seq == seq) {
        return sp_row_list_pop(list);
    }
    struct sp_row_list rest = {0};
    struct sp_row *found = NULL;
    for (struct sp_row *row = sp_row_list_pop(list); row != NULL; row = sp_row_list_pop(list)) {
        if (row->seq == seq && found == NULL) {
            found = row;
        } else {
            sp_row_list_push(&rest, row);
        }
    }
    *list = rest;
    return found;
}

void sp_uplink_end_row(struct sp_uplink *l, struct sp_row *row, enum sp_row_end end,
                       const char *reason)
{
    row->end = end;
    row->reason = reason;
    row->end_ms = wall_ms();
    sp_row_list_push(&l->ended, row);
}

void sp_uplink_drop_loose(struct sp_uplink *l)
{
    sp_metric_add(SP_M_CLOUD_DROPPED, (int64_t)l->loose.count);
    sp_row_list_append(&l->ended, &l->loose);
}

void sp_uplink_take_rows(struct sp_uplink *l)
{
    struct sp_row_list given = {0};
    sp_handoff_take(l->env->handoff, l->index, &given);
    for (struct sp_row *row = sp_row_list_pop(&given); row != NULL; row = sp_row_list_pop(&given)) {
        if (row->seq == 0) {
            sp_row_list_push(&l->loose, row);
        } else {
            sp_lanes_push(&l->queue, row);
        }
    }
    if (!sp_handoff_is_up(l->env->handoff, l->index)) {
        sp_uplink_drop_loose(l);
    }
}

void sp_uplink_count_loss(struct sp_uplink *l)
{
    struct sp_row *head = l->flying.head;
    if (head == NULL) {
        return;
    }
    l->losses = head->seq == l->loss_head ? l->losses + 1 : 1;
    l->loss_head = head->seq;
    if (l->losses + 1 == LOSSES_MAX) {
        l->careful_left = l->flying.count;
    }
    if (l->losses >= LOSSES_MAX) {
        (void)sp_row_list_pop(&l->flying);
        sp_lanes_done(&l->queue, head);
        sp_uplink_end_row(l, head, SP_ROW_DEAD, "the cloud closed three times in a row on it");
        l->losses = 0;
        l->loss_head = 0;
    }
}

/* ---- sending ---- */

/* The window of D5, and the care after connections that were lost. */
static bool may_go(const struct sp_uplink *l)
{
    if (sp_mqtt_client_window(&l->mqtt) == 0 ||
        l->flying.count >= sp_uplink_cloud(l)->limits.in_flight ||
        (l->careful_left > 0 && l->flying.head != NULL)) {
        return false;
    }
    return l->flying.count + l->unreleased + l->ended.count < SP_UPLINK_REPEATS_MAX;
}

static bool buckets_ready(struct sp_uplink *l, uint64_t now, size_t size)
{
    uint64_t a = sp_bucket_wait(&l->publishes, 1, now);
    uint64_t b = sp_bucket_wait(&l->bytes, size, now);
    l->bucket_wait_until = a == 0 && b == 0 ? 0 : now + (a > b ? a : b);
    return l->bucket_wait_until == 0;
}

/* The row that was shown is gone: sent, or given up. */
static struct sp_row *take(struct sp_uplink *l, const struct sp_row *shown)
{
    return shown->seq == 0 ? sp_row_list_pop(&l->loose) : sp_lanes_take(&l->queue);
}

/* A row that can never go: to the dead letters, or, with QoS 0, dropped. */
static void give_up(struct sp_uplink *l, const struct sp_row *shown, const char *reason)
{
    struct sp_row *row = take(l, shown);
    if (row->seq == 0) {
        sp_metric_inc(SP_M_CLOUD_DROPPED);
        sp_row_list_push(&l->ended, row);
    } else {
        sp_lanes_done(&l->queue, row);
        sp_uplink_end_row(l, row, SP_ROW_DEAD, reason);
    }
}

static void departed(struct sp_uplink *l, const struct sp_row *shown, size_t size)
{
    struct sp_row *row = take(l, shown);
    sp_row_list_push(row->seq == 0 ? &l->ended : &l->flying, row);
    sp_bucket_take(&l->publishes, 1);
    sp_bucket_take(&l->bytes, size);
    sp_metric_inc(SP_M_CLOUD_SENT);
}

/* Write a row, the first of where it is. @return false: no more for now. */
static bool send_row(struct sp_uplink *l, uint64_t now, const struct sp_row *row,
                     struct sp_writer *w)
{
    struct sp_mqtt_publish publish;
    const char *reason = NULL;
    enum sp_err err =
        sp_letter_write(&l->env->office, row, wall_ms(), &l->env->room, &publish, &reason);
    if (err == SP_ERR_NOMEM) {
        return false;
    }
    if (err != SP_OK) {
        give_up(l, row, reason);
        return true;
    }
    size_t size = l->env->room.packet;
    if (!buckets_ready(l, now, size)) {
        return false;
    }
    err = sp_mqtt_client_publish(&l->mqtt, now, &publish, row->seq, w);
    if (err == SP_ERR_SPACE) {
        if (!sp_uplink_encrypt(l, now, w) || !sp_uplink_scratch(l, size + 64U, w)) {
            return false;
        }
        err = sp_mqtt_client_publish(&l->mqtt, now, &publish, row->seq, w);
    }
    if (err == SP_OK) {
        departed(l, row, size);
        return true;
    }
    if (err == SP_ERR_LIMIT) {
        give_up(l, row, "packet larger than the cloud's Maximum Packet Size");
        return true;
    }
    if (err == SP_ERR_ARGUMENT || err == SP_ERR_UNSUPPORTED) {
        give_up(l, row, "cannot be put into a packet");
        return true;
    }
    return false;
}

/* QoS 0 goes when nothing that was accepted can. It is in no journal: what is here goes before the end, too. */
static const struct sp_row *next_row(const struct sp_uplink *l)
{
    const struct sp_row *row = !l->stopping && may_go(l) ? sp_lanes_peek(&l->queue) : NULL;
    return row != NULL ? row : l->loose.head;
}

void sp_uplink_send_rows(struct sp_uplink *l, uint64_t now, struct sp_writer *w)
{
    l->bucket_wait_until = 0;
    sp_lanes_wake(&l->queue, now);
    l->unreleased = sp_handoff_unreleased(l->env->handoff, l->index);
    while (l->state == SP_UPLINK_UP && l->out.used < OUT_HIGH) {
        const struct sp_row *row = next_row(l);
        if (row == NULL || !send_row(l, now, row, w)) {
            return;
        }
    }
}
