/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file Calling a secure service (PSA Firmware Framework 1.1, client API; stateless services only). */
#ifndef SP_DEVICE_SECURE_PSA_CLIENT_H
#define SP_DEVICE_SECURE_PSA_CLIENT_H

#include "psa/error.h"

#include <stddef.h>

#define PSA_MAX_IOVEC 4U

#define PSA_FRAMEWORK_VERSION 0x0101U
#define PSA_VERSION_NONE      0U
#define PSA_CALL_TYPE_MAX     0x7FFF

typedef int32_t psa_handle_t;

struct psa_invec {
    const void *base;
    size_t len;
};
typedef struct psa_invec psa_invec;

struct psa_outvec {
    void *base;
    size_t len; /**< in: room; out: bytes written */
};
typedef struct psa_outvec psa_outvec;

/** The version of the framework: PSA_FRAMEWORK_VERSION. */
uint32_t psa_framework_version(void);

/** The version of a service that this caller may use, or PSA_VERSION_NONE. */
uint32_t psa_version(uint32_t sid);

/**
 * Ask a service for something and wait for the answer.
 *
 * @param[in]     handle  A static handle of psa_manifest/sid.h.
 * @param[in]     type    What is asked, ≥ 0; each service lists its own.
 * @param[in]     in_vec  in_len inputs; the service reads copies.
 * @param[in,out] out_vec out_len outputs; in_len + out_len ≤ PSA_MAX_IOVEC.
 * @return What the service returned, or PSA_ERROR_PROGRAMMER_ERROR for a call that no service could take.
 */
psa_status_t psa_call(psa_handle_t handle, int32_t type, const psa_invec *in_vec, size_t in_len,
                      psa_outvec *out_vec, size_t out_len);

#endif
