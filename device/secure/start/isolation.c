/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/secure/start/isolation.h"

#include "board.h"
#include "device/secure/start/registers.h"

#include <stddef.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct sau_region {
    uint32_t base;
    uint32_t size;
    uint32_t flags; /* of RLAR */
};

struct mpu_region {
    uint32_t base;
    uint32_t size;
    uint32_t access; /* of RBAR */
    uint32_t attributes;
};

struct mpc {
    uint32_t base;
    uint32_t memory; /* non-secure alias of what it guards */
    uint32_t ns;     /* non-secure part, 0 bytes: none */
    uint32_t ns_size;
};

struct ppc {
    uint32_t offset; /* in the secure privilege control block */
    uint32_t non_secure;
};

#define SAU_ENABLE 1U
#define SAU_NSC    2U

static const struct sau_region sau_regions[] = {
    {MAP_NSC, MAP_NSC_SIZE, SAU_NSC},
    {MAP_NS_CODE, MAP_NS_CODE_SIZE, 0},
    {MAP_NS_RAM, MAP_NS_RAM_SIZE, 0},
    {MAP_NS_PERIPHERALS, MAP_NS_PERIPHERALS_SIZE, 0},
};

#define MPU_XN       1U
#define MPU_READ_ANY (3U << 1)
#define MPU_WRITE    (1U << 1) /* any privilege: the secure world is one level */
#define MPU_NORMAL   (0U << 1) /* attribute 0 of MAIR0 */
#define MPU_DEVICE   (1U << 1)

/* What the secure world may do with memory. It executes nothing but its own flash. */
static const struct mpu_region mpu_regions[] = {
    {MAP_S_CODE, MAP_S_CODE_SIZE, MPU_READ_ANY, MPU_NORMAL},
    {MAP_S_RAM, MAP_S_DATA_SIZE, MPU_WRITE | MPU_XN, MPU_NORMAL},
    {MAP_NS_CODE, MAP_NS_CODE_SIZE, MPU_READ_ANY | MPU_XN, MPU_NORMAL},
    {MAP_NS_RAM, MAP_NS_RAM_SIZE, MPU_WRITE | MPU_XN, MPU_NORMAL},
    {MAP_S_PERIPHERALS, MAP_S_PERIPHERALS_SIZE, MPU_WRITE | MPU_XN, MPU_DEVICE},
};

static const struct mpc mpcs[] = BOARD_MPCS;
static const struct ppc ppcs[] = BOARD_PPCS;

static void barrier(void)
{
    __asm volatile("dsb\n\tisb" ::: "memory");
}

static uint32_t sau_limit(const struct sau_region *r)
{
    return ((r->base + r->size - 1U) & ~31U) | r->flags | SAU_ENABLE;
}

static void set_sau(void)
{
    for (uint32_t i = 0; i < COUNT(sau_regions); i++) {
        SP_REG(SAU_RNR) = i;
        SP_REG(SAU_RBAR) = sau_regions[i].base;
        SP_REG(SAU_RLAR) = sau_limit(&sau_regions[i]);
    }
    SP_REG(SAU_CTRL) = 1; /* the rest of memory is secure */
    barrier();
}

static bool check_sau(void)
{
    uint32_t total = SP_REG(SAU_TYPE) & 0xFFU;
    bool ok = SP_REG(SAU_CTRL) == 1U && total >= COUNT(sau_regions);
    for (uint32_t i = 0; i < total; i++) {
        const struct sau_region *r = i < COUNT(sau_regions) ? &sau_regions[i] : NULL;
        SP_REG(SAU_RNR) = i;
        ok = ok && (r == NULL ? (SP_REG(SAU_RLAR) & SAU_ENABLE) == 0
                              : SP_REG(SAU_RBAR) == r->base && SP_REG(SAU_RLAR) == sau_limit(r));
    }
    return ok;
}

static uint32_t mpu_limit(const struct mpu_region *r)
{
    return ((r->base + r->size - 1U) & ~31U) | r->attributes | 1U;
}

static void set_mpu(void)
{
    SP_REG(MPU_MAIR0) = 0x000004AAU; /* 0: normal, write-through; 1: device nGnRE */
    for (uint32_t i = 0; i < COUNT(mpu_regions); i++) {
        SP_REG(MPU_RNR) = i;
        SP_REG(MPU_RBAR) = mpu_regions[i].base | mpu_regions[i].access;
        SP_REG(MPU_RLAR) = mpu_limit(&mpu_regions[i]);
    }
    SP_REG(MPU_CTRL) =
        1; /* no default map, and none for faults either: they execute from flash too */
    barrier();
}

