/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/boards/mps2/i2c.h"

#include "board.h"

#define LINE_SET   (*(volatile uint32_t *)BOARD_I2C_BASE) /* reads as the lines' levels */
#define LINE_CLEAR (*(volatile uint32_t *)(BOARD_I2C_BASE + 4U))
#define SCL        1U
#define SDA        2U

/* A quarter of a bit: some hundred kHz at this clock. */
static void wait(void)
{
    for (volatile unsigned i = 0; i < BOARD_I2C_WAIT; i++) {
    }
}

static void set(uint32_t line, bool high)
{
    if (high) {
        LINE_SET = line;
    } else {
        LINE_CLEAR = line;
    }
    wait();
}

static void start(void)
{
    set(SDA, true);
    set(SCL, true);
    set(SDA, false);
    set(SCL, false);
}

static void stop(void)
{
    set(SDA, false);
    set(SCL, true);
    set(SDA, true);
}

static void put_bit(bool bit)
{
    set(SDA, bit);
    set(SCL, true);
    set(SCL, false);
}

static bool get_bit(void)
{
    set(SDA, true);
    set(SCL, true);
    bool bit = (LINE_SET & SDA) != 0;
    set(SCL, false);
    return bit;
}

/* @return acknowledged. */
static bool put_byte(uint8_t byte)
{
    for (unsigned bit = 8; bit-- > 0;) {
        put_bit(((byte >> bit) & 1U) != 0);
    }
    return !get_bit();
}

static uint8_t get_byte(bool more)
{
    unsigned byte = 0;
    for (unsigned bit = 0; bit < 8; bit++) {
        byte = byte << 1 | (get_bit() ? 1U : 0U);
    }
    put_bit(!more);
    return (uint8_t)byte;
}

static bool put_all(struct sp_view bytes)
{
    bool good = true;
    for (size_t i = 0; i < bytes.len && good; i++) {
        good = put_byte(bytes.ptr[i]);
    }
    return good;
}

enum sp_err sp_i2c_write(uint8_t address, struct sp_view head, struct sp_view body)
{
    start();
    bool good = put_byte((uint8_t)(address << 1)) && put_all(head) && put_all(body);
    stop();
    return good ? SP_OK : SP_ERR_IO;
}

enum sp_err sp_i2c_read(uint8_t address, struct sp_view head, uint8_t *out, size_t len)
{
    start();
    bool good = put_byte((uint8_t)(address << 1)) && put_all(head);
    start();
    good = good && put_byte((uint8_t)(address << 1 | 1U));
    for (size_t i = 0; i < len && good; i++) {
        out[i] = get_byte(i + 1U < len);
    }
    stop();
    return good ? SP_OK : SP_ERR_IO;
}
