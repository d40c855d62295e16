/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/port/freertos/settings.h"

#include "device/secure/ns/ns.h"
#include "psa/internal_trusted_storage.h"

#define TEXT_MAX   64U
#define PERIOD_MIN 50U
#define PERIOD_MAX 86400000U

/* A decimal number of at most `max`, to its end or to `stop`, which is consumed. */
static uint32_t read_number(struct sp_reader *r, uint32_t max, uint8_t stop)
{
    uint32_t value = 0;
    unsigned digits = 0;
    while (sp_reader_left(r) != 0 && sp_peek_u8(r) != stop) {
        uint8_t digit = (uint8_t)(sp_read_u8(r) - '0');
        if (digit > 9 || ++digits > 8) {
            sp_reader_fail(r, SP_ERR_MALFORMED);
            return 0;
        }
        value = value * 10U + digit;
    }
    if (stop != 0) {
        (void)sp_read_u8(r);
    }
    if (digits == 0 || value > max) {
        sp_reader_fail(r, SP_ERR_MALFORMED);
    }
    return value;
}

static void read_address(struct sp_reader *r, uint8_t out[4], uint8_t stop)
{
    for (size_t i = 0; i < 4; i++) {
        out[i] = (uint8_t)read_number(r, 255, i < 3 ? '.' : stop);
    }
}

enum sp_err sp_settings_parse_gateway(struct sp_view text, struct sp_network_config *out)
{
    struct sp_network_config parsed = *out;
    struct sp_reader r;
    sp_reader_init(&r, text);
    read_address(&r, parsed.gateway, ':');
    parsed.gateway_port = (uint16_t)read_number(&r, UINT16_MAX, 0);
    SP_TRY(sp_reader_finish(&r));
    if (parsed.gateway_port == 0) {
        return SP_ERR_MALFORMED;
    }
    *out = parsed;
    return SP_OK;
}

enum sp_err sp_settings_parse_network(struct sp_view text, struct sp_network_config *out)
{
    struct sp_network_config parsed = *out;
    struct sp_reader r;
    sp_reader_init(&r, text);
    read_address(&r, parsed.address, '/');
    parsed.prefix_len = (uint8_t)read_number(&r, 32, ',');
    read_address(&r, parsed.router, 0);
    SP_TRY(sp_reader_finish(&r));
    *out = parsed;
    return SP_OK;
}

enum sp_err sp_settings_parse_period(struct sp_view text, uint32_t *out)
{
    struct sp_reader r;
    sp_reader_init(&r, text);
    uint32_t value = read_number(&r, PERIOD_MAX, 0);
    SP_TRY(sp_reader_finish(&r));
    if (value < PERIOD_MIN) {
        return SP_ERR_MALFORMED;
    }
    *out = value;
    return SP_OK;
}

/* An asset as text; empty when it is not there. */
static enum sp_err read_asset(psa_storage_uid_t uid, uint8_t *out, struct sp_view *text)
{
    size_t len = 0;
    psa_status_t status = psa_its_get(uid, 0, TEXT_MAX, out, &len);
    if (status != PSA_SUCCESS && status != PSA_ERROR_DOES_NOT_EXIST) {
        return SP_ERR_IO;
    }
    *text = sp_view(out, status == PSA_SUCCESS ? len : 0);
    return SP_OK;
}

enum sp_err sp_settings_load(struct sp_settings *out)
{
    struct sp_settings s = {.network = {.address = {10, 0, 2, 15},
                                        .prefix_len = 24,
                                        .router = {10, 0, 2, 2},
                                        .gateway = {10, 0, 2, 2},
                                        .gateway_port = 8883},
                            .period_ms = 2000};
    uint8_t bytes[TEXT_MAX];
    struct sp_view text;
    SP_TRY(read_asset(SP_NS_ASSET_GATEWAY, bytes, &text));
    if (text.len != 0) {
        SP_TRY(sp_settings_parse_gateway(text, &s.network));
    }
    SP_TRY(read_asset(SP_ASSET_NETWORK, bytes, &text));
    if (text.len != 0) {
        SP_TRY(sp_settings_parse_network(text, &s.network));
    }
    SP_TRY(read_asset(SP_ASSET_PERIOD, bytes, &text));
    if (text.len != 0) {
        SP_TRY(sp_settings_parse_period(text, &s.period_ms));
    }
    *out = s;
    return SP_OK;
}
