/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file What one loop holds in common for all identities that have their home on it (docs/decisions/0001).
 *
 * A home belongs to one thread. Everything about one identity (guest place, take-over, session, queue) happens
 * in its home, so nothing here is locked; only the subscription index is shared, and parcels go to other homes.
 * It knows no socket and no TLS: bytes come in through sp_client_input(), go out through sp_client_work.out, and the
 * few other ways out are the functions below. Tests give their own.
 */
#ifndef SP_GATEWAY_GATE_SESSION_HOME_H
#define SP_GATEWAY_GATE_SESSION_HOME_H

#include "gateway/config/config.h"
#include "gateway/gate/core/slots.h"
#include "gateway/gate/core/table.h"
#include "gateway/gate/records/sensors.h"
#include "gateway/gate/route/subs.h"
#include "gateway/gate/route/tickets.h"
#include "gateway/gate/session/keep.h"
#include "gateway/loop/loop.h"
#include "gateway/loop/wheel.h"
#include "gateway/slab/ref.h"

struct sp_client;
struct sp_client_work;
struct sp_fuse;
struct sp_receipt;
struct sp_retained;

struct sp_home {
    const struct sp_config *config;
    const struct sp_role_config *
        roles; /* what the numbers of roles count: the configuration's, or what another process told */
    struct sp_subs *subs;         /**< shared by all homes */
    struct sp_retained *retained; /**< the same; NULL in tests that keep none */
    struct sp_timers *timers;     /**< of this loop, and its time */
    struct sp_outbox *outboxes; /**< one per loop: parcels for other homes, posted once per turn */
    uint16_t index;             /**< of this loop */
    uint16_t loops;

    struct sp_edge keys;       /**< to the keys process */
    struct sp_tickets tickets; /**< to the store process, and what waits for it */
    struct sp_keep keep;       /**< kept sessions and the journal */
    struct sp_keyring keyring; /**< the key groups, as keys told */
    struct sp_marks marks;     /**< counters of protected records */
    struct sp_sensors sensors; /**< what devices reported last */
    struct sp_fuse *fuse;      /**< NULL in tests that fuse nothing */
    bool frozen;               /**< set by the owner: no packet of a device is handled now */
    uint64_t unread;           /**< bytes, the owner's: `unsent` of all its clients */
    uint32_t generation;       /**< of the configuration: the same in all homes once all have it */
    /** The 32 bytes that tie a token to this client's TLS session. */
    enum sp_err (*exporter)(struct sp_client *client, uint8_t *out);
    /** A client's deadline has come; NULL: sp_client_due(), which this calls too. */
    void (*due)(struct sp_client *client);
    /** Write client->work->out now, as far as it goes; never ends the client at once. */
    void (*flush)(struct sp_client *client);

    /* private to gate/session */
    uint64_t queued; /* bytes: of all deliveries of all sessions */
    uint64_t seed;
    struct sp_table devices;          /* struct sp_device, by identity */
    struct sp_table names;            /* of groups, shared by the clients that are in one */
    struct sp_slots clients;          /* struct sp_client, by tag */
    struct sp_slots sessions;         /* struct sp_session, by tag */
    struct sp_slots receipts;         /* struct sp_receipt, by tag */
    struct sp_receipt *spare_receipt; /* one of them, for sp_receipt_open_reserved(); or NULL */
    struct sp_matches matches;        /* scratch */
    sp_ref resting; /* clients that had their share of the turn; linked, marked like the dirty */
    sp_ref dirty;   /* clients that have something to be written, or are to be closed */
    struct sp_wheel deadlines; /* of clients */
    sp_ref spare;              /* struct sp_client_work, to be used again */
    uint32_t spares;
};

/** The caller has set the public fields. */
void sp_home_init(struct sp_home *home);

/** What is kept of a role: its place in a list of them, + 1; 0: NULL, or it cannot be counted. */
uint16_t sp_role_number(const struct sp_role_config *roles, const struct sp_role_config *role);

/** The role with a number that is not 0. */
static inline const struct sp_role_config *sp_home_role(const struct sp_home *home, uint16_t number)
{
    return &home->roles[number - 1];
}

/** After all clients are gone: sessions, wills and devices. */
void sp_home_deinit(struct sp_home *home);

/** The loop that is home to an identity. */
uint16_t sp_home_of(struct sp_view identity, uint16_t loops);

/** Parcels run with a `struct sp_home *` as owner. */
void sp_home_post(struct sp_home *home, uint16_t loop, struct sp_parcel *parcel);

/**
 * The registry changed: end every connection of that identity (0x98) and drop its session, unless they are of the row with
 * that version; 0: there is none.
 */
void sp_home_revoke(struct sp_home *home, struct sp_view identity, uint64_t version);

/** keys holds a new policy: challenge every attested client again. */
void sp_home_reattest(struct sp_home *home);

/**
 * From now on `config` is in force; the old one is not looked at any more afterwards. Whoever is connected stays, under
 * the limits that it was told; subscriptions and wills that its role no longer allows are dropped, also of a session
 * without a connection. Whose role is gone is closed (0x98), its session ended.
 *
 * @param[in] config Borrowed until the next call.
 */
void sp_home_configure(struct sp_home *home, const struct sp_config *config);

/** SP_MSG_GROUPS. @retval SP_ERR_MALFORMED, SP_ERR_NOMEM */
SP_MUST_CHECK enum sp_err sp_home_groups(struct sp_home *home, struct sp_view body);

/** A new keys process knows of no verdicts: who may need app keys is challenged again. */
void sp_home_regrant(struct sp_home *home);

/** The keys process is gone: guests cannot be judged (0x88), open re-attestations start over later. */
void sp_home_keys_lost(struct sp_home *home);

#endif
