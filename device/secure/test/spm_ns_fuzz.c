/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * A non-secure world that says anything: the input is a series of calls, each with vectors of any place and length and
 * memory of any content, most of it near what services understand. Never may a secret appear in its memory.
 */
#include "device/secure/partitions/crypto/crypto_keys.h"
#include "device/secure/partitions/crypto/crypto_protocol.h"
#include "device/secure/partitions/its/its_service.h"
#include "device/secure/spm/spm.h"
#include "device/secure/spm/spm_ns.h"
#include "device/secure/test/shim.h"
#include "psa_manifest/pid.h"
#include "psa_manifest/sid.h"

#include <psa/crypto.h>
#include <stdlib.h>
#include <string.h>

#define VECTORS 4U

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LANE 512U /* each vector has a part of the arena of its own, most of the time */

/* Numbers that the services gave out: keys, operations. */
static uint32_t given[8];
static size_t given_count;

static void *place_of(uint16_t number, size_t lane)
{
    static uint8_t secure[256];
    switch (number >> 13) {
    case 7:
        return secure + (number & 0xFFU);
    case 6:
        return (number & 1U) != 0 ? NULL : sp_shim_arena + SP_SHIM_ARENA - (number & 0x3FU);
    case 5:
        return sp_shim_arena + number % SP_SHIM_ARENA;
    default:
        return sp_shim_arena + LANE * (2U + lane) + (number & 7U);
    }
}

static size_t length_of(uint16_t number)
{
    return (number >> 12) == 15 ? SIZE_MAX - (number & 0xFFFU) : (number & 0x1FFU);
}

/* Numbers that mean something, where chance alone would not find them. */
static void make_sense(struct sp_reader *r, uint16_t type, psa_invec *in)
{
    static const uint32_t algorithms[] = {PSA_ALG_SHA_256,
                                          PSA_ALG_HMAC(PSA_ALG_SHA_256),
                                          PSA_ALG_CCM,
                                          PSA_ALG_GCM,
                                          PSA_ALG_AEAD_WITH_SHORTENED_TAG(PSA_ALG_CCM, 8),
                                          PSA_ALG_TLS12_PRF(PSA_ALG_SHA_256),
                                          PSA_ALG_TLS12_PSK_TO_MS(PSA_ALG_SHA_256)};
    static const uint16_t types[] = {PSA_KEY_TYPE_AES, PSA_KEY_TYPE_HMAC, PSA_KEY_TYPE_DERIVE,
                                     PSA_KEY_TYPE_RAW_DATA};
    static const uint16_t steps[] = {PSA_KEY_DERIVATION_INPUT_SEED, PSA_KEY_DERIVATION_INPUT_SECRET,
                                     PSA_KEY_DERIVATION_INPUT_LABEL, PSA_KEY_DERIVATION_INPUT_SALT};
    static const uint32_t keys[] = {SP_KEY_PSK, SP_KEY_IAK, 1};
    struct sp_crypto_request request = {0};
    uint8_t choice = sp_read_u8(r);
    request.algorithm = algorithms[choice % 7U];
    uint8_t key = sp_read_u8(r);
    request.key = (key & 8U) != 0 ? keys[key % 3U] : given[key & 7U];
    request.operation = given[sp_read_u8(r) & 7U];
    request.step = steps[(choice >> 5) & 3U];
    request.nonce_len = 12;
    request.sizes[0] = 16;
    request.sizes[1] = 32;
    sp_copy(sp_shim_arena + 512, &request, sizeof(request));
    if (type == SP_CRYPTO_IMPORT_KEY || type == SP_CRYPTO_GENERATE_KEY ||
        type == SP_CRYPTO_DERIVATION_OUTPUT_KEY) {
        struct sp_crypto_attributes attributes = {.type = types[choice >> 6],
                                                  .algorithm = request.algorithm};
        attributes.usage = (uint32_t)sp_read_u8(r) << 8;
        attributes.bits = 128U * (choice & 1U);
        sp_copy(sp_shim_arena + 640, &attributes, sizeof(attributes));
        in[1] = (psa_invec){sp_shim_arena + 640, sizeof(attributes)};
        in[2] = (psa_invec){sp_shim_arena + 704, 16};
    }
}

