/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file mps2-an505. */
#ifndef SP_DEVICE_BOARDS_MPS2_AN505_BOARD_H
#define SP_DEVICE_BOARDS_MPS2_AN505_BOARD_H

#include "device/boards/mps2/board.h"

#define BOARD_NAME "mps2-an505"

#endif
