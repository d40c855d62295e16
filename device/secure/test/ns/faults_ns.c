/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * What a non-secure world that was taken over may try. The case is named on the emulator's command line; it ends the
 * emulator with 100 + the secure exception that it caused, or with 0 when it was refused as it should be.
 */
#include "board.h"
#include "device/secure/ns/ns.h"
#include "device/secure/spm/spm_ns.h"
#include "device/secure/spm/veneers.h"
#include "device/secure/test/ns/semihosting.h"
#include "psa/client.h"
#include "psa/initial_attestation.h"
#include "psa_manifest/sid.h"

#include <psa/crypto.h>
#include <stdbool.h>
#include <string.h>

#define REG(address) (*(volatile uint32_t *)(uintptr_t)(address))

#define SYST_CSR 0xE000E010U
#define SYST_RVR 0xE000E014U
#define SYST_CVR 0xE000E018U

enum { REFUSED = 0, ALLOWED = 1, NO_CASE = 2 };

static uint8_t bytes[64];
static uint8_t output[64];

void sp_ns_systick(void);

static volatile uint32_t target; /* the compiler is not to know what is wrong with it */

static int read_word(uint32_t address)
{
    target = address;
    (void)REG(target);
    return ALLOWED; /* a read that is let through */
}

static int read_secure_flash(void)
{
    return read_word(MAP_S_CODE);
}

static int read_secure_flash_by_its_other_name(void)
{
    return read_word(MAP_S_CODE - 0x10000000U + 0x100U);
}

static int read_veneers(void)
{
    return read_word(MAP_NSC); /* callable, but secure memory all the same */
}

static int read_secure_ram(void)
{
    return read_word(MAP_S_RAM + 0x100U);
}

static int read_secure_ram_by_its_other_name(void)
{
    return read_word(MAP_S_RAM - 0x10000000U + 0x100U);
}

static int write_secure_ram(void)
{
    REG(MAP_S_RAM + 0x100U) = 1;
    return ALLOWED;
}

static int read_protection_control(void)
{
    return read_word(0x50080000U);
}

static int branch_to(uint32_t address)
{
    void (*there)(void) = (void (*)(void))(uintptr_t)(address | 1U);
    there();
    return ALLOWED;
}

static int branch_past_the_veneers(void)
{
    return branch_to(MAP_NSC + MAP_NSC_SIZE + 0x100U);
}

static int branch_behind_the_gate(void)
{
    return branch_to(MAP_NSC + 4U); /* the branch of the first veneer, without its SG */
}

static int branch_to_unused_gate(void)
{
    return branch_to(MAP_NSC + MAP_NSC_SIZE - 8U);
}

/* The non-secure view of registers that decide about the worlds: reads as zero, keeps what is written to itself. */
static int change_isolation(void)
{
    REG(0xE000EDD0U) = 0; /* SAU_CTRL */
    REG(0xE000E380U) = 0; /* NVIC_ITNS0 */
    bool blind = REG(0xE000EDD0U) == 0 && REG(0xE000E380U) == 0;
    REG(0xE000ED0CU) = 0x05FA0000U; /* AIRCR: PRIS off, faults to the non-secure world */
    bool holds = (REG(0xE000ED0CU) & (1U << 13)) == 0;
    return blind && holds && psa_framework_version() == PSA_FRAMEWORK_VERSION ? REFUSED : ALLOWED;
}

#ifdef BOARD_I2C_BASE
static int use_secure_i2c(void)
{
    uint32_t alias = BOARD_I2C_BASE - 0x10000000U;
    REG(alias) = 3;
    return REG(alias) == 0 ? REFUSED : ALLOWED;
}
#endif

static psa_status_t hash(const psa_invec *in, size_t in_len, psa_outvec *out, size_t out_len)
{
    return psa_call(TFM_INTERNAL_TRUSTED_STORAGE_SERVICE_HANDLE, 1001, in, in_len, out, out_len);
}

