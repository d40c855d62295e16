/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* Packets by the byte: good ones there and back and cut short, bad ones refused. M-02 … M-31 are the cases
 * of the facts on security that a codec can decide without a session. */
#include "libs/base/test.h"
#include "libs/mqtt/any_packet_test.h"

#include <stdlib.h>

#define V3 SP_MQTT_311
#define V5 SP_MQTT_5

static uint8_t from_hex_bytes[8192];

static size_t parse_hex(const char *text)
{
    size_t len = 0;
    for (; *text != '\0'; text++) {
        if (*text != ' ') {
            char digits[3] = {text[0], text[1], '\0'};
            from_hex_bytes[len++] = (uint8_t)strtoul(digits, NULL, 16);
            text++;
        }
    }
    return len;
}

/* A copy of exactly that size, so that a sanitizer sees every byte read behind it. */
static enum sp_err decode_exact(enum sp_mqtt_version version, const uint8_t *bytes, size_t len,
                                struct any_packet *out)
{
    uint8_t *copy = malloc(len + (len == 0));
    memcpy(copy, bytes, len);
    enum sp_err err = any_decode(version, sp_view(copy, len), out);
    free(copy);
    return err;
}

static enum sp_err decode_hex(enum sp_mqtt_version version, const char *hex)
{
    struct any_packet packet;
    size_t len = parse_hex(hex);
    return decode_exact(version, from_hex_bytes, len, &packet);
}

/* Packets in the encoder's own order of properties, so that they come back byte for byte. `whole_cuts` counts
 * the shorter bodies that are good packets too (a payload, an optional end). */
static const struct good {
    const char *name;
    enum sp_mqtt_version version;
    const char *hex;
    int whole_cuts;
} good[] = {
    {"CONNECT, least", V3, "10 0C 0004 4D515454 04 02 003C 0000", 0},
    {"CONNECT, all", V3,
     "10 1D 0004 4D515454 04 EE 003C 0002 6431 0003 772F78 0002 6279 0001 75 0001 70", 0},
    {"CONNECT, least", V5, "10 0D 0004 4D515454 05 02 003C 00 0000", 0},
    {"CONNECT, password alone", V5, "10 10 0004 4D515454 05 42 003C 00 0000 0001 70", 0},
    {"CONNECT, all", V5,
     "10 56 0004 4D515454 05 F6 003C"
     "2A 11 0000000A 15 0001 6D 16 0002 0001 17 00 19 01 21 0010 22 0005"
     "26 0001 61 0001 62 26 0001 61 0000 27 00001000"
     "0002 6431"
     "11 01 01 02 00000009 18 FFFFFFFF 26 0000 0000"
     "0001 77 0000"
     "0001 75 0001 70",
     0},
    {"CONNACK", V3, "20 02 01 00", 0},
    {"CONNACK, refused", V3, "20 02 00 05", 0},
    {"CONNACK, least", V5, "20 03 00 00 00", 0},
    {"CONNACK, all", V5,
     "20 48 01 00 45 11 00000001 12 0002 6431 13 003C 15 0001 6D 16 0001 74 1A 0001 72 1C 0001 73"
     "1F 0002 6F6B 21 0001 22 0000 24 01 25 00 26 0001 61 0001 62 26 0001 63 0001 64 27 00000001"
     "28 01 29 00 2A 01",
     0},
    {"CONNACK, refused", V5, "20 09 00 87 06 1F 0003 6D6163", 0},
    {"PUBLISH, QoS 0", V3, "30 05 0001 61 6869", 2},
    {"PUBLISH, QoS 1", V3, "32 06 0001 61 000A 68", 1},
    {"PUBLISH, QoS 2 DUP RETAIN", V3, "3D 05 0001 61 FFFF", 0},
    {"PUBLISH, QoS 0", V5, "30 06 0001 61 00 6869", 2},
    {"PUBLISH, alias", V5, "30 06 0000 03 23 0001", 0},
    {"PUBLISH, all", V5,
     "3B 32 0003 612F62 0001 28 01 01 02 0000003C 03 0001 74 08 0001 72 09 0002 FF00 0B FFFFFF7F"
     "23 FFFF 26 0001 6B 0001 76 26 0000 0000 7B7D",
     2},
    {"PUBACK", V3, "40 02 0001", 0},
    {"PUBREC", V3, "50 02 0001", 0},
    {"PUBREL", V3, "62 02 0001", 0},
    {"PUBCOMP", V3, "70 02 0001", 0},
    {"PUBACK", V5, "40 02 0001", 0},
    {"PUBACK, reason", V5, "40 03 0001 97", 1},
    {"PUBACK, all", V5, "40 10 0001 87 0C 1F 0002 6E6F 26 0001 61 0001 62", 2},
    {"PUBREC, reason", V5, "50 03 0001 10", 1},
    {"PUBREL, reason", V5, "62 03 0001 92", 1},
    {"PUBCOMP, reason", V5, "70 03 0001 92", 1},
    {"SUBSCRIBE", V3, "82 0B 0001 0001 61 00 0002 2F23 02", 1},
    {"SUBSCRIBE", V5, "82 0E 0001 02 0B 01 0001 61 2D 0002 2F23 12", 1},
    {"SUBSCRIBE, wildcard astray", V5, "82 09 0001 00 0003 23 2F 61 00", 0},
    {"SUBACK", V3, "90 06 0001 00 01 02 80", 3},
    {"SUBACK", V5, "90 0B 0001 07 26 0001 61 0001 62 87", 0},
    {"UNSUBSCRIBE", V3, "A2 08 0001 0001 61 0001 62", 1},
    {"UNSUBSCRIBE", V5, "A2 06 0001 00 0001 61", 0},
    {"UNSUBACK", V3, "B0 02 0001", 0},
    {"UNSUBACK", V5, "B0 05 0001 00 00 11", 1},
    {"PINGREQ", V3, "C0 00", 0},
    {"PINGRESP", V5, "D0 00", 0},
    {"DISCONNECT", V3, "E0 00", 0},
    {"DISCONNECT", V5, "E0 00", 0},
    {"DISCONNECT, reason", V5, "E0 01 04", 1},
    {"DISCONNECT, all", V5, "E0 0F 9D 0D 11 00000000 1C 0001 73 1F 0001 72", 2},
    {"AUTH", V5, "F0 0A 18 08 15 0001 6D 16 0001 64", 0},
};
#define GOOD_COUNT (sizeof(good) / sizeof(good[0]))

