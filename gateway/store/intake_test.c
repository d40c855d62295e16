/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/store/intake.h"

#include <string.h>

#include "libs/base/test.h"

#define PAYLOAD_MAX 1000U

struct message {
    uint8_t bytes[4096];
    size_t used;
};

static const struct sp_msg_record sound = {.ticket = 1,
                                           .time_ms = 1700000000000U,
                                           .payload_len = 4,
                                           .topic_len = 4,
                                           .origin_len = 6,
                                           .device_len = 5,
                                           .qos = 1,
                                           .format = SP_FORMAT_JSON,
                                           .flags = SP_RECORD_ATTESTED};

static void put(struct message *m, const struct sp_msg_record *head, const char *parts)
{
    memcpy(m->bytes + m->used, head, sizeof(*head));
    m->used += sizeof(*head);
    memcpy(m->bytes + m->used, parts, strlen(parts));
    m->used += strlen(parts);
}

static void records_come_out_as_they_went_in(void)
{
    struct message m = {.used = 0};
    struct sp_msg_record second = sound;
    second.ticket = 0;
    second.qos = 0;
    second.payload_len = 0;
    second.device_len = 0;
    put(&m, &sound, "dev-1up/xdt/d/xdata");
    put(&m, &second, "up/xdt/d/x");
    struct sp_view rest = sp_view(m.bytes, m.used);
    struct sp_intake_record r;
    SP_CHECK_INT(sp_intake_next(&rest, PAYLOAD_MAX, &r), SP_OK);
    SP_CHECK(sp_view_equal(r.device, SP_VIEW_LIT("dev-1")));
    SP_CHECK(sp_view_equal(r.topic, SP_VIEW_LIT("up/x")));
    SP_CHECK(sp_view_equal(r.origin, SP_VIEW_LIT("dt/d/x")));
    SP_CHECK(sp_view_equal(r.payload, SP_VIEW_LIT("data")));
    SP_CHECK_INT(r.head.time_ms, 1700000000000);
    SP_CHECK_INT(sp_intake_next(&rest, PAYLOAD_MAX, &r), SP_OK);
    SP_CHECK_INT(r.payload.len, 0);
    SP_CHECK_INT(r.device.len, 0);
    SP_CHECK_INT(sp_intake_next(&rest, PAYLOAD_MAX, &r), SP_ERR_NOT_FOUND);
}

static void every_cut_is_malformed(void)
{
    struct message m = {.used = 0};
    put(&m, &sound, "dev-1up/xdt/d/xdata");
    for (size_t len = 1; len < m.used; len++) {
        struct sp_view rest = sp_view(m.bytes, len);
        struct sp_intake_record r;
        SP_CHECK_INT(sp_intake_next(&rest, PAYLOAD_MAX, &r), SP_ERR_MALFORMED);
        SP_CHECK_INT(rest.len, len);
    }
}

static void lies_are_malformed(void)
{
#define LIE(field, value, text)                                                                    \
    {                                                                                              \
        .name = #field " " #value, .head = sound, .offset = offsetof(struct sp_msg_record, field), \
        .size = sizeof(sound.field), .number = (value), .parts = (text)                            \
    }
    static const char good[] = "dev-1up/xdt/d/xdata";
    const struct {
        const char *name;
        struct sp_msg_record head;
        size_t offset;
        size_t size;
        uint64_t number;
        const char *parts;
    } lies[] = {
        LIE(payload_len, PAYLOAD_MAX + 1U, good),
        LIE(payload_len, UINT32_MAX, good),
        LIE(payload_len, 5, good),
        LIE(topic_len, 0, good),
        LIE(topic_len, UINT16_MAX, good),
        LIE(origin_len, 0, good),
        LIE(origin_len, UINT16_MAX, good),
        LIE(device_len, 65, good),
        LIE(device_len, 255, good),
        LIE(qos, 2, good),
        LIE(qos, 0, good), /* with a ticket */
        LIE(ticket, 0, good),
        LIE(format, 3, good),
        LIE(protection, 3, good),
        LIE(flags, 0x80, good),
        LIE(flags, SP_RECORD_REFUSED | SP_RECORD_MARK, good),
        LIE(flags, SP_RECORD_REFUSED | SP_RECORD_RELEASE, good),
        LIE(refusal, SP_REFUSAL_FORM, good), /* of what is not refused */
        LIE(time_ms, UINT64_MAX, good),
        LIE(qos, 1, "dev/1up/xdt/d/xdata"),
        LIE(qos, 1, "-ev-1up/xdt/d/xdata"),
        LIE(qos, 1, "dev-1up/#dt/d/xdata"),
        LIE(qos, 1, "dev-1up/xdt/+/xdata"),
        LIE(qos, 1, "dev-1$sp/dt/d/xdata"),
        LIE(qos, 1, "dev-1up/x$sp/a/data"),
        LIE(qos, 1, "dev-1u\xC0\xAFxdt/d/xdata"),
    };
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        struct sp_msg_record head = lies[i].head;
        memcpy((uint8_t *)&head + lies[i].offset, &lies[i].number, lies[i].size);
        struct message m = {.used = 0};
        put(&m, &head, lies[i].parts);
        struct sp_view rest = sp_view(m.bytes, m.used);
        struct sp_intake_record r;
        enum sp_err err = sp_intake_next(&rest, PAYLOAD_MAX, &r);
        if (err == SP_OK) { /* then it must be what follows that makes no sense */
            err = sp_intake_next(&rest, PAYLOAD_MAX, &r);
        }
        SP_CHECK_CASE(err == SP_ERR_MALFORMED, lies[i].name);
    }
}

static const struct sp_test tests[] = {
    SP_TEST(records_come_out_as_they_went_in),
    SP_TEST(every_cut_is_malformed),
    SP_TEST(lies_are_malformed),
};
SP_TEST_MAIN(tests)
