/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/slab/arena.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "gateway/slab/ref.h"
#include "libs/base/test.h"

#define PAGES 200

/* The kernel of these tests: it grants no more addresses at once, and refuses what it is told to. */
static size_t most = SIZE_MAX;
static bool no_memory;

void *__real_mmap(void *at, size_t len, int prot, int flags, int fd, off_t off);
int __real_mprotect(void *at, size_t len, int prot);
void *__wrap_mmap(void *at, size_t len, int prot, int flags, int fd, off_t off);
int __wrap_mprotect(void *at, size_t len, int prot);

void *__wrap_mmap(void *at, size_t len, int prot, int flags, int fd, off_t off)
{
    if (len > most) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return __real_mmap(at, len, prot, flags, fd, off);
}

int __wrap_mprotect(void *at, size_t len, int prot)
{
    if (no_memory) {
        errno = ENOMEM;
        return -1;
    }
    return __real_mprotect(at, len, prot);
}

static char *pages[PAGES];

/* First of all: nothing is reserved before that. */
static void without_addresses_there_is_no_page_and_with_some_there_are_some(void)
{
    most = 3 * SP_ARENA_PAGE;
    SP_CHECK(sp_arena_take() == NULL);
    most = 150 * SP_ARENA_PAGE;
    size_t count = 0;
    while (count < PAGES && (pages[count] = sp_arena_take()) != NULL) {
        SP_CHECK((uintptr_t)pages[count] % SP_ARENA_PAGE == 0);
        memset(pages[count], 1, SP_ARENA_PAGE);
        count++;
    }
    SP_CHECK_INT(count, 128); /* the half of the half … of 32 GB that was granted */
    SP_CHECK(sp_arena_take() == NULL);
    sp_arena_give(pages[77]);
    SP_CHECK(sp_arena_take() == (void *)pages[77]);
    SP_CHECK(sp_arena_take() == NULL);
    for (size_t i = 0; i < count; i++) {
        sp_arena_give(pages[i]);
    }
}

static void the_lowest_pages_are_used_again_and_come_zeroed(void)
{
    for (size_t i = 0; i < 100; i++) {
        pages[i] = sp_arena_take();
        SP_CHECK(pages[i] != NULL && (i == 0 || pages[i] > pages[i - 1]));
        memset(pages[i], 7, SP_ARENA_PAGE);
    }
    sp_arena_give(pages[90]);
    sp_arena_give(pages[3]);
    sp_arena_give(pages[64]);
    static const size_t again[] = {3, 64, 90};
    for (size_t i = 0; i < 3; i++) {
        char *page = sp_arena_take();
        SP_CHECK(page == pages[again[i]]);
        SP_CHECK(page[0] == 0 && page[SP_ARENA_PAGE - 1] == 0);
    }
    for (size_t i = 0; i < 100; i++) {
        sp_arena_give(pages[i]);
    }
}

static void a_page_that_the_kernel_refuses_is_not_lost(void)
{
    char *first = sp_arena_take();
    no_memory = true;
    SP_CHECK(sp_arena_take() == NULL);
    no_memory = false;
    char *second = sp_arena_take();
    SP_CHECK(second == first + SP_ARENA_PAGE);
    most = 0; /* it cannot be mapped anew either */
    memset(first, 7, SP_ARENA_PAGE);
    sp_arena_give(first);
    most = SIZE_MAX;
    SP_CHECK(sp_arena_take() == (void *)first && first[100] == 0);
    sp_arena_give(first);
    sp_arena_give(second);
}

static void what_was_given_back_is_no_memory_any_more(void)
{
    char *page = sp_arena_take();
    unsigned char resident[16];
    memset(page, 1, SP_ARENA_PAGE);
    SP_CHECK_INT(mincore(page, SP_ARENA_PAGE, resident), 0);
    SP_CHECK((resident[0] & 1) == 1 && (resident[15] & 1) == 1);
    sp_arena_give(page);
    SP_CHECK_INT(mincore(page, SP_ARENA_PAGE, resident), 0);
    SP_CHECK((resident[0] & 1) == 0 && (resident[15] & 1) == 0);
}

static void a_ref_leads_back_to_its_thing(void)
{
    char *page = sp_arena_take();
    SP_CHECK(sp_ref_of(NULL) == 0 && sp_ref_get(0) == NULL);
    for (size_t at = 8; at < SP_ARENA_PAGE; at += 8) {
        SP_CHECK(sp_ref_of(page + at) != 0 && sp_ref_get(sp_ref_of(page + at)) == page + at);
    }
    sp_arena_give(page);
}

static const struct sp_test tests[] = {
    SP_TEST(without_addresses_there_is_no_page_and_with_some_there_are_some),
    SP_TEST(the_lowest_pages_are_used_again_and_come_zeroed),
    SP_TEST(a_page_that_the_kernel_refuses_is_not_lost),
    SP_TEST(what_was_given_back_is_no_memory_any_more),
    SP_TEST(a_ref_leads_back_to_its_thing),
};

SP_TEST_MAIN(tests)
