/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/secure/start/platform.h"

#include "board.h"
#include "device/boards/board_secure.h"
#include "device/secure/partitions/crypto/random.h"
#include "device/secure/secure.h"
#include "device/secure/start/accept.h"
#include "device/secure/start/clock.h"
#include "device/secure/start/provision.h"
#include "libs/cose/crypto.h"

#include <psa/crypto.h>

extern const uint8_t __image_end[];

/* Names the kind of device. */
static const char implementation[] = "sallyport/" BOARD_NAME;
_Static_assert(sizeof(implementation) <= 33, "an implementation id has 32 bytes");

static struct sp_boot_record boot;

static bool measure(const char *type, uintptr_t start, size_t len)
{
    struct sp_boot_component *component = &boot.components[boot.component_count++];
    struct sp_view image = sp_view((const void *)start, len);
    component->type = type;
    component->version = SP_VERSION;
    return sp_crypto_hash(SP_SHA256, &image, 1, component->value) == SP_OK;
}

/* A device that was never provisioned has no seed, and starts all the same: it can be seen not to be provisioned. */
static bool start_random(void)
{
    psa_status_t status = sp_random_start();
    return status == PSA_ERROR_DOES_NOT_EXIST ||
           (status == PSA_SUCCESS &&
            psa_generate_random(boot.boot_seed, sizeof(boot.boot_seed)) == PSA_SUCCESS);
}

bool sp_platform_start(const struct sp_ns_header *image)
{
    sp_copy(boot.implementation_id, implementation, sizeof(implementation) - 1U);
    sp_clock_start();
    const struct sp_secure_platform platform = {
        .storage = sp_board_storage(),
        .sensor = sp_board_sensor(),
        .boot = &boot,
        .clock_ms = sp_clock_ms,
    };
    if (sp_secure_start(&platform) != PSA_SUCCESS ||
        sp_provision_take(&platform.storage) != PSA_SUCCESS || !start_random()) {
        return false;
    }
    boot.lifecycle = sp_provision_lifecycle();
    return measure("SPE", MAP_S_CODE, (uintptr_t)__image_end - MAP_S_CODE) &&
           measure("NSPE", MAP_NS_CODE, image->size);
}

bool sp_platform_image_accepted(void)
{
    return boot.component_count == 2 && sp_image_accepted(boot.components[1].value);
}

uint32_t sp_platform_random_word(void)
{
    uint32_t word = 0;
    return psa_generate_random((uint8_t *)&word, sizeof(word)) == PSA_SUCCESS ? word : 0;
}
