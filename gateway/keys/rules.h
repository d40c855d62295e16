/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file What every row of the registry must fulfil (docs/protocol.md 1 and 6), wherever it is stored.
 */
#ifndef SP_GATEWAY_KEYS_RULES_H
#define SP_GATEWAY_KEYS_RULES_H

#include "gateway/keys/registry.h"

/** Id, role name, group and numbers of a row are ones that may be. @retval SP_ERR_ARGUMENT */
SP_MUST_CHECK enum sp_err sp_rules_check_device(const struct sp_device *device,
                                                struct sp_fault *fault);

/**
 * The keys are long enough, of the length that the algorithm fixes, and not published ones.
 * @retval SP_ERR_DENIED
 */
SP_MUST_CHECK enum sp_err sp_rules_check_secrets(const struct sp_device_secrets *secrets,
                                                 enum sp_attest_algorithm algorithm,
                                                 struct sp_fault *fault);

/** @retval SP_ERR_ARGUMENT */
SP_MUST_CHECK enum sp_err sp_rules_check_reference(const struct sp_reference *reference,
                                                   struct sp_fault *fault);

#endif