/* Vectors that point where they must not: each has to be refused, none may fault. */
static int pass_secure_pointers(void)
{
    static const struct {
        uintptr_t base;
        size_t len;
    } bad[] = {
        {MAP_S_RAM, 16},
        {MAP_S_CODE, 16},
        {MAP_NSC, 8},
        {MAP_NS_RAM + MAP_NS_RAM_SIZE - 8U, 16}, /* over the end */
        {MAP_NS_CODE - 8U, 16},                  /* over the beginning */
        {MAP_NS_RAM, 0xFFFFFFFFU},               /* around the world */
        {0xFFFFFFF0U, 0x20},
        {0, 16},
        {MAP_S_PERIPHERALS, 16},
        {0xE000E000U, 16},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const void *base = (const void *)bad[i].base;
        bool array =
            bad[i].base != MAP_NS_RAM; /* too long for a buffer, good for an array of vectors */
        const psa_invec in[] = {{bytes, 16}, {base, bad[i].len}};
        psa_outvec out[] = {{(void *)bad[i].base, bad[i].len}};
        if (hash(in, 2, NULL, 0) != PSA_ERROR_PROGRAMMER_ERROR ||
            hash(in, 1, out, 1) != PSA_ERROR_PROGRAMMER_ERROR ||
            (array && hash(base, 2, NULL, 0) != PSA_ERROR_PROGRAMMER_ERROR) ||
            (array && hash(NULL, 0, (psa_outvec *)bad[i].base, 2) != PSA_ERROR_PROGRAMMER_ERROR)) {
            return ALLOWED;
        }
    }
    const psa_invec same[] = {{bytes, 32}, {bytes + 31, 8}};
    psa_outvec twice[] = {{bytes, 32}, {bytes + 31, 8}};
    bool refused = hash(same, 2, NULL, 0) == PSA_ERROR_PROGRAMMER_ERROR &&
                   hash(NULL, 0, twice, 2) == PSA_ERROR_PROGRAMMER_ERROR;
    return refused ? REFUSED : ALLOWED;
}

/* More vectors than there may be, by the veneer itself: the library would stop it. */
static int count_too_many(void)
{
    static const psa_invec in[8] = {
        {bytes, 1}, {bytes + 1, 1}, {bytes + 2, 1}, {bytes + 3, 1}, {bytes + 4, 1}};
    static psa_outvec out[8];
    for (unsigned i = 0; i < 256; i++) {
        for (unsigned k = i > 4 ? 0 : 5 - i; k < 256; k += 5) {
            if (sp_psa_call_veneer(TFM_CRYPTO_HANDLE, SP_SPM_CONTROL(7, i, k), in, out) !=
                PSA_ERROR_PROGRAMMER_ERROR) {
                return ALLOWED;
            }
        }
    }
    return sp_psa_call_veneer(TFM_CRYPTO_HANDLE, SP_SPM_CONTROL(0x8001, 1, 0), in, out) ==
                   PSA_ERROR_PROGRAMMER_ERROR
               ? REFUSED
               : ALLOWED;
}

static volatile psa_status_t from_handler;
static volatile uint32_t ticks;
static void (*volatile on_tick)(void);

void sp_ns_systick(void)
{
    ticks++;
    on_tick();
}

static void start_ticks(void (*tick)(void), uint32_t cycles)
{
    on_tick = tick;
    REG(SYST_RVR) = cycles;
    REG(SYST_CVR) = 0;
    REG(SYST_CSR) = 7;
}

static psa_status_t hash_bytes(psa_invec *in, psa_outvec *out)
{
    return sp_psa_call_veneer(TFM_INTERNAL_TRUSTED_STORAGE_SERVICE_HANDLE,
                              SP_SPM_CONTROL(1002, 1, 1), in, out);
}

static void call_from_tick(void)
{
    psa_invec in[] = {{bytes, 16}};
    psa_outvec out[] = {{output, 16}};
    from_handler = hash_bytes(in, out);
}

/* From an interrupt handler, be it that the interrupt came while the secure world was at work. */
static int call_from_an_interrupt(void)
{
    from_handler = PSA_ERROR_PROGRAMMER_ERROR;
    start_ticks(call_from_tick, 20000);
    for (unsigned i = 0; i < 200 || ticks < 20; i++) {
        size_t len = 0;
        psa_status_t status = psa_hash_compute(
            PSA_ALG_SHA_256, (const uint8_t *)(uintptr_t)MAP_NS_CODE, 4096, output, 32, &len);
        if (from_handler != PSA_ERROR_PROGRAMMER_ERROR || status != PSA_SUCCESS) {
            return ALLOWED;
        }
    }
    return REFUSED;
}

