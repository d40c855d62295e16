/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "tests/faults/ledger/verdict.h"

#include "libs/base/test.h"
#include "tests/faults/ledger/text.h"

#define BOUND 2

/* Entries of one device, short enough to be read: kind, number, sequence, connection, code. */
struct line {
    uint8_t kind;
    uint8_t code;
    uint64_t number;
    uint64_t sequence;
    uint32_t connection;
};

#define SENT(n)                              \
    {                                        \
        .kind = SP_ENTRY_SENT, .number = (n) \
    }
#define ACKED(n)                              \
    {                                         \
        .kind = SP_ENTRY_ACKED, .number = (n) \
    }
#define REFUSED(n)                                          \
    {                                                       \
        .kind = SP_ENTRY_ACKED, .number = (n), .code = 0x97 \
    }
#define GOT(n, s, c)                                                            \
    {                                                                           \
        .kind = SP_ENTRY_GOT, .number = (n), .sequence = (s), .connection = (c) \
    }
#define ALTERED(n)                                                      \
    {                                                                   \
        .kind = SP_ENTRY_GOT, .number = (n), .sequence = (n), .code = 1 \
    }
#define TOOK(n, s)                                                \
    {                                                             \
        .kind = SP_ENTRY_ANSWERED, .number = (n), .sequence = (s) \
    }
#define SAID(n, s, what)                                                          \
    {                                                                             \
        .kind = SP_ENTRY_ANSWERED, .number = (n), .sequence = (s), .code = (what) \
    }
#define DEAD(n)                              \
    {                                        \
        .kind = SP_ENTRY_DEAD, .number = (n) \
    }
#define EXPIRED(n)                              \
    {                                           \
        .kind = SP_ENTRY_EXPIRED, .number = (n) \
    }

static struct sp_findings judge(const struct line *lines, size_t count)
{
    struct sp_verdict *v = NULL;
    SP_CHECK_INT(sp_verdict_create(BOUND, &v), SP_OK);
    for (size_t i = 0; v != NULL && i < count; i++) {
        const struct sp_entry e = {.kind = lines[i].kind,
                                   .code = lines[i].code,
                                   .device = 3,
                                   .number = lines[i].number,
                                   .sequence = lines[i].sequence,
                                   .connection = lines[i].connection};
        SP_CHECK_INT(sp_verdict_add(v, &e), SP_OK);
    }
    struct sp_findings f = sp_verdict_find(v);
    sp_verdict_destroy(v);
    return f;
}

#define JUDGE(...)                            \
    judge((const struct line[]){__VA_ARGS__}, \
          sizeof((const struct line[]){__VA_ARGS__}) / sizeof(struct line))

static void what_was_acked_and_taken_is_good(void)
{
    struct sp_findings f = JUDGE(SENT(1), ACKED(1), SENT(2), ACKED(2), GOT(1, 10, 1), TOOK(1, 10),
                                 GOT(2, 11, 1), TOOK(2, 11));
    SP_CHECK(sp_findings_good(&f));
    SP_CHECK_INT(f.acked, 2);
    SP_CHECK_INT(f.delivered, 2);
}

static void acked_and_never_taken_is_lost(void)
{
    struct sp_findings f = JUDGE(SENT(1), ACKED(1));
    SP_CHECK_INT(f.lost, 1);
    f = JUDGE(SENT(1), ACKED(1), GOT(1, 1, 1)); /* it arrived, and nobody answered */
    SP_CHECK_INT(f.lost, 1);
    f = JUDGE(SENT(1), ACKED(1), GOT(1, 1, 1), SAID(1, 1, 0x97));
    SP_CHECK_INT(f.lost, 1);
    SP_CHECK(!sp_findings_good(&f));
}

static void what_was_refused_or_not_answered_may_be_gone(void)
{
    struct sp_findings f = JUDGE(SENT(1), REFUSED(1), SENT(2));
    SP_CHECK(sp_findings_good(&f));
    SP_CHECK_INT(f.refused, 1);
}

