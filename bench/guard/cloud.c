/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* What store does for a message, from gate's bytes to the cloud's PUBACK, without its threads and sockets. */
#include "bench/guard/guard.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/store/intake.h"
#include "gateway/store/journal.h"
#include "gateway/store/lanes.h"
#include "gateway/store/letter.h"
#include "libs/mqtt/client.h"

#define COMMIT 100U /* messages of a commit, each of another device */

struct link {
    struct sp_mqtt_client mqtt;
    struct sp_mqtt_slot slots[COMMIT];
    struct sp_lanes lanes;
    struct sp_row_list flying;
    struct sp_letter_room room;
    struct sp_letter_office office;
    uint8_t packets[COMMIT * 512];
    uint64_t now;
};

static const struct sp_cloud_limits no_limits;

/* As gate writes it. @return Its length. */
static size_t write_message(uint8_t *out, size_t cap, unsigned number)
{
    char device[16];
    char topic[64];
    char origin[32];
    struct sp_writer w;
    int device_len = snprintf(device, sizeof(device), "big-%u", number);
    int topic_len = snprintf(topic, sizeof(topic), "dt/sallyport/bench/%s/climate", device);
    int origin_len = snprintf(origin, sizeof(origin), "dt/%s/climate", device);
    const struct sp_msg_record head = {
        .ticket = number + 1U,
        .time_ms = 1700000000000U,
        .payload_len = sizeof(SP_GUARD_RECORD) - 1,
        .topic_len = (uint16_t)topic_len,
        .origin_len = (uint16_t)origin_len,
        .device_len = (uint8_t)device_len,
        .qos = 1,
        .flags = SP_RECORD_ATTESTED,
    };
    sp_writer_init(&w, out, cap);
    sp_write_view(&w, sp_view(&head, sizeof(head)));
    sp_write_str(&w, device);
    sp_write_str(&w, topic);
    sp_write_str(&w, origin);
    sp_write_str(&w, SP_GUARD_RECORD);
    sp_guard_need(w.err == SP_OK, "no message");
    return w.used;
}

static void connect_link(struct link *l, const char *epoch)
{
    static const uint8_t connack[] = {0x20, 3, 0, 0, 0};
    const struct sp_mqtt_client_opts opts = {
        .slots = l->slots, .slot_count = COMMIT, .max_packet = 4096};
    const struct sp_mqtt_connect hello = {
        .version = SP_MQTT_5, .clean_start = true, .client_id = SP_VIEW_LIT("bench")};
    struct sp_mqtt_event event;
    struct sp_writer w;
    size_t size;
    l->office = (struct sp_letter_office){
        .gateway = "bench", .epoch = epoch, .version = SP_MQTT_5, .limits = &no_limits};
    sp_lanes_init(&l->lanes, 1, 1);
    sp_writer_init(&w, l->packets, sizeof(l->packets));
    sp_guard_need(
        sp_mqtt_client_init(&l->mqtt, &opts) == SP_OK &&
            sp_mqtt_client_connect(&l->mqtt, l->now, &hello, &w) == SP_OK &&
            sp_mqtt_client_input(&l->mqtt, l->now, SP_VIEW_ARRAY(connack), &size, &event) == SP_OK,
        "not connected");
}

static void send_all(struct link *l)
{
    const struct sp_row *row;
    struct sp_mqtt_publish publish;
    const char *reason;
    struct sp_writer w;
    sp_writer_init(&w, l->packets, sizeof(l->packets));
    while ((row = sp_lanes_peek(&l->lanes)) != NULL) {
        sp_guard_need(sp_letter_write(&l->office, row, 1700000000000U, &l->room, &publish,
                                      &reason) == SP_OK &&
                          sp_mqtt_client_publish(&l->mqtt, l->now, &publish, row->seq, &w) == SP_OK,
                      "not sent");
        sp_row_list_push(&l->flying, sp_lanes_take(&l->lanes));
    }
}

static void acknowledge_all(struct link *l, struct sp_row_list *ended)
{
    static uint16_t id;
    while (l->flying.head != NULL) {
        struct sp_mqtt_event event;
        size_t size;
        id = id == 65535U ? 1 : (uint16_t)(id + 1U);
        const uint8_t puback[] = {0x40, 2, (uint8_t)(id >> 8), (uint8_t)id};
        sp_guard_need(
            sp_mqtt_client_input(&l->mqtt, l->now, SP_VIEW_ARRAY(puback), &size, &event) == SP_OK &&
                event.cookie == l->flying.head->seq,
            "not acknowledged");
        struct sp_row *row = sp_row_list_pop(&l->flying);
        sp_lanes_done(&l->lanes, row);
        row->end = SP_ROW_DELIVERED;
        sp_row_list_push(ended, row);
    }
}

static void take_all(struct sp_view batch, struct sp_row_list *rows)
{
    struct sp_intake_record r;
    while (sp_intake_next(&batch, 65536, &r) == SP_OK) {
        struct sp_row *row = sp_row_create_marked(r.device, r.topic, r.origin, r.payload, r.group);
        sp_guard_need(row != NULL, "no memory");
        row->time_ms = r.head.time_ms;
        row->qos = r.head.qos;
        row->flags = r.head.flags;
        sp_row_list_push(rows, row);
    }
    sp_guard_need(batch.len == 0, "not taken");
}

void sp_guard_store(unsigned long times)
{
    static struct link l;
    static uint8_t batch[COMMIT * 512];
    char folder[] = "/tmp/sallyport-guard-XXXXXX";
    char file[64];
    char why[160];
    struct sp_journal *journal;
    struct sp_row_list ended = {0};
    size_t used = 0;
    sp_guard_need(mkdtemp(folder) != NULL &&
                      sp_journal_open(folder, why, sizeof(why), &journal) == SP_OK,
                  "no journal");
    connect_link(&l, sp_journal_epoch(journal));
    for (unsigned i = 0; i < COMMIT; i++) {
        used += write_message(batch + used, sizeof(batch) - used, i);
    }
    for (unsigned long done = 0; done < times; done += COMMIT) {
        struct sp_row_list rows = {0};
        take_all(sp_view(batch, used), &rows);
        sp_guard_need(sp_journal_commit(journal, &rows, &ended) == SP_OK, "not committed");
        sp_row_list_clear(&ended);
        while (rows.head != NULL) {
            sp_lanes_push(&l.lanes, sp_row_list_pop(&rows));
        }
        send_all(&l);
        acknowledge_all(&l, &ended);
    }
    sp_row_list_clear(&ended);
    sp_letter_room_deinit(&l.room);
    sp_journal_close(journal);
    (void)snprintf(file, sizeof(file), "%s/" SP_JOURNAL_FILE, folder);
    (void)unlink(file);
    *strrchr(file, '/') = '\0'; /* the folder that it was in */
    (void)rmdir(file);
    (void)rmdir(folder);
}
