/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file For fuzzers of database files: a sound file, and what the input makes of it. */
#ifndef SP_TESTS_FUZZ_DATABASE_H
#define SP_TESTS_FUZZ_DATABASE_H

#include "libs/base/bytes.h"

/** Ends the fuzzer when it does not hold. */
void fuzz_require(bool condition);

/** A new folder in memory (/dev/shm, else /tmp), removed with all that is in it when the process ends. */
const char *fuzz_folder(void);

/** A whole file; NULL bytes when there is none. Freed by the caller. */
struct fuzz_file {
    uint8_t *bytes;
    size_t len;
};

struct fuzz_file fuzz_read(const char *path);
void fuzz_write(const char *path, struct sp_view bytes); /**< with mode 0600 */

/** One cell that may be changed. */
struct fuzz_cell {
    const char *table;
    const char *column;
};

/**
 * Write `sound` to `path`, without the logs that a database keeps beside it, and change it as the input says: bytes here and
 * there, or a shorter file, or cells (of every row, or of one) with values of other types and sizes, or other bytes altogether.
 */
void fuzz_damage(const char *path, const struct fuzz_file *sound, const struct fuzz_cell *cells,
                 size_t count, struct sp_view input);

#endif
