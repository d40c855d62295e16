/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file state_dir/control.sock: who connects is sent one JSON document, then the end. Mode 0600: for the owner only.
 */
#ifndef SP_GATEWAY_PROC_STATUS_SOCKET_H
#define SP_GATEWAY_PROC_STATUS_SOCKET_H

#include "libs/base/err.h"

/** Listen, in place of a socket that a dead gateway left. @param[out] out A non-blocking fd. @retval SP_ERR_IO errno says why. */
SP_MUST_CHECK enum sp_err sp_status_listen(const char *state_dir, int *out);

/** Forget the socket's name. */
void sp_status_unlink(const char *state_dir);

/**
 * Ask the gateway that runs on a state directory.
 * @param[out] out The document, NUL-terminated, for the caller to free.
 * @retval SP_ERR_CLOSED No gateway runs there.
 * @retval SP_ERR_IO     errno says why.
 */
SP_MUST_CHECK enum sp_err sp_status_ask(const char *state_dir, char **out);

#endif
