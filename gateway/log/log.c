/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/log/log.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 2048U /* with the newline; an atomic pipe write is 4096 */
#define TAIL_BYTES     5U    /* room kept for `..."` and the newline */

static const char *log_process = "sallyport";
static enum sp_log_level log_level = SP_LOG_INFO;
/* Kinds of limited lines; the last one is for all that have no place of their own. */
#define KINDS 32U

struct kind {
    const char *event;
    double tokens;
    double at;     /* seconds, when they were counted */
    uint64_t more; /* left out and not told */
};

static pthread_mutex_t kinds_lock = PTHREAD_MUTEX_INITIALIZER;
static struct kind kinds[KINDS];
static uint32_t lines_per_second;
static atomic_bool left_out;
static bool log_journal; /* systemd's journal reads stderr: it has the time, and wants a priority */

void sp_log_init(const char *process, enum sp_log_level level)
{
    log_process = process;
    log_level = level;
    log_journal = getenv("JOURNAL_STREAM") != NULL;
}

static const char *level_name(enum sp_log_level level)
{
    switch (level) {
    case SP_LOG_ERROR:
        return "error";
    case SP_LOG_WARN:
        return "warn";
    case SP_LOG_INFO:
        return "info";
    case SP_LOG_DEBUG:
        return "debug";
    }
    return "unknown";
}

static void write_digits(struct sp_writer *w, unsigned value, unsigned digits)
{
    uint8_t text[10];
    for (unsigned i = digits; i > 0; i--) {
        text[i - 1U] = (uint8_t)('0' + value % 10U);
        value /= 10U;
    }
    sp_write_view(w, sp_view(text, digits));
}

/* UTC by hand: gmtime_r() opens /etc/localtime at its first call, which a sandbox would answer with death.
 * Days to a date as in Gregorian calendar arithmetic: years start in March, eras have 146097 days. */
static void write_time(struct sp_writer *w)
{
    struct timespec now = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t seconds = now.tv_sec > 0 ? (uint64_t)now.tv_sec : 0;
    uint64_t days = seconds / 86400U + 719468U; /* since 0000-03-01 */
    uint64_t era = days / 146097U;
    unsigned day_of_era = (unsigned)(days % 146097U);
    unsigned year_of_era =
        (day_of_era - day_of_era / 1460U + day_of_era / 36524U - day_of_era / 146096U) / 365U;
    unsigned day_of_year =
        day_of_era - (365U * year_of_era + year_of_era / 4U - year_of_era / 100U);
    unsigned march_month = (5U * day_of_year + 2U) / 153U;
    unsigned month = march_month < 10U ? march_month + 3U : march_month - 9U;
    unsigned year = (unsigned)(era * 400U) + year_of_era + (month <= 2U ? 1U : 0U);
    unsigned of_day = (unsigned)(seconds % 86400U);

    write_digits(w, year, 4);
    sp_write_u8(w, '-');
    write_digits(w, month, 2);
    sp_write_u8(w, '-');
    write_digits(w, day_of_year - (153U * march_month + 2U) / 5U + 1U, 2);
    sp_write_u8(w, 'T');
    write_digits(w, of_day / 3600U, 2);
    sp_write_u8(w, ':');
    write_digits(w, of_day / 60U % 60U, 2);
    sp_write_u8(w, ':');
    write_digits(w, of_day % 60U, 2);
    sp_write_u8(w, '.');
    write_digits(w, (unsigned)now.tv_nsec / 1000000U, 3);
    sp_write_str(w, "Z ");
}

static bool is_plain(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           (c != 0 && strchr("._-:/+@,[]#$*", c) != NULL);
}

static bool needs_quotes(struct sp_view value)
{
    for (size_t i = 0; i < value.len; i++) {
        if (!is_plain(value.ptr[i])) {
            return true;
        }
    }
    return value.len == 0;
}

/* One byte as it appears between quotes: itself, \" \\ \n \r \t, or \xHH. */
static struct sp_view escape(uint8_t c, uint8_t out[4])
{
    static const struct {
        uint8_t from;
        uint8_t to;
    } shorts[] = {{'"', '"'}, {'\\', '\\'}, {'\n', 'n'}, {'\r', 'r'}, {'\t', 't'}};
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < sizeof(shorts) / sizeof(shorts[0]); i++) {
        if (c == shorts[i].from) {
            out[0] = '\\';
            out[1] = shorts[i].to;
            return sp_view(out, 2);
        }
    }
    if (c >= 0x20 && c < 0x7F) {
        out[0] = c;
        return sp_view(out, 1);
    }
    out[0] = '\\';
    out[1] = 'x';
    out[2] = (uint8_t)digits[c >> 4];
    out[3] = (uint8_t)digits[c & 15U];
    return sp_view(out, 4);
}

static bool has_room(const struct sp_writer *w, size_t len)
{
    return w->used + len + TAIL_BYTES <= w->cap;
}

