/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * A non-secure world that says anything: the input is a series of calls, each with vectors of any place and length and
 * memory of any content, most of it near what services understand. Never may a secret appear in its memory.
 */
#include "device/secure/partitions/crypto/crypto_protocol.h"
#include "device/secure/spm/spm.h"
#include "device/secure/spm/spm_ns.h"
#include "device/secure/test/shim.h"
#include "psa_manifest/pid.h"
#include "psa_manifest/sid.h"

#include <stdlib.h>
#include <string.h>

#define VECTORS 4U

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A place: mostly in the arena, sometimes anywhere. */
static void *place_of(uint16_t number)
{
    static uint8_t secure[256];
    switch (number >> 13) {
    case 7:
        return secure + (number & 0xFFU);
    case 6:
        return (number & 1U) != 0 ? NULL : sp_shim_arena + SP_SHIM_ARENA - (number & 0x3FU);
    default:
        return sp_shim_arena + 512U + number % (SP_SHIM_ARENA - 512U);
    }
}

static size_t length_of(uint16_t number)
{
    return (number >> 12) == 15 ? SIZE_MAX - (number & 0xFFFU) : (number & 0x3FFU);
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
    psa_invec *in = (void *)sp_shim_arena;
    psa_outvec *out = (void *)(sp_shim_arena + 256);
    uint8_t what = sp_read_u8(r);
    uint16_t type = sp_read_u16(r);
    uint8_t counts = sp_read_u8(r);
    for (size_t i = 0; i < VECTORS; i++) {
        uint16_t place = sp_read_u16(r);
        in[i] = (psa_invec){place_of(place), length_of(sp_read_u16(r))};
        place = sp_read_u16(r);
        out[i] = (psa_outvec){place_of(place), length_of(sp_read_u16(r))};
    }
    if ((what & 0x80U) == 0) { /* a first input that has the right size for somebody */
        static const size_t sizes[] = {sizeof(struct sp_crypto_request), 16, 8, 32};
        in[0] = (psa_invec){sp_shim_arena + 512, sizes[(what >> 4) & 3U]};
        struct sp_view content = sp_read_bytes(r, sp_reader_left(r) < 48 ? sp_reader_left(r) : 48);
        sp_copy(sp_shim_arena + 512, content.ptr, content.len);
        type %= (what & 7U) < 3 ? SP_CRYPTO_FUNCTION_END : 0x8000U;
    }
    sp_shim_now_ms += what;
    (void)sp_spm_ns_call(handles[what & 7U], SP_SPM_CONTROL(type, counts >> 4, counts & 0xFU), in,
                         out);
}

/* Not by memcmp(): the fuzzer looks at what that compares and would put the secret into its input. */
static void look_for(const uint8_t *secret)
{
    for (size_t i = 0; i + 32 <= SP_SHIM_ARENA; i++) {
        if (sp_ct_equal(sp_shim_arena + i, secret, 32)) {
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
