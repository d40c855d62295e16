/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file What the guard's operations share. */
#ifndef SP_BENCH_GUARD_H
#define SP_BENCH_GUARD_H

#include <stdbool.h>

/** As long as a sensor record with temperature and humidity. */
#define SP_GUARD_RECORD \
    "{a sensor record of about ninety bytes, as it is when it says temperature and humidity....}"

/** Say what is wrong and leave, when it is. */
void sp_guard_need(bool condition, const char *what);

/** Seal and open one TLS record. In a file of its own: gate's records and TLS's share names. */
void sp_guard_tls_record(unsigned long times);

/** Carry messages through store to the cloud, a hundred in a commit. */
void sp_guard_store(unsigned long times);

#endif
