/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/proc/channel.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/proc/proc.h"
#include "gateway/slab/starve_test.h"
#include "libs/base/test.h"

/* A channel, and the raw end of the socket pair that plays the other process. */
struct pair {
    struct sp_channel *channel;
    int raw;
};

struct got {
    unsigned count;
    struct sp_frame last;
    size_t last_len;
    uint8_t first_byte;
    enum sp_err answer;
};

static struct pair make_pair(void)
{
    int fds[2];
    struct pair p = {0};
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) != 0 ||
        sp_channel_create(fds[0], &p.channel) != SP_OK) {
        abort();
    }
    p.raw = fds[1];
    return p;
}

static void end_pair(struct pair *p)
{
    sp_channel_destroy(p->channel);
    close(p->raw);
}

static enum sp_err take(void *arg, const struct sp_frame *frame, struct sp_view body)
{
    struct got *got = arg;
    got->count++;
    got->last = *frame;
    got->last_len = body.len;
    got->first_byte = body.len > 0 ? body.ptr[0] : 0;
    return got->answer;
}

static void messages_arrive_whole_and_in_order(void)
{
    struct pair p = make_pair();
    int copy = dup(p.raw);
    struct sp_channel *other;
    SP_CHECK_INT(sp_channel_create(copy, &other), SP_OK);
    struct sp_view parts[] = {SP_VIEW_INIT("ab"), {NULL, 0}, SP_VIEW_INIT("cde")};
    SP_CHECK_INT(sp_channel_send(p.channel, 7, 99, parts, 3), SP_OK);
    SP_CHECK_INT(sp_channel_send(p.channel, 8, 100, NULL, 0), SP_OK);
    SP_CHECK_INT(sp_channel_pending(p.channel), 2 * sizeof(struct sp_frame) + 5);
    SP_CHECK_INT(sp_channel_flush(p.channel), SP_OK);
    SP_CHECK_INT(sp_channel_pending(p.channel), 0);
    struct got got = {0};
    SP_CHECK_INT(sp_channel_receive(other, take, &got), SP_OK);
    SP_CHECK_INT(got.count, 2);
    SP_CHECK_INT(got.last.type, 8);
    SP_CHECK_INT(got.last.tag, 100);
    SP_CHECK_INT(got.last_len, 0);
    SP_CHECK_INT(sp_channel_receive(other, take, &got), SP_OK);
    SP_CHECK_INT(got.count, 2);
    sp_channel_destroy(other);
    end_pair(&p);
}

static void a_trim_loses_nothing(void)
{
    static uint8_t body[100000];
    struct pair p = make_pair();
    struct sp_view part = SP_VIEW_ARRAY(body);
    struct got got = {0};
    struct sp_channel *other;
    int64_t before = starve_live();
    SP_CHECK_INT(sp_channel_create(dup(p.raw), &other), SP_OK);
    for (int round = 0; round < 3; round++) {
        body[0] = (uint8_t)(round + 1);
        SP_CHECK_INT(sp_channel_send(p.channel, 7, 1, &part, 1), SP_OK);
        sp_channel_trim(p.channel); /* all of it waits */
        while (got.count == (unsigned)round) {
            SP_CHECK_INT(sp_channel_flush(p.channel), SP_OK);
            sp_channel_trim(p.channel);
            SP_CHECK_INT(sp_channel_receive(other, take, &got), SP_OK);
            sp_channel_trim(other); /* perhaps a part of it has come */
        }
        SP_CHECK_INT(got.last_len, sizeof(body));
        SP_CHECK_INT(got.first_byte, round + 1);
        SP_CHECK_INT(sp_channel_pending(p.channel), 0);
        SP_CHECK_INT(starve_live(), before + 1); /* the other channel itself */
    }
    sp_channel_destroy(other);
    end_pair(&p);
}

