/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file Topic templates of routes and commands: `{gateway}`, `{device}`, `{rest}`. */
#ifndef SP_GATEWAY_CONFIG_ROUTE_MAP_H
#define SP_GATEWAY_CONFIG_ROUTE_MAP_H

#include "gateway/config/config.h"

/**
 * The first route whose filter matches a device's topic; NULL: none, or one that keeps it from the cloud.
 */
const struct sp_route_config *sp_route_find(const struct sp_config *config, struct sp_view topic);

/**
 * Fill in a template for one message.
 *
 * @param[in]  filter   The route's `from` or the command's `cloud`: `{rest}` is what its `#` stands for in `topic`.
 * @param[in]  device   For `{device}`; the empty view where there is none.
 * @param[out] out      `cap` bytes for the topic; not NUL-terminated.
 * @retval SP_ERR_SPACE     It does not fit.
 * @retval SP_ERR_MALFORMED The result is not a valid topic name.
 */
SP_MUST_CHECK enum sp_err sp_route_map(const char *template_text, const char *filter,
                                       const char *gateway, struct sp_view device,
                                       struct sp_view topic, void *out, size_t cap,
                                       size_t *out_len);

#endif
