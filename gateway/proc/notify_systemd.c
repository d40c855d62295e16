/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include <systemd/sd-daemon.h>

#include "gateway/proc/parent_internal.h"

void sp_notify(const char *state)
{
    (void)sd_notify(0, state); /* without systemd it does nothing */
}

uint64_t sp_notify_watchdog(void)
{
    uint64_t usec = 0;
    return sd_watchdog_enabled(0, &usec) > 0 ? usec : 0;
}
