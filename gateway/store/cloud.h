/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file The cloud thread: all links to the cloud in one epoll loop. */
#ifndef SP_GATEWAY_STORE_CLOUD_H
#define SP_GATEWAY_STORE_CLOUD_H

#include "gateway/config/config.h"
#include "gateway/store/handoff.h"

struct sp_cloud; /* opaque */

/**
 * Read certificates and key, make the links and what they share; connects to nobody yet. To be called before
 * the sandbox.
 *
 * @param[in]  config, handoff, epoch Borrowed until sp_cloud_destroy(); one hand-off link per connection. Newer
 *             configurations come through the hand-off; what they say of limits and commands is taken.
 * @param[out] why On failure one line for the operator.
 * @retval SP_ERR_NOMEM, SP_ERR_IO, or what sp_tls_client_create() says.
 */
SP_MUST_CHECK enum sp_err sp_cloud_create(const struct sp_config *config,
                                          struct sp_handoff *handoff, const char *epoch, char *why,
                                          size_t why_cap, struct sp_cloud **out);
void sp_cloud_destroy(struct sp_cloud *cloud); /**< after sp_cloud_join(); NULL is fine */

/** Start the thread. @retval SP_ERR_NOMEM */
SP_MUST_CHECK enum sp_err sp_cloud_start(struct sp_cloud *cloud);

/** After sp_handoff_stop(): wait for its end, at most two seconds or so. */
void sp_cloud_join(struct sp_cloud *cloud);

#endif
