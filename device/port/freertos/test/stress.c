/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * A non-secure image that stresses the port: two tasks of one priority hash through the secure world as fast as they can,
 * in steps, so that they are preempted inside of it; a third one of a higher priority comes in between at every
 * tick. Every digest must be the one of its own task. It ends with an event `stress_done` or `stress_failed`.
 */
#include "device/port/freertos/console.h"
#include "device/port/freertos/firmware.h"
#include "device/port/freertos/network.h"

#include "FreeRTOS.h"
#include "task.h"

#include <psa/crypto.h>
#include <string.h>

#define STACK_WORDS 512U
#define WORKERS     2U
#define ROUNDS      3000U
#define STEPS       4U
#define DIGEST_LEN  32U

static StackType_t stacks[WORKERS + 1U][STACK_WORDS] __attribute__((aligned(8)));
static StaticTask_t tcbs[WORKERS + 1U];
static volatile uint32_t rounds[WORKERS];
static volatile uint32_t wrong;

/* This image has no network; its vector table has a place for one. */
void sp_network_irq(void)
{
}

static bool digest(uint8_t seed, uint8_t *out)
{
    uint8_t block[96];
    size_t len = 0;
    psa_hash_operation_t operation = PSA_HASH_OPERATION_INIT;
    memset(block, seed, sizeof(block));
    psa_status_t status = psa_hash_setup(&operation, PSA_ALG_SHA_256);
    for (unsigned i = 0; i < STEPS && status == PSA_SUCCESS; i++) {
        status = psa_hash_update(&operation, block, sizeof(block));
    }
    if (status == PSA_SUCCESS) {
        status = psa_hash_finish(&operation, out, DIGEST_LEN, &len);
    }
    return status == PSA_SUCCESS && len == DIGEST_LEN;
}

static void work(void *arg)
{
    size_t self = (size_t)(uintptr_t)arg;
    uint8_t first[DIGEST_LEN];
    uint8_t again[DIGEST_LEN];
    bool good = digest((uint8_t)self, first);
    while (rounds[self] < ROUNDS) {
        good = good && digest((uint8_t)self, again) && memcmp(first, again, DIGEST_LEN) == 0;
        wrong += good ? 0U : 1U;
        rounds[self]++;
    }
    vTaskSuspend(NULL);
}

static void interfere(void *arg)
{
    (void)arg;
    uint8_t expected[DIGEST_LEN];
    uint8_t real[DIGEST_LEN];
    uint32_t times = 0;
    bool good = psa_crypto_init() == PSA_SUCCESS && digest(0xEE, expected);
    while (good && wrong == 0 && (rounds[0] < ROUNDS || rounds[1] < ROUNDS)) {
        vTaskDelay(1);
        good = digest(0xEE, real) && memcmp(expected, real, DIGEST_LEN) == 0;
        times++;
    }
    good = good && wrong == 0 && times > 100;
    sp_console_event(good ? "stress_done" : "stress_failed", (int32_t)times, sp_view(NULL, 0));
    vTaskSuspend(NULL);
}

int main(void)
{
    sp_firmware_start();
    for (size_t i = 0; i < WORKERS; i++) {
        (void)xTaskCreateStatic(work, "work", STACK_WORDS, (void *)(uintptr_t)i, 1, stacks[i],
                                &tcbs[i]);
    }
    (void)xTaskCreateStatic(interfere, "between", STACK_WORDS, NULL, 2, stacks[WORKERS],
                            &tcbs[WORKERS]);
    vTaskStartScheduler();
    return 0;
}
