/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file The command line of sallyport-device (docs/man/sallyport-device.1). */
#ifndef SP_DEVICE_PORT_POSIX_OPTIONS_H
#define SP_DEVICE_PORT_POSIX_OPTIONS_H

#include "device/port/posix/tamper.h"

/** Strings are those of argv, or static. */
struct sp_options {
    const char *bundle;
    const char *gateway;
    const char *state; /**< NULL: keys and nothing else live as long as the process */
    const char *sensor;
    uint32_t period_ms;
    uint64_t count;  /**< 0 = no end */
    uint32_t suites; /**< mask of device/port/suites.h; 0 = what the bundle says */
    enum sp_tamper tamper;
    uint32_t backoff_max_ms;
    bool exit_on_refusal;
    bool print_measurement;
    bool help;
};

/**
 * Read the command line; on a mistake says on stderr what to do about it.
 * @retval SP_ERR_ARGUMENT Wrong usage: exit with 2.
 */
SP_MUST_CHECK enum sp_err sp_options_parse(int argc, char **argv, struct sp_options *out);

/** Print what --help says. */
void sp_options_help(void);

#endif
