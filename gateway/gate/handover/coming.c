/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * The gate that takes over. No loop runs yet, so everything is done here, for all of them. What comes is another process's, which may have
 * been taken over: every length and every number is checked, and the first that is wrong ends this process.
 */
#include "gateway/gate/handover/handover.h"

#include "gateway/gate/handover/passage.h"
#include "gateway/gate/session/carry.h"
#include "gateway/log/log.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define GO_MS   15000 /* longer than the other side waits */
#define KEYS_MS 5000  /* for keys, which is ready, to say what it says first */

struct coming {
    struct sp_gate *gate;
    struct sp_passage passage;
    struct sp_carry_in in;
    bool headed;
    bool other_rules; /* its devices were judged by others than ours */
    bool stale;       /* the journal may lack something of kept sessions */
    bool ended;
    uint64_t devices;
    uint64_t connections;
};

static struct sp_home *home_of(const struct coming *c, struct sp_view identity)
{
    return &c->gate->workers[sp_home_of(identity, c->gate->count)].home;
}

/* ---- items ---- */

static enum sp_err take_head(struct coming *c, struct sp_view body)
{
    struct sp_reader r;
    sp_reader_init(&r, body);
    uint32_t version = sp_read_u32(&r);
    bool marks = sp_read_u8(&r) != 0;
    c->stale = sp_read_u8(&r) != 0;
    uint32_t lifecycles = sp_read_u32(&r);
    bool allow_no_software = sp_read_u8(&r) != 0;
    const struct sp_attestation_config *rules = &c->gate->config->attestation;
    if (version != SP_HANDOVER_VERSION) {
        sp_log_error(SP_EVENT("handover_unknown"), SP_F_INT("version", version),
                     SP_F_INT("known", SP_HANDOVER_VERSION));
        return SP_ERR_UNSUPPORTED;
    }
    for (uint16_t i = 0; i < c->gate->count; i++) {
        c->gate->workers[i].home.marks.complete = marks;
    }
    c->headed = true;
    c->other_rules =
        lifecycles != rules->lifecycles || allow_no_software != rules->allow_no_software;
    return sp_reader_finish(&r);
}

static enum sp_err take_connection(struct coming *c, struct sp_worker *worker,
                                   const struct sp_carried *carried)
{
    struct sp_conn *conn;
    int fd = sp_passage_take_fd(&c->passage);
    if (fd < 0) {
        return SP_ERR_MALFORMED;
    }
    SP_TRY(sp_conn_unpack(worker, fd, carried->connection, &conn));
    SP_TRY(sp_carry_read_client(&c->in, &conn->client, carried));
    c->connections++;
    return sp_conn_go_on(conn);
}

static enum sp_err take_device(struct coming *c, struct sp_view body)
{
    struct sp_carried carried;
    struct sp_view identity = sp_carry_identity(body);
    if (identity.len == 0) {
        return SP_ERR_MALFORMED;
    }
    struct sp_home *home = home_of(c, identity);
    SP_TRY(sp_carry_read_device(&c->in, home, body, &carried));
    c->devices++;
    return carried.client.len == 0 ? SP_OK : take_connection(c, (struct sp_worker *)home, &carried);
}

static enum sp_err take_mark(struct coming *c, struct sp_view body)
{
    struct sp_view identity = sp_carry_identity(body);
    return identity.len == 0 ? SP_ERR_MALFORMED : sp_carry_read_mark(home_of(c, identity), body);
}

static enum sp_err take_end(struct coming *c, struct sp_view body)
{
    struct sp_reader r;
    sp_reader_init(&r, body);
    bool all = sp_read_u64(&r) == c->devices;
    all = sp_read_u64(&r) == c->connections && all;
    c->ended = true;
    return all ? sp_reader_finish(&r) : SP_ERR_MALFORMED;
}

static enum sp_err take_item(struct coming *c, uint8_t type, struct sp_view body)
{
    if (c->headed == (type == SP_CARRY_HEAD) || c->ended) {
        return SP_ERR_MALFORMED;
    }
    switch (type) {
    case SP_CARRY_HEAD:
        return take_head(c, body);
    case SP_CARRY_MAIL:
        return sp_carry_read_mail(&c->in, body);
    case SP_CARRY_MARK:
        return take_mark(c, body);
    case SP_CARRY_RETAINED:
        return sp_carry_read_retained(&c->in, &c->gate->workers[0].home, body);
    case SP_CARRY_DEVICE:
        return take_device(c, body);
    case SP_CARRY_END:
        return take_end(c, body);
    default:
        return SP_ERR_MALFORMED;
    }
}

