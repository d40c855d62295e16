/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file The journal: every message accepted for the cloud, on disk until the cloud has it (docs/delivery.md).
 *
 * One file, `journal/journal.db` in the state directory (0600). A commit is one transaction and one sync for many messages;
 * when it returns SP_OK they survive a power cut. All functions belong to one thread.
 *
 * A commit that failed is final for its messages: they are not in the journal, will not come back, and nothing more is
 * taken before sp_journal_recover() has put the file in order.
 */
#ifndef SP_GATEWAY_STORE_JOURNAL_H
#define SP_GATEWAY_STORE_JOURNAL_H

#include "gateway/store/row.h"

/** A folder of its own, 0700: the only one that store's sandbox leaves open to it. Beneath the state directory. */
#define SP_JOURNAL_FOLDER     "journal"
#define SP_JOURNAL_FILE       SP_JOURNAL_FOLDER "/journal.db"
#define SP_JOURNAL_EPOCH_LEN  16U /**< hex digits */
#define SP_JOURNAL_PACKET_IDS 64  /**< per device: QoS 2 messages that may wait for their PUBREL */
#define SP_JOURNAL_REFUSED    64  /**< per device: refused records among the dead letters */

struct sp_journal; /* opaque */

struct sp_journal_stats {
    uint64_t messages;
    uint64_t bytes; /**< sum of sp_row_cost() of the messages */
    uint64_t dead_letters;
    uint64_t dead_bytes;
};

/**
 * Open the journal in `state_dir`, or make it. Takes time linear in what it holds. Never deletes data: a file
 * that is not a sound journal of this version is refused and left as it is.
 *
 * @param[out] why On failure one line for the operator.
 * @param[out] out On SP_OK owned by the caller: sp_journal_close(). Else NULL.
 * @retval SP_ERR_IO          The file cannot be opened, made, read or written.
 * @retval SP_ERR_MALFORMED   It is damaged, or no journal at all.
 * @retval SP_ERR_UNSUPPORTED It was made by another version.
 */
SP_MUST_CHECK enum sp_err sp_journal_open(const char *state_dir, char *why, size_t why_cap,
                                          struct sp_journal **out);
void sp_journal_close(struct sp_journal *journal); /**< NULL is fine */

/** Made at random when the journal was made: SP_JOURNAL_EPOCH_LEN hex digits and a NUL. */
const char *sp_journal_epoch(const struct sp_journal *journal);

struct sp_journal_stats sp_journal_stats(const struct sp_journal *journal);

/** The highest sequence that was ever committed; 0: none. */
uint64_t sp_journal_last(const struct sp_journal *journal);

/** Something failed: commits and reads are refused until sp_journal_recover(). */
bool sp_journal_broken(const struct sp_journal *journal);

/**
 * One transaction: append rows and let rows go, each to where its `end` says, and write what is staged of sessions
 * (gateway/store/sessions.h). Rows that are not there any more may be let go again.
 *
 * A row with a packet id is a QoS 2 message, and its packet id is kept with it until a row with SP_RECORD_RELEASE and the
 * same device and packet id comes (docs/delivery.md, D6). With SP_RECORD_REPEAT it is no new message if that packet id is
 * kept and topic and payload are the same. DUP alone is not believed, and neither is the packet id: a device that has
 * lost its state uses it for something else. The latest SP_JOURNAL_PACKET_IDS of a device are kept.
 *
 * @param[in,out] append On SP_OK every new message has its `seq`, rising in list order, and releases and repeats have 0; on
 *                       failure all have 0. May be empty.
 *                       A row with a counter moves its mark in the same transaction, upwards only. One whose
 *                       flags say SP_RECORD_MARK is no message: it moves its mark and gets no `seq`. Neither is one
 *                       with SP_RECORD_REFUSED: it becomes a dead letter for its `reason`; the latest SP_JOURNAL_REFUSED of
 *                       a device are kept.
 * @param[in]     ended  Rows with a `seq`. May be empty.
 * @retval SP_ERR_IO     Nothing happened to `append`; `ended` is to be given again after recovery.
 */
SP_MUST_CHECK enum sp_err sp_journal_commit(struct sp_journal *journal, struct sp_row_list *append,
                                            const struct sp_row_list *ended);

