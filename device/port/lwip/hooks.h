/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file A TCP connection's first sequence number is not to be guessed (RFC 6528): random each time. */
#ifndef SP_DEVICE_PORT_LWIP_HOOKS_H
#define SP_DEVICE_PORT_LWIP_HOOKS_H

#include "device/port/freertos/firmware.h"

#define LWIP_HOOK_TCP_ISN(local_ip, local_port, remote_ip, remote_port) sp_firmware_random()

#endif
