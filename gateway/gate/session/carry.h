/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file Devices written down, for another process that carries on with them (docs/decisions/0005-upgrade.md).
 *
 * What is known of one identity (session, queue, a will that waits, the client with its state) becomes one item, with the messages
 * in its queue as items before it; a message that is in many queues is written once. Numbers are big-endian, strings have
 * their length before them, times are those of the monotonic clock, which all processes of a machine share: so the reader may be another build. What changes
 * here changes SP_HANDOVER_VERSION (gateway/proc/proc.h).
 *
 * Written state has secrets of its devices in it only as far as the owner puts them in (`connection`).
 */
#ifndef SP_GATEWAY_GATE_SESSION_CARRY_H
#define SP_GATEWAY_GATE_SESSION_CARRY_H

#include "gateway/gate/core/buf.h"
#include "gateway/gate/core/table.h"
#include "gateway/gate/records/marks.h"
#include "gateway/gate/session/client.h"

#define SP_CARRY_HEADER     5U          /**< bytes before the body of an item: type, length */
#define SP_CARRY_ITEM_MAX   (64U << 20) /**< bytes of a body */
#define SP_CARRY_REGRANT_MS 300000U /**< within that time, devices of groups are challenged again */

enum sp_carry_item {
    SP_CARRY_HEAD = 1, /**< version, whether all marks are there, rules of attestation */
    SP_CARRY_MAIL,     /**< a message, numbered from 0 */
    SP_CARRY_MARK,     /**< the counter of protected records of a device */
    SP_CARRY_RETAINED, /**< a retained message */
    SP_CARRY_DEVICE,
    SP_CARRY_END, /**< how many devices, how many connections */
};

struct sp_device;
struct sp_mail;
struct sp_mark;

/** Zeroed = empty. */
struct sp_carry_out {
    struct sp_buf buf; /**< items, to be taken by the owner */
    bool failed;       /**< out of memory, or something that cannot be written: give up */
    uint32_t mails;    /* written */
    struct sp_table numbers;
};

/** What was read so far that others may refer to. Zeroed = empty. */
struct sp_carry_in {
    struct sp_mail **mails;
    uint32_t mail_count;
    uint32_t mail_cap;
    struct sp_role_config *roles; /* names only; until sp_home_configure() finds the real ones */
    size_t role_count;
};

/** One device that was read, with what its owner needs to go on. The views are borrowed from the item. */
struct sp_carried {
    struct sp_device *device;
    struct sp_view client;     /**< for sp_carry_read_client(); empty: it has no connection */
    struct sp_view connection; /**< as the owner wrote it */
};

/* ---- writing ---- */

/** Begin an item. @return What sp_carry_end() needs. */
size_t sp_carry_begin(struct sp_carry_out *out, enum sp_carry_item type);
void sp_carry_end(struct sp_carry_out *out, size_t begun);

/** `bytes` 1, 2, 4 or 8. */
void sp_carry_number(struct sp_carry_out *out, uint64_t value, size_t bytes);
/** With its length before it, in four bytes. */
void sp_carry_block(struct sp_carry_out *out, struct sp_view block);

/**
 * Write a device, unless nothing is left of it.
 *
 * @param[in] client     Its client, OPEN and with nothing in `out`; NULL: it has none, or its connection stays behind: then it is
 *                       written as if the connection had just been ended by the gateway.
 * @param[in] connection The owner's part of it.
 * @return false: nothing was left.
 */
bool sp_carry_device(struct sp_carry_out *out, const struct sp_device *device,
                     const struct sp_client *client, struct sp_view connection);

void sp_carry_mark(struct sp_carry_out *out, const struct sp_mark *mark);

void sp_carry_retained(struct sp_carry_out *out, struct sp_view owner, struct sp_mail *message);

/** Wipes. */
void sp_carry_out_deinit(struct sp_carry_out *out);

/* ---- reading ---- */

/** @retval SP_ERR_MALFORMED, SP_ERR_NOMEM */
SP_MUST_CHECK enum sp_err sp_carry_read_mail(struct sp_carry_in *in, struct sp_view body);

/** For home->retained. @retval SP_ERR_MALFORMED, SP_ERR_NOMEM */
SP_MUST_CHECK enum sp_err sp_carry_read_retained(struct sp_carry_in *in, struct sp_home *home,
                                                 struct sp_view body);

/** The identity in a SP_CARRY_DEVICE or SP_CARRY_MARK; empty: malformed. */
struct sp_view sp_carry_identity(struct sp_view body);

/** Make a device in its home, with session and what waits. @retval SP_ERR_MALFORMED, SP_ERR_NOMEM, SP_ERR_EXISTS */
SP_MUST_CHECK enum sp_err sp_carry_read_device(struct sp_carry_in *in, struct sp_home *home,
                                               struct sp_view body, struct sp_carried *out);

/**
 * Make a client, which sp_client_init() has seen, the one of a device. It writes nothing; sp_home_configure() must
 * follow before anything else happens to it, since its role is a name only.
 * @retval SP_ERR_MALFORMED, SP_ERR_NOMEM
 */
SP_MUST_CHECK enum sp_err sp_carry_read_client(struct sp_carry_in *in, struct sp_client *client,
                                               const struct sp_carried *carried);

/** @retval SP_ERR_MALFORMED, SP_ERR_NOMEM */
SP_MUST_CHECK enum sp_err sp_carry_read_mark(struct sp_home *home, struct sp_view body);

/** After sp_home_configure(). */
void sp_carry_in_deinit(struct sp_carry_in *in);

#endif
