/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/store/keeper_internal.h"

#include "gateway/log/log.h"
#include "gateway/metrics/metrics.h"

void sp_keeper_hand_on(struct sp_keeper *k)
{
    for (struct sp_row *row = sp_row_list_pop(&k->batch); row != NULL;
         row = sp_row_list_pop(&k->batch)) {
        if (row->seq == 0) { /* a release, a mark, a repeat of what is here, or a refused record */
            sp_metric_add(SP_M_JOURNAL_DEAD, (row->flags & SP_RECORD_REFUSED) != 0);
            sp_row_destroy(row);
            continue;
        }
        struct sp_feed *f = &k->feeds[row->stream % k->links];
        f->level = f->level && f->held_rows < SP_KEEPER_WINDOW_ROWS &&
                   f->held_bytes < SP_KEEPER_WINDOW_BYTES;
        if (!f->level) {
            sp_row_destroy(row);
            continue;
        }
        f->handed = row->seq;
        f->held_rows++;
        f->held_bytes += sp_row_cost(row);
        sp_row_list_push(&f->give, row);
    }
}

/* Read the next rows of a link that is behind. @return There may be more at once. */
static bool catch_up(struct sp_keeper *k, uint32_t link)
{
    struct sp_feed *f = &k->feeds[link];
    if (f->level || sp_journal_broken(k->journal) || f->held_rows > SP_KEEPER_WINDOW_ROWS / 2 ||
        f->held_bytes > SP_KEEPER_WINDOW_BYTES / 2) {
        return false;
    }
    const struct sp_journal_want want = {
        .after = f->handed,
        .link = link,
        .links = k->links,
        .max_rows = SP_KEEPER_WINDOW_ROWS - f->held_rows,
        .max_bytes = SP_KEEPER_WINDOW_BYTES - f->held_bytes,
    };
    struct sp_row_list rows = {0};
    uint64_t reached = f->handed;
    enum sp_err err = sp_journal_read(k->journal, &want, &rows, &reached);
    if (err != SP_OK) {
        sp_keeper_journal_failed(k);
    }
    f->handed = reached;
    f->level = err == SP_OK && reached == sp_journal_last(k->journal);
    f->held_rows += rows.count;
    f->held_bytes += rows.bytes;
    sp_row_list_append(&f->give, &rows);
    return err == SP_OK && !f->level && f->held_rows <= SP_KEEPER_WINDOW_ROWS / 2;
}

bool sp_keeper_feed_links(struct sp_keeper *k)
{
    bool more = false;
    for (uint32_t i = 0; i < k->links; i++) {
        more = catch_up(k, i) || more;
        sp_handoff_give(k->handoff, i, &k->feeds[i].give);
    }
    return more;
}

void sp_keeper_take_back(struct sp_keeper *k)
{
    struct sp_row_list back = {0};
    struct sp_command *commands = NULL;
    sp_handoff_take_ended(k->handoff, &back, &commands);
    for (struct sp_row *row = sp_row_list_pop(&back); row != NULL; row = sp_row_list_pop(&back)) {
        if (row->seq == 0) {
            struct sp_feed *f = &k->feeds[row->stream % k->links];
            f->loose_rows--;
            f->loose_bytes -= sp_row_cost(row);
            sp_row_destroy(row);
            continue;
        }
        sp_row_list_push(&k->ended, row);
    }
    sp_keeper_take_commands(k, commands);
}

static void log_dead(const struct sp_keeper *k)
{
    for (const struct sp_row *row = k->ended.head; row != NULL; row = row->next) {
        if (row->end == SP_ROW_DEAD) {
            sp_metric_inc(SP_M_JOURNAL_DEAD);
            sp_log_warn(SP_EVENT("dead_letter"), SP_F_VIEW("device", row->device),
                        SP_F_INT("sequence", row->seq), SP_F_VIEW("topic", row->topic),
                        SP_F_STR("reason", row->reason));
        }
    }
}

void sp_keeper_release_ended(struct sp_keeper *k)
{
    if (k->ended.head == NULL) {
        return;
    }
    log_dead(k);
    sp_handoff_released(k->handoff, &k->ended);
    for (const struct sp_row *row = k->ended.head; row != NULL; row = row->next) {
        struct sp_feed *f = &k->feeds[row->stream % k->links];
        f->held_rows--;
        f->held_bytes -= sp_row_cost(row);
        sp_shares_take(k->shares, row->device, sp_row_cost(row));
    }
    sp_row_list_clear(&k->ended);
}
