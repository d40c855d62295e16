/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "bench/fleet/fleet_file.h"

#include "libs/base/test.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char name[] = "/tmp/sp-fleet-test-XXXXXX";

static FILE *file_create(void)
{
    memcpy(name + sizeof(name) - 7, "XXXXXX", 6);
    int fd = mkstemp(name);
    return fd < 0 ? NULL : fdopen(fd, "w");
}

static enum sp_err text_load(const char *text, struct sp_fleet_roll *roll)
{
    FILE *out = file_create();
    SP_CHECK(out != NULL && fputs(text, out) >= 0 && fclose(out) == 0);
    enum sp_err err = sp_fleet_roll_load(name, roll);
    unlink(name);
    return err;
}

static void what_was_written_is_read_back(void)
{
    struct sp_fleet_roll roll;
    struct sp_fleet_batch sensors = {"b-s", "sensor", "required", 3};
    struct sp_fleet_batch monitors = {"b-m", "monitor", "none", 1};
    FILE *out = file_create();
    SP_CHECK(out != NULL);
    SP_CHECK_INT(sp_fleet_batch_write(&sensors, out, NULL), SP_OK);
    SP_CHECK_INT(sp_fleet_batch_write(&monitors, out, NULL), SP_OK);
    fclose(out);
    SP_CHECK_INT(sp_fleet_roll_load(name, &roll), SP_OK);
    unlink(name);
    SP_CHECK_INT(roll.count, 4);
    if (roll.count == 4) {
        SP_CHECK(strcmp(roll.members[2].id, "b-s-2") == 0 && roll.members[2].attests);
        SP_CHECK(strcmp(roll.members[3].role, "monitor") == 0 && !roll.members[3].attests);
        SP_CHECK_INT(roll.members[0].psk_len, 32);
        SP_CHECK(memcmp(roll.members[0].psk, roll.members[1].psk, 32) != 0);
        SP_CHECK(memcmp(roll.members[0].psk, roll.members[0].attester.iak, 32) != 0);
    }
    sp_fleet_roll_deinit(&roll);
}

static void a_prefix_that_makes_no_name_is_refused(void)
{
    struct sp_fleet_batch spaces = {"no good", "sensor", "required", 1};
    FILE *out = file_create();
    SP_CHECK(out != NULL);
    SP_CHECK_INT(sp_fleet_batch_write(&spaces, out, NULL), SP_ERR_ARGUMENT);
    fclose(out);
    unlink(name);
}

static void lines_that_are_no_device_are_refused(void)
{
    static const char *const cases[] = {
        "nonsense\n",
        "{\"id\":\"a\"}\n",
        "{\"id\":\"a b\",\"psk\":\"00\",\"iak\":\"00\"}\n",
        "{\"id\":\"a\",\"role\":\"sensor\",\"psk\":\"0011\",\"iak\":\"0011\"}\n",
        "{\"id\":\"a\",\"role\":\"sensor\",\"psk\":\"zz\",\"iak\":\"0011\"}\n",
    };
    struct sp_fleet_roll roll;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        SP_CHECK_CASE(text_load(cases[i], &roll) != SP_OK, cases[i]);
        SP_CHECK_INT(roll.count, 0);
    }
}

static const struct sp_test tests[] = {
    SP_TEST(what_was_written_is_read_back),
    SP_TEST(a_prefix_that_makes_no_name_is_refused),
    SP_TEST(lines_that_are_no_device_are_refused),
};
SP_TEST_MAIN(tests)
