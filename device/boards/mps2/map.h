/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file Where everything lies on mps2-an505 and mps2-an521. The one place: linker scripts (through the C
 * preprocessor), secure start-up and tools read it. Plain numbers only.
 *
 * SSRAM0 (4 MB at 0x0, secure alias 0x10000000) holds code, as flash would; SSRAM1 (0x28000000) non-secure data,
 * SSRAM2 (secure alias 0x38200000) secure data. What is not named here stays secure.
 */
#ifndef SP_DEVICE_BOARDS_MPS2_MAP_H
#define SP_DEVICE_BOARDS_MPS2_MAP_H

#define MAP_S_CODE      0x10000000
#define MAP_S_CODE_SIZE 0x00020000
#define MAP_S_RAM       0x38200000
#define MAP_S_RAM_SIZE  0x00008000
#define MAP_S_DATA_SIZE MAP_S_RAM_SIZE

#define MAP_NS_CODE      0x00100000
#define MAP_NS_CODE_SIZE 0x00100000
#define MAP_NS_RAM       0x28000000
#define MAP_NS_RAM_SIZE  0x00100000

#include "device/boards/map_common.h"

#endif
