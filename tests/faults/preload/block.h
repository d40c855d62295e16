/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file What libspfaults.so and faults.py share, in a mapped file: which faults to make, and how to undo what
 * was written and not synced.
 *
 * The gateway is run with LD_PRELOAD=libspfaults.so, SP_FAULTS=this file and SP_FAULTS_DIR=its state directory. Mapped
 * before the sandbox is entered, used without a system call of its own but pread. One process writes a database, and
 * only one database can be undone at a time, so nothing here needs a lock.
 */
#ifndef SP_TESTS_FAULTS_PRELOAD_BLOCK_H
#define SP_TESTS_FAULTS_PRELOAD_BLOCK_H

#include <stdint.h>

#define SP_FAULTS_MAGIC 0x53504631U
#define SP_FAULTS_UNDO  (64U << 20) /**< bytes for records, twice */

/** Tracked files by number: the place in this list of the path beneath the state directory. The last is a directory itself. */
#define SP_FAULTS_FILES                                                                          \
    {                                                                                            \
        "journal/journal.db", "journal/journal.db-wal", "journal/journal.db-shm", "registry.db", \
            "registry.db-wal", "registry.db-shm", "registry.db-journal"                          \
    }
#define SP_FAULTS_DIRECTORY 15
#define SP_FAULTS_ANYBODY   0xFFFFFFFFU /**< as the trap's pid: whoever comes */

/** Calls that a trap may wait for. */
enum sp_faults_call {
    SP_FAULTS_PWRITE,
    SP_FAULTS_SYNC,
    SP_FAULTS_TRUNCATE,
    SP_FAULTS_SEND,    /**< send, sendmsg, write and writev on anything */
    SP_FAULTS_RECEIVE, /**< recv, recvmsg and read on anything */
    SP_FAULTS_CALLS
};

enum sp_faults_moment {
    SP_FAULTS_BEFORE,
    SP_FAULTS_AFTER,
    SP_FAULTS_HALFWAY, /**< of a write: half of the bytes */
};

/** What a process that walks into a trap does: ends itself, or tries what its sandbox is there for. */
enum sp_faults_deed {
    SP_FAULTS_END,
    SP_FAULTS_OPEN, /**< a file that no child has a right to */
    SP_FAULTS_SOCKET,
    SP_FAULTS_CONNECT,
    SP_FAULTS_LISTEN,
    SP_FAULTS_EXECUTE,
    SP_FAULTS_FORK,
    SP_FAULTS_TRACE,
    SP_FAULTS_SPY, /**< read the memory of another process */
    SP_FAULTS_CODE /**< make data executable */
};

/** One record of the undo area; `old` bytes follow, the next record begins at a multiple of 8. */
struct sp_faults_undo {
    uint32_t size; /**< of record and bytes */
    uint32_t file;
    uint32_t kind;  /**< 1 write, 2 truncate, 3 create */
    uint32_t state; /**< 1 not synced, 2 synced, 3 lost by a failed sync */
    uint64_t offset;
    uint64_t len;
    uint64_t old_len;
    uint64_t old_size; /**< of the file before */
};

struct sp_faults_block {
    uint32_t magic;
    uint32_t full;        /**< 1: no tracked file grows */
    uint32_t fail_syncs;  /**< so many of the next syncs fail with EIO */
    uint32_t fail_writes; /**< so many of the next writes fail with EIO */
    uint32_t
        short_writes; /**< so many of the next writes stop halfway; SQLite goes on with the rest */
    /* the trap: process `pid` does `deed` at the `count`th call from now; disarmed when pid is 0 */
    uint32_t pid;
    uint32_t call;
    uint32_t moment;
    uint32_t count;
    uint32_t sprung;    /**< traps that did */
    uint32_t overflows; /**< of the undo area: the next power cut would forget too much */
    uint32_t
        registry; /**< 1: what is written to the registry can be undone, 0: what to the journal */
    uint32_t
        deed; /**< of the trap: enum sp_faults_deed; none but SP_FAULTS_END ends the process by itself */
    uint32_t answer; /**< what came of a deed that was survived: 1 + errno, 1 where it was done */
    uint64_t syncs;  /**< of tracked files, all in all */
    uint64_t
        lies; /**< 1: syncs of tracked files do nothing and say they did: a test of the tests */
    uint64_t spared; /**< so many syncs work before fail_syncs counts */
    int64_t clock;   /**< seconds by which the time of day is wrong */
    uint64_t area;   /**< which of the two undo areas counts: one store makes the other one count */
    uint64_t used[2]; /**< bytes of each */
    uint8_t undo[2][SP_FAULTS_UNDO];
};

#endif