/* Every whole item that is there. */
static enum sp_err take_items(struct coming *c)
{
    struct sp_view rest = sp_buf_view(&c->passage.bytes);
    enum sp_err err = SP_OK;
    while (err == SP_OK && !c->ended && rest.len >= SP_CARRY_HEADER) {
        struct sp_reader r;
        sp_reader_init(&r, rest);
        uint8_t type = sp_read_u8(&r);
        uint32_t len = sp_read_u32(&r);
        if (len > SP_CARRY_ITEM_MAX) {
            return SP_ERR_MALFORMED;
        }
        if (sp_reader_left(&r) < len) {
            break;
        }
        err = take_item(c, type, sp_read_bytes(&r, len));
        rest = sp_view_from(rest, SP_CARRY_HEADER + (size_t)len);
    }
    sp_passage_consume(&c->passage, c->passage.bytes.used - rest.len);
    return err;
}

/* ---- the passage ---- */

/* @retval SP_ERR_CLOSED Also when the parent has something else to say: it gives this up. */
static enum sp_err hear(struct coming *c)
{
    char first;
    ssize_t said = recv(c->gate->control, &first, 1, MSG_PEEK | MSG_DONTWAIT);
    if (said >= 0 || (errno != EAGAIN && errno != EINTR)) {
        return SP_ERR_CLOSED;
    }
    uint32_t before = c->passage.bytes.used;
    enum sp_err err = sp_passage_receive(&c->passage);
    if (err == SP_OK && c->passage.bytes.used == before) {
        sp_loop_nap();
    }
    return err;
}

static enum sp_err take_all(struct coming *c)
{
    enum sp_err err = SP_OK;
    while (err == SP_OK && !c->ended) {
        err = hear(c);
        if (err == SP_OK) {
            for (uint16_t i = 0; i < c->gate->count; i++) {
                sp_loop_read_clocks(&c->gate->workers[i].loop);
            }
            err = take_items(c);
        }
    }
    return err;
}

/* Who has died after it wrote everything serves nobody any more. */
static enum sp_err await_go(struct coming *c)
{
    const char taken = SP_HANDOVER_TAKEN;
    uint64_t end_ms = sp_clock_ms() + GO_MS;
    (void)send(c->passage.fd, &taken, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    enum sp_err err = SP_OK;
    while (err == SP_OK && c->passage.bytes.used == 0) {
        err = sp_passage_receive(&c->passage);
        if (err == SP_OK && c->passage.bytes.used == 0) {
            err = sp_clock_ms() >= end_ms ? SP_ERR_AGAIN : SP_OK;
            sp_loop_nap();
        }
    }
    if (c->passage.bytes.used > 0) {
        return c->passage.bytes.ptr[0] == SP_HANDOVER_GO ? SP_OK : SP_ERR_CLOSED;
    }
    return err == SP_ERR_CLOSED || err == SP_ERR_IO ? SP_OK : SP_ERR_AGAIN;
}

enum sp_err sp_handover_take(struct sp_gate *gate, int fd)
{
    struct coming c = {.gate = gate, .passage = {.fd = fd}};
    enum sp_err err = take_all(&c);
    for (uint16_t i = 0; err == SP_OK && i < gate->count; i++) {
        sp_home_configure(&gate->workers[i].home, gate->config);
        err = sp_worker_await_keys(&gate->workers[i], KEYS_MS);
        if (c.stale) {
            sp_keep_tell_again(&gate->workers[i].home);
        }
        if (err == SP_OK && c.other_rules) {
            sp_home_reattest(&gate->workers[i].home);
        }
    }
    if (err == SP_OK) {
        err = await_go(&c);
    }
    if (err == SP_OK) {
        sp_log_info(SP_EVENT("taken_over"), SP_F_INT("connections", c.connections),
                    SP_F_INT("devices", c.devices));
    } else {
        sp_log_error(SP_EVENT("handover_refused"), SP_F_ERR(err));
    }
    sp_carry_in_deinit(&c.in);
    sp_passage_deinit(&c.passage);
    return err;
}