static void what_there_is_no_memory_for_is_read_later(void)
{
    static uint8_t body[600000];
    struct pair p = make_pair();
    struct sp_frame frame = {.length = sizeof(body), .type = 7, .tag = 5};
    struct got got = {0};
    uint64_t failed = 0;
    body[0] = 0x5A;
    SP_CHECK(write(p.raw, &frame, sizeof(frame)) == (ssize_t)sizeof(frame));
    for (size_t sent = 0; sent < sizeof(body);) {
        ssize_t n = send(p.raw, body + sent, sizeof(body) - sent, MSG_DONTWAIT);
        sent += n > 0 ? (size_t)n : 0;
        starve(1, UINT64_MAX); /* the first buffer, and each time that it has to grow */
        SP_CHECK_INT(sp_channel_receive(p.channel, take, &got), SP_OK);
        failed += starve_end();
        SP_CHECK_INT(sp_channel_receive(p.channel, take, &got), SP_OK);
    }
    while (got.count == 0 && sp_channel_receive(p.channel, take, &got) == SP_OK) {
    }
    SP_CHECK(failed >= 2);
    SP_CHECK_INT(got.count, 1);
    SP_CHECK_INT(got.last_len, sizeof(body));
    SP_CHECK_INT(got.first_byte, 0x5A);
    end_pair(&p);
}

static void a_message_in_pieces_is_put_together(void)
{
    struct pair p = make_pair();
    struct got got = {0};
    struct sp_frame frame = {.length = 3, .type = 5, .tag = 1};
    uint8_t bytes[2 * (sizeof(frame) + 3)];
    for (size_t i = 0; i < 2; i++) {
        memcpy(bytes + i * (sizeof(frame) + 3), &frame, sizeof(frame));
        memcpy(bytes + i * (sizeof(frame) + 3) + sizeof(frame), "xyz", 3);
    }
    for (size_t i = 0; i < sizeof(bytes); i++) {
        SP_CHECK_INT(write(p.raw, bytes + i, 1), 1);
        SP_CHECK_INT(sp_channel_receive(p.channel, take, &got), SP_OK);
        SP_CHECK_INT(got.count, (i + 1) / (sizeof(frame) + 3));
    }
    SP_CHECK_INT(got.first_byte, 'x');
    end_pair(&p);
}

static void the_largest_message_passes_through_a_full_pipe(void)
{
    struct pair p = make_pair();
    struct sp_channel *other;
    SP_CHECK_INT(sp_channel_create(dup(p.raw), &other), SP_OK);
    uint8_t *big = calloc(1, SP_CHANNEL_FRAME_MAX);
    struct sp_view part = {big, SP_CHANNEL_FRAME_MAX};
    big[0] = 42;
    struct got got = {0};
    SP_CHECK_INT(sp_channel_send(p.channel, 1, 2, &part, 1), SP_OK);
    for (unsigned turn = 0; turn < 4000 && got.count == 0; turn++) {
        SP_CHECK_INT(sp_channel_flush(p.channel), SP_OK);
        SP_CHECK_INT(sp_channel_receive(other, take, &got), SP_OK);
    }
    SP_CHECK_INT(got.count, 1);
    SP_CHECK_INT(got.last_len, SP_CHANNEL_FRAME_MAX);
    SP_CHECK_INT(got.first_byte, 42);
    SP_CHECK_INT(sp_channel_pending(p.channel), 0);
    free(big);
    sp_channel_destroy(other);
    end_pair(&p);
}

static void too_much_is_refused_before_anything_is_queued(void)
{
    struct pair p = make_pair();
    uint8_t *big = calloc(1, SP_CHANNEL_FRAME_MAX);
    struct sp_view whole[] = {{big, SP_CHANNEL_FRAME_MAX}, {big, 1}};
    SP_CHECK_INT(sp_channel_send(p.channel, 1, 0, whole, 2), SP_ERR_LIMIT);
    SP_CHECK_INT(sp_channel_pending(p.channel), 0);
    struct sp_view overflow[] = {{big, 1}, {big, SIZE_MAX}};
    SP_CHECK_INT(sp_channel_send(p.channel, 1, 0, overflow, 2), SP_ERR_LIMIT);
    unsigned sent = 0;
    while (sent < 100 && sp_channel_send(p.channel, 1, 0, whole, 1) == SP_OK) {
        sent++;
    }
    SP_CHECK_INT(sent, 15);
    SP_CHECK(sp_channel_pending(p.channel) <= SP_CHANNEL_BACKLOG_MAX);
    free(big);
    end_pair(&p);
}

