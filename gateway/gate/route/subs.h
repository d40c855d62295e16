/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file Who subscribed to what, for all loops of the gate.
 *
 * Filters lie in a hash table by their whole text, once for all who subscribed to them; those with wildcards also in
 * a trie whose edges lie in one hash table too, keyed by (node, level). Matching walks at most the name, one `+` and one `#` per level, and
 * costs the same whatever the number of other filters. Shared subscriptions (`$share/group/filter`) have a trie and a table of their
 * own, by what stands behind the group: of each group that matches one member is picked, on whatever loop it is. Each loop has a lock of its own: matching takes that one alone,
 * so that loops that publish do not meet; a change takes them all.
 */
#ifndef SP_GATEWAY_GATE_ROUTE_SUBS_H
#define SP_GATEWAY_GATE_ROUTE_SUBS_H

#include "gateway/gate/core/slots.h"

#define SP_SUB_NO_LOCAL            1U
#define SP_SUB_RETAIN_AS_PUBLISHED 2U
#define SP_SUB_KEPT \
    64U /**< the session outlives its connection: a message for it must not get lost */
#define SP_SUB_AWAY 4U /* shared: nobody is connected; the others of the group go first */

/** One subscription: a session, named by its home loop and its slot there, and how it wants messages. */
struct sp_subscriber {
    sp_slot_tag session;
    uint16_t loop;
    uint8_t qos;
    uint8_t options; /**< SP_SUB_* */
    uint32_t id;     /**< Subscription Identifier; 0: none */
};

/** One session that gets a message, and how. */
struct sp_match {
    sp_slot_tag session;
    sp_slot_tag
        share; /**< the group whose member it is, for sp_subs_pick(); 0: its own subscriptions */
    uint32_t ids_at;   /**< its Subscription Identifiers: sp_matches.ids from here … */
    uint16_t id_count; /**< … so many */
    uint16_t loop;
    uint8_t qos;     /**< the highest of its matching subscriptions */
    uint8_t options; /**< SP_SUB_* of any of them */
};

/** The result of a match, a buffer that is used again. Zeroed = empty. */
struct sp_matches {
    struct sp_match *items;
    uint32_t *ids;
    size_t count;
    size_t cap; /* of both */
};

void sp_matches_deinit(struct sp_matches *matches);

struct sp_subs;   /* opaque; thread-safe */
struct sp_filter; /* one filter, in the index for as long as somebody subscribes to it */

/** Its text; borrowed from one's own subscription on it. */
struct sp_view sp_filter_text(const struct sp_filter *filter);

/** It is `$share/…`. */
bool sp_filter_shared(const struct sp_filter *filter);

/** For loops 0..loops - 1. @retval SP_ERR_NOMEM */
SP_MUST_CHECK enum sp_err sp_subs_create(uint16_t loops, struct sp_subs **out);
/** NULL is fine. */
void sp_subs_destroy(struct sp_subs *subs);

/**
 * Add a subscription, or change the one that this session has on the same filter.
 *
 * @param[in]  filter  Valid; copied where it is new.
 * @param[out] existed It was there before.
 * @param[out] out     The filter; stays until the subscription is removed.
 * @retval SP_ERR_NOMEM Nothing has changed.
 */
SP_MUST_CHECK enum sp_err sp_subs_add(struct sp_subs *subs, struct sp_view filter,
                                      const struct sp_subscriber *subscriber, bool *existed,
                                      struct sp_filter **out);

/** The filter with that text on which this session has a subscription, or NULL. */
struct sp_filter *sp_subs_find(struct sp_subs *subs, struct sp_view filter, uint16_t loop,
                               sp_slot_tag session);

/** How a session subscribes to one of its filters. @return false: it does not. */
bool sp_subs_get(struct sp_subs *subs, struct sp_filter *filter, uint16_t loop, sp_slot_tag session,
                 struct sp_subscriber *out);

/** Remove a subscription that is there. */
void sp_subs_remove(struct sp_subs *subs, struct sp_filter *filter, uint16_t loop,
                    sp_slot_tag session);

/** The group that a shared filter makes, as in struct sp_match. */
sp_slot_tag sp_subs_share(struct sp_subs *subs, const struct sp_filter *filter, uint16_t loop);

/** Switch an option of a subscription that is there. */
void sp_subs_mark(struct sp_subs *subs, struct sp_filter *filter, uint16_t loop,
                  sp_slot_tag session, uint8_t option, bool on);

/**
 * All sessions that have a filter which matches `topic`, each once; and one member of each group that matches.
 *
 * @param[in]  topic     A valid name.
 * @param[in]  loop      The caller's.
 * @param[in]  publisher The session of that loop which published, so that its no-local subscriptions are left out; 0: none.
 * @param[out] out       Replaced.
 * @retval SP_ERR_NOMEM  `out` holds a part.
 */
SP_MUST_CHECK enum sp_err sp_subs_match(struct sp_subs *subs, struct sp_view topic, uint16_t loop,
                                        sp_slot_tag publisher, struct sp_matches *out);

/**
 * The next member of a group, for a message that another one gave back.
 *
 * @param[in]  share  As in struct sp_match.
 * @param[in]  loop   The caller's.
 * @param[in]  except A session of that loop which is not picked; 0: none.
 * @param[out] id     Its Subscription Identifier, 0: none; `out` has none.
 * @return false: the group has no other member.
 */
bool sp_subs_pick(struct sp_subs *subs, sp_slot_tag share, uint16_t loop, sp_slot_tag except,
                  struct sp_match *out, uint32_t *id);

/** Filters, groups and trie nodes in memory; 0 once all subscriptions are gone. */
size_t sp_subs_size(struct sp_subs *subs);

#endif