static void a_dead_letter_is_no_loss_but_wants_a_reason(void)
{
    struct sp_findings f = JUDGE(SENT(1), ACKED(1), DEAD(1), GOT(1, 1, 1), SAID(1, 1, 0x99));
    SP_CHECK(sp_findings_good(&f));
    SP_CHECK_INT(f.unexplained, 0);
    f = JUDGE(SENT(1), ACKED(1), DEAD(1), GOT(1, 1, 1), SAID(1, 1, SP_ENTRY_HUNG_UP));
    SP_CHECK_INT(f.unexplained, 0);
    f = JUDGE(SENT(1), ACKED(1), DEAD(1), GOT(1, 1, 1), SAID(1, 1, 0x97));
    SP_CHECK_INT(f.lost, 0);
    SP_CHECK_INT(f.unexplained, 1);
    f = JUDGE(SENT(1), ACKED(1), EXPIRED(1));
    SP_CHECK(sp_findings_good(&f));
}

static void invented_and_altered_messages_are_seen(void)
{
    struct sp_findings f = JUDGE(GOT(1, 1, 1));
    SP_CHECK_INT(f.invented, 1);
    f = JUDGE(SENT(1), ALTERED(1));
    SP_CHECK_INT(f.altered, 1);
    SP_CHECK(!sp_findings_good(&f));
}

static void first_arrivals_have_to_rise(void)
{
    struct sp_findings f = JUDGE(SENT(1), SENT(2), GOT(2, 2, 1), GOT(1, 1, 2));
    SP_CHECK_INT(f.disorder, 1);
    f = JUDGE(SENT(1), SENT(2), GOT(1, 1, 1), GOT(2, 2, 1), GOT(1, 1, 2), GOT(2, 2, 2));
    SP_CHECK_INT(f.disorder, 0);
    SP_CHECK_INT(f.backwards, 0);
    SP_CHECK_INT(f.repeats, 2);
    SP_CHECK(sp_findings_good(&f));
}

static void repeats_have_to_come_in_order(void)
{
    struct sp_findings f =
        JUDGE(SENT(1), SENT(2), GOT(1, 1, 1), GOT(2, 2, 1), GOT(2, 2, 2), GOT(1, 1, 2));
    SP_CHECK_INT(f.backwards, 1);
}

static void what_the_cloud_refused_may_come_again_later(void)
{
    struct sp_findings f =
        JUDGE(SENT(1), SENT(2), GOT(1, 1, 1), SAID(1, 1, 0x97), GOT(2, 2, 1), SAID(2, 2, 0x97),
              GOT(1, 1, 1), TOOK(1, 1), GOT(2, 2, 1), TOOK(2, 2));
    SP_CHECK(sp_findings_good(&f));
    SP_CHECK_INT(f.repeats, 0);
}

static void what_the_cloud_refused_must_not_be_overtaken(void)
{
    struct sp_findings f = JUDGE(SENT(1), SENT(2), GOT(1, 1, 1), SAID(1, 1, 0x97), GOT(2, 2, 1),
                                 TOOK(2, 2), GOT(1, 1, 1), TOOK(1, 1));
    SP_CHECK_INT(f.disorder, 0);
    SP_CHECK_INT(f.overtaken, 1);
    SP_CHECK(!sp_findings_good(&f));
    f = JUDGE(SENT(1), SENT(1), SENT(2), GOT(1, 1, 1), SAID(1, 1, 0x99), GOT(2, 2, 1), TOOK(2, 2),
              GOT(1, 3, 1),
              TOOK(1, 3)); /* refused for good; the device's own copy is another matter */
    SP_CHECK_INT(f.overtaken, 0);
}

