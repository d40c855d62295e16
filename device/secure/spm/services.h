/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file The services of this build; their table is made from the manifests by tools/dev/manifest.py. */
#ifndef SP_DEVICE_SECURE_SPM_SERVICES_H
#define SP_DEVICE_SECURE_SPM_SERVICES_H

#include "device/secure/spm/spm.h"

extern const struct sp_spm_service sp_services[];
extern const size_t sp_service_count;

#endif