static psa_invec flipped[2];
static uint32_t request[11]; /* struct sp_crypto_request of a hash */

static void flip_pointer(void)
{
    flipped[1].base = flipped[1].base == bytes ? (const void *)(uintptr_t)MAP_S_RAM : bytes;
}

/* An interrupt changes a vector all the time: a call is served as it was checked or refused, and nothing faults. */
static int change_vectors_during_calls(void)
{
    unsigned served = 0;
    unsigned refused = 0;
    psa_outvec out[] = {{output, 32}};
    request[2] = PSA_ALG_SHA_256;
    flipped[0] = (psa_invec){request, sizeof(request)};
    flipped[1] = (psa_invec){bytes, sizeof(bytes)};
    start_ticks(flip_pointer, 400);
    for (unsigned i = 0; i < 20000 || ((served == 0 || refused == 0) && i < 1000000); i++) {
        out[0].len = 32;
        psa_status_t status =
            sp_psa_call_veneer(TFM_CRYPTO_HANDLE, SP_SPM_CONTROL(7, 2, 1), flipped, out);
        served += status == PSA_SUCCESS;
        refused += status == PSA_ERROR_PROGRAMMER_ERROR;
        if (status != PSA_SUCCESS && status != PSA_ERROR_PROGRAMMER_ERROR) {
            return ALLOWED;
        }
    }
    return served != 0 && refused != 0 ? REFUSED : NO_CASE;
}

/* What is left in the registers that a call may change: nothing that the secure world put there. */
static int look_into_registers(void)
{
    uint32_t left[4] = {0};
    psa_invec in[] = {{bytes, 16}};
    __asm volatile("movs r0, #1\n\t"
                   "mov r1, %1\n\t"
                   "mov r2, %2\n\t"
                   "movs r3, #0\n\t"
                   "mov r12, r3\n\t"
                   "bl sp_psa_call_veneer\n\t"
                   "mov r4, %0\n\t"
                   "str r1, [r4, #0]\n\t"
                   "str r2, [r4, #4]\n\t"
                   "str r3, [r4, #8]\n\t"
                   "mov r5, r12\n\t"
                   "str r5, [r4, #12]\n\t"
                   :
                   : "r"(left), "r"(SP_SPM_CONTROL(7, 1, 0)), "r"(in)
                   : "r0", "r1", "r2", "r3", "r4", "r5", "r12", "lr", "memory", "cc");
    for (unsigned i = 0; i < 4; i++) {
        uint32_t region = left[i] >> 28;
        if (left[i] >= MAP_S_CODE && (region == 1U || region == 3U || region == 5U)) {
            return ALLOWED; /* a secure address */
        }
    }
    return REFUSED;
}

static const struct {
    const char *name;
    int (*run)(void);
} cases[] = {
    {"read_secure_flash", read_secure_flash},
    {"read_secure_flash_by_its_other_name", read_secure_flash_by_its_other_name},
    {"read_veneers", read_veneers},
    {"read_secure_ram", read_secure_ram},
    {"read_secure_ram_by_its_other_name", read_secure_ram_by_its_other_name},
    {"write_secure_ram", write_secure_ram},
    {"read_protection_control", read_protection_control},
    {"branch_past_the_veneers", branch_past_the_veneers},
    {"branch_behind_the_gate", branch_behind_the_gate},
    {"branch_to_unused_gate", branch_to_unused_gate},
    {"change_isolation", change_isolation},
#ifdef BOARD_I2C_BASE
    {"use_secure_i2c", use_secure_i2c},
#endif
    {"pass_secure_pointers", pass_secure_pointers},
    {"count_too_many", count_too_many},
    {"call_from_an_interrupt", call_from_an_interrupt},
    {"change_vectors_during_calls", change_vectors_during_calls},
    {"look_into_registers", look_into_registers},
};

int main(void)
{
    static char line[128];
    struct {
        char *buffer;
        int size;
    } block = {line, sizeof(line)};
    if (sp_semihosting(0x15, &block) != 0) { /* SYS_GET_CMDLINE */
        return NO_CASE;
    }
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (strcmp(cases[i].name, line) == 0) {
            return cases[i].run();
        }
    }
    return NO_CASE;
}