static void good_packets_come_back_byte_for_byte(void)
{
    static uint8_t buffer[8192];
    for (size_t i = 0; i < GOOD_COUNT; i++) {
        struct any_packet packet;
        size_t len = parse_hex(good[i].hex);
        struct sp_view in = sp_view(from_hex_bytes, len);
        if (any_decode(good[i].version, in, &packet) != SP_OK) {
            SP_CHECK_CASE(false, good[i].name);
            continue;
        }
        SP_CHECK_CASE(packet.size == len, good[i].name);
        struct sp_writer w;
        sp_writer_init(&w, buffer, sizeof(buffer));
        any_encode(&w, good[i].version, &packet);
        SP_CHECK_CASE(sp_view_equal(sp_writer_view(&w), in), good[i].name);
        for (size_t cap = 0; cap < len; cap++) {
            sp_writer_init(&w, buffer, cap);
            any_encode(&w, good[i].version, &packet);
            SP_CHECK_CASE(w.err == SP_ERR_SPACE, good[i].name);
        }
    }
}

/* M-05: all are shorter than 128 bytes, so the length is one byte that can be patched. */
static void packets_cut_at_any_byte_are_refused_or_whole(void)
{
    for (size_t i = 0; i < GOOD_COUNT; i++) {
        size_t len = parse_hex(good[i].hex);
        int whole = 0;
        SP_CHECK_CASE(len < 128, good[i].name);
        for (size_t cut = 2; cut < len; cut++) {
            struct any_packet packet;
            SP_CHECK_CASE(decode_exact(good[i].version, from_hex_bytes, cut, &packet) ==
                              SP_ERR_AGAIN,
                          good[i].name);
            uint8_t length = from_hex_bytes[1];
            from_hex_bytes[1] = (uint8_t)(cut - 2);
            enum sp_err err = decode_exact(good[i].version, from_hex_bytes, cut, &packet);
            from_hex_bytes[1] = length;
            SP_CHECK_CASE(err == SP_OK || err == SP_ERR_MALFORMED || err == SP_ERR_PROTOCOL ||
                              err == SP_ERR_DENIED,
                          good[i].name);
            whole += err == SP_OK;
        }
        if (whole != good[i].whole_cuts) {
            printf("%s (%d): %d cuts are whole, not %d\n", good[i].name, (int)good[i].version,
                   whole, good[i].whole_cuts);
            SP_CHECK(false);
        }
    }
}

static void packets_with_a_byte_too_many_are_refused_or_longer(void)
{
    for (size_t i = 0; i < GOOD_COUNT; i++) {
        struct any_packet packet;
        size_t len = parse_hex(good[i].hex);
        unsigned type = from_hex_bytes[0] >> 4;
        bool open_end = type == SP_MQTT_PUBLISH || type == SP_MQTT_SUBACK ||
                        (type == SP_MQTT_UNSUBACK && good[i].version == V5) ||
                        (good[i].version == V5 && strstr(good[i].name, ", reason") != NULL) ||
                        strcmp(good[i].name, "PUBACK") == 0 || /* reason 0 */
                        strcmp(good[i].name, "DISCONNECT") == 0;
        from_hex_bytes[len] = 0;
        from_hex_bytes[1]++;
        enum sp_err err = decode_exact(good[i].version, from_hex_bytes, len + 1, &packet);
        bool v3_fixed = good[i].version == V3 && type != SP_MQTT_PUBLISH && type != SP_MQTT_SUBACK;
        SP_CHECK_CASE(err != SP_OK || (open_end && !v3_fixed), good[i].name);
    }
}

struct bad {
    const char *name;
    enum sp_mqtt_version version;
    const char *hex;
    enum sp_err err;
};

static void check_bad(const struct bad *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        enum sp_err err = decode_hex(cases[i].version, cases[i].hex);
        if (err != cases[i].err) {
            printf("%s: %s, not %s\n", cases[i].name, sp_err_name(err), sp_err_name(cases[i].err));
        }
        SP_CHECK_CASE(err == cases[i].err, cases[i].name);
    }
}
#define CHECK_BAD(cases) check_bad(cases, sizeof(cases) / sizeof((cases)[0]))

