/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file The crypto partition's door for clients that do not share its address space.
 *
 * All that a client sends is copied before it is used, bulk data in chunks; keys and operations belong to the client
 * that made them. What fails is aborted here, whatever the client does next.
 */
#ifndef SP_DEVICE_SECURE_PARTITIONS_CRYPTO_SERVICE_H
#define SP_DEVICE_SECURE_PARTITIONS_CRYPTO_SERVICE_H

#include "psa/service.h"

psa_status_t sp_crypto_sfn(const psa_msg_t *msg);

#endif
