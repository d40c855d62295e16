/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file A stream of bytes with open files among them, over a socket pair between two processes. */
#ifndef SP_GATEWAY_GATE_HANDOVER_PASSAGE_H
#define SP_GATEWAY_GATE_HANDOVER_PASSAGE_H

#include "gateway/gate/core/buf.h"

#define SP_PASSAGE_FDS_MAX 200U /**< in one call; the kernel takes 253 */

/** The receiving end. Files come before the bytes that were sent with them. */
struct sp_passage {
    int fd;
    struct sp_buf bytes; /**< received and not used; secret */
    int *fds;            /* received, in order */
    size_t first;        /* of those not taken */
    size_t count;
    size_t cap;
};

/**
 * Send all of `bytes`, and files (at most SP_PASSAGE_FDS_MAX; they stay open here) with the first of them.
 * @retval SP_ERR_AGAIN  Not within `wait_ms`.
 * @retval SP_ERR_CLOSED The other end is gone. @retval SP_ERR_IO
 */
SP_MUST_CHECK enum sp_err sp_passage_send(int fd, struct sp_view bytes, const int *fds,
                                          size_t count, int wait_ms);

/** Receive what is there, if anything. @retval SP_ERR_CLOSED The end. @retval SP_ERR_IO @retval SP_ERR_NOMEM */
SP_MUST_CHECK enum sp_err sp_passage_receive(struct sp_passage *passage);

/** The next file, now the caller's; -1: none has come. */
int sp_passage_take_fd(struct sp_passage *passage);

/** `used` bytes were used: they are wiped. */
void sp_passage_consume(struct sp_passage *passage, size_t used);

/** Closes what was not taken, wipes what was not used. */
void sp_passage_deinit(struct sp_passage *passage);

#endif
