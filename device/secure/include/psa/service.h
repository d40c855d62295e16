/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file What a secure service gets (PSA Firmware Framework 1.1, secure-function model). */
#ifndef SP_DEVICE_SECURE_PSA_SERVICE_H
#define SP_DEVICE_SECURE_PSA_SERVICE_H

#include "psa/client.h"

/** A request. Valid until the service's function returns. */
struct psa_msg_t {
    int32_t type;
    psa_handle_t handle; /**< for psa_read() and psa_write() */
    int32_t client_id;   /**< < 0: non-secure world; > 0: the partition that calls */
    size_t in_size[PSA_MAX_IOVEC];
    size_t out_size[PSA_MAX_IOVEC];
};
typedef struct psa_msg_t psa_msg_t;

/** Copy up to num_bytes of what is left of an input. @return Bytes copied. */
size_t psa_read(psa_handle_t msg_handle, uint32_t invec_idx, void *buffer, size_t num_bytes);

/** Leave out up to num_bytes of what is left of an input. @return Bytes left out. */
size_t psa_skip(psa_handle_t msg_handle, uint32_t invec_idx, size_t num_bytes);

/** Append to an output. A service never writes more than psa_msg_t.out_size; what would not fit is not written. */
void psa_write(psa_handle_t msg_handle, uint32_t outvec_idx, const void *buffer, size_t num_bytes);

#endif