static void bad_fixed_headers_are_refused(void)
{
    static const struct bad cases[] = {
        {"nothing", V5, "", SP_ERR_AGAIN},
        {"one byte", V5, "30", SP_ERR_AGAIN},
        {"length not ended", V5, "30 FF FF FF", SP_ERR_AGAIN},
        {"M-01 huge", V5, "30 FF FF FF 7F", SP_ERR_LIMIT},
        {"M-02 fourth continuation bit", V5, "10 FF FF FF FF", SP_ERR_MALFORMED},
        {"M-02 with a fifth byte", V5, "10 FF FF FF FF 7F", SP_ERR_MALFORMED},
        {"M-02 80s", V5, "10 80 80 80 80 01", SP_ERR_MALFORMED},
        {"M-03 length 0 in two bytes", V5, "C0 80 00", SP_ERR_MALFORMED},
        {"M-03 length 2 in four bytes", V3, "40 82 80 80 00 0001", SP_ERR_MALFORMED},
        {"M-24 type 0", V5, "00 00", SP_ERR_MALFORMED},
        {"M-24 type 0, one byte", V5, "0F", SP_ERR_MALFORMED},
        {"M-24 type 15", V3, "F0 00", SP_ERR_MALFORMED},
        {"M-09 CONNECT flags", V3, "11 0C 0004 4D515454 04 02 003C 0000", SP_ERR_MALFORMED},
        {"M-09 CONNACK flags", V3, "21 02 0000", SP_ERR_MALFORMED},
        {"M-09 PUBACK flags", V3, "42 02 0001", SP_ERR_MALFORMED},
        {"M-09 PUBREL flags 0", V3, "60 02 0001", SP_ERR_MALFORMED},
        {"M-09 SUBSCRIBE flags 0", V3, "80 06 0001 0001 61 00", SP_ERR_MALFORMED},
        {"M-09 SUBSCRIBE flags 3", V3, "83 06 0001 0001 61 00", SP_ERR_MALFORMED},
        {"M-09 SUBACK flags", V3, "92 03 0001 00", SP_ERR_MALFORMED},
        {"M-09 UNSUBSCRIBE flags 0", V3, "A0 05 0001 0001 61", SP_ERR_MALFORMED},
        {"M-09 PINGREQ flags", V3, "C1 00", SP_ERR_MALFORMED},
        {"M-09 PINGRESP flags", V3, "D8 00", SP_ERR_MALFORMED},
        {"M-09 DISCONNECT flags", V3, "E1 00", SP_ERR_MALFORMED},
        {"M-09 AUTH flags", V5, "F1 00", SP_ERR_MALFORMED},
        {"M-09 PINGREQ body", V3, "C0 01 00", SP_ERR_MALFORMED},
        {"M-09 PINGRESP body", V5, "D0 01 00", SP_ERR_MALFORMED},
        {"M-09 DISCONNECT body", V3, "E0 01 00", SP_ERR_MALFORMED},
    };
    CHECK_BAD(cases);
}

static void bad_connects_are_refused(void)
{
    static const struct bad cases[] = {
        {"M-04 client id beyond the end", V3, "10 0D 0004 4D515454 04 02 003C 0005 61",
         SP_ERR_MALFORMED},
        {"M-21 reserved flag", V3, "10 0C 0004 4D515454 04 03 003C 0000", SP_ERR_MALFORMED},
        {"M-21 password alone", V3, "10 0F 0004 4D515454 04 42 003C 0000 0001 70",
         SP_ERR_MALFORMED},
        {"M-21 will QoS without will", V3, "10 0C 0004 4D515454 04 0A 003C 0000", SP_ERR_MALFORMED},
        {"M-21 will retain without will", V5, "10 0D 0004 4D515454 05 22 003C 00 0000",
         SP_ERR_MALFORMED},
        {"M-11 will QoS 3", V3, "10 11 0004 4D515454 04 1E 003C 0000 0001 77 0000",
         SP_ERR_MALFORMED},
        {"M-12 empty will topic", V3, "10 10 0004 4D515454 04 06 003C 0000 0000 0000",
         SP_ERR_PROTOCOL},
        {"M-13 wildcard in will topic", V3, "10 11 0004 4D515454 04 06 003C 0000 0001 23 0000",
         SP_ERR_DENIED},
        {"M-14 NUL in client id", V3, "10 0D 0004 4D515454 04 02 003C 0001 00", SP_ERR_MALFORMED},
        {"M-14 control in user name", V3, "10 0F 0004 4D515454 04 82 003C 0000 0001 0A",
         SP_ERR_MALFORMED},
        {"M-14 bad UTF-8 in will topic", V3, "10 12 0004 4D515454 04 06 003C 0000 0002 C080 0000",
         SP_ERR_MALFORMED},
        {"M-22 password though its flag is 0", V3, "10 0F 0004 4D515454 04 02 003C 0000 0001 70",
         SP_ERR_MALFORMED},
        {"M-23 MQTX", V3, "10 0C 0004 4D515458 04 02 003C 0000", SP_ERR_MALFORMED},
        {"M-23 mqtt", V3, "10 0C 0004 6D717474 04 02 003C 0000", SP_ERR_MALFORMED},
        {"M-23 level 0", V3, "10 0C 0004 4D515454 00 02 003C 0000", SP_ERR_UNSUPPORTED},
        {"M-23 level 3", V3, "10 0C 0004 4D515454 03 02 003C 0000", SP_ERR_UNSUPPORTED},
        {"M-23 level 6", V3, "10 0C 0004 4D515454 06 02 003C 0000", SP_ERR_UNSUPPORTED},
        {"M-23 level 255", V3, "10 0C 0004 4D515454 FF 02 003C 0000", SP_ERR_UNSUPPORTED},
        {"M-23 MQTT 3.1", V3, "10 0E 0006 4D5149736470 03 02 003C 0000", SP_ERR_UNSUPPORTED},
        {"M-23 MQIsdp, level 4", V3, "10 0E 0006 4D5149736470 04 02 003C 0000", SP_ERR_MALFORMED},
        {"M-45 data without method", V5, "10 11 0004 4D515454 05 02 003C 04 16 0001 64 0000",
         SP_ERR_PROTOCOL},
        {"no properties at all", V5, "10 0A 0004 4D515454 05 02 003C", SP_ERR_MALFORMED},
    };
    CHECK_BAD(cases);
}