/* false: the line is full, and was ended with `...`. */
static bool write_value(struct sp_writer *w, struct sp_view value)
{
    bool quoted = needs_quotes(value);
    bool whole = true;
    if (quoted) {
        sp_write_u8(w, '"');
    }
    if (!quoted && has_room(w, value.len)) {
        sp_write_view(w, value);
        return true;
    }
    for (size_t i = 0; i < value.len && whole; i++) {
        uint8_t text[4];
        struct sp_view shown = escape(value.ptr[i], text);
        whole = has_room(w, shown.len);
        if (whole) {
            sp_write_view(w, shown);
        } else {
            sp_write_str(w, "...");
        }
    }
    if (quoted) {
        sp_write_u8(w, '"');
    }
    return whole;
}

static bool write_field(struct sp_writer *w, const struct sp_log_field *field)
{
    char number[24];
    struct sp_view value = field->view;
    switch (field->kind) {
    case SP_LOG_STR:
        value = sp_view_str(field->str);
        break;
    case SP_LOG_INT:
        (void)snprintf(number, sizeof(number), "%lld", field->number);
        value = sp_view_str(number);
        break;
    case SP_LOG_ERRNO:
        value = sp_view_str(strerrordesc_np((int)field->number));
        break;
    case SP_LOG_VIEW:
    case SP_LOG_END:
        break;
    }
    struct sp_view key = sp_view_str(field->key);
    if (!has_room(w, key.len + 3U)) {
        sp_write_str(w, "...");
        return false;
    }
    sp_write_view(w, key);
    sp_write_u8(w, '=');
    return write_value(w, value);
}

void sp_log(enum sp_log_level level, const struct sp_log_field *fields)
{
    if (level > log_level) {
        return;
    }
    uint8_t line[LINE_MAX_BYTES];
    struct sp_writer w;
    sp_writer_init(&w, line, sizeof(line));
    if (log_journal) {
        sp_write_u8(&w, '<');
        sp_write_dec(&w, level);
        sp_write_u8(&w, '>');
    } else {
        write_time(&w);
    }
    sp_write_str(&w, level_name(level));
    sp_write_u8(&w, ' ');
    sp_write_str(&w, log_process);
    bool room = true;
    for (const struct sp_log_field *f = fields; f->kind != SP_LOG_END && room; f++) {
        sp_write_u8(&w, ' ');
        room = write_field(&w, f);
    }
    sp_write_u8(&w, '\n');
    struct sp_view text = sp_writer_view(&w);
    ssize_t written = write(STDERR_FILENO, text.ptr, text.len);
    (void)written; /* nowhere to tell */
}

/* ---- lines that others can cause ---- */

void sp_log_limit(uint32_t lines)
{
    pthread_mutex_lock(&kinds_lock);
    lines_per_second = lines;
    pthread_mutex_unlock(&kinds_lock);
}

static struct kind *kind_of(const char *event)
{
    size_t i = 0;
    while (i < KINDS - 1U && kinds[i].event != NULL && strcmp(kinds[i].event, event) != 0) {
        i++;
    }
    if (kinds[i].event == NULL) {
        kinds[i] =
            (struct kind){.event = i == KINDS - 1U ? "others" : event, .tokens = SP_LOG_BURST};
    }
    return &kinds[i];
}

static bool take_line(const char *event)
{
    if (lines_per_second == 0) {
        return true;
    }
    struct timespec now = {0};
    clock_gettime(CLOCK_MONOTONIC, &now);
    double seconds = (double)now.tv_sec + (double)now.tv_nsec / 1e9;
    struct kind *kind = kind_of(event);
    kind->tokens += (seconds - kind->at) * lines_per_second;
    kind->tokens = kind->tokens > SP_LOG_BURST ? SP_LOG_BURST : kind->tokens;
    kind->at = seconds;
    if (kind->tokens < 1) {
        kind->more++;
        atomic_store(&left_out, true);
        return false;
    }
    kind->tokens -= 1;
    return true;
}

bool sp_log_limited_fields(const struct sp_log_field *fields)
{
    pthread_mutex_lock(&kinds_lock);
    bool may = take_line(fields[0].str);
    pthread_mutex_unlock(&kinds_lock);
    if (may) {
        sp_log(SP_LOG_WARN, fields);
    }
    return may;
}

bool sp_log_has_left_out(void)
{
    return atomic_load(&left_out);
}

uint64_t sp_log_left_out(void)
{
    uint64_t sum = 0;
    struct kind told[KINDS];
    pthread_mutex_lock(&kinds_lock);
    memcpy(told, kinds, sizeof(told));
    for (size_t i = 0; i < KINDS; i++) {
        kinds[i].more = 0;
    }
    atomic_store(&left_out, false);
    pthread_mutex_unlock(&kinds_lock);
    for (size_t i = 0; i < KINDS && told[i].event != NULL; i++) {
        if (told[i].more > 0) {
            sum += told[i].more;
            sp_log_warn(SP_EVENT("log_left_out"), SP_F_STR("kind", told[i].event),
                        SP_F_INT("more", told[i].more));
        }
    }
    return sum;
}
