/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/fuse/document.h"

#include "gateway/config/route_map.h"
#include "gateway/gate/route/route.h"
#include "gateway/log/log.h"

#include <stdio.h>

#define TOPIC_MAX 1024U /* bytes of a topic in the cloud */

static void write_number(struct sp_writer *w, double value)
{
    char text[32];
    (void)snprintf(text, sizeof(text), "%.7g", value);
    sp_write_str(w, text);
}

static void write_sum(struct sp_writer *w, const char *key, const struct sp_fuse_sum *sum)
{
    sp_write_str(w, key);
    sp_write_str(w, "{\"count\":");
    sp_write_dec(w, (int64_t)sum->count);
    if (sum->count == 0) {
        sp_write_str(w, ",\"min\":null,\"mean\":null,\"max\":null}");
        return;
    }
    sp_write_str(w, ",\"min\":");
    write_number(w, sum->min);
    sp_write_str(w, ",\"mean\":");
    write_number(w, sum->sum / (double)sum->count);
    sp_write_str(w, ",\"max\":");
    write_number(w, sum->max);
    sp_write_str(w, "}");
}

void sp_fuse_write(const struct sp_fusion_config *fusion, const char *gateway,
                   const struct sp_fuse_window *window, uint32_t known, struct sp_writer *w)
{
    int64_t start_ms = window->index * (int64_t)fusion->window_ms;
    sp_write_str(w, "{\"fusion\":");
    sp_json_write_string(w, sp_view_str(fusion->name));
    sp_write_str(w, ",\"gateway\":");
    sp_json_write_string(w, sp_view_str(gateway));
    sp_write_str(w, ",\"window_start\":");
    sp_decimal_write(w, (struct sp_decimal){start_ms, -3});
    sp_write_str(w, ",\"window_seconds\":");
    sp_decimal_write(w, (struct sp_decimal){fusion->window_ms, -3});
    write_sum(w, ",\"temperature_celsius\":", &window->temperature);
    write_sum(w, ",\"humidity_percent\":", &window->humidity);
    sp_write_str(w, ",\"devices_seen\":");
    sp_write_dec(w, window->seen);
    sp_write_str(w, ",\"devices_silent\":");
    sp_write_dec(w, known > window->seen ? known - window->seen : 0);
    sp_write_str(w, ",\"late_records\":");
    sp_write_dec(w, window->late);
    sp_write_str(w, ",\"declassified\":");
    sp_write_str(w, window->declassified ? "true}" : "false}");
}

static void to_cloud(struct sp_home *home, const struct sp_fusion_config *fusion,
                     struct sp_view topic, struct sp_view document)
{
    uint8_t to[TOPIC_MAX];
    size_t len = 0;
    const struct sp_view nobody = {NULL, 0};
    enum sp_err err = sp_route_map(fusion->cloud, "fused/+", home->config->id, nobody, topic, to,
                                   sizeof(to), &len);
    if (err == SP_OK && !sp_tickets_takes(&home->tickets, 1)) {
        err = SP_ERR_LIMIT;
    }
    if (err == SP_OK) {
        const struct sp_tickets_message message = {.device = nobody,
                                                   .topic = sp_view(to, len),
                                                   .origin = topic,
                                                   .payload = document,
                                                   .qos = 1,
                                                   .format = SP_FORMAT_RAW};
        err = sp_tickets_put(home, &message, 0, 0);
    }
    if (err != SP_OK) {
        sp_metric_inc(SP_M_PUBLISH_DROPPED);
        sp_log_warn(SP_EVENT("fusion_dropped"), SP_F_STR("fusion", fusion->name), SP_F_ERR(err));
    }
}

void sp_fuse_publish(struct sp_home *home, const struct sp_fusion_config *fusion,
                     const struct sp_fuse_window *window, uint32_t known)
{
    uint8_t text[SP_FUSE_DOCUMENT_MAX];
    uint8_t name[96];
    struct sp_writer w;
    struct sp_writer topic;
    sp_writer_init(&w, text, sizeof(text));
    sp_writer_init(&topic, name, sizeof(name));
    sp_write_str(&topic, "fused/");
    sp_write_str(&topic, fusion->name);
    sp_fuse_write(fusion, home->config->id, window, known, &w);
    const struct sp_mqtt_publish publish = {
        .qos = 1, .topic = sp_writer_view(&topic), .payload = sp_writer_view(&w)};
    if (w.err != SP_OK || topic.err != SP_OK) {
        return; /* names are checked to be short: cannot be */
    }
    sp_metric_inc(SP_M_FUSION_DOCUMENTS);
    sp_route_local(home, &publish, 0);
    if (home->config->cloud.enabled && fusion->cloud != NULL) {
        to_cloud(home, fusion, publish.topic, publish.payload);
    }
}
