/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file What a board supplies to the secure world beside its map.h and board.h. */
#ifndef SP_DEVICE_BOARDS_BOARD_SECURE_H
#define SP_DEVICE_BOARDS_BOARD_SECURE_H

#include "device/secure/partitions/its/its_core.h"
#include "device/secure/partitions/sensor/sensor_core.h"

#define SP_BOARD_STORAGE_SIZE 32768U /**< bytes of the device's storage */

/** The storage that only the secure world reaches; SP_BOARD_STORAGE_SIZE bytes. */
struct sp_its_medium sp_board_storage(void);

/** The sensor that only the secure world reaches. */
struct sp_sensor_hal sp_board_sensor(void);

#endif