/** A mark: the highest counter accepted from a device under an epoch of a group. */
struct sp_journal_mark {
    uint64_t counter;
    uint32_t epoch;
    struct sp_view device;
    struct sp_view group;
};

typedef enum sp_err (*sp_journal_mark_fn)(void *arg, const struct sp_journal_mark *mark);

/** Show every mark; views are borrowed for the call. @retval SP_ERR_IO @return Else what `fn` returned. */
SP_MUST_CHECK enum sp_err sp_journal_marks(struct sp_journal *journal, sp_journal_mark_fn fn,
                                           void *arg);

/** Which rows sp_journal_read() is to bring. */
struct sp_journal_want {
    uint64_t after; /**< only rows behind this one */
    uint32_t link;  /**< only rows whose stream % links is this */
    uint32_t links;
    size_t max_rows;  /**< at least 1 */
    size_t max_bytes; /**< stops at the first row that reaches it */
};

/**
 * Read rows in order of their sequence; looks at a bounded number of rows, so that the caller gets its turn.
 *
 * @param[out] rows    Owned by the caller. Appended to.
 * @param[out] reached Every wanted row up to this sequence has been brought; call again with it as `after`. When
 *                     it is sp_journal_last(), there are no more.
 * @retval SP_ERR_IO, SP_ERR_NOMEM
 */
SP_MUST_CHECK enum sp_err sp_journal_read(struct sp_journal *journal,
                                          const struct sp_journal_want *want,
                                          struct sp_row_list *rows, uint64_t *reached);

typedef void (*sp_journal_share_fn)(void *arg, struct sp_view device, uint64_t bytes);

/** What each device has in the journal: the sum of sp_row_cost() of its messages. @retval SP_ERR_IO */
SP_MUST_CHECK enum sp_err sp_journal_shares(struct sp_journal *journal, sp_journal_share_fn fn,
                                            void *arg);

/** Acceptance time of the oldest message, milliseconds since 1970; 0 when there is none. */
uint64_t sp_journal_oldest_ms(struct sp_journal *journal);

/**
 * After a failure: open the file anew, remove what the failed commit may have left, and check that it can be
 * written. @retval SP_ERR_IO Still not; the same again later.
 */
SP_MUST_CHECK enum sp_err sp_journal_recover(struct sp_journal *journal);

/** One message as an operator sees it; views are borrowed for the call. */
struct sp_journal_entry {
    uint64_t seq;
    uint64_t time_ms; /**< acceptance, milliseconds since 1970 */
    uint64_t dead_ms; /**< of a dead letter: when it became one */
    struct sp_view device;
    struct sp_view topic;  /**< as the cloud sees it */
    struct sp_view origin; /**< as the device published it */
    struct sp_view payload;
    struct sp_view reason; /**< of a dead letter */
};

typedef void (*sp_journal_visit_fn)(void *arg, const struct sp_journal_entry *entry);

/**
 * Show every message, or every dead letter, in order. Only reads, and works beside a running store: what is shown is
 * one moment's state.
 *
 * @param[out] why On failure one line for the operator.
 * @retval SP_ERR_NOT_FOUND There is no journal in `state_dir`.
 * @retval SP_ERR_IO, SP_ERR_MALFORMED
 */
SP_MUST_CHECK enum sp_err sp_journal_visit(const char *state_dir, bool dead_letters,
                                           sp_journal_visit_fn fn, void *arg, char *why,
                                           size_t why_cap);

/**
 * Put dead letters back among the messages, behind all others: each gets a new sequence. Works beside a running store,
 * which notices within a second (sp_journal_changed()). Refused records stay where they are.
 *
 * @param[in]  seq   Which; 0: all.
 * @param[out] count How many were put back.
 * @param[out] why   On failure one line for the operator; then nothing has changed.
 * @retval SP_ERR_NOT_FOUND There is no journal in `state_dir`.
 * @retval SP_ERR_IO, SP_ERR_MALFORMED
 */
SP_MUST_CHECK enum sp_err sp_journal_requeue(const char *state_dir, uint64_t seq, uint64_t *count,
                                             char *why, size_t why_cap);

/**
 * Somebody else has written since this was asked last (or since it was opened): what is here was counted anew, and rows may be
 * there that no commit of ours has made.
 */
bool sp_journal_changed(struct sp_journal *journal);

/** The last failure in the database's words; never NULL. */
const char *sp_journal_error(const struct sp_journal *journal);

#endif
