/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file The secure services of the firmware in a process of their own: real partition manager, crypto core and
 * partitions, over an arena that stands for non-secure memory, a medium whose power can be cut, a clock and a sensor.
 */
#ifndef SP_DEVICE_SECURE_TEST_SHIM_H
#define SP_DEVICE_SECURE_TEST_SHIM_H

#include "device/secure/secure.h"
#include "psa/client.h"

#define SP_SHIM_ARENA  8192U
#define SP_SHIM_MEDIUM 32768U

extern uint8_t sp_shim_arena[SP_SHIM_ARENA];   /**< all that the non-secure world has */
extern uint8_t sp_shim_medium[SP_SHIM_MEDIUM]; /**< the storage */
extern uint64_t sp_shim_now_ms;
extern long
    sp_shim_writes_left; /**< until the power fails; < 0: never. Afterwards nothing reaches the medium. */

/** The storage, empty. */
void sp_shim_erase(void);

/** Put a parcel into the storage as tools/provision.py does. */
void sp_shim_put_parcel(void);

extern const uint8_t sp_shim_psk[32];
extern const uint8_t sp_shim_iak[32];

/** From power-on to serving, as start/platform.c: services, parcel, randomness. */
psa_status_t sp_shim_boot(void);

#endif
