/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file The disk of the simulation: a file system of one folder beneath SQLite, in memory, with what is written and what is
 * safe kept apart by sectors. The rules are those of the ledger's preloaded library (docs/testing.md): a sync that
 * works makes what was written safe; one that fails leaves it neither safe nor dirty; a power cut puts a random part of what
 * is not safe back, and takes files whose folder was not synced.
 */
#ifndef SP_TESTS_SIM_DISK_H
#define SP_TESTS_SIM_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** How it behaves; zeroed = well. */
struct sim_weather {
    uint32_t fail_syncs;  /**< so many of the next syncs fail */
    uint32_t fail_writes; /**< so many of the next writes fail, with EIO */
    bool halves;          /**< and leave their first half behind */
    bool full;            /**< no room */
    bool excused;         /**< something failed since this was set to false */
};
extern struct sim_weather sim_disk_weather;

/** Register with SQLite, once. */
void sim_disk_init(void);

/** An empty disk, and no chance left from the run before. */
void sim_disk_reset(void);

/** All power is gone; call it when nobody runs who uses it. */
void sim_disk_power_cut(void);

/** The process that writes dies in its n-th write or sync from now: before, after or halfway. 0: it does not. */
void sim_disk_doom_at(uint32_t n);

/** What a process that was killed had open. */
struct sqlite3;
void sim_disk_abandon(void);

/** Bytes in all files. */
size_t sim_disk_used(void);

/* For libc.c; results and errno as of the calls. */
int sim_disk_open(const char *path, bool folder, bool create);
bool sim_disk_is(int fd);
long sim_disk_read(int fd, void *out, size_t len, size_t at);
long sim_disk_write(int fd, const void *bytes, size_t len, size_t at);
int sim_disk_sync(int fd);
bool sim_disk_has(const char *path);

#endif
