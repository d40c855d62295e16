/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "tests/faults/ledger/text.h"

#include <string.h>

#define MAGIC 0x53504c31U /* "SPL1" */

/* splitmix64: a good enough mess from a counter, and nothing secret. */
static uint64_t mess(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15U);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

static uint64_t start(uint64_t seed, uint32_t device, uint64_t number)
{
    return seed ^ ((uint64_t)device << 40) ^ (number * 0x2545f4914f6cdd1dU);
}

static void write_sized(struct sp_writer *w, uint64_t seed, uint32_t device, uint64_t number,
                        uint32_t len)
{
    uint64_t state = start(seed, device, number);
    sp_write_u32(w, MAGIC);
    sp_write_u32(w, device);
    sp_write_u64(w, number);
    sp_write_u32(w, len);
    for (uint32_t at = SP_TEXT_HEAD; at < len;) {
        uint64_t word = mess(&state);
        uint32_t part = len - at < sizeof(word) ? len - at : (uint32_t)sizeof(word);
        sp_write_view(w, sp_view(&word, part));
        at += part;
    }
}

void sp_text_write(struct sp_writer *w, uint64_t seed, uint32_t device, uint64_t number,
                   uint32_t longest)
{
    uint64_t state = start(seed, device, number) ^ 0x6c656e677468U;
    uint32_t span = longest > SP_TEXT_HEAD ? longest - SP_TEXT_HEAD + 1U : 1U;
    write_sized(w, seed, device, number, SP_TEXT_HEAD + (uint32_t)(mess(&state) % span));
}

enum sp_err sp_text_read(struct sp_view text, uint64_t seed, uint32_t *device, uint64_t *number)
{
    uint8_t expected[SP_TEXT_MAX];
    struct sp_reader r;
    struct sp_writer w;
    sp_reader_init(&r, text);
    bool ours = sp_read_u32(&r) == MAGIC;
    uint32_t who = sp_read_u32(&r);
    uint64_t which = sp_read_u64(&r);
    uint32_t len = sp_read_u32(&r);
    if (!ours || r.err != SP_OK) {
        return SP_ERR_MALFORMED;
    }
    *device = who;
    *number = which;
    if (len > SP_TEXT_MAX || len != text.len) {
        return SP_ERR_UNTRUSTED;
    }
    sp_writer_init(&w, expected, sizeof(expected));
    write_sized(&w, seed, who, which, len);
    return sp_view_equal(sp_writer_view(&w), text) ? SP_OK : SP_ERR_UNTRUSTED;
}
