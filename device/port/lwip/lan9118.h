/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file The SMSC LAN9118 Ethernet controller: frames in and out, one interrupt for received frames. */
#ifndef SP_DEVICE_PORT_LWIP_LAN9118_H
#define SP_DEVICE_PORT_LWIP_LAN9118_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SP_LAN9118_FRAME_MAX 1514U /**< bytes without the check sequence */

struct sp_lan9118 {
    uintptr_t base;
    uint8_t mac[6];
};

/** Reset it, read its address, switch it on; the receive interrupt stays off. @return false: it does not answer. */
bool sp_lan9118_start(struct sp_lan9118 *lan, uintptr_t base);

/**
 * Take a frame.
 * @param[out] frame Room for SP_LAN9118_FRAME_MAX bytes, rounded up to words.
 * @return Its bytes; 0 when there is none. Damaged and oversized ones are dropped.
 */
size_t sp_lan9118_receive(struct sp_lan9118 *lan, uint32_t *frame);

/** Send a frame. @return false when the controller has no room, or it is too long. */
bool sp_lan9118_send(struct sp_lan9118 *lan, const uint32_t *frame, size_t len);

/**
 * Let it interrupt when the next frame comes.
 * @return false when there is one already, for which it may not interrupt: receive first.
 */
bool sp_lan9118_listen(struct sp_lan9118 *lan);

/** In the interrupt: it is not to interrupt again until sp_lan9118_listen(). */
void sp_lan9118_hush(struct sp_lan9118 *lan);

#endif
