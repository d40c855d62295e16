/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/port/freertos/console.h"

#include "board.h"
#include "device/port/freertos/firmware.h"
#include "device/port/freertos/uart.h"
#include "device/port/link/ring.h"
#include "libs/senml/senml.h"

#include "FreeRTOS.h"
#include "task.h"

#define UART            BOARD_CONSOLE_UART
#define RING_SIZE       2048U
#define WAIT_MS         1000U
#define EVENT_MAX       768U
#define EVENT_TEXT_MAX  96U /* bytes that come from outside */
#define LAST_WORDS_SPIN 100000U

static uint8_t bytes[RING_SIZE];
static struct sp_ring ring;

void sp_console_start(void)
{
    sp_ring_init(&ring, bytes, sizeof(bytes));
    sp_uart_start(UART, false);
    sp_firmware_irq_enable(BOARD_CONSOLE_IRQ);
}

/* The ring's bytes to the UART; in the interrupt, or with it held off. */
static void feed(void)
{
    static uint8_t waiting; /* taken from the ring, not by the UART */
    static bool has_waiting;
    sp_uart_want_room(UART, true);
    while (has_waiting || sp_ring_take(&ring, &waiting, 1) == 1) {
        has_waiting = !sp_uart_put(UART, waiting);
        if (has_waiting) {
            return;
        }
    }
    sp_uart_want_room(UART, false);
}

void sp_console_irq(void)
{
    sp_uart_acknowledge(UART);
    feed();
}

/* False: nothing moves. */
static bool put(struct sp_view part)
{
    for (uint32_t waited = 0; part.len != 0; waited++) {
        size_t count = sp_ring_put(&ring, part);
        part = sp_view_from(part, count);
        taskENTER_CRITICAL();
        feed();
        taskEXIT_CRITICAL();
        if (part.len != 0) {
            if (count != 0) {
                waited = 0;
            } else if (waited >= WAIT_MS) {
                return false;
            }
            vTaskDelay(1);
        }
    }
    return true;
}

void sp_console_line(struct sp_view line)
{
    (void)put(line);
    (void)put(SP_VIEW_LIT("\n"));
}

void sp_console_event(const char *event, int32_t code, struct sp_view text)
{
    uint8_t line[EVENT_MAX];
    struct sp_writer w;
    sp_writer_init(&w, line, sizeof(line));
    sp_write_str(&w, "{\"event\":\"");
    sp_write_str(&w, event);
    sp_write_str(&w, "\",\"ms\":");
    sp_write_dec(&w, (int64_t)sp_firmware_now());
    if (code != -1) {
        sp_write_str(&w, ",\"code\":");
        sp_write_dec(&w, code);
    }
    if (text.len != 0) {
        text = sp_view_first(text, EVENT_TEXT_MAX);
        sp_write_str(&w, ",\"text\":");
        sp_json_write_string(&w, sp_utf8_valid(text) ? text : SP_VIEW_LIT("not UTF-8"));
    }
    sp_write_u8(&w, '}');
    sp_console_line(sp_writer_view(&w));
}

static void put_now(struct sp_view text)
{
    for (size_t i = 0; i < text.len; i++) {
        for (uint32_t spin = 0; spin < LAST_WORDS_SPIN && !sp_uart_put(UART, text.ptr[i]); spin++) {
        }
    }
}

void sp_console_last_words(const char *text, int32_t code)
{
    uint8_t line[160];
    struct sp_writer w;
    sp_writer_init(&w, line, sizeof(line));
    sp_write_str(&w, "\n{\"event\":\"restart\",\"code\":");
    sp_write_dec(&w, code);
    sp_write_str(&w, ",\"text\":\"");
    sp_write_view(&w, sp_view_first(sp_view_str(text), 100));
    sp_write_str(&w, "\"}\n");
    put_now(sp_writer_view(&w));
}
