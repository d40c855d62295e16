/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "tools/json_write.h"

#include <string.h>
#include <time.h>

/* What follows a value needs a comma; what follows an opening bracket, a key or nothing does not. */
static void separate(struct sp_writer *w)
{
    struct sp_view so_far = sp_writer_view(w);
    if (so_far.len > 0 && strchr("{[:", so_far.ptr[so_far.len - 1]) == NULL) {
        sp_write_u8(w, ',');
    }
}

void sp_json_open(struct sp_writer *w, char bracket)
{
    separate(w);
    sp_write_u8(w, (uint8_t)bracket);
}

void sp_json_close(struct sp_writer *w, char bracket)
{
    sp_write_u8(w, (uint8_t)bracket);
}

static void write_escaped(struct sp_writer *w, uint8_t byte)
{
    static const char digits[] = "0123456789abcdef";
    if (byte == '"' || byte == '\\') {
        sp_write_u8(w, '\\');
        sp_write_u8(w, byte);
    } else if (byte < 0x20 || byte == 0x7f) {
        sp_write_str(w, "\\u00");
        sp_write_u8(w, (uint8_t)digits[byte >> 4]);
        sp_write_u8(w, (uint8_t)digits[byte & 15]);
    } else {
        sp_write_u8(w, byte);
    }
}

static void write_quoted(struct sp_writer *w, const char *text)
{
    sp_write_u8(w, '"');
    for (; *text != '\0'; text++) {
        write_escaped(w, (uint8_t)*text);
    }
    sp_write_u8(w, '"');
}

void sp_json_key(struct sp_writer *w, const char *name)
{
    separate(w);
    write_quoted(w, name);
    sp_write_u8(w, ':');
}

void sp_json_text(struct sp_writer *w, const char *text)
{
    separate(w);
    write_quoted(w, text);
}

void sp_json_hex(struct sp_writer *w, struct sp_view bytes)
{
    separate(w);
    sp_write_u8(w, '"');
    for (size_t i = 0; i < bytes.len; i++) {
        char digits[3];
        sp_hex_format(sp_view(bytes.ptr + i, 1), digits);
        sp_write_str(w, digits);
        sp_wipe(digits, sizeof(digits));
    }
    sp_write_u8(w, '"');
}

void sp_json_number(struct sp_writer *w, int64_t number)
{
    separate(w);
    sp_write_dec(w, number);
}

void sp_json_bool(struct sp_writer *w, bool value)
{
    separate(w);
    sp_write_str(w, value ? "true" : "false");
}

void sp_json_null(struct sp_writer *w)
{
    separate(w);
    sp_write_str(w, "null");
}

void sp_json_time(struct sp_writer *w, int64_t seconds)
{
    if (seconds == 0) {
        sp_json_null(w);
        return;
    }
    char text[SP_TIME_TEXT_MAX];
    sp_time_format(seconds, text);
    sp_json_text(w, text);
}

void sp_time_format(int64_t seconds, char *out)
{
    time_t t = (time_t)seconds;
    struct tm tm;
    if (seconds == 0 || gmtime_r(&t, &tm) == NULL ||
        strftime(out, SP_TIME_TEXT_MAX, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0) {
        out[0] = '-';
        out[1] = '\0';
    }
}
