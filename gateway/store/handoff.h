/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file What the journal thread and the cloud thread hand to each other: rows there, rows that are done
 * back, commands from the cloud. Short lists under one lock; each side has an eventfd that is readable when
 * something came. Which functions belong to which thread is said by their sections.
 */
#ifndef SP_GATEWAY_STORE_HANDOFF_H
#define SP_GATEWAY_STORE_HANDOFF_H

#include "gateway/config/config.h"
#include "gateway/store/row.h"

#define SP_HANDOFF_COMMANDS_MAX 64U /**< commands from the cloud that may wait for gate */

/** From so many rows on, or so many bytes, the journal thread is woken to let go of what has ended. */
#define SP_HANDOFF_ENDED_ROWS  128U
#define SP_HANDOFF_ENDED_BYTES (256U << 10)

struct sp_handoff; /* opaque */

/** A command from the cloud; heap block, release with free(). The views point behind the struct. */
struct sp_command {
    struct sp_command *next;
    uint64_t tag; /**< what the cloud thread knows it by; 0 with QoS 0: nobody waits for it */
    uint8_t qos;
    bool retain;
    struct sp_view topic;
    struct sp_view payload;
    uint8_t data[];
};

/** @retval SP_ERR_NOMEM @retval SP_ERR_IO No eventfd. */
SP_MUST_CHECK enum sp_err sp_handoff_create(uint32_t links, struct sp_handoff **out);
void sp_handoff_destroy(
    struct sp_handoff *h); /**< with all rows and commands in it; NULL is fine */

/* ---- journal thread ---- */

/** Readable when something came; sp_handoff_take_ended() makes it unreadable. */
int sp_handoff_journal_fd(const struct sp_handoff *h);

/** Hand rows to a link, in order; empties `rows`. */
void sp_handoff_give(struct sp_handoff *h, uint32_t link, struct sp_row_list *rows);

/** QoS 0 has a chance: the link is connected, or will be in a moment. */
bool sp_handoff_is_up(struct sp_handoff *h, uint32_t link);

/** Rows that the cloud thread is done with, appended to `ended`, and commands, oldest first. */
void sp_handoff_take_ended(struct sp_handoff *h, struct sp_row_list *ended,
                           struct sp_command **commands);

/** These ended rows are out of the journal now. */
void sp_handoff_released(struct sp_handoff *h, const struct sp_row_list *ended);

/** The command with this tag was handed to its receivers, or could not be: then the cloud gets that reason. */
void sp_handoff_command_taken(struct sp_handoff *h, uint64_t tag, uint8_t reason);

/** A new configuration for the cloud thread; takes the reference over. */
void sp_handoff_configure(struct sp_handoff *h, struct sp_config *config);

/** Ask the cloud thread to say good-bye and end; it waits so long for acknowledgements. */
void sp_handoff_stop(struct sp_handoff *h, uint32_t wait_ms);

/* ---- cloud thread ---- */

int sp_handoff_cloud_fd(const struct sp_handoff *h);
void sp_handoff_clear_cloud_fd(struct sp_handoff *h);
/** @param[out] wait_ms Written when it is so. */
bool sp_handoff_stopping(struct sp_handoff *h, uint32_t *wait_ms);

/** The newest configuration that was given and not taken, now the caller's; NULL: none. */
struct sp_config *sp_handoff_take_config(struct sp_handoff *h);

/** Everything given for a link, appended to `rows`. */
void sp_handoff_take(struct sp_handoff *h, uint32_t link, struct sp_row_list *rows);

/** Rows that are done (QoS 0 ones too); empties `ended`. A few do not wake the journal thread, which looks by itself. */
void sp_handoff_end(struct sp_handoff *h, struct sp_row_list *ended);

/** Also before the threads start, to give QoS 0 a chance until the first try has failed. */
void sp_handoff_set_up(struct sp_handoff *h, uint32_t link, bool up);

/** Rows of a link that have ended and are still in the journal: a crash now would repeat them. */
size_t sp_handoff_unreleased(struct sp_handoff *h, uint32_t link);

/**
 * A command for the devices, copied.
 * @retval SP_ERR_LIMIT SP_HANDOFF_COMMANDS_MAX are waiting. @retval SP_ERR_NOMEM
 */
SP_MUST_CHECK enum sp_err sp_handoff_command(struct sp_handoff *h,
                                             const struct sp_command *command);

/** The next tag of a command that was taken, and what to tell the cloud. @return false: none. */
bool sp_handoff_next_taken(struct sp_handoff *h, uint64_t *tag, uint8_t *reason);

#endif
