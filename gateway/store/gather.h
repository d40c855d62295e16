/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file How long changes gather before one commit takes them all: a sync costs more than all else, and waiting shares it.
 *
 * What comes alone is committed at once. When changes come thick, commits wait for more, for as long as more keep coming: a look after one
 * millisecond, after two, four and eight. It ends with the first of these that has brought less than half as fast as before (then
 * those that sent wait for their answers), with SP_GATHER_FULL changes, and at the latest with SP_GATHER_MAX_US. Pure.
 */
#ifndef SP_GATEWAY_STORE_GATHER_H
#define SP_GATEWAY_STORE_GATHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SP_GATHER_LOOK_US 1000U /**< from the start of a commit to the first look */
#define SP_GATHER_MAX_US  8000U /**< between the starts of two commits */
#define SP_GATHER_FULL    128U /**< so many changes wait for no more: a row of the journal (batch.h) */

/** Zeroed = what comes next is committed at once. Times are microseconds of one clock. */
struct sp_gather {
    uint64_t began_us; /* the last commit */
    uint64_t look_us;  /**< nothing is to be done before; 0: at once */
    size_t seen;       /* changes that had come at the last look */
};

/** A commit of `count` changes begins. */
void sp_gather_begin(struct sp_gather *gather, uint64_t now_us, size_t count);

/**
 * A look at what has come since the last commit began.
 *
 * @param count Changes that wait for a commit.
 * @return true: not yet, look again at look_us. false: commit what is there; where nothing is, the next change is alone.
 */
bool sp_gather_waits(struct sp_gather *gather, uint64_t now_us, size_t count);

#endif
