/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/route/acl.h"

#include "libs/base/test.h"

#include <string.h>

static char own_data[] = "dt/{device}/#";
static char own_commands[] = "cmd/{device}/#";
static char records[] = "dt/+/climate";
static char fused[] = "fused/+";
static char everything[] = "#";
static char sensor_name[] = "sensor";

static char *sensor_publish[] = {own_data, NULL};
static char *sensor_subscribe[] = {own_commands, NULL};
static char *monitor_subscribe[] = {own_commands, records, fused, NULL};
static char *all[] = {everything, NULL};
static char system_names[] = "$SYS/#";
static char dollar[] = "$x/#";
static char *dollars[] = {dollar, system_names, NULL};

static const struct sp_role_config sensor = {
    .name = sensor_name, .publish = sensor_publish, .subscribe = sensor_subscribe};
static const struct sp_role_config monitor = {
    .name = sensor_name, .publish = sensor_publish, .subscribe = monitor_subscribe};
static const struct sp_role_config client = {.name = sensor_name, .publish = all, .subscribe = all};
static const struct sp_role_config odd = {
    .name = sensor_name, .publish = dollars, .subscribe = dollars, .any_will = true};
static const struct sp_role_config nobody = {.name = sensor_name};

struct allowed {
    const struct sp_role_config *role;
    const char *topic;
    bool publish;
    bool will;
    bool subscribe;
};

static const struct allowed cases[] = {
    {&sensor, "dt/dev1/climate", true, false, false},
    {&sensor, "dt/dev1/status", true, true, false},
    {&sensor, "dt/dev1/x/climate", true, false, false},
    {&sensor, "dt/dev1", true, false, false},
    {&sensor, "dt/dev1/", true, true, false},
    {&sensor, "dt/dev10/status", false, false, false},
    {&sensor, "dt/dev2/climate", false, false, false},
    {&sensor, "dt/{device}/status", false, false, false},
    {&sensor, "cmd/dev1/go", false, false, true},
    {&sensor, "cmd/dev1/#", false, false, true},
    {&sensor, "cmd/dev1/+", false, false, true},
    {&sensor, "cmd/+/go", false, false, false},
    {&sensor, "cmd/#", false, false, false},
    {&sensor, "#", false, false, false},
    {&sensor, "dt/+/climate", false, false, false},
    {&sensor, "$SYS/uptime", false, false, false},
    {&sensor, "$sp/attest/token", false, false, true},
    {&monitor, "dt/+/climate", false, false, true},
    {&monitor, "dt/dev2/climate", false, false, true},
    {&monitor, "dt/+/+", false, false, false},
    {&monitor, "fused/hall", false, false, true},
    {&monitor, "fused/#", false, false, false},
    {&odd, "$x/y", true, true, true},
    {&odd, "$SYS/y", false, false, true},
    {&client, "$x/y", false, false, false},
    {&client, "anything/at/all", true, false, true},
    {&client, "dt/dev1/x", true, true, true},
    {&client, "dt/dev2/climate", false, false, true},
    {&client, "dt/dev1/climate", true, false, true},
    {&client, "$SYS/x", false, false, false},
    {&client, "$sp/time", false, false, true},
    {&client, "", false, false, false},
    {&nobody, "dt/dev1/x", false, false, false},
};

static void a_role_allows_just_what_its_filters_cover(void)
{
    struct sp_view device = SP_VIEW_LIT("dev1");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct allowed *c = &cases[i];
        struct sp_view topic = sp_view_str(c->topic);
        bool name = strpbrk(c->topic, "+#") == NULL;
        SP_CHECK_CASE(!name || sp_acl_may_publish(c->role, device, topic) == c->publish, c->topic);
        SP_CHECK_CASE(!name || sp_acl_may_will(c->role, device, topic) == c->will, c->topic);
        SP_CHECK_CASE(sp_acl_may_subscribe(c->role, device, topic) == c->subscribe || !c->topic[0],
                      c->topic);
    }
}

static void a_record_is_the_climate_topic_of_that_device_alone(void)
{
    SP_CHECK(sp_acl_is_record(SP_VIEW_LIT("dev1"), SP_VIEW_LIT("dt/dev1/climate")));
    SP_CHECK(!sp_acl_is_record(SP_VIEW_LIT("dev1"), SP_VIEW_LIT("dt/dev1/climate/x")));
    SP_CHECK(!sp_acl_is_record(SP_VIEW_LIT("dev1"), SP_VIEW_LIT("dt/dev2/climate")));
    SP_CHECK(!sp_acl_is_record(SP_VIEW_LIT("dev1"), SP_VIEW_LIT("dt/dev1/climat")));
}

static void a_shared_subscription_is_kept_for_its_inner_filter_and_by_roles_that_share(void)
{
    struct sp_role_config sharing = client;
    struct sp_view device = sp_view_str("dev1");
    sharing.shared_subscriptions = true;
    SP_CHECK(sp_acl_may_keep(&sharing, device, sp_view_str("$share/g/a/#")));
    SP_CHECK(!sp_acl_may_keep(&client, device, sp_view_str("$share/g/a/#")));
    SP_CHECK(sp_acl_may_keep(&client, device, sp_view_str("a/#")));
    sharing.subscribe = sensor_subscribe;
    SP_CHECK(!sp_acl_may_keep(&sharing, device, sp_view_str("$share/g/a/#")));
    SP_CHECK(sp_acl_may_keep(&sharing, device, sp_view_str("$share/g/cmd/dev1/x")));
}

static const struct sp_test tests[] = {
    SP_TEST(a_shared_subscription_is_kept_for_its_inner_filter_and_by_roles_that_share),
    SP_TEST(a_role_allows_just_what_its_filters_cover),
    SP_TEST(a_record_is_the_climate_topic_of_that_device_alone),
};
SP_TEST_MAIN(tests)
