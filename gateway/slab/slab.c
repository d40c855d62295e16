/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/slab/slab.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "gateway/metrics/metrics.h"
#include "gateway/slab/arena.h"

#define PAGE SP_ARENA_PAGE /* size and alignment, so that a thing's address tells its page */

struct item {
    struct item *next;
};

struct sp_slab_page {
    LIST_ENTRY(sp_slab_page) room; /* while it has some */
    struct item *given;            /* given back */
    size_t fresh;                  /* offset of what was never taken */
    size_t used;                   /* things that are out */
};

/* All slabs that ever had a page. */
static struct {
    pthread_mutex_t lock;
    struct sp_slab *first;
} known = {.lock = PTHREAD_MUTEX_INITIALIZER};

_Static_assert(SP_SLABS_MAX + sizeof(struct sp_slab_page) <= PAGE, "a page has room for one");

static struct sp_slab_page *map_page(void)
{
    struct sp_slab_page *page = sp_arena_take();
    if (page != NULL) {
        page->fresh = sizeof(*page);
    }
    return page;
}

static void become_known(struct sp_slab *slab)
{
    if (!slab->known) {
        pthread_mutex_lock(&known.lock);
        slab->next = known.first;
        known.first = slab;
        slab->known = true;
        pthread_mutex_unlock(&known.lock);
    }
}

static bool is_full(const struct sp_slab *slab, const struct sp_slab_page *page)
{
    return page->given == NULL && page->fresh + slab->size > PAGE;
}

static void *take(struct sp_slab *slab)
{
    struct sp_slab_page *page = LIST_FIRST(&slab->room);
    if (page == NULL) {
        page = map_page();
        if (page == NULL) {
            return NULL;
        }
        LIST_INSERT_HEAD(&slab->room, page, room);
        become_known(slab);
    }
    void *item = page->given;
    if (item != NULL) {
        page->given = page->given->next;
    } else {
        item = (char *)page + page->fresh;
        page->fresh += slab->size;
    }
    page->used++;
    if (is_full(slab, page)) {
        LIST_REMOVE(page, room);
    }
    return item;
}

void *sp_slab_take(struct sp_slab *slab)
{
    pthread_mutex_lock(&slab->lock);
    void *item = take(slab);
    pthread_mutex_unlock(&slab->lock);
    if (item == NULL) {
        return NULL;
    }
    sp_metric_add(SP_M_SLAB_BYTES, (int64_t)slab->size);
    return memset(item, 0, slab->size);
}

static void give(struct sp_slab *slab, struct item *item)
{
    struct sp_slab_page *page =
        (struct sp_slab_page *)(void *)((char *)item - ((uintptr_t)item & (PAGE - 1)));
    bool was_full = is_full(slab, page);
    item->next = page->given;
    page->given = item;
    page->used--;
    if (was_full) {
        LIST_INSERT_HEAD(&slab->room, page, room);
    }
    bool last = LIST_FIRST(&slab->room) == page && LIST_NEXT(page, room) == NULL;
    if (page->used == 0 && !last) {
        LIST_REMOVE(page, room);
        sp_arena_give(page);
    }
}

void sp_slab_give(struct sp_slab *slab, void *item)
{
    if (item != NULL) {
        pthread_mutex_lock(&slab->lock);
        give(slab, item);
        pthread_mutex_unlock(&slab->lock);
        sp_metric_add(SP_M_SLAB_BYTES, -(int64_t)slab->size);
    }
}

static void give_empty(struct sp_slab *slab)
{
    pthread_mutex_lock(&slab->lock);
    struct sp_slab_page *page = LIST_FIRST(&slab->room);
    if (page != NULL && page->used == 0) { /* then it is the only one */
        LIST_REMOVE(page, room);
        sp_arena_give(page);
    }
    pthread_mutex_unlock(&slab->lock);
}

void sp_slab_trim(void)
{
    pthread_mutex_lock(&known.lock);
    struct sp_slab *slab = known.first;
    pthread_mutex_unlock(&known.lock);
    for (; slab != NULL; slab = slab->next) { /* behind one, nothing ever changes */
        give_empty(slab);
    }
}
