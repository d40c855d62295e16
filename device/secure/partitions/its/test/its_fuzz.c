/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* A medium with any content: opening it and working on it stays within bounds, and what was set is there. */
#include "device/secure/partitions/its/its_core.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t bytes[SP_ITS_MEDIUM_SIZE];

static enum sp_err do_read(void *ctx, size_t offset, uint8_t *out, size_t len)
{
    (void)ctx;
    sp_copy(out, bytes + offset, len);
    return SP_OK;
}

static enum sp_err do_write(void *ctx, size_t offset, struct sp_view from)
{
    (void)ctx;
    sp_copy(bytes + offset, from.ptr, from.len);
    return SP_OK;
}

static enum sp_err do_sync(void *ctx)
{
    (void)ctx;
    return SP_OK;
}

static uint32_t crc(struct sp_view in)
{
    uint32_t value = 0xFFFFFFFFU;
    for (size_t i = 0; i < in.len; i++) {
        value ^= in.ptr[i];
        for (unsigned bit = 0; bit < 8; bit++) {
            value = (value & 1U) != 0 ? (value >> 1) ^ 0xEDB88320U : value >> 1;
        }
    }
    return ~value;
}

/* A bank whose checksums hold, so that its entries are looked at. */
static void make_bank(struct sp_view content)
{
    struct sp_writer w;
    sp_writer_init(&w, bytes, SP_ITS_BANK_SIZE);
    sp_write_u32(&w, 0x53504954U);
    sp_write_u32(&w, 1);
    sp_write_u32(&w, (uint32_t)content.len);
    sp_write_u32(&w, crc(content));
    sp_write_u32(&w, crc(sp_writer_view(&w)));
    sp_write_view(&w, content);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct sp_its its;
    const struct sp_its_medium medium = {.read = do_read, .write = do_write, .sync = do_sync};
    struct sp_view in = sp_view_from(sp_view(data, size), 1);
    in = sp_view_first(in, SP_ITS_BANK_SIZE - SP_ITS_HEADER_SIZE);
    memset(bytes, 0xFF, sizeof(bytes));
    if (size != 0 && data[0] % 2 == 0) {
        make_bank(in);
    } else {
        sp_copy(bytes, in.ptr, in.len);
    }
    if (sp_its_open(&its, &medium) != PSA_SUCCESS) {
        return 0;
    }
    struct sp_view have;
    if (sp_its_set(&its, 7, 7, SP_VIEW_LIT("kept"), 0) == PSA_SUCCESS &&
        (sp_its_open(&its, &medium) != PSA_SUCCESS ||
         sp_its_get(&its, 7, 7, 0, 4, &have) != PSA_SUCCESS ||
         !sp_view_equal(have, SP_VIEW_LIT("kept")))) {
        abort();
    }
    (void)sp_its_remove(&its, 7, 7);
    return 0;
}
