/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/port/freertos/settings.h"

#include "device/secure/ns/ns.h"
#include "libs/base/test.h"
#include "psa/internal_trusted_storage.h"

#include <string.h>

/* What storage holds, as text; NULL: nothing. */
static const char *assets[5];
static psa_status_t storage_status;

psa_status_t psa_its_get(psa_storage_uid_t uid, size_t offset, size_t size, void *data, size_t *len)
{
    if (storage_status != PSA_SUCCESS || assets[uid] == NULL) {
        return storage_status != PSA_SUCCESS ? storage_status : PSA_ERROR_DOES_NOT_EXIST;
    }
    *len = strlen(assets[uid]) < size ? strlen(assets[uid]) : size;
    memcpy(data, assets[uid] + offset, *len);
    return PSA_SUCCESS;
}

static void empty_storage_gives_defaults(void)
{
    struct sp_settings s = {0};
    memset(assets, 0, sizeof(assets));
    SP_CHECK_INT(sp_settings_load(&s), SP_OK);
    SP_CHECK(memcmp(s.network.address, "\x0a\x00\x02\x0f", 4) == 0 && s.network.prefix_len == 24);
    SP_CHECK(memcmp(s.network.gateway, "\x0a\x00\x02\x02", 4) == 0);
    SP_CHECK_INT(s.network.gateway_port, 8883);
    SP_CHECK_INT(s.period_ms, 2000);
}

static void what_provisioning_says_is_taken(void)
{
    struct sp_settings s = {0};
    assets[SP_NS_ASSET_GATEWAY] = "192.168.1.254:65535";
    assets[SP_ASSET_NETWORK] = "172.16.0.9/12,172.31.255.1";
    assets[SP_ASSET_PERIOD] = "50";
    SP_CHECK_INT(sp_settings_load(&s), SP_OK);
    SP_CHECK(memcmp(s.network.gateway, "\xc0\xa8\x01\xfe", 4) == 0);
    SP_CHECK_INT(s.network.gateway_port, 65535);
    SP_CHECK(memcmp(s.network.address, "\xac\x10\x00\x09", 4) == 0 && s.network.prefix_len == 12);
    SP_CHECK(memcmp(s.network.router, "\xac\x1f\xff\x01", 4) == 0);
    SP_CHECK_INT(s.period_ms, 50);
    memset(assets, 0, sizeof(assets));
}

static void storage_that_fails_is_not_taken_for_empty(void)
{
    struct sp_settings s = {0};
    storage_status = PSA_ERROR_STORAGE_FAILURE;
    SP_CHECK_INT(sp_settings_load(&s), SP_ERR_IO);
    storage_status = PSA_SUCCESS;
}

static void nonsense_is_refused(void)
{
    static const struct {
        psa_storage_uid_t uid;
        const char *text;
    } cases[] = {
        {SP_NS_ASSET_GATEWAY, "10.0.2.2"},
        {SP_NS_ASSET_GATEWAY, "10.0.2.2:"},
        {SP_NS_ASSET_GATEWAY, "10.0.2.2:0"},
        {SP_NS_ASSET_GATEWAY, "10.0.2.2:65536"},
        {SP_NS_ASSET_GATEWAY, "10.0.2.2:8883 "},
        {SP_NS_ASSET_GATEWAY, "10.0.2.256:8883"},
        {SP_NS_ASSET_GATEWAY, "10.0.2:8883"},
        {SP_NS_ASSET_GATEWAY, "10.0..2:8883"},
        {SP_NS_ASSET_GATEWAY, "-1.0.0.2:8883"},
        {SP_NS_ASSET_GATEWAY, "4294967306.0.2.2:8883"},
        {SP_NS_ASSET_GATEWAY, "gateway:8883"},
        {SP_ASSET_NETWORK, "10.0.2.15"},
        {SP_ASSET_NETWORK, "10.0.2.15/24"},
        {SP_ASSET_NETWORK, "10.0.2.15/33,10.0.2.2"},
        {SP_ASSET_NETWORK, "10.0.2.15/24,10.0.2.2,"},
        {SP_ASSET_PERIOD, "49"},
        {SP_ASSET_PERIOD, "86400001"},
        {SP_ASSET_PERIOD, "1e3"},
        {SP_ASSET_PERIOD, "99999999999999999999"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sp_settings s = {.period_ms = 7};
        memset(assets, 0, sizeof(assets));
        assets[cases[i].uid] = cases[i].text;
        SP_CHECK_CASE(sp_settings_load(&s) != SP_OK, cases[i].text);
        SP_CHECK_CASE(s.period_ms == 7, cases[i].text);
    }
    memset(assets, 0, sizeof(assets));
}

static const struct sp_test tests[] = {
    SP_TEST(empty_storage_gives_defaults),
    SP_TEST(what_provisioning_says_is_taken),
    SP_TEST(storage_that_fails_is_not_taken_for_empty),
    SP_TEST(nonsense_is_refused),
};

SP_TEST_MAIN(tests)
