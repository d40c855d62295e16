/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/proc/parent_internal.h"

void sp_notify(const char *state)
{
    (void)state; /* built without libsystemd */
}

uint64_t sp_notify_watchdog(void)
{
    return 0;
}
