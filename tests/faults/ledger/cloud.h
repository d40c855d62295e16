/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file The scripted cloud: an MQTT server behind TLS with certificates that writes down all it gets and does as it is told. */
#ifndef SP_TESTS_FAULTS_LEDGER_CLOUD_H
#define SP_TESTS_FAULTS_LEDGER_CLOUD_H

#include <stdint.h>

struct sp_cloud_options {
    uint32_t port; /**< on 127.0.0.1 */
    const char *ca;
    const char *certificate;
    const char *key;
    const char *log;
    uint64_t seed; /**< of the producers: knows every message byte by byte */
};

/** Lines on stdin, each answered with `ok` or `?`; see the table in cloud.c. Ends with stdin. @return Exit status. */
int sp_cloud_play(const struct sp_cloud_options *options);

#endif
