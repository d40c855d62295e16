/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/metrics/metrics.h"

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libs/base/test.h"

static void without_a_page_adds_go_nowhere(void)
{
    sp_metric_inc(SP_M_TLS_OK);
    SP_CHECK_INT(sp_metric_read(SP_M_TLS_OK), 0);
}

static void a_reader_sums_the_slots_of_all_processes(void)
{
    SP_CHECK_INT(sp_metrics_init(), SP_OK);
    pid_t child = fork();
    if (child == 0) {
        sp_metrics_use_slot(SP_METRICS_SLOT_KEYS);
        sp_metric_add(SP_M_ATTEST_OK, 5);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    sp_metrics_use_slot(3);
    sp_metric_add(SP_M_ATTEST_OK, 7);
    SP_CHECK_INT(sp_metric_read(SP_M_ATTEST_OK), 12);
}

static void a_dead_process_takes_its_gauges_with_it_and_leaves_its_counters(void)
{
    sp_metrics_use_slot(1);
    sp_metric_set(SP_M_DEVICES_ONLINE, 10);
    sp_metric_add(SP_M_TLS_FAILED, 4);
    sp_metrics_use_slot(SP_METRICS_SLOT_STORE);
    sp_metric_set(SP_M_JOURNAL_DEPTH, 8);
    sp_metrics_clear_gauges(0, 61);
    SP_CHECK_INT(sp_metric_read(SP_M_DEVICES_ONLINE), 0);
    SP_CHECK_INT(sp_metric_read(SP_M_TLS_FAILED), 4);
    SP_CHECK_INT(sp_metric_read(SP_M_JOURNAL_DEPTH), 8);
    sp_metrics_clear_gauges(0, 1000);
    SP_CHECK_INT(sp_metric_read(SP_M_JOURNAL_DEPTH), 0);
}

static void an_impossible_slot_is_slot_0(void)
{
    sp_metrics_use_slot(SP_METRICS_SLOTS);
    sp_metric_set(SP_M_GUESTS, 1);
    sp_metrics_clear_gauges(0, 0);
    SP_CHECK_INT(sp_metric_read(SP_M_GUESTS), 0);
}

static void every_metric_has_a_name_of_its_own(void)
{
    char names[SP_METRIC_COUNT][96];
    for (unsigned m = 0; m < SP_METRIC_COUNT; m++) {
        sp_metric_name((enum sp_metric)m, names[m], sizeof(names[m]));
        SP_CHECK(names[m][0] != '\0' && sp_metric_help((enum sp_metric)m)[0] != '\0');
        for (unsigned other = 0; other < m; other++) {
            SP_CHECK_CASE(strcmp(names[m], names[other]) != 0, names[m]);
        }
    }
    SP_CHECK(strcmp(names[SP_M_ATTEST_REFUSED + SP_ATTEST_MAC],
                    "attestations_refused_total{check=\"mac\"}") == 0);
    SP_CHECK(sp_metric_is_gauge(SP_M_JOURNAL_DEPTH) && !sp_metric_is_gauge(SP_M_TLS_OK));
}

static const struct sp_test tests[] = {
    SP_TEST(without_a_page_adds_go_nowhere),
    SP_TEST(a_reader_sums_the_slots_of_all_processes),
    SP_TEST(a_dead_process_takes_its_gauges_with_it_and_leaves_its_counters),
    SP_TEST(an_impossible_slot_is_slot_0),
    SP_TEST(every_metric_has_a_name_of_its_own),
};
SP_TEST_MAIN(tests)
