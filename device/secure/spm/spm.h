/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file The secure partition manager: carries calls from clients to secure functions and says who calls (PSA Firmware
 * Framework 1.1, secure-function model, stateless services).
 *
 * Services get copies through psa_read()/psa_write() and never see a caller's pointer. A service may call
 * another one, SP_SPM_DEPTH levels deep. One thread only, as in TF-M's secure-function back end. On POSIX it separates
 * by interface only, and psa_call() is the way in; in firmware the non-secure world comes in by spm_ns.h.
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
    uint32_t sid;
    uint32_t version;
    bool non_secure_clients; /**< the non-secure world may call it */
};

/** The services there are; borrowed for the life of the program. */
void sp_spm_init(const struct sp_spm_service *table, size_t count);

/**
 * Act as a partition until sp_spm_leave(): for secure code that is entered by other ways than psa_call(), such as
 * the crypto core's key storage and provisioning. @return false when too deep; then do not leave.
 */
bool sp_spm_enter(int32_t partition);
void sp_spm_leave(void);

/** A caller's vectors, copied from where it can reach them. */
struct sp_spm_vectors {
    psa_invec in[PSA_MAX_IOVEC];
    psa_outvec out[PSA_MAX_IOVEC]; /**< after a call that succeeded `len` is what was written */
    size_t in_count;
    size_t out_count;
};

/**
 * Deliver a request whose vectors were found good: at most PSA_MAX_IOVEC in all, memory that the client may use.
 * When the service fails, what it had written to outputs is cleared, and their lengths stay.
 */
psa_status_t sp_spm_deliver(int32_t client, psa_handle_t handle, int32_t type,
                            struct sp_spm_vectors *vectors);

/** psa_version() for a client. */
uint32_t sp_spm_version(int32_t client, uint32_t sid);

/** Who runs now: the partition that serves the innermost call; outside of calls SP_CLIENT_NON_SECURE. */
int32_t sp_spm_current(void);

#endif
