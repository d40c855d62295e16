/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* The way to the gateway over a UART: interrupt handler and application's task meet at two rings. */
#include "board.h"
#include "device/port/freertos/firmware.h"
#include "device/port/freertos/network.h"
#include "device/port/freertos/uart.h"
#include "device/port/link/ring.h"
#include "device/port/link/serial_link.h"

#include "FreeRTOS.h"
#include "task.h"

#define UART      BOARD_LINK_UART
#define RING_SIZE 1024U

static uint8_t received_bytes[RING_SIZE];
static uint8_t sending_bytes[RING_SIZE];
static struct sp_ring received;
static struct sp_ring sending;
static volatile bool held; /* the ring is full: the UART is left alone */
static struct sp_serial_link serial;

/* The UART's bytes into the ring. Interrupts for more come only once the UART was emptied. */
static void drain(void)
{
    uint8_t byte = 0;
    while (sp_ring_room(&received) != 0) {
        if (!sp_uart_get(UART, &byte)) {
            if (held) {
                held = false;
                sp_uart_want_bytes(UART, true);
            }
            return;
        }
        (void)sp_ring_put(&received, sp_view(&byte, 1));
    }
    held = true;
    sp_uart_want_bytes(UART, false);
}

static void feed(void)
{
    uint8_t byte = 0;
    static uint8_t waiting; /* taken from the ring, not by the UART */
    static bool has_waiting;
    sp_uart_want_room(UART, true);
    while (has_waiting || sp_ring_take(&sending, &byte, 1) == 1) {
        byte = has_waiting ? waiting : byte;
        has_waiting = !sp_uart_put(UART, byte);
        if (has_waiting) {
            waiting = byte;
            return;
        }
    }
    sp_uart_want_room(UART, false);
}

void sp_network_irq(void)
{
    sp_uart_acknowledge(UART);
    drain();
    feed();
    sp_firmware_wake();
}

static size_t wire_room(void *ctx)
{
    (void)ctx;
    return sp_ring_room(&sending);
}

static void wire_put(void *ctx, struct sp_view bytes)
{
    (void)ctx;
    (void)sp_ring_put(&sending, bytes);
    taskENTER_CRITICAL();
    feed();
    taskEXIT_CRITICAL();
}

static size_t wire_take(void *ctx, uint8_t *out, size_t cap)
{
    (void)ctx;
    size_t got = sp_ring_take(&received, out, cap);
    if (held && sp_ring_room(&received) >= RING_SIZE / 2U) {
        taskENTER_CRITICAL();
        drain();
        taskEXIT_CRITICAL();
    }
    return got;
}

static uint32_t wire_random(void *ctx)
{
    (void)ctx;
    return sp_firmware_random();
}

bool sp_network_start(const struct sp_network_config *config)
{
    (void)config;
    const struct sp_serial_wire wire = {
        .room = wire_room, .put = wire_put, .take = wire_take, .random = wire_random};
    sp_ring_init(&received, received_bytes, sizeof(received_bytes));
    sp_ring_init(&sending, sending_bytes, sizeof(sending_bytes));
    sp_serial_link_init(&serial, &wire);
    sp_uart_start(UART, true);
    sp_firmware_irq_enable(BOARD_NETWORK_IRQ);
    return true;
}

void sp_network_poll(uint64_t now_ms)
{
    sp_serial_link_poll(&serial, now_ms);
}

uint64_t sp_network_due(uint64_t now_ms)
{
    return sp_serial_link_due(&serial, now_ms);
}

struct sp_stream sp_network_stream(void)
{
    return sp_serial_link_stream(&serial);
}
