/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* The emulator models no sensor of this board: a made-up climate, 20 to 24 Cel and 40 to 48 %RH, over ten minutes. */
#include "device/boards/board_secure.h"
#include "device/secure/start/clock.h"

#define PERIOD_MS 600000U
#define SPAN_MC   4000U
#define SPAN_MP   8000U

static enum sp_err read_climate(void *ctx, struct sp_sensor_reading *out)
{
    (void)ctx;
    uint32_t phase = (uint32_t)(sp_clock_ms() % PERIOD_MS);
    uint32_t rise = phase < PERIOD_MS / 2U ? phase : PERIOD_MS - phase; /* 0 … half a period */
    out->temperature_mc = 20000 + (int32_t)(rise / (PERIOD_MS / 2U / SPAN_MC));
    out->humidity_mp = 48000 - (int32_t)(rise / (PERIOD_MS / 2U / SPAN_MC) * (SPAN_MP / SPAN_MC));
    return SP_OK;
}

struct sp_sensor_hal sp_board_sensor(void)
{
    return (struct sp_sensor_hal){.read = read_climate};
}
