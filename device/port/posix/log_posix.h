/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file The device's log: one line per event on stderr, `key=value`, in the gateway's form. */
#ifndef SP_DEVICE_PORT_POSIX_LOG_POSIX_H
#define SP_DEVICE_PORT_POSIX_LOG_POSIX_H

#include "libs/base/bytes.h"

/** Name of this device in every line that follows; copied, cut to 64 bytes. */
void sp_device_log_name(struct sp_view identity);

/** `code` is left out when it is -1, `text` when it is empty; `text` is escaped. */
void sp_device_log(const char *event, int32_t code, struct sp_view text);

#endif
