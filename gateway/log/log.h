/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file One event, one line, `key=value`, on stderr.
 *
 * A field's value is always quoted and escaped here, so no byte from outside reaches a log raw.
 *
 *     sp_log_warn(SP_EVENT("attest_refused"), SP_F_VIEW("device", id), SP_F_STR("check", "mac"));
 *
 * A line: `2026-11-22T12:00:00.123Z warn gate event=attest_refused device=dev1 check=mac`. Under systemd
 * (JOURNAL_STREAM is set) the time is left out and a `<4>` priority comes first. Thread-safe: one write per line.
 */
#ifndef SP_GATEWAY_LOG_LOG_H
#define SP_GATEWAY_LOG_LOG_H

#include "libs/base/bytes.h"

enum sp_log_level { SP_LOG_ERROR = 3, SP_LOG_WARN = 4, SP_LOG_INFO = 6, SP_LOG_DEBUG = 7 };

enum sp_log_kind { SP_LOG_END = 0, SP_LOG_STR, SP_LOG_VIEW, SP_LOG_INT, SP_LOG_ERRNO };

struct sp_log_field {
    const char *key;
    enum sp_log_kind kind;
    const char *str;
    struct sp_view view;
    long long number;
};

#define SP_F_STR(k, s)  ((struct sp_log_field){.key = (k), .kind = SP_LOG_STR, .str = (s)})
#define SP_F_VIEW(k, v) ((struct sp_log_field){.key = (k), .kind = SP_LOG_VIEW, .view = (v)})
#define SP_F_INT(k, n) \
    ((struct sp_log_field){.key = (k), .kind = SP_LOG_INT, .number = (long long)(n)})
/** `error="No such file or directory"` from an errno value. */
#define SP_F_ERRNO(e) \
    ((struct sp_log_field){.key = "error", .kind = SP_LOG_ERRNO, .number = (long long)(e)})
/** `error="out of memory"` from an sp_err. */
#define SP_F_ERR(e) SP_F_STR("error", sp_err_text(e))

/** Name of this process in every line, `gate`, `keys`, …; `level` = the least important that is shown. */
void sp_log_init(const char *process, enum sp_log_level level);

/** The first field of every line. */
#define SP_EVENT(name) SP_F_STR("event", name)

/**
 * From now on sp_log_limited() writes so many lines a second of each kind, and SP_LOG_BURST at once; 0: all. For all
 * threads of the process.
 */
void sp_log_limit(uint32_t lines_per_second);
#define SP_LOG_BURST 100U

/**
 * A warning that others can cause as often as they like. Its kind is its event. What is left out is counted for
 * sp_log_left_out().
 * @return false: it was left out.
 */
bool sp_log_limited_fields(const struct sp_log_field *fields);

/** Lines were left out that nobody was told of. */
bool sp_log_has_left_out(void);

/** One line for each kind of which lines were left out: `event=log_left_out kind=tls_refused more=1234`. @return All of them. */
uint64_t sp_log_left_out(void);

/** `fields` starts with SP_EVENT() and ends with an SP_LOG_END entry. Lines over 2 KiB are cut. */
void sp_log(enum sp_log_level level, const struct sp_log_field *fields);

#define SP_LOG_AT(level, ...) \
    sp_log((level), (const struct sp_log_field[]){__VA_ARGS__, {.kind = SP_LOG_END}})
#define sp_log_error(...) SP_LOG_AT(SP_LOG_ERROR, __VA_ARGS__)
#define sp_log_warn(...)  SP_LOG_AT(SP_LOG_WARN, __VA_ARGS__)
#define sp_log_limited(...) \
    sp_log_limited_fields((const struct sp_log_field[]){__VA_ARGS__, {.kind = SP_LOG_END}})
#define sp_log_info(...)  SP_LOG_AT(SP_LOG_INFO, __VA_ARGS__)
#define sp_log_debug(...) SP_LOG_AT(SP_LOG_DEBUG, __VA_ARGS__)

#endif
