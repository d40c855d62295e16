/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file All entries from the non-secure world into the secure one. There are no others: tools check the image for it. */
#ifndef SP_DEVICE_SECURE_SPM_VENEERS_H
#define SP_DEVICE_SECURE_SPM_VENEERS_H

#include "psa/client.h"

/** psa_call(), its numbers packed by SP_SPM_CONTROL (spm_ns.h). From thread mode only. */
psa_status_t sp_psa_call_veneer(psa_handle_t handle, uint32_t control, const psa_invec *in,
                                psa_outvec *out);

uint32_t sp_psa_framework_version_veneer(void);
uint32_t sp_psa_version_veneer(uint32_t sid);

#endif
