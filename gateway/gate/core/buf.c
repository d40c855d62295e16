/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/core/buf.h"

#include <stdlib.h>
#include <string.h>

#define FIRST 256U

uint8_t *sp_buf_reserve(struct sp_buf *buf, size_t len)
{
    if (len > buf->cap - buf->used) {
        size_t cap = buf->cap == 0 ? FIRST : (size_t)buf->cap * 2;
        if (cap < buf->used + len) {
            cap = buf->used + len;
        }
        uint8_t *ptr = cap > UINT32_MAX ? NULL : realloc(buf->ptr, cap);
        if (ptr == NULL) {
            return NULL;
        }
        buf->ptr = ptr;
        buf->cap = (uint32_t)cap;
    }
    return buf->ptr == NULL ? NULL : buf->ptr + buf->used;
}

enum sp_err sp_buf_append(struct sp_buf *buf, struct sp_view bytes)
{
    if (bytes.len == 0) {
        return SP_OK;
    }
    uint8_t *at = sp_buf_reserve(buf, bytes.len);
    if (at == NULL) {
        return SP_ERR_NOMEM;
    }
    sp_copy(at, bytes.ptr, bytes.len);
    buf->used += (uint32_t)bytes.len;
    return SP_OK;
}

void sp_buf_consume(struct sp_buf *buf, size_t len)
{
    if (len >= buf->used) {
        buf->used = 0;
    } else {
        memmove(buf->ptr, buf->ptr + len, buf->used - len);
        buf->used -= (uint32_t)len;
    }
}

struct sp_view sp_buf_view(const struct sp_buf *buf)
{
    return sp_view(buf->ptr, buf->used);
}

void sp_buf_free(struct sp_buf *buf)
{
    free(buf->ptr);
    *buf = (struct sp_buf){NULL, 0, 0};
}
