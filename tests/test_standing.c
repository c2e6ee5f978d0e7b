/* What an instance's status is when it is read: each rule, at each of its boundaries. */
#include <criterion/criterion.h>
#include <string.h>

#include "engine/standing.h"

#define HOUR 3600000ull
#define NOW (1794984000ull * 1000)

static struct qm_ledger l;
static struct qm_standing_times t;

/* Enrolled long ago, trusted a minute ago. */
static void begin(void)
{
    l = (struct qm_ledger){
        .enrolled_s = (uint32_t)((NOW - 1000 * HOUR) / 1000),
        .authentic_ms = NOW - 60000,
        .good_ms = NOW - 60000,
        .flags = QM_LEDGER_SEEN | QM_LEDGER_STATUS | QM_LEDGER_PROVEN,
        .status = QM_TRUSTED,
        .reason = QM_ALL_GOOD,
    };
    t = (struct qm_standing_times){.now_ms = NOW, .unmeasured_after_ms = 24 * HOUR};
}

TestSuite(standing, .init = begin);

static struct qm_standing at(void)
{
    return qm_standing_of(&l, &t);
}

#define EXPECT(status_, stale_, silence_, reason_) \
    do { \
        const struct qm_standing s_ = at(); \
        cr_expect_str_eq(qm_standing_name(s_.status), status_); \
        cr_expect_eq(s_.stale, stale_, "stale"); \
        cr_expect_str_eq(qm_silence_name(s_.silence), silence_); \
        cr_expect_str_eq(qm_standing_reason(&l, &s_), reason_); \
    } while (0)

Test(standing, the_newest_verdict_counts)
{
    EXPECT("trusted", false, "", "ok");
    l.status = QM_UNTRUSTED;
    l.reason = QM_PCR_MISMATCH;
    EXPECT("untrusted", false, "", "pcr_mismatch");
    l.status = QM_NEW;
    l.reason = QM_LEARNED;
    EXPECT("new", false, "", "learned");
}

Test(standing, silence_is_longer_than_the_time_given)
{
    l.authentic_ms = NOW - 24 * HOUR;
    EXPECT("trusted", false, "", "ok");
    l.authentic_ms--;
    EXPECT("unmeasured", false, "nothing_from_it", "nothing_from_it");
    l.status = QM_NEW;
    EXPECT("unmeasured", false, "nothing_from_it", "nothing_from_it");
    t.unmeasured_after_ms++;
    l.status = QM_TRUSTED;
    EXPECT("trusted", false, "", "ok");
    t.unmeasured_after_ms = 0; /* off */
    l.authentic_ms = 1;
    EXPECT("trusted", false, "", "ok");
}

Test(standing, a_clock_that_went_back_makes_nobody_silent)
{
    l.authentic_ms = NOW + 48 * HOUR;
    EXPECT("trusted", false, "", "ok");
    cr_expect_eq(at().since_ms, NOW + 48 * HOUR);
}

Test(standing, untrusted_stays_however_long_the_silence)
{
    l.status = QM_UNTRUSTED;
    l.reason = QM_LOG_REQUIRED;
    l.authentic_ms = NOW - 24 * HOUR;
    EXPECT("untrusted", false, "", "log_required");
    l.authentic_ms--;
    EXPECT("untrusted", true, "nothing_from_it", "log_required");
    l.authentic_ms = 1;
    EXPECT("untrusted", true, "nothing_from_it", "log_required");
}

Test(standing, enrolment_starts_the_clock)
{
    l = (struct qm_ledger){.enrolled_s = (uint32_t)((NOW - 24 * HOUR) / 1000)};
    EXPECT("new", false, "", "no_record");
    l.enrolled_s--;
    EXPECT("unmeasured", false, "nothing_from_it", "nothing_from_it");
}

Test(standing, the_end_of_a_hold_starts_it_anew)
{
    l.authentic_ms = NOW - 100 * HOUR;
    l.hold_until_s = (uint32_t)((NOW - 24 * HOUR) / 1000);
    EXPECT("trusted", false, "", "ok");
    cr_expect(!at().held);
    l.hold_until_s--;
    EXPECT("unmeasured", false, "nothing_from_it", "nothing_from_it");
}

Test(standing, held_machines_are_not_unmeasured)
{
    l.authentic_ms = NOW - 100 * HOUR;
    l.hold_until_s = (uint32_t)(NOW / 1000) + 1;
    EXPECT("trusted", true, "held", "ok");
    cr_expect(at().held);
    l.status = QM_UNTRUSTED; /* mismatches still count */
    l.reason = QM_PCR_MISMATCH;
    EXPECT("untrusted", true, "held", "pcr_mismatch");
    l.hold_until_s = (uint32_t)(NOW / 1000); /* over this very moment */
    l.status = QM_TRUSTED;
    l.reason = QM_ALL_GOOD;
    EXPECT("trusted", false, "", "ok");
    cr_expect(!at().held);
    l.authentic_ms = NOW - HOUR;
    l.hold_until_s++;
    EXPECT("trusted", false, "", "ok"); /* held, but it does send */
}

Test(standing, the_end_of_a_gap_starts_it_anew)
{
    l.authentic_ms = NOW - 100 * HOUR;
    t.gap_end_ms = NOW - 24 * HOUR;
    EXPECT("trusted", false, "", "ok");
    cr_expect_eq(at().since_ms, NOW - 24 * HOUR);
    t.gap_end_ms--;
    EXPECT("unmeasured", false, "nothing_from_it", "nothing_from_it");
}

Test(standing, only_refused_records_ever)
{
    l = (struct qm_ledger){.enrolled_s = (uint32_t)((NOW - HOUR) / 1000), .refused_count = 1, .refused_reason = QM_BAD_SIGNATURE,
                           .refused_s = (uint32_t)(NOW / 1000)};
    EXPECT("invalid", false, "", "bad_signature");
    l.refused_count = 0;
    EXPECT("new", false, "", "no_record");
    l.refused_count = 1;
    l.authentic_ms = NOW - HOUR; /* an authentic one came: what was refused changes nothing */
    l.flags = QM_LEDGER_STATUS;
    l.status = QM_TRUSTED;
    l.reason = QM_ALL_GOOD;
    EXPECT("trusted", false, "", "ok");
}

Test(standing, unmeasured_comes_before_invalid)
{
    l = (struct qm_ledger){.enrolled_s = (uint32_t)((NOW - 25 * HOUR) / 1000), .refused_count = 3, .refused_reason = QM_STALE_NONCE,
                           .refused_s = (uint32_t)((NOW - 24 * HOUR) / 1000)};
    EXPECT("unmeasured", false, "refused", "refused");
    l.refused_s--; /* nothing arrives any more */
    EXPECT("unmeasured", false, "nothing_from_it", "nothing_from_it");
}

Test(standing, why_nothing_came)
{
    l.authentic_ms = NOW - 100 * HOUR;
    t.fleet_silent = true;
    EXPECT("unmeasured", false, "nothing_from_anyone", "nothing_from_anyone");
    l.refused_count = 1;
    l.refused_s = (uint32_t)((NOW - HOUR) / 1000);
    EXPECT("unmeasured", false, "refused", "refused");
    l.hold_until_s = (uint32_t)(NOW / 1000) + 60;
    EXPECT("trusted", true, "held", "ok");
    l.hold_until_s = 0;
    l.authentic_ms = NOW; /* heard: no cause */
    EXPECT("trusted", false, "", "ok");
}

Test(standing, a_key_that_was_replaced_changes_no_status)
{
    qm_ledger_rekey(&l, 7);
    EXPECT("trusted", false, "", "ok");
}
