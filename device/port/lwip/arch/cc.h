/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file What lwIP asks of compiler and system. */
#ifndef SP_DEVICE_PORT_LWIP_ARCH_CC_H
#define SP_DEVICE_PORT_LWIP_ARCH_CC_H

#include "device/port/freertos/firmware.h"

#define LWIP_RAND() sp_firmware_random()
#define LWIP_PLATFORM_DIAG(text)
#define LWIP_PLATFORM_ASSERT(text) sp_firmware_halt(__FILE__, __LINE__)
#define LWIP_NO_CTYPE_H            1
#define LWIP_NO_UNISTD_H           1
#define LWIP_TIMEVAL_PRIVATE       0

#endif