static void bad_publishes_and_acknowledgements_are_refused(void)
{
    static const struct bad cases[] = {
        {"M-06 no packet id", V3, "32 05 0003 61 2F 62", SP_ERR_MALFORMED},
        {"M-10 packet id 0", V3, "32 05 0001 61 0000", SP_ERR_PROTOCOL},
        {"M-10 PUBACK 0", V3, "40 02 0000", SP_ERR_PROTOCOL},
        {"M-10 PUBREL 0", V5, "62 02 0000", SP_ERR_PROTOCOL},
        {"M-11 QoS 3", V3, "36 05 0001 61 0001", SP_ERR_MALFORMED},
        {"M-11 DUP with QoS 0", V3, "38 03 0001 61", SP_ERR_MALFORMED},
        {"M-12 empty topic", V3, "30 02 0000", SP_ERR_PROTOCOL},
        {"M-12 empty topic, no alias", V5, "30 03 0000 00", SP_ERR_PROTOCOL},
        {"M-13 #", V3, "30 05 0003 612F23", SP_ERR_DENIED},
        {"M-13 +", V5, "30 04 0001 2B 00", SP_ERR_DENIED},
        {"M-14 NUL", V3, "30 05 0003 610062", SP_ERR_MALFORMED},
        {"M-14 surrogate", V3, "30 05 0003 EDA080", SP_ERR_MALFORMED},
        {"M-14 overlong", V3, "30 04 0002 C080", SP_ERR_MALFORMED},
        {"M-14 above 10FFFF", V3, "30 06 0004 F4908080", SP_ERR_MALFORMED},
        {"M-14 F5", V3, "30 03 0001 F5", SP_ERR_MALFORMED},
        {"M-14 lone 80", V3, "30 03 0001 80", SP_ERR_MALFORMED},
        {"M-14 FFFF", V3, "30 05 0003 EFBFBF", SP_ERR_MALFORMED},
        {"M-14 C1 control", V3, "30 04 0002 C285", SP_ERR_MALFORMED},
        {"M-22 PUBACK too long", V3, "40 03 0001 00", SP_ERR_MALFORMED},
        {"PUBACK after its properties", V5, "40 05 0001 00 00 00", SP_ERR_MALFORMED},
        {"PUBACK reason of CONNACK", V5, "40 03 0001 85", SP_ERR_PROTOCOL},
        {"PUBREL reason of PUBACK", V5, "62 03 0001 10", SP_ERR_PROTOCOL},
        {"M-25 properties beyond the end", V5, "30 06 0001 61 08 0101", SP_ERR_MALFORMED},
        {"M-25 value crosses the block", V5, "30 0A 0001 61 02 02 00000001 68", SP_ERR_MALFORMED},
        {"M-25 string crosses the block", V5, "30 0A 0001 61 05 03 0005 6161 61", SP_ERR_MALFORMED},
        {"M-03 property length", V5, "30 05 0001 61 8000", SP_ERR_MALFORMED},
        {"M-03 subscription id", V5, "30 07 0001 61 03 0B 8100", SP_ERR_MALFORMED},
        {"M-26 id 00", V5, "30 05 0001 61 01 00", SP_ERR_PROTOCOL},
        {"M-26 id 7F", V5, "30 05 0001 61 01 7F", SP_ERR_PROTOCOL},
        {"M-26 id 80 01", V5, "30 06 0001 61 02 8001", SP_ERR_PROTOCOL},
        {"M-29 alias 0", V5, "30 07 0001 61 03 23 0000", SP_ERR_PROTOCOL},
        {"M-31 subscription id 0", V5, "30 06 0001 61 02 0B 00", SP_ERR_PROTOCOL},
        {"M-31 subscription id 268435456", V5, "30 0A 0001 61 06 0B 8080808001", SP_ERR_MALFORMED},
        {"wildcard in response topic", V5, "30 08 0001 61 04 08 0001 23", SP_ERR_PROTOCOL},
        {"payload format 2", V5, "30 06 0001 61 02 01 02", SP_ERR_PROTOCOL},
    };
    CHECK_BAD(cases);
    struct any_packet packet; /* M-06: the body is 1024 bytes to the last */
    memset(from_hex_bytes, 'a', 1027);
    memcpy(from_hex_bytes, "\x32\x80\x08\x03\xFE", 5);
    SP_CHECK_INT(decode_exact(V3, from_hex_bytes, 1027, &packet), SP_ERR_MALFORMED);
}

