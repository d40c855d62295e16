/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* What every image with the kernel needs: memory for its idle task, and order at the door of the secure world. */
#include "device/port/freertos/console.h"
#include "device/port/freertos/firmware.h"
#include "device/secure/ns/ns.h"

#include "FreeRTOS.h"
#include "semphr.h"
#include "task.h"

#include <psa/crypto.h>

static StackType_t idle_stack[configMINIMAL_STACK_SIZE] __attribute__((aligned(8)));
static StaticTask_t idle_tcb;
static StaticSemaphore_t secure_mutex_memory;
static SemaphoreHandle_t secure_mutex;

void vApplicationGetIdleTaskMemory(StaticTask_t **tcb, StackType_t **stack, uint32_t *words);

void vApplicationGetIdleTaskMemory(StaticTask_t **tcb, StackType_t **stack, uint32_t *words)
{
    *tcb = &idle_tcb;
    *stack = idle_stack;
    *words = configMINIMAL_STACK_SIZE;
}

void sp_ns_lock(void)
{
    if (xTaskGetSchedulerState() != taskSCHEDULER_NOT_STARTED) {
        (void)xSemaphoreTake(secure_mutex, portMAX_DELAY);
    }
}

void sp_ns_unlock(void)
{
    if (xTaskGetSchedulerState() != taskSCHEDULER_NOT_STARTED) {
        (void)xSemaphoreGive(secure_mutex);
    }
}

void sp_firmware_start(void)
{
    sp_firmware_clock_start();
    sp_console_start();
    secure_mutex = xSemaphoreCreateMutexStatic(&secure_mutex_memory);
}

uint32_t sp_firmware_random(void)
{
    uint8_t bytes[4] = {0};
    struct sp_reader r;
    if (psa_generate_random(bytes, sizeof(bytes)) != PSA_SUCCESS) {
        sp_firmware_halt("no randomness", __LINE__);
    }
    sp_reader_init(&r, SP_VIEW_ARRAY(bytes));
    return sp_read_u32(&r);
}
