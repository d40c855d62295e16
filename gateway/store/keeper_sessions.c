/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/store/keeper_internal.h"

#include <stdlib.h>

#include "gateway/log/log.h"

#define SHOW_BYTES (256U << 10) /* of sessions in one turn */

/* Sessions on their way to a gate that has just begun. */
struct show {
    uint8_t *ptr; /* malloc'ed */
    size_t used;
    size_t cap;
};

static enum sp_err add_shown(void *arg, const struct sp_kept *record)
{
    struct show *show = arg;
    size_t size = sp_kept_size(record);
    if (show->used + size > show->cap) {
        size_t cap = (show->used + size) * 2;
        uint8_t *grown = realloc(show->ptr, cap);
        if (grown == NULL) {
            return SP_ERR_NOMEM;
        }
        show->ptr = grown;
        show->cap = cap;
    }
    struct sp_writer w;
    sp_writer_init(&w, show->ptr + show->used, size);
    sp_kept_write(&w, record);
    show->used += size;
    return w.err;
}

void sp_door_start_show(struct sp_door *d)
{
    d->shows = true;
    d->walk = (struct sp_sessions_walk){.number = 0};
    sp_door_tell(d, SP_MSG_KEPT, SP_KEPT_FIRST, NULL, 0);
}

bool sp_door_show(struct sp_door *d)
{
    struct sp_journal *journal = d->keeper->journal;
    struct show show = {.ptr = NULL};
    bool done = false;
    if (d->channel == NULL || !d->shows || sp_journal_broken(journal) ||
        sp_channel_pending(d->channel) > SHOW_BYTES) {
        return false;
    }
    enum sp_err err = sp_sessions_walk(journal, &d->walk, SHOW_BYTES, add_shown, &show, &done);
    if (err == SP_OK) {
        const struct sp_view part = sp_view(show.ptr, show.used);
        d->shows = !done;
        sp_door_tell(d, SP_MSG_KEPT, done ? SP_KEPT_LAST : 0, &part, 1);
    } else {
        sp_log_error(SP_EVENT("sessions_unreadable"), SP_F_ERR(err));
        sp_door_start_show(d);
    }
    free(show.ptr);
    return err == SP_OK && d->shows;
}