/* How many vectors: any numbers, or some that a service could take. */
static uint32_t counts_of(uint8_t number, bool any)
{
    uint32_t in = 1U + (number & 1U) + ((number >> 1) & 1U);
    uint32_t out = ((uint32_t)number >> 4) % (5U - in);
    return any ? SP_SPM_CONTROL(0, number >> 4, number & 0xFU) : SP_SPM_CONTROL(0, in, out);
}

static void one_call(struct sp_reader *r)
{
    static const psa_handle_t handles[] = {TFM_CRYPTO_HANDLE,
                                           TFM_CRYPTO_HANDLE,
                                           TFM_CRYPTO_HANDLE,
                                           TFM_INTERNAL_TRUSTED_STORAGE_SERVICE_HANDLE,
                                           TFM_ATTESTATION_SERVICE_HANDLE,
                                           SP_SENSOR_SERVICE_HANDLE,
                                           SP_SERVICE_HANDLE(17),
                                           0};
    static const size_t sizes[] = {sizeof(struct sp_crypto_request), sizeof(struct sp_its_address),
                                   8, 32};
    psa_invec *in = (void *)sp_shim_arena;
    psa_outvec *out = (void *)(sp_shim_arena + 256);
    uint8_t what = sp_read_u8(r);
    uint16_t type = sp_read_u16(r);
    bool any = (what & 0x80U) != 0;
    uint32_t control = counts_of(sp_read_u8(r), any);
    for (size_t i = 0; i < VECTORS; i++) {
        uint16_t place = sp_read_u16(r);
        in[i] = (psa_invec){place_of(place, i), length_of(sp_read_u16(r))};
        place = sp_read_u16(r);
        out[i] = (psa_outvec){place_of(place, VECTORS + i), length_of(sp_read_u16(r))};
    }
    if (!any) { /* a first input that has the right size for somebody, a function that there is */
        in[0] = (psa_invec){sp_shim_arena + 512, sizes[(what >> 4) & 3U]};
        struct sp_view content = sp_read_bytes(r, sp_reader_left(r) < 48 ? sp_reader_left(r) : 48);
        sp_copy(sp_shim_arena + 512, content.ptr, content.len);
        type = (uint16_t)((what & 7U) < 3 ? type % SP_CRYPTO_FUNCTION_END : 1001U + type % 4U);
        if ((what & 0x48U) == 0x40U) {
            in[0].len = sizeof(struct sp_crypto_request);
            make_sense(r, type, in);
        }
    }
    sp_shim_now_ms += what;
    psa_status_t status = sp_spm_ns_call(handles[what & 7U], control | type, in, out);
    if (status == PSA_SUCCESS && out[0].len == 4 && (control & 0xFF0000U) != 0) {
        sp_copy(&given[given_count++ & 7U], out[0].base, 4);
    }
}

/* Not by memcmp(): the fuzzer looks at what that compares and would put the secret into its input. */
static void look_for(const uint8_t *secret)
{
    for (size_t i = 0; i + 32 <= SP_SHIM_ARENA; i++) {
        if (sp_shim_arena[i] == secret[0] && sp_ct_equal(sp_shim_arena + i, secret, 32)) {
            abort();
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool booted;
    struct sp_reader r;
    if (!booted) {
        sp_shim_erase();
        sp_shim_put_parcel();
        booted = sp_shim_boot() == PSA_SUCCESS;
        if (!booted) {
            abort();
        }
    }
    (void)memset(sp_shim_arena, 0x40, sizeof(sp_shim_arena));
    (void)memset(given, 0, sizeof(given));
    given_count = 0;
    sp_reader_init(&r, sp_view(data, size));
    while (r.err == SP_OK && sp_reader_left(&r) != 0) {
        one_call(&r);
    }
    look_for(sp_shim_psk);
    look_for(sp_shim_iak);
    if (sp_spm_current() != SP_CLIENT_NON_SECURE || !sp_secure_provisioned()) {
        abort();
    }
    return 0;
}