static void bad_subscriptions_and_endings_are_refused(void)
{
    static const struct bad cases[] = {
        {"M-07 no options", V3, "82 07 0001 0003 612F62", SP_ERR_MALFORMED},
        {"M-08 no filter", V3, "82 02 0001", SP_ERR_PROTOCOL},
        {"M-08 no filter", V5, "82 03 0001 00", SP_ERR_PROTOCOL},
        {"M-08 UNSUBSCRIBE", V3, "A2 02 0001", SP_ERR_PROTOCOL},
        {"M-10 packet id 0", V3, "82 06 0000 0001 61 00", SP_ERR_PROTOCOL},
        {"M-11 QoS 3", V3, "82 06 0001 0001 61 03", SP_ERR_PROTOCOL},
        {"M-11 reserved bits, 3.1.1", V3, "82 06 0001 0001 61 04", SP_ERR_MALFORMED},
        {"M-11 reserved bit 6", V5, "82 07 0001 00 0001 61 40", SP_ERR_MALFORMED},
        {"M-11 reserved bit 7", V5, "82 07 0001 00 0001 61 80", SP_ERR_MALFORMED},
        {"retain handling 3", V5, "82 07 0001 00 0001 61 30", SP_ERR_PROTOCOL},
        {"M-14 bad UTF-8", V3, "82 06 0001 0001 80 00", SP_ERR_MALFORMED},
        {"empty filter", V3, "82 05 0001 0000 00", SP_ERR_PROTOCOL},
        {"M-38 shared, no local", V5, "82 10 0001 00 000A 2473686172652F672F61 04",
         SP_ERR_PROTOCOL},
        {"M-31 subscription id 0", V5, "82 09 0001 02 0B00 0001 61 00", SP_ERR_PROTOCOL},
        {"M-27 subscription id twice", V5, "82 0B 0001 04 0B01 0B02 0001 61 00", SP_ERR_PROTOCOL},
        {"SUBACK without codes", V3, "90 02 0001", SP_ERR_MALFORMED},
        {"SUBACK 3", V3, "90 03 0001 03", SP_ERR_PROTOCOL},
        {"SUBACK reason of PUBACK", V5, "90 04 0001 00 10", SP_ERR_PROTOCOL},
        {"UNSUBACK with codes", V3, "B0 03 0001 00", SP_ERR_MALFORMED},
        {"UNSUBACK without codes", V5, "B0 03 0001 00", SP_ERR_MALFORMED},
        {"CONNACK flags", V3, "20 02 02 00", SP_ERR_MALFORMED},
        {"CONNACK code 6", V3, "20 02 00 06", SP_ERR_PROTOCOL},
        {"CONNACK session with a refusal", V3, "20 02 01 05", SP_ERR_PROTOCOL},
        {"CONNACK unknown reason", V5, "20 03 00 7F 00", SP_ERR_PROTOCOL},
        {"CONNACK reason above all", V5, "20 03 00 FF 00", SP_ERR_PROTOCOL},
        {"M-30 receive maximum 0", V5, "20 06 00 00 03 21 0000", SP_ERR_PROTOCOL},
        {"M-30 maximum packet size 0", V5, "20 08 00 00 05 27 00000000", SP_ERR_PROTOCOL},
        {"maximum QoS 2", V5, "20 05 00 00 02 24 02", SP_ERR_PROTOCOL},
        {"DISCONNECT unknown reason", V5, "E0 01 01", SP_ERR_PROTOCOL},
        {"DISCONNECT rest", V5, "E0 03 00 00 00", SP_ERR_MALFORMED},
        {"M-45 AUTH without method", V5, "F0 02 18 00", SP_ERR_PROTOCOL},
        {"M-45 AUTH, empty", V5, "F0 00", SP_ERR_PROTOCOL},
        {"M-45 AUTH, data alone", V5, "F0 06 18 04 16 0001 64", SP_ERR_PROTOCOL},
        {"AUTH unknown reason", V5, "F0 06 01 04 15 0001 6D", SP_ERR_PROTOCOL},
    };
    CHECK_BAD(cases);
}

/* The places of each property, from MQTT 5, 2.2.2.2, by the name of the packet's type as one hexadecimal
 * digit; 0 is the will. */
static const struct {
    const char *hex;
    const char *places;
} property_table[] = {
    {"01 01", "30"},
    {"02 00000001", "30"},
    {"03 0001 61", "30"},
    {"08 0001 61", "30"},
    {"09 0001 00", "30"},
    {"0B 01", "38"},
    {"11 00000001", "12E"},
    {"12 0001 61", "2"},
    {"13 0001", "2"},
    {"15 0001 61", "12F"},
    {"16 0001 00", "12F"},
    {"17 01", "1"},
    {"18 00000001", "0"},
    {"19 01", "1"},
    {"1A 0001 61", "2"},
    {"1C 0001 61", "2E"},
    {"1F 0001 61", "245679BEF"},
    {"21 0001", "12"},
    {"22 0001", "12"},
    {"23 0001", "3"},
    {"24 01", "2"},
    {"25 01", "2"},
    {"26 0001 61 0001 62", "0123456789ABEF"},
    {"27 00000001", "12"},
    {"28 01", "2"},
    {"29 01", "2"},
    {"2A 01", "2"},
};

