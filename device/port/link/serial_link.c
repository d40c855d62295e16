/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/port/link/serial_link.h"

#include <string.h>

#define NEVER UINT64_MAX

void sp_serial_link_init(struct sp_serial_link *link, const struct sp_serial_wire *wire)
{
    *link = (struct sp_serial_link){.wire = *wire, .what = ""};
}

/* False: the line has no room now. */
static bool send(struct sp_serial_link *link, uint8_t type, uint32_t epoch, struct sp_view payload)
{
    uint8_t bytes[SP_FRAME_WIRE_MAX];
    struct sp_writer w;
    const struct sp_frame frame = {
        .type = type,
        .epoch = epoch,
        .sequence = type == SP_FRAME_DATA ? link->sent : 0,
        .payload = payload,
    };
    sp_writer_init(&w, bytes, sizeof(bytes));
    if (link->wire.room(link->wire.ctx) < sizeof(bytes) || sp_frame_encode(&frame, &w) != SP_OK) {
        return false;
    }
    link->wire.put(link->wire.ctx, sp_writer_view(&w));
    return true;
}

static void give_up(struct sp_serial_link *link, const char *what)
{
    link->state = SP_SERIAL_BROKEN;
    link->what = what;
}

static void on_data(struct sp_serial_link *link, const struct sp_frame *frame)
{
    if (frame->sequence != link->expected) {
        (void)send(link, SP_FRAME_CLOSE, link->epoch, (struct sp_view){0});
        give_up(link, "bytes were lost on the line");
        return;
    }
    link->expected++;
    sp_copy(link->bytes + link->used, frame->payload.ptr, frame->payload.len);
    link->used += frame->payload.len;
}

static void on_frame(struct sp_serial_link *link, const struct sp_frame *frame)
{
    bool alive = link->state == SP_SERIAL_OPENING || link->state == SP_SERIAL_OPEN;
    bool ours = frame->epoch == link->epoch || (frame->type == SP_FRAME_CLOSE && frame->epoch == 0);
    if (!alive || !ours) {
        if (frame->type == SP_FRAME_DATA || frame->type == SP_FRAME_OPENED) {
            (void)send(link, SP_FRAME_CLOSE, frame->epoch, (struct sp_view){0});
        }
        return;
    }
    if (frame->type == SP_FRAME_CLOSE) {
        give_up(link, link->state == SP_SERIAL_OPEN ? "the host closed the connection"
                                                    : "the host does not reach the gateway");
    } else if (frame->type == SP_FRAME_OPENED) {
        link->due_ms = link->state == SP_SERIAL_OPENING ? NEVER : link->due_ms;
        link->state = SP_SERIAL_OPEN;
    } else if (frame->type == SP_FRAME_DATA && link->state == SP_SERIAL_OPEN) {
        on_data(link, frame);
    } else if (frame->type == SP_FRAME_DATA) {
        (void)send(link, SP_FRAME_CLOSE, link->epoch, (struct sp_view){0});
        give_up(link, "the host's answer was lost on the line");
    }
}

/* As long as a whole frame of data would find room; what is not taken holds the sender off. */
static void receive(struct sp_serial_link *link)
{
    uint8_t byte = 0;
    while (sizeof(link->bytes) - link->used >= SP_FRAME_PAYLOAD_MAX &&
           link->wire.take(link->wire.ctx, &byte, 1) == 1) {
        struct sp_frame frame;
        if (sp_frame_decode(&link->decoder, byte, &frame)) {
            on_frame(link, &frame);
        }
    }
}

void sp_serial_link_poll(struct sp_serial_link *link, uint64_t now_ms)
{
    static const uint8_t version[] = {SP_FRAME_VERSION};
    link->now_ms = now_ms;
    receive(link);
    if (now_ms < link->due_ms) {
        return;
    }
    if (link->state == SP_SERIAL_OPENING &&
        send(link, SP_FRAME_OPEN, link->epoch, SP_VIEW_ARRAY(version))) {
        link->due_ms = now_ms + SP_SERIAL_OPEN_MS;
    } else if (link->state == SP_SERIAL_OPEN &&
               send(link, SP_FRAME_DATA, link->epoch, (struct sp_view){0})) {
        link->sent++;
        link->due_ms = NEVER;
    }
}

uint64_t sp_serial_link_due(const struct sp_serial_link *link, uint64_t now_ms)
{
    if (link->state != SP_SERIAL_OPENING && link->state != SP_SERIAL_OPEN) {
        return NEVER;
    }
    return link->due_ms > now_ms ? link->due_ms : now_ms + 1U;
}

static enum sp_err link_open(void *ctx)
{
    struct sp_serial_link *link = ctx;
    link->state = SP_SERIAL_OPENING;
    link->epoch = link->wire.random(link->wire.ctx);
    link->epoch += link->epoch == 0 ? 1U : 0U;
    link->due_ms = link->now_ms;
    link->sent = 0;
    link->expected = 0;
    link->used = 0;
    link->what = "";
    sp_serial_link_poll(link, link->now_ms);
    return SP_OK;
}

static enum sp_err link_ready(void *ctx)
{
    struct sp_serial_link *link = ctx;
    receive(link);
    return link->state == SP_SERIAL_OPEN      ? SP_OK
           : link->state == SP_SERIAL_OPENING ? SP_ERR_AGAIN
                                              : SP_ERR_CLOSED;
}

static enum sp_err link_read(void *ctx, uint8_t *out, size_t cap, size_t *len)
{
    struct sp_serial_link *link = ctx;
    receive(link);
    if (link->used == 0) {
        return link->state == SP_SERIAL_OPEN ? SP_ERR_AGAIN : SP_ERR_CLOSED;
    }
    *len = cap < link->used ? cap : link->used;
    sp_copy(out, link->bytes, *len);
    link->used -= *len;
    memmove(link->bytes, link->bytes + *len, link->used);
    return SP_OK;
}

static enum sp_err link_write(void *ctx, struct sp_view bytes, size_t *len)
{
    struct sp_serial_link *link = ctx;
    size_t done = 0;
    if (link->state != SP_SERIAL_OPEN) {
        return SP_ERR_CLOSED;
    }
    while (done < bytes.len) {
        struct sp_view part = sp_view_first(sp_view_from(bytes, done), SP_FRAME_PAYLOAD_MAX);
        if (!send(link, SP_FRAME_DATA, link->epoch, part)) {
            break;
        }
        link->sent++;
        done += part.len;
    }
    if (done == 0 && bytes.len != 0) {
        return SP_ERR_AGAIN;
    }
    link->due_ms = link->now_ms + SP_SERIAL_PROBE_MS;
    *len = done;
    return SP_OK;
}

static void link_close(void *ctx)
{
    struct sp_serial_link *link = ctx;
    if (link->state == SP_SERIAL_OPENING || link->state == SP_SERIAL_OPEN) {
        (void)send(link, SP_FRAME_CLOSE, link->epoch, (struct sp_view){0});
    }
    link->state = SP_SERIAL_CLOSED;
    link->used = 0;
}

static const char *link_describe(void *ctx)
{
    const struct sp_serial_link *link = ctx;
    return link->what;
}

struct sp_stream sp_serial_link_stream(struct sp_serial_link *link)
{
    return (struct sp_stream){
        .ctx = link,
        .open = link_open,
        .ready = link_ready,
        .read = link_read,
        .write = link_write,
        .close = link_close,
        .describe = link_describe,
    };
}
