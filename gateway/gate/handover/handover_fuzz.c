/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * What an old gate hands to a new one, in wrong hands: the first byte of the input says how many open files come along and what the
 * old one says at the end; the rest is the stream of items, whose lengths are put right so that changes elsewhere are reached. What is
 * refused leaves nothing; what is taken serves: the loop turns, the devices' ends speak, and all of it can be handed over once more.
 */
#include "gateway/gate/loop_fuzz.h"

#include <string.h>

#include "gateway/gate/handover/handover.h"
#include "gateway/gate/handover/passage.h"
#include "gateway/gate/session/carry.h"
#include "gateway/gate/session/device.h"
#include "gateway/gate/session/session.h"
#include "gateway/proc/messages.h"

#define FILES 7U

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int devices[FILES]; /* far ends */

/* keys says first which groups there are: none. */
static void greet(void)
{
    const struct sp_frame frame = {.type = SP_MSG_GROUPS};
    fuzz_require(send(house.keys, &frame, sizeof(frame), MSG_NOSIGNAL) == (ssize_t)sizeof(frame));
}

/* The length of an item that reaches beyond the input becomes that of what is there; one that is less stays. */
static size_t whole_items(uint8_t *stream, size_t size)
{
    size_t at = 0;
    while (size - at >= SP_CARRY_HEADER) {
        uint32_t len = (uint32_t)stream[at + 1] << 24 | (uint32_t)stream[at + 2] << 16 |
                       (uint32_t)stream[at + 3] << 8 | stream[at + 4];
        size_t left = size - at - SP_CARRY_HEADER;
        if (len > left) {
            stream[at + 1] = 0;
            stream[at + 2] = 0;
            stream[at + 3] = (uint8_t)(left >> 8);
            stream[at + 4] = (uint8_t)left;
            len = (uint32_t)left;
        }
        at += SP_CARRY_HEADER + len;
    }
    return at;
}

static void say(int fd, struct sp_view stream, size_t files, const char *last)
{
    int given[FILES];
    for (size_t i = 0; i < files; i++) {
        house_pair(&given[i], &devices[i], SOCK_NONBLOCK);
    }
    if (stream.len > 0) {
        fuzz_require(sp_passage_send(fd, stream, given, files, 1000) == SP_OK);
    }
    fuzz_require(send(fd, last, strlen(last), MSG_NOSIGNAL) == (ssize_t)strlen(last));
    (void)shutdown(fd, SHUT_WR);
    for (size_t i = 0; i < files; i++) {
        (void)close(given[i]);
    }
}

/* Everything that was taken can be written again. */
static void write_again(void)
{
    struct sp_carry_out out = {.mails = 0};
    const struct sp_table_node *node = NULL;
    while ((node = sp_table_each(&house.worker.home.devices, node)) != NULL) {
        (void)sp_carry_device(&out, (const struct sp_device *)node, NULL, sp_view(NULL, 0));
    }
    for (const struct sp_mark *mark = house.worker.home.marks.all; mark != NULL;
         mark = mark->next) {
        sp_carry_mark(&out, mark);
    }
    fuzz_require(!out.failed);
    sp_carry_out_deinit(&out);
}

static void serve(size_t files)
{
    greet(); /* something to happen, so that no turn waits */
    fuzz_require(sp_worker_turn(&house.worker));
    for (size_t i = 0; i < files; i++) {
        static const uint8_t record[] = "\x17\x03\x03\x00\x20 thirty-two bytes that nobody made";
        (void)send(devices[i], record, 37, MSG_NOSIGNAL);
    }
    greet();
    fuzz_require(sp_worker_turn(&house.worker));
    write_again();
}

/* A gate that could not take everything ends at once, and so never looks at what its devices' roles were called. */
static void forget_roles(void)
{
    const struct sp_table_node *node = NULL;
    const uint16_t role = 1;
    while ((node = sp_table_each(&house.worker.home.devices, node)) != NULL) {
        const struct sp_device *device = (const struct sp_device *)node;
        if (sp_device_session(device) != NULL) {
            sp_device_session(device)->role = role;
        }
    }
    struct sp_conn *conn;
    struct sp_worker_walk walk = {0};
    while ((conn = sp_worker_next(&house.worker, &walk)) != NULL) {
        conn->client.role = role;
    }
    house.worker.home.roles = house_config->roles;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t stream[16384];
    int ours;
    int theirs;
    if (size == 0 || size > sizeof(stream)) {
        return 0;
    }
    size_t files = data[0] % (FILES + 1U);
    memcpy(stream, data + 1, size - 1);
    size_t used = (data[0] & 0x40) != 0 ? size - 1 : whole_items(stream, size - 1);
    files = used == 0 ? 0 : files;
    house_begin(true);
    greet();
    house_pair(&ours, &theirs, 0);
    say(theirs, sp_view(stream, used), files,
        (data[0] & 0x80) != 0   ? "N"
        : (data[0] & 0x20) != 0 ? ""
                                : "G");
    if (sp_handover_take(&house.gate, ours) == SP_OK) {
        serve(files);
    } else {
        forget_roles();
    }
    (void)close(theirs);
    for (size_t i = 0; i < files; i++) {
        (void)close(devices[i]);
    }
    house_end();
    return 0;
}