static const struct {
    char place;
    const char *before; /* first byte, then the body up to the properties */
    const char *after;
} frames[] = {
    {'0', "10 0004 4D515454 05 06 003C 00 0000", "0001 77 0000"},
    {'1', "10 0004 4D515454 05 02 003C", "0000"},
    {'2', "20 00 00", ""},
    {'3', "30 0001 61", "00"},
    {'4', "40 0001 00", ""},
    {'5', "50 0001 00", ""},
    {'6', "62 0001 00", ""},
    {'7', "70 0001 00", ""},
    {'8', "82 0001", "0001 61 00"},
    {'9', "90 0001", "00"},
    {'A', "A2 0001", "0001 61"},
    {'B', "B0 0001", "00"},
    {'E', "E0 00", ""},
    {'F', "F0 18", ""},
};

/* The packet of a place with these properties in it; AUTH needs a method, and so does data. */
static enum sp_err decode_framed(size_t frame, const char *props)
{
    char text[256];
    char before[128];
    bool method = strstr(props, "15 0001") != NULL;
    bool data = strncmp(props, "16", 2) == 0 && strchr("12F", frames[frame].place) != NULL;
    const char *more = !method && (data || frames[frame].place == 'F') ? "15 0001 6D" : "";
    snprintf(text, sizeof(text), "%s%s", props, more);
    size_t props_len = parse_hex(text);
    size_t body_len = parse_hex(frames[frame].before) - 1 + 1 + props_len;
    body_len += parse_hex(frames[frame].after);
    snprintf(before, sizeof(before), "%.2s %02zX %s %02zX", frames[frame].before, body_len,
             frames[frame].before + 2, props_len);
    char packet[600];
    snprintf(packet, sizeof(packet), "%s %s %s", before, text, frames[frame].after);
    return decode_hex(V5, packet);
}

static void each_property_stands_where_it_may_and_once(void)
{
    size_t count = sizeof(property_table) / sizeof(property_table[0]);
    SP_CHECK_INT(count, SP_MQTT_PROPERTY_COUNT);
    for (size_t i = 0; i < count; i++) {
        const char *hex = property_table[i].hex;
        for (size_t f = 0; f < sizeof(frames) / sizeof(frames[0]); f++) {
            bool allowed = strchr(property_table[i].places, frames[f].place) != NULL;
            enum sp_err err = decode_framed(f, hex);
            SP_CHECK_CASE(err == (allowed ? SP_OK : SP_ERR_PROTOCOL), hex);
            char twice[128];
            snprintf(twice, sizeof(twice), "%s%s", hex, hex);
            bool repeats = strncmp(hex, "26", 2) == 0 ||
                           (strncmp(hex, "0B", 2) == 0 && frames[f].place == '3');
            err = decode_framed(f, twice);
            SP_CHECK_CASE(err == (allowed && repeats ? SP_OK : SP_ERR_PROTOCOL), hex);
        }
    }
}

static void properties_that_may_not_stand_there_are_not_encoded(void)
{
    uint8_t buffer[64];
    struct sp_writer w;
    struct sp_mqtt_publish publish = {.topic = SP_VIEW_INIT("a")};
    for (unsigned i = 0; i < SP_MQTT_PROPERTY_COUNT; i++) {
        memset(&publish.props, 0, sizeof(publish.props));
        publish.props.present = (uint32_t)SP_MQTT_HAS(i);
        publish.props.topic_alias = 1;
        publish.props.subscription_id = 1;
        bool allowed = strchr(property_table[i].places, '3') != NULL;
        sp_writer_init(&w, buffer, sizeof(buffer));
        sp_mqtt_encode_publish(&w, V5, &publish);
        SP_CHECK_CASE(w.err == (allowed ? SP_OK : SP_ERR_ARGUMENT), property_table[i].hex);
        SP_CHECK_CASE((sp_mqtt_publish_size(V5, &publish) != 0) == allowed, property_table[i].hex);
        sp_writer_init(&w, buffer, sizeof(buffer));
        sp_mqtt_encode_publish(&w, V3, &publish);
        SP_CHECK_INT(w.used, 5);
    }
    memset(&publish.props, 0, sizeof(publish.props));
    publish.props.present = SP_MQTT_HAS(SP_MQTT_P_TOPIC_ALIAS); /* 0 is no alias */
    SP_CHECK_INT(sp_mqtt_publish_size(V5, &publish), 0);
}

