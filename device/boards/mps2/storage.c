/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* A 24C256: 32 KiB, pages of 64 bytes, a page is written when the transfer stops. */
#include "device/boards/board_secure.h"
#include "device/boards/mps2/i2c.h"

#define ADDRESS    0x50U
#define PAGE       64U
#define POLL_TIMES 1000U /* of asking whether a page is written; 5 ms are enough for the real one */

struct place {
    uint8_t bytes[2];
};

static struct place place_of(size_t offset)
{
    return (struct place){{(uint8_t)(offset >> 8), (uint8_t)offset}};
}

/* The chip acknowledges its address again when the page is in. */
static enum sp_err wait_written(void)
{
    enum sp_err err = SP_ERR_IO;
    for (unsigned i = 0; i < POLL_TIMES && err != SP_OK; i++) {
        err = sp_i2c_write(ADDRESS, sp_view(NULL, 0), sp_view(NULL, 0));
    }
    return err;
}

static bool inside(size_t offset, size_t len)
{
    return offset <= SP_BOARD_STORAGE_SIZE && len <= SP_BOARD_STORAGE_SIZE - offset;
}

static enum sp_err read_bytes(void *ctx, size_t offset, uint8_t *out, size_t len)
{
    (void)ctx;
    struct place place = place_of(offset);
    if (!inside(offset, len)) {
        return SP_ERR_ARGUMENT;
    }
    return len == 0 ? SP_OK : sp_i2c_read(ADDRESS, SP_VIEW_ARRAY(place.bytes), out, len);
}

static enum sp_err write_bytes(void *ctx, size_t offset, struct sp_view bytes)
{
    (void)ctx;
    if (!inside(offset, bytes.len)) {
        return SP_ERR_ARGUMENT;
    }
    while (bytes.len != 0) {
        struct sp_view part = sp_view_first(bytes, PAGE - offset % PAGE);
        struct place place = place_of(offset);
        SP_TRY(sp_i2c_write(ADDRESS, SP_VIEW_ARRAY(place.bytes), part));
        SP_TRY(wait_written());
        offset += part.len;
        bytes = sp_view_from(bytes, part.len);
    }
    return SP_OK;
}

static enum sp_err sync(void *ctx)
{
    (void)ctx;
    return SP_OK; /* each write waited for its pages */
}

struct sp_its_medium sp_board_storage(void)
{
    return (struct sp_its_medium){.read = read_bytes, .write = write_bytes, .sync = sync};
}
