/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/port/posix/log_posix.h"

#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 1024U
#define TEXT_MAX_BYTES 200U

static char name[65];

void sp_device_log_name(struct sp_view identity)
{
    identity = sp_view_first(identity, sizeof(name) - 1U);
    sp_copy(name, identity.ptr, identity.len);
    name[identity.len] = 0;
}

static void write_escaped(struct sp_writer *w, struct sp_view text)
{
    static const char hex[] = "0123456789abcdef";
    sp_write_u8(w, '"');
    for (size_t i = 0; i < text.len; i++) {
        uint8_t byte = text.ptr[i];
        if (byte < 0x20 || byte >= 0x7F || byte == '"' || byte == '\\') {
            sp_write_str(w, "\\x");
            sp_write_u8(w, (uint8_t)hex[byte >> 4]);
            sp_write_u8(w, (uint8_t)hex[byte & 15U]);
        } else {
            sp_write_u8(w, byte);
        }
    }
    sp_write_u8(w, '"');
}

void sp_device_log(const char *event, int32_t code, struct sp_view text)
{
    uint8_t line[LINE_MAX_BYTES];
    char stamp[32] = "";
    struct timespec now;
    struct tm parts;
    struct sp_writer w;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    if (gmtime_r(&now.tv_sec, &parts) != NULL) {
        (void)strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%SZ", &parts);
    }
    sp_writer_init(&w, line, sizeof(line));
    sp_write_str(&w, stamp);
    sp_write_str(&w, " device event=");
    sp_write_str(&w, event);
    if (name[0] != 0) {
        sp_write_str(&w, " device=");
        sp_write_str(&w, name);
    }
    if (code != -1) {
        sp_write_str(&w, " code=");
        sp_write_dec(&w, code);
    }
    if (text.len != 0) {
        sp_write_str(&w, " text=");
        write_escaped(&w, sp_view_first(text, TEXT_MAX_BYTES));
    }
    sp_write_u8(&w, '\n');
    struct sp_view out = sp_writer_view(&w);
    if (write(STDERR_FILENO, out.ptr, out.len) < 0) {
        return; /* nobody reads the log */
    }
}