static void what_cannot_be_encoded_is_our_own_mistake(void)
{
    static uint8_t big[65536];
    static uint8_t buffer[70000];
    struct sp_writer w;
    sp_writer_init(&w, buffer, sizeof(buffer));
    struct sp_mqtt_publish publish = {.topic = SP_VIEW_INIT("a"), .qos = 3, .packet_id = 1};
    sp_mqtt_encode_publish(&w, V3, &publish);
    SP_CHECK_INT(w.err, SP_ERR_ARGUMENT);
    SP_CHECK_INT(sp_mqtt_publish_size(V3, &publish), 0);
    sp_writer_init(&w, buffer, sizeof(buffer));
    publish.qos = 1;
    publish.packet_id = 0;
    sp_mqtt_encode_publish(&w, V3, &publish);
    SP_CHECK_INT(w.err, SP_ERR_ARGUMENT);
    sp_writer_init(&w, buffer, sizeof(buffer));
    publish.packet_id = 1;
    publish.topic = sp_view(big, sizeof(big));
    sp_mqtt_encode_publish(&w, V3, &publish);
    SP_CHECK_INT(w.err, SP_ERR_ARGUMENT);
    sp_writer_init(&w, buffer, sizeof(buffer));
    publish.topic = sp_view(big, sizeof(big) - 1);
    sp_mqtt_encode_publish(&w, V3, &publish);
    SP_CHECK_INT(w.err, SP_OK);
    SP_CHECK_INT(w.used, sp_mqtt_publish_size(V3, &publish));
    struct sp_mqtt_reasoned auth = {0};
    sp_mqtt_encode_reasoned(&w, V3, SP_MQTT_AUTH, &auth);
    SP_CHECK_INT(w.err, SP_ERR_ARGUMENT);
}

static void user_properties_are_walked_and_passed_on_without_their_neighbours(void)
{
    struct any_packet packet;
    size_t len =
        parse_hex("30 19 0001 61 15 26 0001 61 0001 62 02 00000007 26 0001 63 0000 23 0001 68");
    from_hex_bytes[1] = (uint8_t)(len - 2);
    from_hex_bytes[5] = (uint8_t)(len - 7);
    SP_CHECK_INT(any_decode(V5, sp_view(from_hex_bytes, len), &packet), SP_OK);
    SP_CHECK_INT(packet.publish.props.user_count, 2);
    struct sp_view rest = packet.publish.props.user;
    struct sp_view name;
    struct sp_view value;
    SP_CHECK(sp_mqtt_user_next(&rest, &name, &value));
    SP_CHECK(sp_view_equal(name, SP_VIEW_LIT("a")) && sp_view_equal(value, SP_VIEW_LIT("b")));
    SP_CHECK(sp_mqtt_user_next(&rest, &name, &value));
    SP_CHECK(sp_view_equal(name, SP_VIEW_LIT("c")) && value.len == 0);
    SP_CHECK(!sp_mqtt_user_next(&rest, &name, &value));

    packet.publish.props.present = SP_MQTT_HAS(SP_MQTT_P_USER_PROPERTY);
    uint8_t buffer[64];
    struct sp_writer w;
    sp_writer_init(&w, buffer, sizeof(buffer));
    sp_mqtt_encode_publish(&w, V5, &packet.publish);
    struct any_packet again;
    SP_CHECK_INT(any_decode(V5, sp_writer_view(&w), &again), SP_OK);
    SP_CHECK_INT(again.publish.props.present, SP_MQTT_HAS(SP_MQTT_P_USER_PROPERTY));
    SP_CHECK_INT(again.publish.props.user_count, 2);

    uint8_t pairs[64];
    struct sp_writer made;
    sp_writer_init(&made, pairs, sizeof(pairs));
    sp_mqtt_user_encode(&made, SP_VIEW_LIT("topic"), SP_VIEW_LIT("dt/dev1/climate"));
    struct sp_mqtt_publish publish = {.topic = SP_VIEW_INIT("a")};
    publish.props.present = SP_MQTT_HAS(SP_MQTT_P_USER_PROPERTY);
    publish.props.user = sp_writer_view(&made);
    sp_writer_init(&w, buffer, sizeof(buffer));
    sp_mqtt_encode_publish(&w, V5, &publish);
    SP_CHECK_INT(any_decode(V5, sp_writer_view(&w), &again), SP_OK);
    rest = again.publish.props.user;
    SP_CHECK(sp_mqtt_user_next(&rest, &name, &value));
    SP_CHECK(sp_view_equal(value, SP_VIEW_LIT("dt/dev1/climate")));
}

static void user_properties_that_are_cut_short_are_none(void)
{
    uint8_t pairs[32];
    struct sp_writer w;
    sp_writer_init(&w, pairs, sizeof(pairs));
    sp_write_u8(&w, 0x02); /* another property before it: Message Expiry Interval */
    sp_write_u32(&w, 7);
    size_t before = w.used;
    sp_mqtt_user_encode(&w, SP_VIEW_LIT(""), SP_VIEW_LIT("value"));
    for (size_t len = 0; len <= w.used; len++) {
        struct sp_view rest = sp_view(pairs, len);
        struct sp_view name;
        struct sp_view value;
        bool found = sp_mqtt_user_next(&rest, &name, &value);
        SP_CHECK_INT(found, len == w.used);
        SP_CHECK_INT(rest.len, found ? 0 : len);
    }
    uint8_t buffer[64];
    struct sp_writer out;
    struct sp_mqtt_publish publish = {.topic = SP_VIEW_INIT("a")};
    publish.props.present = SP_MQTT_HAS(SP_MQTT_P_USER_PROPERTY);
    publish.props.user = sp_writer_view(&w);
    sp_writer_init(&out, buffer, sizeof(buffer));
    sp_mqtt_encode_publish(&out, V5, &publish);
    SP_CHECK_INT(out.used, 2 + 3 + 1 + w.used - before);
    SP_CHECK(
        sp_view_equal(sp_view(buffer + 6, out.used - 6), sp_view(pairs + before, w.used - before)));
}

