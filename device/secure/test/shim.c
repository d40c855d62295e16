/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/secure/test/shim.h"

#include "device/secure/partitions/crypto/random.h"
#include "device/secure/spm/spm_ns.h"
#include "device/secure/start/provision.h"
#include "libs/cose/crypto.h"

#include <psa/crypto.h>
#include <psa/crypto_extra.h>
#include <string.h>

uint8_t sp_shim_arena[SP_SHIM_ARENA];
uint8_t sp_shim_medium[SP_SHIM_MEDIUM];
uint64_t sp_shim_now_ms;
long sp_shim_writes_left = -1;

#define SECRET(a)                                                                                \
    {                                                                                            \
        (a), 0x9D, 0x1B, 0x77, 0xE0, 0x52, 0xA4, 0x3C, 0x08, 0xF1, 0x66, 0xB3, 0x5E, 0xC9, 0x21, \
            0x84, 0x4F, 0xD6, 0x3A, 0x70, 0x15, 0xEB, 0x98, 0x2D, 0xC7, 0x59, 0x0B, 0xFE, 0x63,  \
            0xA1, 0x36, 0xDA                                                                     \
    }

const uint8_t sp_shim_psk[32] = SECRET(0x50);
const uint8_t sp_shim_iak[32] = SECRET(0x49);

static struct sp_boot_record boot = {
    .lifecycle = 0x3000, .component_count = 1, .components = {{.type = "NSPE", .version = "1"}}};

static bool in_arena(const void *base, size_t len)
{
    uintptr_t offset = (uintptr_t)base - (uintptr_t)sp_shim_arena;
    return offset < sizeof(sp_shim_arena) && len <= sizeof(sp_shim_arena) - offset;
}

bool sp_spm_ns_readable(const void *base, size_t len)
{
    return in_arena(base, len);
}

bool sp_spm_ns_writable(const void *base, size_t len)
{
    return in_arena(base, len);
}

static enum sp_err medium_read(void *ctx, size_t offset, uint8_t *out, size_t len)
{
    (void)ctx;
    if (offset > SP_SHIM_MEDIUM || len > SP_SHIM_MEDIUM - offset) {
        return SP_ERR_ARGUMENT;
    }
    sp_copy(out, sp_shim_medium + offset, len);
    return SP_OK;
}

/* The write during which the power fails gets half way. */
static enum sp_err medium_write(void *ctx, size_t offset, struct sp_view bytes)
{
    (void)ctx;
    if (offset > SP_SHIM_MEDIUM || bytes.len > SP_SHIM_MEDIUM - offset) {
        return SP_ERR_ARGUMENT;
    }
    if (sp_shim_writes_left == 0) {
        return SP_ERR_IO;
    }
    size_t len = sp_shim_writes_left == 1 ? bytes.len / 2 : bytes.len;
    sp_copy(sp_shim_medium + offset, bytes.ptr, len);
    if (sp_shim_writes_left > 0) {
        sp_shim_writes_left--;
        return sp_shim_writes_left == 0 ? SP_ERR_IO : SP_OK;
    }
    return SP_OK;
}

static enum sp_err medium_sync(void *ctx)
{
    (void)ctx;
    return SP_OK;
}

static const struct sp_its_medium medium = {
    .read = medium_read, .write = medium_write, .sync = medium_sync};

static enum sp_err sensor_read(void *ctx, struct sp_sensor_reading *out)
{
    (void)ctx;
    *out = (struct sp_sensor_reading){.temperature_mc = 23500, .humidity_mp = 41000};
    return SP_OK;
}

static uint64_t clock_ms(void)
{
    return sp_shim_now_ms;
}

void sp_shim_erase(void)
{
    (void)memset(sp_shim_medium, 0xFF, sizeof(sp_shim_medium));
}

static void put_item(struct sp_writer *w, enum sp_provision_tag tag, struct sp_view content)
{
    sp_write_u8(w, (uint8_t)tag);
    sp_write_u16(w, (uint16_t)content.len);
    sp_write_view(w, content);
}

void sp_shim_put_parcel(void)
{
    uint8_t body[SP_PROVISION_BODY_MAX];
    uint8_t hash[32];
    uint8_t seed[SP_RANDOM_SEED_LEN] = {0x5E, 0xED};
    static const uint8_t algorithm[] = {SP_ATTEST_HMAC256};
    static const uint8_t lifecycle[] = {0x30, 0x00};
    static const uint8_t asset[] = {0, 0, 0, 2, 'h', 'i'};
    struct sp_writer w;
    sp_writer_init(&w, body, sizeof(body));
    put_item(&w, SP_PROVISION_DEVICE, SP_VIEW_LIT("dev-1"));
    put_item(&w, SP_PROVISION_PSK, SP_VIEW_ARRAY(sp_shim_psk));
    put_item(&w, SP_PROVISION_IAK, SP_VIEW_ARRAY(sp_shim_iak));
    put_item(&w, SP_PROVISION_IAK_ALGORITHM, SP_VIEW_ARRAY(algorithm));
    put_item(&w, SP_PROVISION_SEED, SP_VIEW_ARRAY(seed));
    put_item(&w, SP_PROVISION_LIFECYCLE, SP_VIEW_ARRAY(lifecycle));
    put_item(&w, SP_PROVISION_ASSET, SP_VIEW_ARRAY(asset));
    struct sp_view content = sp_writer_view(&w);
    (void)psa_crypto_init();
    if (sp_crypto_hash(SP_SHA256, &content, 1, hash) != SP_OK) {
        return;
    }
    struct sp_writer head;
    sp_writer_init(&head, sp_shim_medium + SP_PROVISION_OFFSET, 40U + content.len);
    sp_write_u32(&head, 0x53505056U);
    sp_write_u16(&head, 0x0100U);
    sp_write_u16(&head, (uint16_t)content.len);
    sp_write_view(&head, SP_VIEW_ARRAY(hash));
    sp_write_view(&head, content);
}

psa_status_t sp_shim_boot(void)
{
    mbedtls_psa_crypto_free(); /* the power was off */
    const struct sp_secure_platform platform = {
        .storage = medium, .sensor = {.read = sensor_read}, .boot = &boot, .clock_ms = clock_ms};
    psa_status_t status = sp_secure_start(&platform);
    if (status == PSA_SUCCESS) {
        status = sp_provision_take(&medium);
    }
    if (status == PSA_SUCCESS) {
        status = sp_random_start();
    }
    return status == PSA_SUCCESS ? psa_generate_random(boot.boot_seed, sizeof(boot.boot_seed))
                                 : status;
}
