/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file What provisioning left for the non-secure world, beside the profile: addresses and times, no secrets. */
#ifndef SP_DEVICE_PORT_FREERTOS_SETTINGS_H
#define SP_DEVICE_PORT_FREERTOS_SETTINGS_H

#include "device/port/freertos/network.h"

/*
 * Assets of the non-secure world in internal trusted storage, as text. The gateway's address is SP_NS_ASSET_GATEWAY
 * (device/secure/ns/ns.h): `10.0.2.2:8883`.
 */
#define SP_ASSET_NETWORK \
    3U /**< own address and router: `10.0.2.15/24,10.0.2.2`, which is the default */
#define SP_ASSET_PERIOD 4U /**< milliseconds between readings; default 2000 */

struct sp_settings {
    struct sp_network_config network;
    uint32_t period_ms; /**< ≥ 50 */
};

/** `A.B.C.D:PORT`. */
SP_MUST_CHECK enum sp_err sp_settings_parse_gateway(struct sp_view text,
                                                    struct sp_network_config *out);

/** `A.B.C.D/PREFIX,A.B.C.D`. */
SP_MUST_CHECK enum sp_err sp_settings_parse_network(struct sp_view text,
                                                    struct sp_network_config *out);

/** Digits: 50 ms to a day. */
SP_MUST_CHECK enum sp_err sp_settings_parse_period(struct sp_view text, uint32_t *out);

/**
 * Read them from storage; what is not there has its default (no gateway: 10.0.2.2:8883).
 * @retval SP_ERR_MALFORMED An asset makes no sense.
 */
SP_MUST_CHECK enum sp_err sp_settings_load(struct sp_settings *out);

#endif
