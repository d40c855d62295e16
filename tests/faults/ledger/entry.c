/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "tests/faults/ledger/entry.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static uint64_t monotonic_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

enum sp_err sp_ledger_open(struct sp_ledger *ledger, const char *path)
{
    ledger->count = 0;
    ledger->began_ns = monotonic_ns();
    ledger->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    return ledger->fd < 0 ? SP_ERR_IO : SP_OK;
}

void sp_ledger_note(struct sp_ledger *ledger, struct sp_entry entry)
{
    entry.ms = (uint32_t)((monotonic_ns() - ledger->began_ns) / 1000000U);
    ledger->entries[ledger->count++] = entry;
    if (ledger->count == sizeof(ledger->entries) / sizeof(ledger->entries[0])) {
        sp_ledger_flush(ledger, false);
    }
}

void sp_ledger_flush(struct sp_ledger *ledger, bool sync)
{
    struct sp_view rest = sp_view(ledger->entries, ledger->count * sizeof(ledger->entries[0]));
    while (rest.len > 0) {
        ssize_t n = write(ledger->fd, rest.ptr, rest.len);
        if (n < 0 && errno != EINTR) {
            perror("sallyport-ledger: its log"); /* without it nothing can be proved */
            exit(3);
        }
        rest = sp_view_from(rest, n > 0 ? (size_t)n : 0);
    }
    ledger->count = 0;
    if (sync && fdatasync(ledger->fd) != 0) {
        perror("sallyport-ledger: its log");
        exit(3);
    }
}
