/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/core/debt.h"

uint32_t sp_debt_after(uint32_t debt, uint64_t ms, uint32_t rate)
{
    /* Not multiplied before it is known to be small: the time may be anything. */
    if (rate == 0) {
        return debt;
    }
    return ms >= (debt + rate - 1ULL) / rate ? 0 : debt - (uint32_t)(ms * rate);
}

bool sp_debt_is_full(uint32_t debt, uint32_t burst)
{
    return debt > (burst - 1U) * SP_DEBT_MESSAGE;
}

uint64_t sp_debt_wait(uint32_t debt, uint32_t rate, uint32_t burst)
{
    uint32_t some = rate < 10 ? 1 : rate / 10;
    uint32_t left = (some < burst ? burst - some : 0) * SP_DEBT_MESSAGE;
    return debt <= left ? 0 : ((uint64_t)(debt - left) + rate - 1) / rate;
}