static bool check_mpu(void)
{
    bool ok = SP_REG(MPU_CTRL) == 1U;
    for (uint32_t i = 0; i < COUNT(mpu_regions); i++) {
        SP_REG(MPU_RNR) = i;
        ok = ok && SP_REG(MPU_RBAR) == (mpu_regions[i].base | mpu_regions[i].access) &&
             SP_REG(MPU_RLAR) == mpu_limit(&mpu_regions[i]);
    }
    return ok;
}

/* Bits of word `word` of a controller's table that stand for non-secure blocks. */
static uint32_t mpc_word(const struct mpc *m, uint32_t word)
{
    uint32_t shift = (SP_REG(m->base + MPC_BLK_CFG) & 0xFU) + 5U;
    uint32_t first = (m->ns - m->memory) >> shift;
    uint32_t end = first + (m->ns_size >> shift);
    uint32_t bits = 0;
    for (uint32_t bit = 0; bit < 32; bit++) {
        uint32_t block = word * 32U + bit;
        bits |= (m->ns_size != 0 && block >= first && block < end ? 1U : 0U) << bit;
    }
    return bits;
}

static void set_mpc(const struct mpc *m)
{
    uint32_t last = SP_REG(m->base + MPC_BLK_MAX);
    SP_REG(m->base + MPC_CTRL) = MPC_CTRL_BUS_ERROR;
    for (uint32_t word = 0; word <= last; word++) {
        SP_REG(m->base + MPC_BLK_IDX) = word;
        SP_REG(m->base + MPC_BLK_LUT) = mpc_word(m, word);
    }
    SP_REG(m->base + MPC_CTRL) = MPC_CTRL_BUS_ERROR | MPC_CTRL_LOCK;
}

static bool check_mpc(const struct mpc *m)
{
    uint32_t last = SP_REG(m->base + MPC_BLK_MAX);
    bool ok = SP_REG(m->base + MPC_CTRL) == (MPC_CTRL_BUS_ERROR | MPC_CTRL_LOCK);
    for (uint32_t word = 0; word <= last; word++) {
        SP_REG(m->base + MPC_BLK_IDX) = word;
        ok = ok && SP_REG(m->base + MPC_BLK_LUT) == mpc_word(m, word);
    }
    return ok;
}

/* Secure faults above all that the non-secure world can raise; faults and NMI are secure; no FPU for anybody. */
static void set_core(void)
{
    SP_REG(SCB_AIRCR) = AIRCR_KEY | AIRCR_PRIS;
    SP_REG(SCB_SHCSR) |=
        SHCSR_SECUREFAULTENA | SHCSR_USGFAULTENA | SHCSR_BUSFAULTENA | SHCSR_MEMFAULTENA;
    SP_REG(SCB_SHPR1) = 0;
    SP_REG(SCB_CPACR) = 0;
    SP_REG(SCB_NSACR) = 0;
    for (uint32_t i = 0; i < BOARD_IRQ_WORDS; i++) {
        SP_REG(NVIC_ICER + 4U * i) = 0xFFFFFFFFU;
        SP_REG(NVIC_ITNS + 4U * i) = 0xFFFFFFFFU; /* the secure world takes no interrupts */
    }
    SP_REG(SPC_SECRESPCFG) = 1; /* a bus error, not zeros, where the hardware can */
    SP_REG(SPC_NSCCFG) = 1;     /* veneers may lie in code memory */
    barrier();
}

static bool check_core(void)
{
    uint32_t faults =
        SHCSR_SECUREFAULTENA | SHCSR_USGFAULTENA | SHCSR_BUSFAULTENA | SHCSR_MEMFAULTENA;
    return (SP_REG(SCB_AIRCR) & (AIRCR_PRIS | AIRCR_BFHFNMINS)) == AIRCR_PRIS &&
           (SP_REG(SCB_SHCSR) & faults) == faults && SP_REG(SCB_SHPR1) == 0 &&
           (SP_REG(SCB_NSACR) & 0xC00U) == 0 && (SP_REG(SCB_CPACR) & 0x00F00000U) == 0 &&
           SP_REG(SPC_SECRESPCFG) == 1U && SP_REG(SPC_NSCCFG) == 1U;
}

bool sp_isolation_set(void)
{
    set_core();
    set_sau();
    set_mpu();
    for (size_t i = 0; i < COUNT(mpcs); i++) {
        set_mpc(&mpcs[i]);
    }
    for (size_t i = 0; i < COUNT(ppcs); i++) {
        SP_REG(SPC + ppcs[i].offset) = ppcs[i].non_secure;
    }
    barrier();

    bool ok = check_core() && check_sau() && check_mpu();
    for (size_t i = 0; i < COUNT(mpcs); i++) {
        ok = check_mpc(&mpcs[i]) && ok;
    }
    for (size_t i = 0; i < COUNT(ppcs); i++) {
        ok = SP_REG(SPC + ppcs[i].offset) == ppcs[i].non_secure && ok;
    }
    return ok;
}
