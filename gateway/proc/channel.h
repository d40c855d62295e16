/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file Typed messages between two processes over a socket pair.
 *
 * A stream of frames: `struct sp_frame`, then `length` bytes. Sending collects frames in memory; one
 * sp_channel_flush() per loop turn writes them with one system call. Each end belongs to one thread. The fd is
 * non-blocking; the owner polls it (for output only while sp_channel_pending() is not 0).
 */
#ifndef SP_GATEWAY_PROC_CHANNEL_H
#define SP_GATEWAY_PROC_CHANNEL_H

#include "libs/base/bytes.h"

#define SP_CHANNEL_FRAME_MAX \
    (4U << 20) /**< bytes of one message; a longer one closes the channel */
#define SP_CHANNEL_BACKLOG_MAX (64U << 20) /**< bytes that may wait to be written */

struct sp_frame {
    uint32_t length;
    uint16_t type;  /**< enum sp_message */
    uint16_t flags; /**< 0 */
    uint64_t tag;   /**< the asker's own, given back in the answer */
};

struct sp_channel; /* opaque */

/** Takes over `fd`, makes it non-blocking and close-on-exec. @retval SP_ERR_NOMEM (fd stays the caller's) */
SP_MUST_CHECK enum sp_err sp_channel_create(int fd, struct sp_channel **out);

/** Closes the fd. NULL is fine. */
void sp_channel_destroy(struct sp_channel *c);

int sp_channel_fd(const struct sp_channel *c);

/**
 * Queue one message made of `count` parts.
 * @retval SP_ERR_LIMIT The backlog or the message is too large; nothing was queued.
 * @retval SP_ERR_CLOSED The channel has failed.
 */
SP_MUST_CHECK enum sp_err sp_channel_send(struct sp_channel *c, uint16_t type, uint64_t tag,
                                          const struct sp_view *parts, size_t count);

/** Write what is queued. SP_OK also when some must wait. @retval SP_ERR_CLOSED */
SP_MUST_CHECK enum sp_err sp_channel_flush(struct sp_channel *c);

/** Bytes queued and not written. */
size_t sp_channel_pending(const struct sp_channel *c);

/** Give back what is empty and large, since much came or went. Not from within sp_channel_receive(). */
void sp_channel_trim(struct sp_channel *c);

/** `body` is borrowed until the function returns. An error closes the channel. */
typedef enum sp_err (*sp_channel_fn)(void *arg, const struct sp_frame *frame, struct sp_view body);

/**
 * Read what is there (one read of at most 256 KiB) and hand over every whole message.
 * @retval SP_OK         Handled, maybe nothing: without memory for it nothing is read, and the fd stays readable.
 * @retval SP_ERR_CLOSED The other end is gone.
 * @return Else what `fn` returned, or SP_ERR_MALFORMED for an impossible frame.
 */
SP_MUST_CHECK enum sp_err sp_channel_receive(struct sp_channel *c, sp_channel_fn fn, void *arg);

#endif
