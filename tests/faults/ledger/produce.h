/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file Producers: devices that number what they publish, insist on an answer, and write all of it down. */
#ifndef SP_TESTS_FAULTS_LEDGER_PRODUCE_H
#define SP_TESTS_FAULTS_LEDGER_PRODUCE_H

#include "bench/fleet/options.h"

struct sp_produce_options {
    struct sp_fleet_options fleet;
    const char *log;
    uint64_t seed;
    uint32_t longest; /**< payload bytes */
};

/**
 * Run until a signal, or until stdin closes; then wait at most ten seconds for the answers that are missing. A line `rate N`
 * on stdin changes the rate. Prints one JSON line at the end. @return The program's exit status.
 */
int sp_produce(const struct sp_produce_options *options);

#endif
