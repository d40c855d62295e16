/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * A gate in wrong hands against store: frames with records that are nearly right, and any bytes. Answers come in the
 * order of the tickets, and nothing is in the journal that no device may say.
 */
#include "gateway/store/keeper.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/log/log.h"
#include "gateway/proc/channel.h"
#include "libs/mqtt/topic.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[64];
static struct sp_journal *journal;
static const struct sp_config *config;

static void require(bool condition)
{
    if (!condition) {
        abort();
    }
}

static void remove_all(void)
{
    static const char *const names[] = {SP_JOURNAL_FILE, SP_JOURNAL_FILE "-wal",
                                        SP_JOURNAL_FILE "-shm"};
    char path[128];
    sp_journal_close(journal);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        (void)unlink(path);
    }
    (void)snprintf(path, sizeof(path), "%s/" SP_JOURNAL_FOLDER, folder);
    (void)rmdir(path);
    (void)rmdir(folder);
}

static void set_up(void)
{
    static const char text[] = "gateway: {id: gw, state_dir: /nowhere, threads: 1}\n"
                               "listeners: [{address: \"127.0.0.1:0\"}]\n"
                               "limits: {journal: 16MiB, journal_device: 1MiB}\n";
    char why[128];
    struct sp_config *made = NULL;
    int file = memfd_create("config", MFD_CLOEXEC);
    sp_log_init("fuzz", SP_LOG_ERROR);
    require(write(file, text, sizeof(text) - 1) == (ssize_t)sizeof(text) - 1 &&
            sp_config_load_fd(file, "fuzz", stderr, &made) == SP_OK);
    (void)close(file);
    made->cloud.enabled = true;
    made->cloud.connections = 1;
    config = made;
    (void)snprintf(folder, sizeof(folder), "%s/sp-keeper-fuzz-XXXXXX",
                   access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    require(mkdtemp(folder) != NULL);
    (void)atexit(remove_all);
    require(sp_journal_open(folder, why, sizeof(why), &journal) == SP_OK);
}

/* ---- what the gate writes ---- */

static struct {
    uint8_t buf[1U << 17];
    size_t used;
    uint64_t ticket;
} out;

static struct sp_view input;

static uint8_t next(void)
{
    uint8_t byte = input.len > 0 ? input.ptr[0] : 0;
    input = sp_view_from(input, 1);
    return byte;
}

static void put(const void *bytes, size_t len)
{
    if (out.used + len <= sizeof(out.buf)) {
        sp_copy(out.buf + out.used, bytes, len);
        out.used += len;
    }
}

static struct sp_view word(uint8_t which)
{
    static const char *const words[] = {"",     "a",        "dev-1", "dt/a/x",
                                        "dt/#", "$sp/time", "g",     "\xff"};
    return sp_view_str(words[which % (sizeof(words) / sizeof(words[0]))]);
}

static void put_record(void)
{
    uint8_t how = next();
    uint8_t odd = next();
    struct sp_view device = (how & 1) != 0 ? SP_VIEW_LIT("a") : word(odd);
    struct sp_view topic = (how & 2) != 0 ? SP_VIEW_LIT("up/a/x") : word(odd >> 3);
    struct sp_view origin = (how & 4) != 0 ? SP_VIEW_LIT("dt/a/x") : word(odd >> 4);
    struct sp_view group = (how & 8) != 0 ? SP_VIEW_LIT("g") : sp_view(NULL, 0);
    struct sp_msg_record head = {
        .ticket = ++out.ticket,
        .time_ms = 1700000000000,
        .payload_len = 3,
        .topic_len = (uint16_t)topic.len,
        .origin_len = (uint16_t)origin.len,
        .device_len = (uint8_t)device.len,
        .group_len = (uint8_t)group.len,
        .qos = 1,
        .format = (how >> 4) % 3U,
        .epoch = group.len > 0 ? 1 : 0,
        .counter = group.len > 0 ? (uint64_t)odd + 1U : 0,
    };
    if ((how & 0x80) != 0) { /* something about it is otherwise */
        head.flags = next();
        head.packet_id = next();
        head.qos = next() % 3U;
        head.ticket = head.qos == 0 ? next() % 2U : head.ticket - next() % 3U;
        head.payload_len = next();
    }
    if ((how & 0x40) != 0) {
        ((uint8_t *)&head)[next() % sizeof(head)] ^= next();
    }
    put(&head, sizeof(head));
    put(device.ptr, device.len);
    put(topic.ptr, topic.len);
    put(origin.ptr, origin.len);
    put(group.ptr, group.len);
    put("{1}", 3);
}

static void move(void)
{
    uint8_t what = next();
    struct sp_frame frame = {.type = SP_MSG_APPEND, .tag = what};
    size_t start = out.used;
    if (what % 8U == 7) {
        struct sp_view raw = sp_view_first(input, next());
        input = sp_view_from(input, raw.len);
        put(raw.ptr, raw.len);
        return;
    }
    put(&frame, sizeof(frame));
    if (what % 8U == 6) {
        frame.type = (what & 0x80) != 0 ? SP_MSG_COMMAND_TAKEN : next();
    } else {
        for (unsigned i = 0; i <= what % 8U; i++) {
            put_record();
        }
    }
    frame.length = (uint32_t)(out.used - start - sizeof(frame)) + ((what & 0x40) != 0 ? 1U : 0);
    if (start + sizeof(frame) <= out.used) {
        memcpy(out.buf + start, &frame, sizeof(frame));
    }
}

/* ---- what store answers, and what it keeps ---- */

static enum sp_err check_answer(void *arg, const struct sp_frame *frame, struct sp_view body)
{
    uint64_t *last = arg;
    struct sp_msg_durable answer;
    if (frame->type != SP_MSG_DURABLE) {
        require(frame->type == SP_MSG_PRESSURE || frame->type == SP_MSG_MARKS ||
                frame->type == SP_MSG_KEPT || frame->type == SP_MSG_KEPT_DURABLE);
        return SP_OK;
    }
    require(body.len == sizeof(answer));
    memcpy(&answer, body.ptr, sizeof(answer));
    require(answer.up_to > *last);
    *last = answer.up_to;
    return SP_OK;
}

/* Let go of everything, so that the next input finds the same journal. */
static void empty_journal(void)
{
    const struct sp_journal_want want = {.links = 1, .max_rows = 10000, .max_bytes = SIZE_MAX};
    struct sp_row_list rows = {0};
    struct sp_row_list none = {0};
    uint64_t reached = 0;
    require(sp_journal_read(journal, &want, &rows, &reached) == SP_OK);
    for (struct sp_row *row = rows.head; row != NULL; row = row->next) {
        require(sp_topic_name_valid(row->topic) && sp_topic_name_valid(row->origin));
        require(!sp_view_starts(row->topic, sp_view_str(SP_LINK_TOPIC_PREFIX)));
        require(row->device.len == 0 || sp_link_identity_valid(row->device));
        row->end = SP_ROW_DELIVERED;
    }
    require(sp_journal_commit(journal, &none, &rows) == SP_OK);
    require(sp_journal_stats(journal).messages == 0 && sp_journal_stats(journal).bytes == 0);
    sp_row_list_clear(&rows);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int control[2];
    int store[2];
    uint64_t last = 0;
    struct sp_keeper *keeper = NULL;
    struct sp_handoff *handoff = NULL;
    struct sp_channel *gate = NULL;
    if (journal == NULL) {
        set_up();
    }
    if (size > 2000) {
        return 0;
    }
    input = sp_view(data, size);
    out.used = 0;
    out.ticket = 0;
    while (input.len > 0) {
        move();
    }
    require(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, control) == 0 &&
            socketpair(AF_UNIX, SOCK_STREAM, 0, store) == 0);
    const struct sp_child child = {.config = config, .control = control[0], .store = &store[0]};
    require(sp_handoff_create(1, &handoff) == SP_OK &&
            sp_keeper_create(&child, journal, handoff, &keeper) == SP_OK &&
            sp_channel_create(store[1], &gate) == SP_OK);
    (void)!send(store[1], out.buf, out.used, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)close(control[1]); /* the parent is gone: one turn, then the end */
    sp_keeper_run(keeper);
    (void)!sp_channel_receive(gate, check_answer, &last);
    sp_keeper_finish(keeper);
    sp_keeper_destroy(keeper);
    sp_handoff_destroy(handoff);
    sp_channel_destroy(gate);
    (void)close(control[0]);
    empty_journal();
    return 0;
}
