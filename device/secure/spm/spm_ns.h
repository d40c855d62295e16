/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file The non-secure world's way in: everything it says is taken apart here, before any service hears of it.
 *
 * Order: the request's numbers; the arrays of vectors, copied; each vector of the copy; then the service, which reads
 * copies of the bytes. So whatever the caller's other threads, interrupts or DMA change meanwhile, nothing that was
 * checked is fetched again.
 */
#ifndef SP_DEVICE_SECURE_SPM_SPM_NS_H
#define SP_DEVICE_SECURE_SPM_SPM_NS_H

#include "psa/client.h"

#include <stdbool.h>

/** How a call's numbers share a word: bits 0-15 type, 16-23 number of outputs, 24-31 number of inputs. */
#define SP_SPM_CONTROL(type, in_len, out_len)                           \
    (((uint32_t)(type)&0xFFFFU) | (((uint32_t)(out_len)&0xFFU) << 16) | \
     (((uint32_t)(in_len)&0xFFU) << 24))

/**
 * Serve a call of the non-secure world.
 * @param[in]     in  Untrusted pointer to the inputs that `control` counts.
 * @param[in,out] out The same for outputs; lengths are written back on success only.
 * @retval PSA_ERROR_PROGRAMMER_ERROR Unknown handle or type; vectors too many, not all in non-secure memory that the
 *                                    caller may use, wrapping around, or overlapping: input with input, output with
 *                                    output. (Input with output is fine: encrypting in place.)
 * @retval PSA_ERROR_CONNECTION_BUSY  Another call is being served.
 */
psa_status_t sp_spm_ns_call(psa_handle_t handle, uint32_t control, const psa_invec *in,
                            psa_outvec *out);

/*
 * What the processor knows about memory: spm_memory_cmse.c asks it, tests have an arena instead. True when all of the
 * range is non-secure and the non-secure caller, with its privilege and MPU, may read it or read and write it.
 */
bool sp_spm_ns_readable(const void *base, size_t len);
bool sp_spm_ns_writable(const void *base, size_t len);

#endif