static void impossible_frames_close_the_channel(void)
{
    static const struct sp_frame frames[] = {
        {.length = SP_CHANNEL_FRAME_MAX + 1U, .type = 1},
        {.length = UINT32_MAX, .type = 1},
        {.length = 0, .type = 1, .flags = 1},
    };
    for (size_t i = 0; i < sizeof(frames) / sizeof(frames[0]); i++) {
        struct pair p = make_pair();
        struct got got = {0};
        SP_CHECK_INT(write(p.raw, &frames[i], sizeof(frames[i])), sizeof(frames[i]));
        SP_CHECK_INT(sp_channel_receive(p.channel, take, &got), SP_ERR_MALFORMED);
        SP_CHECK_INT(got.count, 0);
        SP_CHECK_INT(sp_channel_send(p.channel, 1, 0, NULL, 0), SP_ERR_CLOSED);
        SP_CHECK_INT(sp_channel_flush(p.channel), SP_ERR_CLOSED);
        SP_CHECK_INT(sp_channel_receive(p.channel, take, &got), SP_ERR_CLOSED);
        char byte;
        SP_CHECK_INT(read(p.raw, &byte, 1), 0);
        end_pair(&p);
    }
}

static void a_receiver_s_error_stops_it_at_once(void)
{
    struct pair p = make_pair();
    struct sp_frame frames[2] = {{.type = 1}, {.type = 2}};
    SP_CHECK_INT(write(p.raw, frames, sizeof(frames)), sizeof(frames));
    struct got got = {.answer = SP_ERR_PROTOCOL};
    SP_CHECK_INT(sp_channel_receive(p.channel, take, &got), SP_ERR_PROTOCOL);
    SP_CHECK_INT(got.count, 1);
    end_pair(&p);
}

static void the_death_of_the_other_end_is_noticed(void)
{
    struct pair p = make_pair();
    struct got got = {0};
    close(p.raw);
    SP_CHECK_INT(sp_channel_receive(p.channel, take, &got), SP_ERR_CLOSED);
    sp_channel_destroy(p.channel);

    p = make_pair();
    close(p.raw);
    SP_CHECK_INT(sp_channel_send(p.channel, 1, 0, NULL, 0), SP_OK);
    SP_CHECK_INT(sp_channel_flush(p.channel), SP_ERR_CLOSED);
    sp_channel_destroy(p.channel);
    sp_channel_destroy(NULL);
}

static void a_control_message_carries_a_descriptor(void)
{
    int pair[2];
    int passed[2];
    SP_CHECK_INT(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    SP_CHECK_INT(pipe(passed), 0);
    struct sp_control out = {.type = SP_CONTROL_CHANNEL, .peer = SP_PROCESS_KEYS, .loop = 3};
    struct sp_control in = {0};
    int fd = -2;
    SP_CHECK_INT(sp_control_receive(pair[1], &in, &fd), SP_ERR_AGAIN);
    SP_CHECK_INT(sp_control_send(pair[0], &out, passed[1]), SP_OK);
    SP_CHECK_INT(sp_control_send(pair[0], &(struct sp_control){.type = SP_CONTROL_STOP}, -1),
                 SP_OK);
    SP_CHECK_INT(sp_control_receive(pair[1], &in, &fd), SP_OK);
    SP_CHECK_INT(in.loop, 3);
    SP_CHECK(fd >= 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    SP_CHECK_INT(write(fd, "x", 1), 1);
    close(fd);
    SP_CHECK_INT(sp_control_receive(pair[1], &in, &fd), SP_OK);
    SP_CHECK_INT(in.type, SP_CONTROL_STOP);
    SP_CHECK_INT(fd, -1);
    SP_CHECK_INT(send(pair[0], "short", 5, 0), 5);
    SP_CHECK_INT(sp_control_receive(pair[1], &in, &fd), SP_ERR_MALFORMED);
    close(pair[0]);
    SP_CHECK_INT(sp_control_receive(pair[1], &in, &fd), SP_ERR_CLOSED);
    SP_CHECK_INT(sp_control_send(pair[1], &out, -1), SP_ERR_CLOSED);
    close(pair[1]);
    close(passed[0]);
    close(passed[1]);
}

static const struct sp_test tests[] = {
    SP_TEST(messages_arrive_whole_and_in_order),
    SP_TEST(a_trim_loses_nothing),
    SP_TEST(what_there_is_no_memory_for_is_read_later),
    SP_TEST(a_message_in_pieces_is_put_together),
    SP_TEST(the_largest_message_passes_through_a_full_pipe),
    SP_TEST(too_much_is_refused_before_anything_is_queued),
    SP_TEST(impossible_frames_close_the_channel),
    SP_TEST(a_receiver_s_error_stops_it_at_once),
    SP_TEST(the_death_of_the_other_end_is_noticed),
    SP_TEST(a_control_message_carries_a_descriptor),
};
SP_TEST_MAIN(tests)