static void more_repeats_than_the_bound_are_seen(void)
{
    struct sp_findings f = JUDGE(SENT(1), SENT(2), SENT(3), GOT(1, 1, 1), GOT(2, 2, 1),
                                 GOT(3, 3, 1), GOT(1, 1, 2), GOT(2, 2, 2), GOT(3, 3, 2));
    SP_CHECK_INT(f.most, 3);
    SP_CHECK_INT(f.swamped, 1);
}

static void a_sequence_names_one_message(void)
{
    struct sp_findings f = JUDGE(SENT(1), SENT(2), GOT(1, 7, 1), GOT(2, 7, 1));
    SP_CHECK_INT(f.renamed, 1);
    f = JUDGE(SENT(1), GOT(1, 7, 1), GOT(1, 8, 1)); /* sent once, two names */
    SP_CHECK_INT(f.renamed, 1);
    f = JUDGE(SENT(1), SENT(1), GOT(1, 7, 1), GOT(1, 8, 1));
    SP_CHECK_INT(f.renamed, 0);
    SP_CHECK_INT(f.copies, 1);
}

static void what_is_no_entry_is_refused(void)
{
    const struct sp_entry wrong[] = {
        {.kind = 0, .number = 1},
        {.kind = SP_ENTRY_KINDS, .number = 1},
        {.kind = SP_ENTRY_SENT, .number = 0},
        {.kind = SP_ENTRY_SENT, .number = 1, .device = 1U << 30},
        {.kind = SP_ENTRY_GOT, .number = 1ULL << 60},
        {.kind = SP_ENTRY_GOT, .number = 1, .sequence = 1ULL << 60},
    };
    struct sp_verdict *v = NULL;
    SP_CHECK_INT(sp_verdict_create(BOUND, &v), SP_OK);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        SP_CHECK_INT(sp_verdict_add(v, &wrong[i]), SP_ERR_MALFORMED);
    }
    sp_verdict_destroy(v);
}

static void a_text_is_known_by_every_byte(void)
{
    uint8_t bytes[SP_TEXT_MAX];
    struct sp_writer w;
    uint32_t device = 0;
    uint64_t number = 0;
    for (uint64_t n = 1; n < 50; n++) {
        sp_writer_init(&w, bytes, sizeof(bytes));
        sp_text_write(&w, 9, 4, n, 300);
        size_t len = sp_writer_view(&w).len;
        SP_CHECK(len >= SP_TEXT_HEAD && len <= 300);
        SP_CHECK_INT(sp_text_read(sp_view(bytes, len), 9, &device, &number), SP_OK);
        SP_CHECK(device == 4 && number == n);
        SP_CHECK(sp_text_read(sp_view(bytes, len - 1), 9, &device, &number) != SP_OK);
        bytes[len - 1] ^= 1;
        SP_CHECK(sp_text_read(sp_view(bytes, len), 9, &device, &number) != SP_OK);
        bytes[0] ^= 1;
        SP_CHECK_INT(sp_text_read(sp_view(bytes, len), 9, &device, &number), SP_ERR_MALFORMED);
    }
}

static const struct sp_test tests[] = {
    SP_TEST(what_was_acked_and_taken_is_good),
    SP_TEST(acked_and_never_taken_is_lost),
    SP_TEST(what_was_refused_or_not_answered_may_be_gone),
    SP_TEST(a_dead_letter_is_no_loss_but_wants_a_reason),
    SP_TEST(invented_and_altered_messages_are_seen),
    SP_TEST(first_arrivals_have_to_rise),
    SP_TEST(repeats_have_to_come_in_order),
    SP_TEST(what_the_cloud_refused_may_come_again_later),
    SP_TEST(what_the_cloud_refused_must_not_be_overtaken),
    SP_TEST(more_repeats_than_the_bound_are_seen),
    SP_TEST(a_sequence_names_one_message),
    SP_TEST(what_is_no_entry_is_refused),
    SP_TEST(a_text_is_known_by_every_byte),
};

SP_TEST_MAIN(tests)
