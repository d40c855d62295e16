/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file Who the fleet is: a file of JSON lines, one device each, secrets in the clear (0600):
 * `{"id":"d-s-0","role":"sensor","attestation":"required","binding":"tls","psk":"HEX","iak":"HEX"}`.
 * `sallyport device add --from` reads the same file.
 */
#ifndef SP_BENCH_FLEET_FLEET_FILE_H
#define SP_BENCH_FLEET_FLEET_FILE_H

#include "bench/fleet/attester.h"

#include <stdio.h>

#define SP_FLEET_PSK_MAX  64U
#define SP_FLEET_ROLE_MAX 32U

struct sp_fleet_member {
    char id[SP_LINK_IDENTITY_MAX + 1U]; /**< NUL-terminated */
    char role[SP_FLEET_ROLE_MAX];
    enum sp_link_binding binding;
    bool attests; /**< its row wants a token */
    uint8_t psk[SP_FLEET_PSK_MAX];
    size_t psk_len;
    struct sp_attester attester;
};

struct sp_fleet_roll {
    struct sp_fleet_member *members;
    size_t count;
};

/** One batch of new devices: `<prefix>-0` to `<prefix>-<count - 1>`. */
struct sp_fleet_batch {
    const char *prefix;
    const char *role;
    const char *attestation;
    unsigned count;
};

/**
 * Append a batch with fresh random keys to `fleet`; and to `psk_file`, unless NULL, in mosquitto's format.
 * @retval SP_ERR_IO       Random bytes or writing failed.
 * @retval SP_ERR_ARGUMENT The prefix makes no valid identities.
 */
SP_MUST_CHECK enum sp_err sp_fleet_batch_write(const struct sp_fleet_batch *batch, FILE *fleet,
                                               FILE *psk_file);

/**
 * Read a fleet file. Faults go to stderr with their line.
 * @param[out] roll On SP_OK the caller owns it: sp_fleet_roll_deinit().
 */
SP_MUST_CHECK enum sp_err sp_fleet_roll_load(const char *file, struct sp_fleet_roll *roll);
void sp_fleet_roll_deinit(struct sp_fleet_roll *roll);

#endif
