/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file A growing byte buffer that owns nothing while it is empty. */
#ifndef SP_GATEWAY_GATE_CORE_BUF_H
#define SP_GATEWAY_GATE_CORE_BUF_H

#include "libs/base/bytes.h"

struct sp_buf {
    uint8_t *ptr; /**< malloc'ed; NULL while there is no room */
    uint32_t used;
    uint32_t cap;
};

/** Room for `len` more bytes behind what is used; NULL when there is no memory, or 4 GB are reached. Count them with `used`. */
uint8_t *sp_buf_reserve(struct sp_buf *buf, size_t len);

/** @retval SP_ERR_NOMEM Nothing was appended. */
SP_MUST_CHECK enum sp_err sp_buf_append(struct sp_buf *buf, struct sp_view bytes);

/** Drop the first `len` bytes. */
void sp_buf_consume(struct sp_buf *buf, size_t len);

/** What is in it, borrowed until it changes. */
struct sp_view sp_buf_view(const struct sp_buf *buf);

/** Back to empty, memory given back. */
void sp_buf_free(struct sp_buf *buf);

#endif
