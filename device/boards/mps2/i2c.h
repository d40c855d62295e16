/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file I2C master, bit by bit over the two lines of the SBCon block. Secure; one caller at a time. */
#ifndef SP_DEVICE_BOARDS_MPS2_I2C_H
#define SP_DEVICE_BOARDS_MPS2_I2C_H

#include "libs/base/bytes.h"

/**
 * Write `head`, then `body`, in one transfer to a device of 7-bit address `address`.
 * @retval SP_ERR_IO Nobody acknowledged.
 */
SP_MUST_CHECK enum sp_err sp_i2c_write(uint8_t address, struct sp_view head, struct sp_view body);

/** Write `head`, then read `len` bytes after a repeated start. */
SP_MUST_CHECK enum sp_err sp_i2c_read(uint8_t address, struct sp_view head, uint8_t *out,
                                      size_t len);

#endif
