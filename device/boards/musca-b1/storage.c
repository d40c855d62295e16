/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * The emulator models neither flash writes nor I2C of this board: storage is secure RAM that the loader fills with the
 * device's image. It works as storage does and forgets at power-off; on silicon the embedded flash takes its place.
 */
#include "board.h"
#include "device/boards/board_secure.h"

static uint8_t *place_of(size_t offset)
{
    return (uint8_t *)(uintptr_t)MAP_S_STORAGE + offset;
}

static bool inside(size_t offset, size_t len)
{
    return offset <= SP_BOARD_STORAGE_SIZE && len <= SP_BOARD_STORAGE_SIZE - offset;
}

static enum sp_err read_bytes(void *ctx, size_t offset, uint8_t *out, size_t len)
{
    (void)ctx;
    if (!inside(offset, len)) {
        return SP_ERR_ARGUMENT;
    }
    sp_copy(out, place_of(offset), len);
    return SP_OK;
}

static enum sp_err write_bytes(void *ctx, size_t offset, struct sp_view bytes)
{
    (void)ctx;
    if (!inside(offset, bytes.len)) {
        return SP_ERR_ARGUMENT;
    }
    sp_copy(place_of(offset), bytes.ptr, bytes.len);
    return SP_OK;
}

static enum sp_err sync(void *ctx)
{
    (void)ctx;
    return SP_OK;
}

struct sp_its_medium sp_board_storage(void)
{
    return (struct sp_its_medium){.read = read_bytes, .write = write_bytes, .sync = sync};
}
