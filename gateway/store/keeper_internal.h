/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file The journal thread, in six files: its loop, commits and pressure (keeper.c), the channels to gate's loops
 * (keeper_doors.c), what becomes of the records that come through them (keeper_records.c), the sessions that gate gets back
 * (keeper_sessions.c), commands on their way to gate (keeper_commands.c) and the rows of the links (keeper_feeds.c).
 */
#ifndef SP_GATEWAY_STORE_KEEPER_INTERNAL_H
#define SP_GATEWAY_STORE_KEEPER_INTERNAL_H

#include "gateway/proc/channel.h"
#include "gateway/store/gather.h"
#include "gateway/store/intake.h"
#include "gateway/store/keeper.h"
#include "gateway/store/sessions.h"
#include "gateway/store/shares.h"

#define SP_DOOR_FATES \
    65536U /**< tickets whose fate is remembered, for those that come after them */

/** Tickets up to `up_to` share a fate. */
struct sp_door_run {
    uint64_t up_to;
    enum sp_err err;
};

/** The tickets of one kind of messages, on their way to an answer. */
struct sp_door_answers {
    uint16_t type; /* of the answer */
    uint64_t last_ticket;
    struct sp_door_run *runs; /* since the last answer */
    size_t count;
    size_t cap;
};

/** One gate loop. */
struct sp_door {
    struct sp_channel *channel; /* NULL while gate is away */
    struct sp_keeper *keeper;
    struct sp_door_answers messages;
    struct sp_door_answers sessions;
    uint64_t answered;                    /* ticket of a message */
    uint64_t refused[SP_DOOR_FATES / 64]; /* a bit for each of the latest tickets of messages */
    uint32_t interest;                    /* what epoll knows */
    bool shows;                           /* gate has asked for the sessions there are */
    struct sp_sessions_walk walk;         /* how far it has got them */
};

/**
 * One link to the cloud, seen from here: either level with the journal (everything committed was handed to it, new rows go to
 * it from memory) or behind (its next rows are read back from the journal when it has room). So what is in memory is bounded,
 * a backlog drains in order, and without one nothing is read twice.
 */
struct sp_feed {
    struct sp_row_list give;
    size_t held_rows; /* given and not ended, or not out of the journal yet */
    size_t held_bytes;
    size_t loose_rows;
    size_t loose_bytes;
    uint64_t handed; /* sequence of the last row that was given, or passed over as another link's */
    bool level;
};

struct sp_keeper {
    struct sp_config *config; /* a reference of its own */
    struct sp_journal *journal;
    struct sp_handoff *handoff;
    int epoll;
    int control;
    bool stop;
    bool failed;
    bool hurry;
    uint32_t level;      /* of pressure, as gate was told */
    bool refused_full;   /* a message did not fit, this turn */
    uint64_t free_below; /* bytes; when full: what it takes to be free again */
    uint64_t now;
    uint64_t tick_at; /* gauges, and what has ended */
    uint64_t recover_at;
    struct sp_gather gather;
    bool called; /* the parent has a message, which is for after the commit */
    uint32_t payload_max;
    struct sp_row_list batch; /* taken, not committed yet */
    struct sp_row_list marks; /* of what needs no journal; for the next commit */
    uint64_t marks_since;     /* when the oldest of them came; 0: none */
    struct sp_shares *shares; /* bytes in journal and batch, by device */
    struct sp_row_list ended;
    struct sp_command *commands; /* not taken by gate yet, oldest first */
    size_t kept_waiting; /* changes to sessions that wait for the next commit to be answered */
    uint32_t links;
    struct sp_feed *feeds;
    uint32_t door_count;
    struct sp_door doors[];
};

/* ---- keeper.c ---- */

/** The loop ends: the parent renews a channel when one of its ends dies, so an end that cannot go on has to. */
void sp_keeper_fail(struct sp_keeper *k);

/** Its events come with `id`. @return false: it cannot be watched. */
bool sp_keeper_watch(const struct sp_keeper *k, int fd, uint32_t id);

/** Bytes of journal, dead letters and batch: what the quota is for. */
uint64_t sp_keeper_used(const struct sp_keeper *k);

/** The journal cannot be read or put in order: logged; recovery is tried in a while. */
void sp_keeper_journal_failed(struct sp_keeper *k);

/* ---- keeper_doors.c ---- */

/** A new gate behind a door: it is told the level of pressure and all marks. @param fd Taken over. */
SP_MUST_CHECK enum sp_err sp_door_open(struct sp_keeper *k, uint32_t loop, int fd);

/** Send; a gate that does not read is closed, and we fail. Nothing happens while gate is away. */
void sp_door_tell(struct sp_door *d, uint16_t type, uint64_t tag, const struct sp_view *parts,
                  size_t count);
void sp_door_tell_level(struct sp_door *d);

/** Take all that gate has sent. */
void sp_door_read(struct sp_door *d);

/** The turn is over: answer all tickets. @param committed Not SP_OK: what had been taken is refused after all. */
void sp_door_answer(struct sp_door *d, enum sp_err committed);

/** Send what the channel could not take at once, as far as it goes. */
void sp_door_flush(struct sp_door *d);

/* ---- keeper_records.c ---- */

/** A record of QoS 0: to its link, if that is up and has room, or dropped and counted. A mark goes with the next commit. */
void sp_keeper_take_loose(struct sp_keeper *k, const struct sp_intake_record *r);

/**
 * A record for the journal: into the batch.
 * @retval SP_ERR_LIMIT       The device's share or the journal is full.
 * @retval SP_ERR_UNSUPPORTED There is no cloud.
 * @retval SP_ERR_IO          The journal is broken.
 * @retval SP_ERR_NOMEM
 */
SP_MUST_CHECK enum sp_err sp_keeper_take_durable(struct sp_keeper *k,
                                                 const struct sp_intake_record *r);

/* ---- keeper_sessions.c ---- */

/** gate asks for the sessions there are: from the beginning, it is to forget what it got before. */
void sp_door_start_show(struct sp_door *d);

/** Send a bounded part of them, so that everybody gets a turn. @return There is more that can be sent at once. */
bool sp_door_show(struct sp_door *d);

/* ---- keeper_commands.c ---- */

/** Send commands to gate and keep those that it has to answer for. @param list Taken over. */
void sp_keeper_take_commands(struct sp_keeper *k, struct sp_command *list);

/** gate has taken or refused a command. @param reason For the cloud. */
void sp_keeper_command_taken(struct sp_keeper *k, uint64_t tag, uint8_t reason);

/** gate is back: what it has not answered for goes again. */
void sp_keeper_resend_commands(struct sp_keeper *k);

/* ---- keeper_feeds.c ---- */

/** Committed rows go to links that are level; for a link that has no room they stay in the journal only. Empties the batch. */
void sp_keeper_hand_on(struct sp_keeper *k);

/** Every link gets what it has room for. @return Some link may be fed more without waiting. */
bool sp_keeper_feed_links(struct sp_keeper *k);

/** What the cloud thread is done with: `ended` for the next commit; and its commands. */
void sp_keeper_take_back(struct sp_keeper *k);

/** The commit has let go of the rows that ended: so do we. */
void sp_keeper_release_ended(struct sp_keeper *k);

#endif
