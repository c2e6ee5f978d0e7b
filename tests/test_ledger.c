/* Check 8 and the ledger (engine/ledger.h), rule by rule. */
#include <criterion/criterion.h>

#include "engine/ledger.h"

enum { LAG = 6 * 3600 * 1000 };

static struct qm_sighting sight(uint32_t reset, uint32_t restart, uint64_t clock, uint64_t attest)
{
    return (struct qm_sighting){
        .at = {clock, reset, restart}, .attest = attest, .checked_ms = 1000000000 + clock, .proof = QM_PROOF_VALUES, .safe = true};
}

static struct qm_ordering take(struct qm_ledger *l, struct qm_sighting s)
{
    struct qm_ordering o = qm_ledger_order(l, &s, LAG);
    qm_ledger_take(l, &s, &o);
    return o;
}

Test(ledger, first_record_passes)
{
    struct qm_ledger l = {0};
    struct qm_ordering o = take(&l, sight(7, 3, 100, 1));
    cr_assert_eq(o.order, QM_ORDER_NEWER);
    cr_assert_eq(o.boots, 0);
    cr_assert_eq(l.last.reset, 7);
    cr_assert_eq(l.authentic_ms, 1000000100);
}

Test(ledger, order_within_a_boot)
{
    struct qm_ledger l = {0};
    take(&l, sight(7, 3, 100, 1));
    cr_assert_eq(take(&l, sight(7, 3, 101, 2)).order, QM_ORDER_NEWER);
    cr_assert_eq(take(&l, sight(7, 3, 101, 3)).order, QM_ORDER_REPLAYED, "the same clock is not newer");
    cr_assert_eq(take(&l, sight(7, 3, 100, 4)).order, QM_ORDER_REPLAYED);
    cr_assert_eq(take(&l, sight(7, 2, 500, 5)).order, QM_ORDER_REPLAYED, "the restart count went back");
    cr_assert_eq(take(&l, sight(7, 4, 102, 6)).order, QM_ORDER_NEWER);
    cr_assert_eq(take(&l, sight(6, 9, 900, 7)).order, QM_ORDER_REPLAYED, "the reset count went back");
    cr_assert_eq(l.last.restart, 4);
}

Test(ledger, counts_go_round)
{
    struct qm_ledger l = {0};
    take(&l, sight(UINT32_MAX, UINT32_MAX, 100, 1));
    cr_assert_eq(take(&l, sight(UINT32_MAX, 0, 101, 2)).order, QM_ORDER_NEWER);
    struct qm_ordering o = take(&l, sight(1, 0, 102, 3));
    cr_assert_eq(o.order, QM_ORDER_NEWER);
    cr_assert_eq(o.boots, 2);
    cr_assert_eq(take(&l, sight(UINT32_MAX, 5, 103, 4)).order, QM_ORDER_REPLAYED);
}

Test(ledger, boots_are_counted)
{
    struct qm_ledger l = {0};
    take(&l, sight(10, 0, 100, 1));
    take(&l, sight(11, 0, 200, 2));
    take(&l, sight(14, 0, 300, 3));
    cr_assert_eq(l.boots, 4);
    cr_assert_eq(l.boots_silent, 2);
}

Test(ledger, clock_behind_after_a_reset)
{
    struct qm_ledger l = {0};
    struct qm_sighting s = sight(10, 0, 10000000, 1);
    take(&l, s);
    s = sight(11, 0, 9999999, 2);
    cr_assert(qm_ledger_order(&l, &s, LAG).tpm_state, "behind while safe");
    s.safe = false;
    cr_assert_not(qm_ledger_order(&l, &s, LAG).tpm_state, "an unsafe clock may lose a little");
    s.at.clock_ms = 10000000 - (1u << 22);
    cr_assert_not(qm_ledger_order(&l, &s, LAG).tpm_state);
    s.at.clock_ms--;
    cr_assert(qm_ledger_order(&l, &s, LAG).tpm_state);
    s = sight(10, 1, 10000001, 3);
    cr_assert_not(qm_ledger_order(&l, &s, LAG).tpm_state, "a restart is no reset");
}

Test(ledger, duplicates_are_known)
{
    struct qm_ledger l = {0};
    for (unsigned i = 0; i < QM_LEDGER_RECENT; i++)
        take(&l, sight(1, 0, 100 + i, 1000 + i));
    for (unsigned i = 0; i < QM_LEDGER_RECENT; i++)
        cr_assert_eq(take(&l, sight(1, 0, 100 + i, 1000 + i)).order, QM_ORDER_DUPLICATE, "%u", i);
    take(&l, sight(1, 0, 200, 2000));
    cr_assert_eq(take(&l, sight(1, 0, 100, 1000)).order, QM_ORDER_REPLAYED, "the oldest of 17 is forgotten, and is not newer");
    cr_assert_eq(take(&l, sight(1, 0, 101, 1001)).order, QM_ORDER_DUPLICATE);
}

