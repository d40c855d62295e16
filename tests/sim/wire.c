/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "tests/sim/run.h"

bool sim_wire_next(struct sp_view in, struct sp_mqtt_header *header, struct sp_view *body)
{
    enum sp_err err = sp_mqtt_peek(in, 1U << 20, header);
    if (err != SP_OK && err != SP_ERR_AGAIN) {
        sim_fail("the gateway wrote what is no packet");
    }
    if (err != SP_OK || in.len < (size_t)header->header_len + header->body_len) {
        return false;
    }
    *body = sp_view_first(sp_view_from(in, header->header_len), header->body_len);
    return true;
}

void sim_wire_ack(struct sim_end *end, enum sp_mqtt_version version, enum sp_mqtt_type type,
                  uint16_t packet_id, uint8_t reason)
{
    uint8_t room[16];
    struct sp_writer w;
    const struct sp_mqtt_ack ack = {.packet_id = packet_id, .reason = reason};
    sp_writer_init(&w, room, sizeof(room));
    sp_mqtt_encode_ack(&w, version, type, &ack);
    sim_end_send(end, sp_writer_view(&w));
}
