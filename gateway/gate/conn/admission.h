/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file Which of the connections that nobody has vouched for yet may go on: one loop's waiting room.
 *
 *     enter ──► SILENT ──ready──► READY ──next──► SERVED ──► leave
 *
 * A SILENT visitor has not said a whole ClientHello and costs little. A READY one waits for one of `limits: handshakes` places.
 * Places go round among source addresses (a /64 of IPv6 is one), so that many connections of one cannot keep out one of
 * another; three of four go to addresses from which somebody was admitted before. An address has its own bounds for connections, for
 * visitors that wait, for handshakes at a time and for handshakes a second (a token bucket).
 *
 * Loops share nothing here: the kernel spreads connections over them, and every bound is per loop. Pure but for the heap: time
 * and limits come in as arguments.
 */
#ifndef SP_GATEWAY_GATE_CONN_ADMISSION_H
#define SP_GATEWAY_GATE_CONN_ADMISSION_H

#include <sys/queue.h>

#include "gateway/config/config.h"
#include "gateway/gate/core/peer.h"
#include "gateway/gate/core/table.h"
#include "gateway/loop/loop.h"

/** Which limit ends a connection: name of the counter's label. */
#define SP_SHED_MAP(X)                                                                            \
    X(CONNECTIONS, "connections", "too many connections")                                         \
    X(ADDRESS, "connections_per_address", "too many connections of this address")                 \
    X(WAITING, "waiting", "too many connections wait")                                            \
    X(WAITING_ADDRESS, "waiting_per_address", "too many connections of this address wait")        \
    X(QUEUE, "queue", "no place for its handshake in time")                                       \
    X(CROWDED, "handshakes", "its handshake was slow and others waited for the place")            \
    X(IDENTITY, "handshakes_per_identity", "too many handshakes under this identity, the oldest") \
    X(DESCRIPTORS, "descriptor_reserve",                                                          \
      "file descriptors are short, and it was the oldest that "                                   \
      "had said nothing")                                                                         \
    X(MEMORY, "memory", "out of memory")                                                          \
    X(KEYS, "keys", "keys process not available")

enum sp_shed {
#define X(name, label, text) SP_SHED_##name,
    SP_SHED_MAP(X)
#undef X
};

enum sp_visitor_state { SP_VISITOR_SILENT, SP_VISITOR_READY, SP_VISITOR_SERVED };

struct sp_source;

struct sp_visitor {
    void *owner;             /**< the connection */
    uint64_t preauth_ms;     /**< the owner's: admitted by then, or closed */
    uint64_t since_ms;       /**< when it came; SERVED: when its handshake began */
    struct sp_parcel parcel; /**< the owner's: while it moves to another loop … */
    int fd;                  /**< … with this socket */
    LIST_ENTRY(sp_visitor) among_all;
    struct sp_source *source; /* private, as are the next three */
    struct sp_visitor *next;  /* SILENT or SERVED: younger; READY: next of its source */
    struct sp_visitor *previous;
    uint8_t state; /**< enum sp_visitor_state */
};

struct sp_line {
    struct sp_visitor *first; /* the oldest */
    struct sp_visitor *last;
};

/** Sources in a circle; the first is served next. */
struct sp_ring {
    struct sp_source *first;
    struct sp_source *last;
};

struct sp_admission {
    struct sp_table sources; /* struct sp_source by address */
    struct sp_ring rings[2]; /* with READY visitors that may be served: strangers, known */
    struct sp_ring idle;     /* without a connection; the one that is so for longest first */
    struct sp_line silent;
    struct sp_line served;
    LIST_HEAD(, sp_visitor) all; /**< every visitor */
    uint32_t turn;               /* which ring is next */
    uint32_t waiting;            /**< SILENT or READY */
    uint32_t ready;
    uint32_t in_service;
};

void sp_admission_deinit(struct sp_admission *a);

/**
 * A new connection of `peer`.
 * @param[out] why Set when the result is SP_ERR_LIMIT or SP_ERR_NOMEM.
 * @return SP_ERR_LIMIT A bound of its address, or nobody can make room for it.
 */
SP_MUST_CHECK enum sp_err sp_admission_enter(struct sp_admission *a,
                                             const struct sp_limits_config *limits,
                                             const struct sp_peer *peer, uint64_t now_ms,
                                             struct sp_visitor **out, enum sp_shed *why);

/** A connection that comes from another loop in the middle of its handshake. @retval SP_ERR_NOMEM */
SP_MUST_CHECK enum sp_err sp_admission_adopt(struct sp_admission *a, const struct sp_peer *peer,
                                             struct sp_visitor *visitor);

/** A connection that another process has admitted: no visitor. @retval SP_ERR_NOMEM */
SP_MUST_CHECK enum sp_err sp_admission_admitted(struct sp_admission *a, const struct sp_peer *peer);

/** Its ClientHello is whole. */
void sp_admission_ready(struct sp_admission *a, struct sp_visitor *visitor,
                        const struct sp_limits_config *limits);

/** Whose handshake begins now; NULL: nobody's. */
struct sp_visitor *sp_admission_next(struct sp_admission *a, const struct sp_limits_config *limits,
                                     uint64_t now_ms);

/** When sp_admission_next() is worth another call although nothing else has happened; UINT64_MAX: never. */
uint64_t sp_admission_due(const struct sp_admission *a, const struct sp_limits_config *limits,
                          uint64_t now_ms);

/** The visitor that has been silent for longest; NULL: none is. */
struct sp_visitor *sp_admission_silent(const struct sp_admission *a);

/**
 * Of the handshakes that began before `before_ms` the oldest, those of strangers first; `may` says whose place can be taken. NULL: none.
 */
struct sp_visitor *sp_admission_slow(const struct sp_admission *a, uint64_t before_ms,
                                     bool (*may)(const struct sp_visitor *visitor));

/** It moves to another loop: out of all lists, its source forgets it; sp_admission_adopt() there. */
void sp_admission_detach(struct sp_admission *a, const struct sp_limits_config *limits,
                         struct sp_visitor *visitor, uint64_t now_ms);

/** It was admitted, or is to be closed: `visitor` is gone. The connection still counts for its address. */
void sp_admission_leave(struct sp_admission *a, const struct sp_limits_config *limits,
                        struct sp_visitor *visitor, bool admitted);

/** Give back a visitor that was detached. */
void sp_visitor_free(struct sp_visitor *visitor);

/** A connection of this address has ended, visitor or not. */
void sp_admission_gone(struct sp_admission *a, const struct sp_peer *peer, uint64_t now_ms);

#endif
