/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * Temperature from a TMP105 at 0x48. The emulator has no hygrometer: a second TMP105 at 0x49 stands in for one, its
 * degrees (0 to 100) being per cent of relative humidity.
 */
#include "device/boards/board_secure.h"
#include "device/boards/mps2/i2c.h"

#define TEMPERATURE     0x48U
#define HUMIDITY        0x49U
#define REGISTER_VALUE  0x00U
#define REGISTER_CONFIG 0x01U
#define CONFIG_12_BITS  0x60U

/* Thousandths of a degree. */
static enum sp_err read_tmp105(uint8_t address, int32_t *out)
{
    static const uint8_t config[] = {REGISTER_CONFIG, CONFIG_12_BITS};
    static const uint8_t value[] = {REGISTER_VALUE};
    uint8_t raw[2];
    SP_TRY(sp_i2c_write(address, SP_VIEW_ARRAY(config), sp_view(NULL, 0)));
    SP_TRY(sp_i2c_read(address, SP_VIEW_ARRAY(value), raw, sizeof(raw)));
    int32_t fixed = (int16_t)(uint16_t)(raw[0] << 8 | raw[1]); /* 8.8 */
    *out = (fixed * 1000 + 128) / 256;
    return SP_OK;
}

static enum sp_err read_climate(void *ctx, struct sp_sensor_reading *out)
{
    (void)ctx;
    SP_TRY(read_tmp105(TEMPERATURE, &out->temperature_mc));
    return read_tmp105(HUMIDITY, &out->humidity_mp);
}

struct sp_sensor_hal sp_board_sensor(void)
{
    return (struct sp_sensor_hal){.read = read_climate};
}