Test(ledger, a_stripped_copy_silences_nothing)
{
    struct qm_ledger l = {0};
    struct qm_sighting s = sight(1, 0, 100, 1);
    s.proof = 0;
    take(&l, s);
    s.proof = QM_PROOF_VALUES;
    struct qm_ordering o = take(&l, s);
    cr_assert_eq(o.order, QM_ORDER_IMPROVES);
    cr_assert(o.newest);
    cr_assert_eq(take(&l, s).order, QM_ORDER_DUPLICATE);
    s.proof = QM_PROOF_LOG;
    cr_assert_eq(take(&l, s).order, QM_ORDER_IMPROVES);
    s.proof = QM_PROOF_VALUES | QM_PROOF_LOG;
    cr_assert_eq(take(&l, s).order, QM_ORDER_DUPLICATE, "both were proven, each by one copy");
}

Test(ledger, improving_an_older_record_moves_nothing)
{
    struct qm_ledger l = {0};
    struct qm_sighting s = sight(1, 0, 100, 1);
    s.proof = 0;
    take(&l, s);
    take(&l, sight(1, 0, 200, 2));
    const uint64_t seen = l.authentic_ms;
    s.proof = QM_PROOF_VALUES;
    s.checked_ms += 1000000;
    struct qm_ordering o = take(&l, s);
    cr_assert_eq(o.order, QM_ORDER_IMPROVES);
    cr_assert_not(o.newest);
    cr_assert_eq(l.last.clock_ms, 200);
    cr_assert_eq(l.authentic_ms, seen);
}

Test(ledger, a_clone_is_told_from_a_replay)
{
    struct qm_ledger l = {0};
    take(&l, sight(5, 0, 100, 1));
    take(&l, sight(5, 0, 300, 2));
    struct qm_ordering o = take(&l, sight(5, 0, 150, 3));
    cr_assert_eq(o.order, QM_ORDER_REPLAYED);
    cr_assert_not(o.cloned, "one that is behind may be a replay");
    cr_assert_not(take(&l, sight(5, 0, 140, 4)).cloned);
    cr_assert(take(&l, sight(5, 0, 160, 5)).cloned, "it goes on behind our back");
    take(&l, sight(5, 0, 400, 6));
    cr_assert(take(&l, sight(5, 0, 170, 7)).cloned, "also while the other one goes on");
    cr_assert_not(take(&l, sight(5, 0, 165, 8)).cloned);
}

Test(ledger, accepting_a_rollback_starts_exactly_there)
{
    struct qm_ledger l = {0};
    take(&l, sight(5, 0, 300, 1));
    const struct qm_sequence at = {150, 4, 2};
    qm_ledger_restart(&l, &at);
    cr_assert_eq(take(&l, sight(4, 2, 150, 2)).order, QM_ORDER_REPLAYED);
    cr_assert_eq(take(&l, sight(4, 2, 151, 3)).order, QM_ORDER_NEWER);
    struct qm_sighting s = sight(4, 2, 200, 4);
    s.checked_ms += 2 * LAG;
    cr_assert(qm_ledger_order(&l, &s, LAG).held_back, "its time is measured from the first record behind the decision");
}

Test(ledger, evidence_that_was_held_back)
{
    struct qm_ledger l = {0};
    struct qm_sighting s = sight(1, 0, 1000, 1);
    take(&l, s);
    s = sight(1, 0, 2000, 2);
    s.checked_ms = 1000001000 / 1000 * 1000 + 1000 + LAG; /* the first time is kept in seconds */
    cr_assert_not(qm_ledger_order(&l, &s, LAG).held_back);
    s.checked_ms += 1001;
    cr_assert(qm_ledger_order(&l, &s, LAG).held_back);
    cr_assert_not(qm_ledger_order(&l, &s, 0).held_back, "the rule is off");
    s.at.restart = 1;
    cr_assert_not(qm_ledger_order(&l, &s, LAG).held_back, "another boot");
}

Test(ledger, refusals_change_nothing_else)
{
    struct qm_ledger l = {0};
    take(&l, sight(1, 0, 100, 1));
    struct qm_ledger before = l;
    qm_ledger_refuse(&l, QM_BAD_SIGNATURE, 5000);
    cr_assert_eq(l.refused_count, 1);
    cr_assert_eq(l.refused_reason, QM_BAD_SIGNATURE);
    cr_assert_eq(l.refused_s, 5);
    l.refused_count = before.refused_count;
    l.refused_reason = before.refused_reason;
    l.refused_s = before.refused_s;
    cr_assert_arr_eq(&l, &before, sizeof l);
}

Test(ledger, a_new_key_begins_anew)
{
    struct qm_ledger l = {.status = QM_TRUSTED, .set_a = 9, .boots = 4, .refused_count = 2, .flags = QM_LEDGER_STATUS | QM_LEDGER_ALERTS};
    take(&l, sight(5, 0, 300, 1));
    qm_ledger_rekey(&l, 77);
    cr_assert_eq(l.ak, 77);
    cr_assert_eq(l.status, QM_TRUSTED);
    cr_assert_eq(l.set_a, 9);
    cr_assert_eq(l.flags, QM_LEDGER_STATUS | QM_LEDGER_ALERTS);
    cr_assert_eq(take(&l, sight(1, 0, 10, 1)).order, QM_ORDER_NEWER, "neither behind nor a duplicate");
}

Test(ledger, the_key_of_an_attest_is_never_the_free_one)
{
    uint8_t digest[32] = {0};
    cr_assert_neq(qm_attest_key(digest), 0);
}
