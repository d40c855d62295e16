/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file One device of a list made elsewhere: a line of JSON,
 * `{"id":"d-1","role":"sensor","attestation":"required","binding":"tls","psk":"HEX","iak":"HEX"}`, with "iak_algorithm"
 * and "suites" (names with commas between them) if need be.
 */
#ifndef SP_TOOLS_DEVICE_LINE_H
#define SP_TOOLS_DEVICE_LINE_H

#include "gateway/keys/registry.h"

#define SP_DEVICE_WORD_MAX 128U

/** Words as they stand in the line; "" when they do not. */
struct sp_device_line {
    char id[SP_DEVICE_WORD_MAX];
    char role[SP_DEVICE_WORD_MAX];
    char attestation[SP_DEVICE_WORD_MAX];
    char binding[SP_DEVICE_WORD_MAX];
    char iak_algorithm[SP_DEVICE_WORD_MAX];
    char suites[SP_DEVICE_WORD_MAX];
    char group[SP_DEVICE_WORD_MAX];
    char records[SP_DEVICE_WORD_MAX];
    struct sp_device_secrets secrets; /**< lengths 0 where there is no key */
};

/**
 * @param[in]  text NUL-terminated; wiping it is the caller's.
 * @param[out] out  Filled on SP_OK only; the caller wipes it.
 * @retval SP_ERR_MALFORMED Not such a line; `fault` says why.
 */
SP_MUST_CHECK enum sp_err sp_device_line_parse(const char *text, struct sp_device_line *out,
                                               struct sp_fault *fault);

#endif
