/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file What `keys` answers to the gate loops (gateway/proc/messages.h), apart from the event loop around it.
 *
 * A request costs no allocation of its own; what it needs is in memory. One thread.
 */
#ifndef SP_GATEWAY_KEYS_SERVICE_H
#define SP_GATEWAY_KEYS_SERVICE_H

#include "gateway/config/config.h"
#include "gateway/keys/registry.h"
#include "gateway/proc/channel.h"

struct sp_keys_service; /* opaque */

/**
 * @param[in]  config Looked at during the call only.
 * @param[in]  reg    Borrowed until the service is destroyed; opened for SP_REGISTRY_SERVICE.
 * @param[out] out    On SP_OK owned by the caller: sp_keys_service_destroy(). Else NULL.
 * @retval SP_ERR_NOMEM
 */
SP_MUST_CHECK enum sp_err sp_keys_service_create(const struct sp_config *config,
                                                 struct sp_registry *reg,
                                                 struct sp_keys_service **out);

/** Closes the channels, wipes every key. NULL is fine. */
void sp_keys_service_destroy(struct sp_keys_service *s);

/**
 * Serve gate loop `loop` (0 .. config->threads - 1) over `fd`, in place of an earlier channel, with no nonce open.
 * @retval SP_ERR_ARGUMENT, SP_ERR_NOMEM The fd stays the caller's.
 */
SP_MUST_CHECK enum sp_err sp_keys_service_attach(struct sp_keys_service *s, unsigned loop, int fd);

/**
 * Load devices and references; once, after the channels are attached and before anything is received. The loops are told
 * what has changed while no `keys` process ran.
 * @return Else why the registry could not be read: do not serve.
 */
SP_MUST_CHECK enum sp_err sp_keys_service_start(struct sp_keys_service *s, uint64_t now_ms);

/** Stop serving a loop; closes its fd. Fine when it is not served. */
void sp_keys_service_detach(struct sp_keys_service *s, unsigned loop);

/** The fd to poll; -1 when the loop is not served. */
int sp_keys_service_fd(const struct sp_keys_service *s, unsigned loop);

/**
 * Write what waits for loop `loop`. An error: detach.
 * @param[out] waiting Some of it still waits: flush again when the fd can be written.
 */
SP_MUST_CHECK enum sp_err sp_keys_service_flush(struct sp_keys_service *s, unsigned loop,
                                                bool *waiting);

/** Read and answer what loop `loop` asks (at most 256 KiB at once); answers wait for a flush. An error: detach. */
SP_MUST_CHECK enum sp_err sp_keys_service_receive(struct sp_keys_service *s, unsigned loop,
                                                  uint64_t now_ms);

/** To be called every 200 ms: take over changes of the registry and tell the loops, write history. */
void sp_keys_service_tick(struct sp_keys_service *s, uint64_t now_ms);

/** A new configuration; looked at during the call only. Stricter or looser rules have every device attest again. */
void sp_keys_service_configure(struct sp_keys_service *s, const struct sp_config *config);

/** Write what history there is left, before the end. */
void sp_keys_service_finish(struct sp_keys_service *s);

/** Nonces open for a loop. */
size_t sp_keys_service_open_nonces(const struct sp_keys_service *s, unsigned loop);

#endif
