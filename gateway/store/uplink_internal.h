/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file One link to the cloud, in four files: its connection (uplink.c), what the cloud says (uplink_events.c),
 * its rows (uplink_rows.c) and the commands' filters (uplink_filters.c).
 */
#ifndef SP_GATEWAY_STORE_UPLINK_INTERNAL_H
#define SP_GATEWAY_STORE_UPLINK_INTERNAL_H

#include "gateway/store/lanes.h"
#include "gateway/store/pace.h"
#include "gateway/store/uplink.h"
#include "libs/mqtt/client.h"

enum sp_uplink_state {
    SP_UPLINK_WAIT,
    SP_UPLINK_RESOLVE,
    SP_UPLINK_CONNECT,
    SP_UPLINK_SHAKE,
    SP_UPLINK_GREET,
    SP_UPLINK_UP
};

struct sp_uplink {
    struct sp_uplink_env *env;
    uint32_t index;
    char client_id[160];
    enum sp_uplink_state state;
    uint64_t deadline; /* end of WAIT, or of the patience with any other state but UP */
    int fd;
    uint32_t interest; /* what epoll knows */
    unsigned attempts; /* picks the address */
    struct sp_tls *tls;
    struct sp_tls_out out;
    uint8_t *in; /* plaintext that is not a whole packet yet */
    size_t in_used;
    size_t in_cap;
    struct sp_mqtt_client mqtt;
    struct sp_mqtt_slot *slots;
    struct sp_lanes queue;
    struct sp_row_list flying; /* in the order of sending */
    struct sp_row_list loose;
    struct sp_row_list ended; /* to be handed back at the end of a turn */
    struct sp_backoff reconnect;
    uint64_t up_since;
    uint64_t busy_told;  /* when the log was told last that the cloud refuses for now … */
    size_t busy_untold;  /* … and how often it did since */
    size_t careful_left; /* so many rows go one at a time */
    uint64_t loss_head;  /* sequence at the head of the last lost connection */
    unsigned losses;
    struct sp_bucket publishes;
    struct sp_bucket bytes;
    uint64_t bucket_wait_until;
    char **filters; /* of commands, asked for on this connection */
    size_t filter_count;
    bool subscribed;     /* `filters` is what the configuration wants */
    uint64_t generation; /* of the connection: packet ids of an older one mean nothing */
    size_t unreleased;   /* rows that ended before this turn and are in the journal still */
    bool stopping;
};

static inline const struct sp_cloud_config *sp_uplink_cloud(const struct sp_uplink *l)
{
    return &l->env->config->cloud;
}

/* ---- uplink.c ---- */

/**
 * The connection is gone, or is to be: closes it, puts its rows back and waits for the back-off.
 * @param by_peer The cloud did it, maybe because of the row at the head (D9); not the network, not we.
 */
void sp_uplink_lose(struct sp_uplink *l, uint64_t now, const char *reason, bool by_peer);

/** The shared scratch buffer as a writer with at least `cap` bytes. @return false: no memory. */
bool sp_uplink_scratch(struct sp_uplink *l, size_t cap, struct sp_writer *w);

/** What was written goes into TLS. @return false when the connection was lost. */
bool sp_uplink_encrypt(struct sp_uplink *l, uint64_t now, const struct sp_writer *w);

uint64_t sp_uplink_random(void);

/* ---- uplink_events.c ---- */

/** One event of the MQTT client; answers go to `w`. The connection may be lost afterwards: look at the state. */
void sp_uplink_handle(struct sp_uplink *l, uint64_t now, const struct sp_mqtt_event *event,
                      struct sp_writer *w);

/* ---- uplink_rows.c ---- */

/** Take what was handed over; QoS 0 is dropped while the link is not up. */
void sp_uplink_take_rows(struct sp_uplink *l);

/** Drop and count the QoS 0 rows. */
void sp_uplink_drop_loose(struct sp_uplink *l);

/** The row with that sequence, out of the list; NULL: none. */
struct sp_row *sp_uplink_take_row(struct sp_row_list *list, uint64_t seq);

/** The row leaves this link. @param reason Static; of SP_ROW_DEAD. */
void sp_uplink_end_row(struct sp_uplink *l, struct sp_row *row, enum sp_row_end end,
                       const char *reason);

/** The cloud closed the connection: is the row at the head why (D9)? */
void sp_uplink_count_loss(struct sp_uplink *l);

/** Write what may go now. The connection may be lost afterwards. */
void sp_uplink_send_rows(struct sp_uplink *l, uint64_t now, struct sp_writer *w);

/* ---- uplink_filters.c ---- */

/** Subscribe to what the commands want and unsubscribe from what they do not want any more, as far as it goes now. */
void sp_uplink_subscribe(struct sp_uplink *l, uint64_t now, struct sp_writer *w);

/** The connection is new: nothing is subscribed to. */
void sp_uplink_forget_filters(struct sp_uplink *l);

#endif
