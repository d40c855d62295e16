/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file The board's way to the gateway; its build picks device/port/lwip (Ethernet) or device/port/link (a serial line).
 * All functions from the application's task; sp_firmware_wake() tells it that there is something to do.
 */
#ifndef SP_DEVICE_PORT_FREERTOS_NETWORK_H
#define SP_DEVICE_PORT_FREERTOS_NETWORK_H

#include "device/port/tls_mbedtls.h"

/** Addresses are in the order they are written in. A serial line needs none of it. */
struct sp_network_config {
    uint8_t address[4];
    uint8_t prefix_len; /**< 0..32 */
    uint8_t router[4];
    uint8_t gateway[4]; /**< the Sallyport gateway */
    uint16_t gateway_port;
};

/** @param[in] config Copied. @return false when the hardware is not there. */
bool sp_network_start(const struct sp_network_config *config);

/** Move what came and what is due. */
void sp_network_poll(uint64_t now_ms);

/** When sp_network_poll() is to be called again at the latest. */
uint64_t sp_network_due(uint64_t now_ms);

struct sp_stream sp_network_stream(void);

/** The network hardware's interrupt. */
void sp_network_irq(void);

#endif
