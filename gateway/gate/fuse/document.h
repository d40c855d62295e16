/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file The document that a fusion publishes: JSON, to `fused/<name>` and to the cloud. */
#ifndef SP_GATEWAY_GATE_FUSE_DOCUMENT_H
#define SP_GATEWAY_GATE_FUSE_DOCUMENT_H

#include "gateway/config/config.h"
#include "gateway/gate/fuse/fuse.h"

#define SP_FUSE_DOCUMENT_MAX 1024U

/** @param[in] known Devices that ever reported: those that are not in the window are silent. */
void sp_fuse_write(const struct sp_fusion_config *fusion, const char *gateway,
                   const struct sp_fuse_window *window, uint32_t known, struct sp_writer *w);

/** Write it, and hand it to subscribers and to the cloud. */
void sp_fuse_publish(struct sp_home *home, const struct sp_fusion_config *fusion,
                     const struct sp_fuse_window *window, uint32_t known);

#endif
