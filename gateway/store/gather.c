/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/store/gather.h"

void sp_gather_begin(struct sp_gather *gather, uint64_t now_us, size_t count)
{
    /* A single change is likely from somebody who waits for the answer before the next. */
    *gather = (struct sp_gather){
        .began_us = now_us,
        .look_us = count > 1 ? now_us + SP_GATHER_LOOK_US : 0,
    };
}

bool sp_gather_waits(struct sp_gather *gather, uint64_t now_us, size_t count)
{
    uint64_t passed = now_us - gather->began_us;
    /* Each look is as far from the last one as that is from the beginning. */
    bool fewer = (count - gather->seen) * 2U < gather->seen;
    if (gather->look_us == 0 || count == 0 || count >= SP_GATHER_FULL || fewer ||
        passed >= SP_GATHER_MAX_US) {
        gather->look_us = 0;
        return false;
    }
    gather->seen = count;
    gather->look_us =
        gather->began_us + (passed * 2U < SP_GATHER_MAX_US ? passed * 2U : SP_GATHER_MAX_US);
    return true;
}
