/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file Where everything lies on musca-b1. The one place: linker scripts (through the C preprocessor), secure
 * start-up and tools read it. Plain numbers only.
 *
 * QSPI flash (at 0x0, secure alias 0x10000000) holds code, the SSE-200's SRAM (secure alias 0x30000000) secure
 * data, the code SRAM (0x0A400000) non-secure data. What is not named here stays secure.
 */
#ifndef SP_DEVICE_BOARDS_MUSCA_B1_MAP_H
#define SP_DEVICE_BOARDS_MUSCA_B1_MAP_H

#define MAP_S_CODE      0x10000000
#define MAP_S_CODE_SIZE 0x00020000
#define MAP_S_RAM       0x30000000
#define MAP_S_RAM_SIZE  0x00008000

/* The device's storage image, 32 KiB, put here by the loader: this board's stand-in for persistent storage. */
#define MAP_S_STORAGE      0x30008000
#define MAP_S_STORAGE_SIZE 0x00008000
#define MAP_S_DATA_SIZE    (MAP_S_RAM_SIZE + MAP_S_STORAGE_SIZE)

#define MAP_NS_CODE      0x00100000
#define MAP_NS_CODE_SIZE 0x00100000
#define MAP_NS_RAM       0x0A400000
#define MAP_NS_RAM_SIZE  0x00080000

#include "device/boards/map_common.h"

#endif
