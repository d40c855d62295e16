/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/records/keyring.h"

#include "libs/record/record.h"

#include <stdlib.h>
#include <string.h>

static int compare(const void *a, const void *b)
{
    const struct sp_msg_epoch *x = a;
    const struct sp_msg_epoch *y = b;
    int order = strcmp(x->group, y->group);
    return order != 0 ? order : (x->epoch > y->epoch) - (x->epoch < y->epoch);
}

static bool sound(const struct sp_msg_epoch *e)
{
    return memchr(e->group, '\0', sizeof(e->group)) != NULL &&
           sp_record_group_valid(sp_view_str(e->group)) && e->epoch != 0 &&
           e->mode <= SP_GROUP_END_TO_END && sp_record_key_len(e->algorithm) != 0;
}

enum sp_err sp_keyring_replace(struct sp_keyring *ring, struct sp_view body)
{
    size_t count = body.len / sizeof(struct sp_msg_epoch);
    if (body.len % sizeof(struct sp_msg_epoch) != 0) {
        return SP_ERR_MALFORMED;
    }
    struct sp_msg_epoch *epochs = calloc(count + 1, sizeof(*epochs));
    if (epochs == NULL) {
        return SP_ERR_NOMEM;
    }
    struct sp_keyring fresh = {.epochs = epochs, .count = count, .known = true};
    sp_copy(epochs, body.ptr, body.len);
    for (size_t i = 0; i < count; i++) {
        if (!sound(&epochs[i])) {
            sp_keyring_deinit(&fresh);
            return SP_ERR_MALFORMED;
        }
    }
    qsort(epochs, count, sizeof(*epochs), compare);
    sp_keyring_deinit(ring);
    *ring = fresh;
    return SP_OK;
}

const struct sp_msg_epoch *sp_keyring_find(const struct sp_keyring *ring, struct sp_view group,
                                           uint32_t epoch, uint64_t wall_ms)
{
    struct sp_msg_epoch wanted = {.epoch = epoch};
    if (group.len >= sizeof(wanted.group) || ring->count == 0) {
        return NULL;
    }
    sp_copy(wanted.group, group.ptr, group.len);
    const struct sp_msg_epoch *e =
        bsearch(&wanted, ring->epochs, ring->count, sizeof(wanted), compare);
    return e != NULL && (e->until_ms == 0 || wall_ms < e->until_ms) ? e : NULL;
}

void sp_keyring_deinit(struct sp_keyring *ring)
{
    if (ring->epochs != NULL) {
        sp_wipe(ring->epochs, ring->count * sizeof(*ring->epochs));
        free(ring->epochs);
    }
    *ring = (struct sp_keyring){0};
}
