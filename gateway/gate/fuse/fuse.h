/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file Fusion (docs/protocol.md 7): the records of many devices over a time window become one document.
 *
 * Windows are aligned to 1970: window n covers [n, n + 1) times the configured length, by the time of the record. A window
 * is closed `late` after its end; until then it takes its records in any order. What comes for a closed one is counted as
 * late in the document of the window that is open, and left out. A record from the future belongs to the window of
 * now. Every loop sums up the devices that it is home to; loop 0 joins the sums and publishes.
 *
 * Memory: two windows per fusion and loop, one place per fusion and device.
 */
#ifndef SP_GATEWAY_GATE_FUSE_FUSE_H
#define SP_GATEWAY_GATE_FUSE_FUSE_H

#include "gateway/gate/records/sensors.h"
#include "gateway/loop/loop.h"

struct sp_home;

struct sp_fuse_sum {
    uint64_t count;
    double min;
    double max;
    double sum;
};

/** What one window of one fusion holds. */
struct sp_fuse_window {
    int64_t index;
    bool open;
    bool declassified; /**< sealed records are in it */
    uint32_t seen;     /**< devices */
    uint32_t late;     /**< records */
    struct sp_fuse_sum temperature;
    struct sp_fuse_sum humidity;
};

struct sp_fuse; /* opaque, one per loop */

/** @retval SP_ERR_NOMEM */
SP_MUST_CHECK enum sp_err sp_fuse_create(struct sp_home *home, struct sp_fuse **out);
/** NULL is fine. */
void sp_fuse_destroy(struct sp_fuse *fuse);

/** Give an accepted record to the fusions whose input it is. */
void sp_fuse_take(struct sp_fuse *fuse, struct sp_sensor *sensor, struct sp_view topic,
                  const struct sp_record_in *in);

/** A device is gone for good: it is not silent from now on. */
void sp_fuse_forget(struct sp_fuse *fuse, const struct sp_sensor *sensor);

/** Close what is due; also called by a timer of its own. */
void sp_fuse_roll(struct sp_fuse *fuse);

#endif
