/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/app/monitor.h"

#include "libs/link/link.h"
#include "libs/mqtt/topic.h"
#include "libs/senml/senml.h"

#define COSE_ENCRYPT0 0xD0U
#define COSE_MAC0     0xD1U

static void write_number(struct sp_writer *w, const char *name, const struct sp_senml_entry *entry)
{
    sp_write_str(w, name);
    if (entry == NULL || entry->kind != SP_SENML_NUMBER) {
        sp_write_str(w, "null");
    } else {
        sp_decimal_write(w, sp_decimal_normal(entry->number));
    }
}

static void write_record(struct sp_writer *w, struct sp_view device, int64_t time_ms,
                         const struct sp_senml_record *record, const char *protection)
{
    sp_write_str(w, "{\"device\":");
    sp_json_write_string(w, device);
    sp_write_str(w, ",\"time\":");
    sp_decimal_write(w, sp_decimal_normal((struct sp_decimal){time_ms, -3}));
    write_number(w, ",\"temperature_celsius\":", record->temperature);
    write_number(w, ",\"humidity_percent\":", record->humidity);
    sp_write_str(w, ",\"sequence\":null,\"protection\":\"");
    sp_write_str(w, protection);
    sp_write_str(w, "\"}");
}

static enum sp_err record_line(struct sp_view device, struct sp_view payload, int64_t now_ms,
                               struct sp_writer *w)
{
    struct sp_senml_record record = {0};
    uint8_t first = payload.len != 0 ? payload.ptr[0] : 0;
    if (first == COSE_ENCRYPT0 || first == COSE_MAC0) {
        write_record(w, device, now_ms, &record, first == COSE_MAC0 ? "mac" : "sealed");
        return w->err;
    }
    SP_TRY(sp_senml_parse(payload, device, &record));
    const struct sp_senml_entry *timed = record.temperature != NULL ? record.temperature
                                         : record.humidity != NULL  ? record.humidity
                                                                    : &record.entries[0];
    write_record(w, device, sp_senml_time_ms(timed, now_ms), &record, "clear");
    return w->err;
}

enum sp_err sp_monitor_line(struct sp_view topic, struct sp_view payload, int64_t now_ms,
                            struct sp_writer *w)
{
    if (sp_topic_matches(SP_VIEW_LIT("dt/+/climate"), topic)) {
        struct sp_view device = sp_view_first(sp_view_from(topic, 3), topic.len - 11U);
        return sp_link_identity_valid(device) ? record_line(device, payload, now_ms, w)
                                              : SP_ERR_MALFORMED;
    }
    if (!sp_topic_matches(SP_VIEW_LIT("fused/+"), topic)) {
        return SP_ERR_UNSUPPORTED;
    }
    sp_write_str(w, "{\"fused\":");
    sp_json_write_string(w, sp_view_from(topic, 6));
    sp_write_str(w, ",\"document\":");
    sp_json_write_string(w, payload);
    sp_write_str(w, "}");
    return w->err;
}
