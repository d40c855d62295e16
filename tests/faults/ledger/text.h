/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file What the producers' messages say: who sent which number, and bytes that follow from both and the seed, so
 * that a receiver knows every byte without having been told.
 */
#ifndef SP_TESTS_FAULTS_LEDGER_TEXT_H
#define SP_TESTS_FAULTS_LEDGER_TEXT_H

#include "libs/base/bytes.h"

#define SP_TEXT_HEAD 20U   /**< shortest */
#define SP_TEXT_MAX  4096U /**< longest, bytes */

/** Append the text of a message; its length, SP_TEXT_HEAD to `longest`, follows from the three too. */
void sp_text_write(struct sp_writer *w, uint64_t seed, uint32_t device, uint64_t number,
                   uint32_t longest);

/**
 * Who sent it.
 * @retval SP_ERR_MALFORMED  None of these texts.
 * @retval SP_ERR_UNTRUSTED  One of these, with other bytes than it was sent with; `device`, `number` are filled in.
 */
SP_MUST_CHECK enum sp_err sp_text_read(struct sp_view text, uint64_t seed, uint32_t *device,
                                       uint64_t *number);

#endif