/* M-28: the work is linear, and the count tells the server what to refuse. */
static void ten_thousand_user_properties_are_counted(void)
{
    static uint8_t bytes[80000];
    struct sp_writer w;
    sp_writer_init(&w, bytes, sizeof(bytes));
    sp_write_view(&w, sp_view("\x00\x01\x61\xD0\x86\x03", 6)); /* 50000 */
    for (int i = 0; i < 10000; i++) {
        sp_write_view(&w, sp_view("\x26\x00\x00\x00\x00", 5));
    }
    struct sp_mqtt_publish publish;
    SP_CHECK_INT(sp_mqtt_decode_publish(V5, 0, sp_writer_view(&w), &publish), SP_OK);
    SP_CHECK_INT(publish.props.user_count, 10000);
    SP_CHECK_INT(publish.props.user.len, 50000);
}

static void filters_of_a_subscription_are_handed_out(void)
{
    struct any_packet packet;
    struct sp_mqtt_filter filter;
    size_t len = parse_hex("82 0E 0001 02 0B 01 0001 61 2D 0002 2F23 02");
    SP_CHECK_INT(any_decode(V5, sp_view(from_hex_bytes, len), &packet), SP_OK);
    SP_CHECK_INT(packet.subscribe.filter_count, 2);
    SP_CHECK_INT(packet.subscribe.props.subscription_id, 1);
    struct sp_view rest = packet.subscribe.filters;
    SP_CHECK(sp_mqtt_filter_next(SP_MQTT_SUBSCRIBE, &rest, &filter));
    SP_CHECK(filter.qos == 1 && filter.no_local && filter.retain_as_published);
    SP_CHECK_INT(filter.retain_handling, 2);
    SP_CHECK(sp_mqtt_filter_next(SP_MQTT_SUBSCRIBE, &rest, &filter));
    SP_CHECK(sp_view_equal(filter.filter, SP_VIEW_LIT("/#")) && filter.qos == 2);
    SP_CHECK(!sp_mqtt_filter_next(SP_MQTT_SUBSCRIBE, &rest, &filter));
}

static void encoders_translate_reasons_for_311(void)
{
    static const uint8_t codes[][2] = {{0x00, 0}, {0x84, 1}, {0x85, 2}, {0x88, 3}, {0x89, 3},
                                       {0x97, 3}, {0x86, 4}, {0x87, 5}, {0x8C, 5}, {0x9A, 5}};
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        SP_CHECK_INT(sp_mqtt_connack_code_311(codes[i][0]), codes[i][1]);
    }
    uint8_t buffer[16];
    struct sp_writer w;
    sp_writer_init(&w, buffer, sizeof(buffer));
    struct sp_mqtt_connack connack = {.reason = 0x87};
    sp_mqtt_encode_connack(&w, V3, &connack);
    SP_CHECK(sp_view_equal(sp_writer_view(&w), SP_VIEW_LIT("\x20\x02\x00\x05")));
    sp_writer_init(&w, buffer, sizeof(buffer));
    struct sp_mqtt_suback suback = {.packet_id = 1, .codes = SP_VIEW_INIT("\x01\x87")};
    sp_mqtt_encode_suback(&w, V3, SP_MQTT_SUBACK, &suback);
    SP_CHECK(sp_view_equal(sp_writer_view(&w), SP_VIEW_LIT("\x90\x04\x00\x01\x01\x80")));
    sp_writer_init(&w, buffer, sizeof(buffer));
    struct sp_mqtt_ack ack = {.packet_id = 1, .reason = 0x87};
    sp_mqtt_encode_ack(&w, V3, SP_MQTT_PUBACK, &ack);
    SP_CHECK(sp_view_equal(sp_writer_view(&w), SP_VIEW_LIT("\x40\x02\x00\x01")));
}

static const struct sp_test tests[] = {
    SP_TEST(good_packets_come_back_byte_for_byte),
    SP_TEST(packets_cut_at_any_byte_are_refused_or_whole),
    SP_TEST(packets_with_a_byte_too_many_are_refused_or_longer),
    SP_TEST(bad_fixed_headers_are_refused),
    SP_TEST(bad_connects_are_refused),
    SP_TEST(bad_publishes_and_acknowledgements_are_refused),
    SP_TEST(bad_subscriptions_and_endings_are_refused),
    SP_TEST(each_property_stands_where_it_may_and_once),
    SP_TEST(properties_that_may_not_stand_there_are_not_encoded),
    SP_TEST(what_cannot_be_encoded_is_our_own_mistake),
    SP_TEST(user_properties_are_walked_and_passed_on_without_their_neighbours),
    SP_TEST(user_properties_that_are_cut_short_are_none),
    SP_TEST(ten_thousand_user_properties_are_counted),
    SP_TEST(filters_of_a_subscription_are_handed_out),
    SP_TEST(encoders_translate_reasons_for_311),
};
SP_TEST_MAIN(tests)
