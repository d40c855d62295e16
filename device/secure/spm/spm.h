/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file A secure partition manager for one thread in one address space: carries calls from clients to secure
 * functions and says who calls. It separates by interface, not by hardware: the POSIX device runs on it.
 *
 * Services get copies through psa_read()/psa_write() and never see a caller's pointer. A service may call
 * another one, SP_SPM_DEPTH levels deep. One thread only, as in TF-M's secure-function back end.
 */
#ifndef SP_DEVICE_SECURE_SPM_SPM_H
#define SP_DEVICE_SECURE_SPM_SPM_H

#include "psa/service.h"

#include <stdbool.h>

#define SP_SPM_DEPTH 4U

/** A service as its manifest describes it. */
struct sp_spm_service {
    psa_handle_t handle;
    int32_t partition; /**< who it is when it calls others */
    psa_status_t (*function)(const psa_msg_t *msg);
};

/** The services there are; borrowed for the life of the program. */
void sp_spm_init(const struct sp_spm_service *services, size_t count);

/**
 * Act as a partition until sp_spm_leave(): for secure code that is entered by other ways than psa_call(), such as
 * the crypto core's key storage and provisioning. @return false when too deep; then do not leave.
 */
bool sp_spm_enter(int32_t partition);
void sp_spm_leave(void);

#endif
