/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file What must be durable about a new file besides its bytes: its name. */
#ifndef SP_GATEWAY_KEYS_FOLDER_H
#define SP_GATEWAY_KEYS_FOLDER_H

#include <stdbool.h>

/** Sync the folder that a file is in, so that its name survives a power cut. @return False: errno says why. */
bool sp_folder_sync(const char *file);

#endif
