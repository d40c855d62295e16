/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/port/posix/sensor_posix.h"

#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define WAVE_MS 300000

static struct sp_sensor_reading constant;
static const char *path;

/* A decimal number with up to three decimals, as thousandths; moves `text` behind it. */
static bool parse_thousandths(const char **text, int32_t *out)
{
    const char *p = *text;
    bool negative = *p == '-';
    int32_t value = 0;
    unsigned digits = 0;
    int decimals = -1;
    p += negative;
    for (; (*p >= '0' && *p <= '9') || (*p == '.' && decimals < 0); p++) {
        if (*p == '.') {
            decimals = 0;
        } else if (++digits > 6 || decimals >= 3) {
            return false;
        } else {
            value = value * 10 + (*p - '0');
            decimals += decimals >= 0;
        }
    }
    if (digits == 0) {
        return false;
    }
    for (int i = decimals < 0 ? 0 : decimals; i < 3; i++) {
        if (value > INT32_MAX / 10) {
            return false;
        }
        value *= 10;
    }
    *out = negative ? -value : value;
    *text = p;
    return true;
}

static bool parse_pair(const char *text, struct sp_sensor_reading *out)
{
    struct sp_sensor_reading reading;
    if (!parse_thousandths(&text, &reading.temperature_mc)) {
        return false;
    }
    size_t between = strspn(text, ", \t\n");
    text += between;
    if (between == 0 || !parse_thousandths(&text, &reading.humidity_mp) ||
        text[strspn(text, " \t\n")] != 0) {
        return false;
    }
    *out = reading;
    return true;
}

static enum sp_err read_constant(void *ctx, struct sp_sensor_reading *out)
{
    (void)ctx;
    *out = constant;
    return SP_OK;
}

/* A triangle: up for half of the time, down for the other half. */
static int32_t triangle(int64_t now_ms, int32_t low, int32_t high)
{
    int64_t at = now_ms % WAVE_MS;
    int64_t up = at < WAVE_MS / 2 ? at : WAVE_MS - at;
    return low + (int32_t)((high - low) * up / (WAVE_MS / 2));
}

static enum sp_err read_wave(void *ctx, struct sp_sensor_reading *out)
{
    (void)ctx;
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0) {
        return SP_ERR_IO;
    }
    int64_t now_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
    out->temperature_mc = triangle(now_ms, 18000, 26000);
    out->humidity_mp = triangle(now_ms + WAVE_MS / 3, 35000, 55000);
    return SP_OK;
}

static enum sp_err read_file(void *ctx, struct sp_sensor_reading *out)
{
    (void)ctx;
    char text[64];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return SP_ERR_IO;
    }
    ssize_t len = read(fd, text, sizeof(text) - 1U);
    (void)close(fd);
    if (len < 0) {
        return SP_ERR_IO;
    }
    text[len] = 0;
    return parse_pair(text, out) ? SP_OK : SP_ERR_MALFORMED;
}

enum sp_err sp_sensor_posix_init(const char *spec, struct sp_sensor_hal *out)
{
    static const char constant_prefix[] = "constant:";
    static const char file_prefix[] = "file:";
    *out = (struct sp_sensor_hal){0};
    if (strcmp(spec, "wave") == 0) {
        out->read = read_wave;
    } else if (strncmp(spec, constant_prefix, sizeof(constant_prefix) - 1U) == 0 &&
               parse_pair(spec + sizeof(constant_prefix) - 1U, &constant)) {
        out->read = read_constant;
    } else if (strncmp(spec, file_prefix, sizeof(file_prefix) - 1U) == 0 &&
               spec[sizeof(file_prefix) - 1U] != 0) {
        path = spec + sizeof(file_prefix) - 1U;
        out->read = read_file;
    }
    return out->read != NULL ? SP_OK : SP_ERR_MALFORMED;
}
