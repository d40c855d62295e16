/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/store/keeper_internal.h"

#include "gateway/metrics/metrics.h"

/* By enum sp_record_refusal: what the gateway found wrong, as in the name of its counter. */
static const char *const refusals[SP_REFUSAL_COUNT] = {
    [SP_REFUSAL_WEAKER] = "refused record: weaker",
    [SP_REFUSAL_FORM] = "refused record: form",
    [SP_REFUSAL_KEY] = "refused record: key",
    [SP_REFUSAL_EPOCH] = "refused record: epoch",
    [SP_REFUSAL_OPEN] = "refused record: open",
    [SP_REFUSAL_CONTENT] = "refused record: content",
    [SP_REFUSAL_RANGE] = "refused record: range",
    [SP_REFUSAL_TIME] = "refused record: time",
};

static struct sp_row *make_row(const struct sp_intake_record *r)
{
    struct sp_row *row = sp_row_create_marked(r->device, r->topic, r->origin, r->payload, r->group);
    if (row != NULL) {
        row->time_ms = r->head.time_ms;
        row->expiry_s = r->head.expiry_s;
        row->qos = r->head.qos;
        row->format = r->head.format;
        row->protection = r->head.protection;
        row->flags = r->head.flags;
        row->epoch = r->head.epoch;
        row->counter = r->head.counter;
        row->packet_id = r->head.packet_id;
        if ((r->head.flags & SP_RECORD_REFUSED) != 0) {
            row->reason = refusals[r->head.refusal];
            row->end_ms = r->head.time_ms;
        }
    }
    return row;
}

/* The mark of what is not in the journal itself goes with the next commit, soon. Lost in a crash: it repeats. */
static void take_mark(struct sp_keeper *k, const struct sp_intake_record *r)
{
    static const struct sp_view nothing = {NULL, 0};
    const struct sp_intake_record mark = {
        .head = {.flags = SP_RECORD_MARK, .epoch = r->head.epoch, .counter = r->head.counter},
        .device = r->device,
        .topic = nothing,
        .origin = nothing,
        .group = r->group,
    };
    struct sp_row *row = sp_journal_broken(k->journal) ? NULL : make_row(&mark);
    if (row != NULL) {
        k->marks_since = k->marks_since == 0 ? k->now : k->marks_since;
        sp_row_list_push(&k->marks, row);
    }
}

void sp_keeper_take_loose(struct sp_keeper *k, const struct sp_intake_record *r)
{
    if (r->head.counter != 0) {
        take_mark(k, r);
    }
    if ((r->head.flags & SP_RECORD_MARK) != 0) {
        return;
    }
    uint32_t link = k->links == 0 ? 0 : sp_row_stream(r->device) % k->links;
    struct sp_feed *f = k->links == 0 ? NULL : &k->feeds[link];
    struct sp_row *row = NULL;
    if (f != NULL && f->loose_rows < SP_KEEPER_LOOSE_ROWS &&
        f->loose_bytes < SP_KEEPER_LOOSE_BYTES && sp_handoff_is_up(k->handoff, link)) {
        row = make_row(r);
    }
    if (row == NULL) {
        sp_metric_inc(SP_M_CLOUD_DROPPED);
        return;
    }
    f->loose_rows++;
    f->loose_bytes += sp_row_cost(row);
    sp_row_list_push(&f->give, row);
}

enum sp_err sp_keeper_take_durable(struct sp_keeper *k, const struct sp_intake_record *r)
{
    if (k->links == 0) {
        return SP_ERR_UNSUPPORTED;
    }
    if (sp_journal_broken(k->journal)) {
        return SP_ERR_IO;
    }
    struct sp_row *row = make_row(r);
    if (row == NULL) {
        return SP_ERR_NOMEM;
    }
    bool release = (r->head.flags & SP_RECORD_RELEASE) != 0; /* makes room, if anything */
    if (!release && sp_shares_of(k->shares, row->device) + sp_row_cost(row) >
                        k->config->limits.journal_device_bytes) {
        sp_row_destroy(row);
        return SP_ERR_LIMIT;
    }
    if (!release && sp_keeper_used(k) + sp_row_cost(row) > k->config->limits.journal_bytes) {
        sp_row_destroy(row);
        k->refused_full = true;
        return SP_ERR_LIMIT;
    }
    if (sp_shares_add(k->shares, row->device, sp_row_cost(row)) != SP_OK) {
        sp_row_destroy(row);
        return SP_ERR_NOMEM;
    }
    sp_row_list_push(&k->batch, row);
    return SP_OK;
}
