/* The judgment (tools/judge/judge.h), rule by rule, on outcomes made by hand: what the workers, or a stream, would have found. */
#include <unistd.h>

#include "engine/compare.h"
#include "tests/homes.h"
#include "tools/commit.h"
#include "tools/store/store_config.h"
#include "tools/store/store_decisions.h"
#include "tools/store/store_ledger.h"
#include "tools/store/store_run.h"
#include "tools/store/store_sets.h"

enum { MINUTE = 60 * 1000, HOUR = 60 * MINUTE, DAY = 24 * HOUR };
#define SELECT ",\"select\":[{\"bank\":\"sha256\",\"pcrs\":[0,4,5]}]"

static struct qm_outcomes *outcomes;
static uint64_t now; /* of the run that is being filled; a test moves it on */
static struct qm_judgment did;
static unsigned runs;

static void make(void)
{
    home_make();
    now = qm_store_now_ms(store) + HOUR;
    runs = 0;
    GOOD(qm_outcomes_open(&outcomes, QM_OUTCOME_OWN, &fault));
}

static void end(void)
{
    qm_outcomes_close(outcomes);
    home_end();
}

TestSuite(judge, .init = make, .fini = end);

/* ---- records ----------------------------------------------------------------------------------------------------------- */

static uint64_t slot_of(const char *id)
{
    uint64_t slot;
    GOOD(qm_store_slot(store, (struct qm_span){(const uint8_t *)id, strlen(id)}, &slot, &fault));
    return slot;
}

static struct qm_instance_row row_of(const char *id)
{
    struct qm_instance_row row;
    bool found;
    GOOD(qm_store_instance_by_id(store, id, strlen(id), &row, &found, &fault));
    cr_assert(found);
    return row;
}

static struct qm_ledger entry_of(const char *id)
{
    struct qm_ledger l;
    GOOD(qm_store_ledger_get(store, slot_of(id), &l, &fault));
    return l;
}

/* What a quote says: PCRs 0, 4 and 5 of these bytes. */
struct said {
    const char *id;
    uint8_t p0, p4, p5;
    uint32_t reset;
    uint64_t clock;
    bool stripped; /* nothing proves the values, but for a set */
    bool log;
};

/* The bytes of a said quote's values, by PCR. */
struct bytes {
    uint8_t at[QM_PCR_COUNT][32];
    const uint8_t *value[QM_PCR_COUNT];
};
static void bytes_of(const struct said *q, struct bytes *b)
{
    memset(b, 0, sizeof *b);
    memset(b->at[0], q->p0, 32);
    memset(b->at[4], q->p4, 32);
    memset(b->at[5], q->p5, 32);
    b->value[0] = b->at[0];
    b->value[4] = b->at[4];
    b->value[5] = b->at[5];
}

static void composite_of(const char *id, const struct bytes *b, uint8_t digest[QM_DIGEST_MAX])
{
    const struct qm_instance_row row = row_of(id);
    cr_assert_eq(qm_set_composite(&row.profile, b->value, digest), 32);
}

/* What verify finds by the sets that live now. */
static struct qm_result found(const struct said *q, struct bytes *b, uint8_t digest[QM_DIGEST_MAX])
{
    const struct qm_instance_row row = row_of(q->id);
    struct qm_live_sets live;
    struct qm_comparison c = {0};
    enum qm_status status = QM_TRUSTED;
    enum qm_reason reason = QM_ALL_GOOD;
    struct craft name = {0};
    struct qm_result r = {.run = "r", .source = {(const uint8_t *)"s/x.mpk", 7}, .first_fail = -1, .checked_ms = now, .has_attest = true,
                          .has_clock = true, .has_baseline = true, .safe = 1, .log = q->log ? QM_LOG_REPLAYED : QM_LOG_ABSENT};
    bytes_of(q, b);
    composite_of(q->id, b, digest);
    GOOD(qm_live_sets_init(&live, &fault));
    GOOD(qm_live_sets_load(store, &row, &live, &fault));
    for (unsigned i = 0; i < live.count && c.set == NULL; i++)
        if (live.set[i]->composite_size == 32 && memcmp(live.set[i]->composite, digest, 32) == 0)
            c.set = live.set[i];
    r.proven = c.set != NULL || !q->stripped;
    if (c.set == NULL)
        qm_conclude(r.proven ? b->value : NULL, row.profile.baselined, live.set, live.count, &status, &reason, &c);
    if (row.require_log && !q->log && (status == QM_TRUSTED || status == QM_NEW)) {
        status = QM_UNTRUSTED;
        reason = QM_LOG_REQUIRED;
    }
    r.status = (uint8_t)status;
    r.reason = (uint8_t)reason;
    r.set_a = c.set != NULL ? c.set->set_no : 0;
    r.set_b = c.set != NULL ? c.set->pair_no : 0;
    r.pair_mask = c.set != NULL ? c.set->pair_mask : 0;
    static uint8_t expected[QM_PCR_COUNT][32];
    r.stage_count = (uint8_t)qm_stages(r.proven ? b->value : NULL, row.profile.baselined, c.set, r.stage, &r.first_fail);
    for (unsigned i = 0; i < r.stage_count; i++)
        if (r.stage[i].expected != NULL)
            r.stage[i].expected = memcpy(expected[r.stage[i].pcr], r.stage[i].expected, 32);
    qm_live_sets_close(&live);
    r.id = (struct qm_span){(const uint8_t *)q->id, strlen(q->id)};
    r.slot = row.slot;
    r.baseline = row.generation;
    r.clock_ms = q->clock;
    r.reset = q->reset;
    r.pcr_digest = (struct qm_span){digest, 32};
    craft_text(&name, q->id);
    craft_be(&name, q->clock, 8);
    craft_be(&name, q->reset, 4);
    craft_put(&name, digest, 32);
    craft_hash(QM_HASH_SHA256, craft_span(&name), r.attest);
    return r;
}

static void add(const struct qm_result *r)
{
    GOOD(qm_outcomes_add(outcomes, r, &fault));
}

static void say(const struct said q)
{
    struct bytes b;
    uint8_t digest[QM_DIGEST_MAX];
    const struct qm_result r = found(&q, &b, digest);
    add(&r);
}

/* A record that failed one of checks 1 to 7. */
static void say_refused(const char *id, enum qm_reason reason)
{
    struct qm_result r = {.run = "r", .source = {(const uint8_t *)"s/x.mpk", 7}, .first_fail = -1, .checked_ms = now,
                          .id = {(const uint8_t *)id, strlen(id)}, .reason = (uint8_t)reason};
    r.slot = reason != QM_UNKNOWN_INSTANCE ? slot_of(id) : 0;
    add(&r);
}

static const char *one_source(void *ctx, struct qm_span source)
{
    static char text[32];
    (void)ctx;
    snprintf(text, sizeof text, "%.*s", (int)source.len - 6, (const char *)source.p);
    return text;
}

/* The run ends: judged, and recorded. What its results say then stays in outcomes until the next record is said. */
static void run_of(const char *command, uint64_t start_ms, uint64_t generation)
{
    char id[16];
    snprintf(id, sizeof id, "run-%u", runs++);
    struct qm_run run = {.run = id, .version = "", .start_ms = start_ms, .end_ms = now, .records = qm_outcomes_count(outcomes),
                         .complete = true, .generation = generation};
    const struct qm_commit_options options = {.command = command, .home = home_path, .results = "none", .source_of = one_source,
                                              .clock_ms = strcmp(command, "apply") == 0 ? qm_store_now_ms(store) : 0};
    enum qm_commit_end ended;
    GOOD(qm_commit(store, &outcomes, 1, &run, &options, &did, &ended, &fault));
    cr_assert_eq(ended, QM_COMMIT_DONE);
}

static struct qm_outcomes *old;
static void run_by(uint64_t generation)
{
    run_of("run", now, generation);
    qm_outcomes_close(old);
    old = outcomes;
    GOOD(qm_outcomes_open(&outcomes, QM_OUTCOME_OWN, &fault));
}

static void run(void)
{
    run_by(qm_store_generation(store));
}

/* How many results of the last run say so. */
static unsigned results(enum qm_status status, enum qm_reason reason)
{
    struct qm_outcome_cursor at = {NULL, 0};
    unsigned n = 0;
    for (const struct qm_result *r; (r = qm_outcomes_next(old, &at)) != NULL;)
        n += r->status == status && r->reason == reason;
    return n;
}

static long long live_alerts(const char *kind)
{
    char sql[200];
    unsigned k = 0;
    while (qm_alert_kind_name((enum qm_alert_kind)k) == NULL || strcmp(qm_alert_kind_name((enum qm_alert_kind)k), kind) != 0)
        k++;
    snprintf(sql, sizeof sql, "SELECT count(*) FROM alert WHERE kind = %u AND state IN (0, 1)", k);
    return home_ask(sql);
}

#define ALERTS(kind, n) cr_expect_eq(live_alerts(kind), n, "%lld open %s", live_alerts(kind), kind)
#define STANDS(name, st, re)                                                                                                   \
    do {                                                                                                                       \
        const struct qm_ledger entry_ = entry_of(name);                                                                        \
        cr_expect_eq(entry_.status, st, "%s is %s", name, qm_status_name(entry_.status));                                      \
        cr_expect_eq(entry_.reason, re, "%s is %s", name, qm_reason_name(entry_.reason));                                      \
    } while (0)

/* A set of the machine's own. */
static void accept_set(const struct said q, enum qm_set_kind kind, uint32_t mask)
{
    struct bytes b;
    uint64_t no;
    bool added;
    const struct qm_instance_row row = row_of(q.id);
    struct qm_set_new set = {.kind = kind, .slot = row.slot, .group_no = row.group_no, .mask = mask, .origin = "set"};
    bytes_of(&q, &b);
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++)
        if ((mask >> pcr & 1) != 0)
            set.value[pcr] = b.at[pcr];
    BEGIN();
    GOOD(qm_set_add(store, &set, &no, &added, &fault));
    COMMIT();
}
enum { WHOLE = 0x31 };

/* ---- decisions while a run goes on ------------------------------------------------------------------------------------- */

Test(judge, a_pass_and_a_mismatch)
{
    home_enroll("a", 1, SELECT);
    say((struct said){"a", 1, 2, 3, 1, 100});
    run();
    cr_expect_eq(results(QM_NEW, QM_LEARNED), 1);
    say((struct said){"a", 1, 2, 3, 1, 200});
    run();
    STANDS("a", QM_TRUSTED, QM_ALL_GOOD);
    say((struct said){"a", 1, 9, 3, 1, 300});
    run();
    STANDS("a", QM_UNTRUSTED, QM_PCR_MISMATCH);
    ALERTS("pcr_mismatch", 1);
}

Test(judge, what_is_accepted_during_a_run_passes_by_the_signed_digest_alone)
{
    home_enroll("a", 1, SELECT);
    accept_set((struct said){"a", 1, 2, 3}, QM_SET_WHOLE, WHOLE);
    const uint64_t generation = qm_store_generation(store);
    say((struct said){"a", 1, 9, 3, 1, 100, .stripped = true});
    accept_set((struct said){"a", 1, 9, 3}, QM_SET_WHOLE, WHOLE);
    run_by(generation);
    STANDS("a", QM_TRUSTED, QM_ALL_GOOD);
    ALERTS("pcr_mismatch", 0);
}

Test(judge, a_stripped_record_behind_the_learned_one_is_compared_by_its_digest)
{
    home_enroll("a", 1, SELECT);
    say((struct said){"a", 1, 2, 3, 1, 100});
    say((struct said){"a", 1, 2, 3, 1, 200, .stripped = true});
    run();
    STANDS("a", QM_TRUSTED, QM_ALL_GOOD);
    ALERTS("pcr_mismatch", 0);
    say((struct said){"a", 1, 9, 3, 1, 300, .stripped = true});
    run();
    STANDS("a", QM_UNTRUSTED, QM_PCR_MISMATCH);
}

Test(judge, an_unproven_mismatch_is_judged_again_at_once)
{
    struct qm_rejudged r;
    home_enroll("a", 1, SELECT);
    accept_set((struct said){"a", 1, 2, 3}, QM_SET_WHOLE, WHOLE);
    say((struct said){"a", 1, 9, 3, 1, 100, .stripped = true});
    run();
    STANDS("a", QM_UNTRUSTED, QM_PCR_MISMATCH);
    accept_set((struct said){"a", 1, 9, 3}, QM_SET_WHOLE, WHOLE);
    BEGIN();
    GOOD(qm_store_rejudge(store, slot_of("a"), NULL, &r, &fault));
    COMMIT();
    STANDS("a", QM_TRUSTED, QM_ALL_GOOD);
}

Test(judge, the_signed_digest_is_in_every_result_that_is_not_trusted)
{
    struct qm_outcome_cursor at = {NULL, 0};
    unsigned n = 0;
    home_enroll("a", 1, SELECT);
    accept_set((struct said){"a", 1, 2, 3}, QM_SET_WHOLE, WHOLE);
    say((struct said){"a", 1, 2, 3, 1, 100});
    say((struct said){"a", 1, 2, 3, 1, 100});
    run();
    for (const struct qm_result *r; (r = qm_outcomes_next(old, &at)) != NULL;) {
        n += r->status == QM_DUPLICATE;
        cr_expect_eq(r->pcr_digest.len, 32);
    }
    cr_expect_eq(n, 1);
}

/* A machine that was taken out and enrolled again under its name has another key: what the old one signed is not its word. */
Test(judge, an_id_given_anew_takes_nothing_from_the_key_before)
{
    struct bytes b;
    uint8_t digest[QM_DIGEST_MAX];
    const uint64_t generation = qm_store_generation(store), before = qm_store_now_ms(store) - MINUTE;
    home_enroll("a", 1, SELECT);
    struct qm_result r = found(&(struct said){"a", 1, 2, 3, 1, 100}, &b, digest);
    add(&r); /* as apply gives it: the slot of the id that is enrolled now, a table from before that */
    run_of("apply", before, generation);
    const struct qm_ledger l = entry_of("a");
    cr_expect_eq(l.flags & (QM_LEDGER_SEEN | QM_LEDGER_STATUS), 0, "nothing of it counts");
    cr_expect_eq(l.refused_reason, QM_BAD_SIGNATURE);
    cr_expect_eq(did.learned, 0);
}

/* ---- streams ----------------------------------------------------------------------------------------------------------- */

Test(judge, a_duplicate_elsewhere_says_nothing_here)
{
    struct bytes b;
    uint8_t digest[QM_DIGEST_MAX];
    home_enroll("a", 1, SELECT);
    accept_set((struct said){"a", 1, 2, 3}, QM_SET_WHOLE, WHOLE);
    say((struct said){"a", 1, 9, 3, 1, 100});
    run();
    struct qm_result r = found(&(struct said){"a", 1, 2, 3, 1, 200}, &b, digest);
    r.status = QM_DUPLICATE;
    r.reason = QM_DUPLICATE_RECORD;
    add(&r);
    run();
    STANDS("a", QM_UNTRUSTED, QM_PCR_MISMATCH);
    cr_expect_eq(results(QM_DUPLICATE, QM_DUPLICATE_RECORD), 1);
    ALERTS("pcr_mismatch", 1);
}

/* Taken out between verify and apply. */
Test(judge, what_was_authentic_of_a_machine_that_is_gone_is_unknown)
{
    struct bytes b;
    uint8_t digest[QM_DIGEST_MAX];
    home_enroll("a", 1, SELECT);
    struct qm_result r = found(&(struct said){"a", 1, 2, 3, 1, 100}, &b, digest);
    r.slot = 0;
    add(&r);
    run();
    cr_expect_eq(results(QM_INVALID, QM_UNKNOWN_INSTANCE), 1);
    ALERTS("unknown_instance", 1);
}

/* Streams that were verified side by side are applied one after the other. */
Test(judge, an_older_stream_is_no_clock_that_went_back)
{
    now = qm_store_now_ms(store); /* as apply's clock has it */
    run_of("apply", now - MINUTE, qm_store_generation(store));
    now -= 30 * 1000;
    run_of("apply", now - MINUTE, qm_store_generation(store));
    cr_expect_not(did.clock_behind);
    now += 3 * HOUR;
    run_of("apply", now, qm_store_generation(store));
    cr_expect_leq(home_ask("SELECT max(end_ms) FROM run"), (long long)qm_store_now_ms(store), "a clock ahead elsewhere is not ours");
}

/* ---- learning ---------------------------------------------------------------------------------------------------------- */

Test(judge, a_pcr_is_learned_once_whatever_is_baselined_beside_it_later)
{
    bool ended;
    home_enroll("a", 1, SELECT ",\"baselined\":[0,4]");
    say((struct said){"a", 1, 2, 3, 1, 100});
    run();
    cr_expect_eq(did.learned, 1);
    BEGIN();
    GOOD(qm_set_end(store, (uint64_t)home_ask("SELECT max(no) FROM baseline"), "was bad", &ended, &fault));
    COMMIT();
    home_enroll("a", 1, SELECT);
    say((struct said){"a", 1, 9, 3, 1, 200});
    run();
    cr_expect_eq(did.learned, 0, "PCRs 0 and 4 were learned, and taken back");
    STANDS("a", QM_NEW, QM_NO_BASELINE);
}

Test(judge, what_is_baselined_later_is_learned_beside_what_passes)
{
    home_enroll("a", 1, SELECT ",\"baselined\":[0,4]");
    say((struct said){"a", 1, 2, 3, 1, 100});
    run();
    home_enroll("a", 1, SELECT);
    say((struct said){"a", 1, 2, 3, 1, 200});
    run();
    cr_expect_eq(did.learned, 1);
    say((struct said){"a", 1, 2, 3, 1, 300});
    run();
    STANDS("a", QM_TRUSTED, QM_ALL_GOOD);
}

/* Eight live sets, then one PCR more is baselined: there is no room to learn, and that is no reason to end a run. */
Test(judge, no_room_to_learn_is_no_error)
{
    home_enroll("a", 1, SELECT ",\"baselined\":[0,4]");
    for (uint8_t i = 1; i <= QM_SET_MAX; i++)
        accept_set((struct said){"a", i, i, 0}, QM_SET_WHOLE, 0x11);
    home_enroll("a", 1, SELECT);
    say((struct said){"a", 1, 1, 99, 1, 100});
    run();
    cr_expect_eq(did.learned, 0);
    STANDS("a", QM_NEW, QM_NO_BASELINE);
}

/* ---- silence ----------------------------------------------------------------------------------------------------------- */

static void fleet_of(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        char id[8];
        snprintf(id, sizeof id, "m%u", i);
        home_enroll(id, i + 1, SELECT);
    }
}

/* Runs every quarter of an hour, in which the first `sending` machines send. */
static uint64_t quarters(unsigned count, unsigned sending)
{
    static uint64_t clock = 1;
    uint64_t unmeasured = 0;
    for (unsigned q = 0; q < count; q++) {
        now += 15 * MINUTE;
        for (unsigned i = 0; i < sending; i++) {
            char id[8];
            snprintf(id, sizeof id, "m%u", i);
            say((struct said){id, 1, 2, 3, 1, ++clock});
        }
        run();
        unmeasured += did.unmeasured;
    }
    return unmeasured;
}

Test(judge, one_voice_does_not_speak_for_a_silent_fleet)
{
    fleet_of(10);
    quarters(1, 10);
    cr_expect_eq(quarters(97, 0), 10);
    cr_expect(did.fleet_silent);
    ALERTS("unmeasured", 1);
    quarters(1, 1);
    cr_expect_eq(home_ask("SELECT sum(json_extract(detail, '$.machines')) FROM alert WHERE kind = 10 AND state = 0 AND slot IS NULL"), 9,
                 "nine are silent, and something says so");
    cr_expect_eq(did.unmeasured, 0, "they were before");
    quarters(1, 10);
    ALERTS("unmeasured", 0);
}

Test(judge, two_that_stay_silent_behind_a_silent_fleet_have_rows_of_their_own)
{
    fleet_of(60);
    quarters(1, 60);
    quarters(97, 0);
    ALERTS("unmeasured", 1);
    quarters(1, 58);
    ALERTS("unmeasured", 2);
    cr_expect_eq(home_ask("SELECT count(*) FROM alert WHERE kind = 10 AND state = 0 AND slot IN (59, 60)"), 2);
    quarters(1, 60);
    ALERTS("unmeasured", 0);
}

/* The verifier itself stood still: what was silent before is silent again a day later, and that is told again. */
Test(judge, silence_is_told_again_behind_a_gap)
{
    fleet_of(10);
    quarters(1, 10);
    cr_expect_eq(quarters(97, 5), 5);
    ALERTS("unmeasured", 1);
    now += 20 * HOUR;
    quarters(1, 5);
    ALERTS("unmeasured", 0);
    cr_expect_eq(quarters(97, 5), 5, "they are unmeasured anew");
    ALERTS("unmeasured", 1);
}

Test(judge, silence_is_told_again_behind_a_hold)
{
    struct qm_ledger l;
    fleet_of(10);
    quarters(1, 10);
    cr_expect_eq(quarters(97, 5), 5);
    BEGIN();
    for (uint64_t slot = 6; slot <= 10; slot++) {
        GOOD(qm_store_ledger_get(store, slot, &l, &fault));
        l.hold_until_s = (uint32_t)(now / 1000) + 3600;
        GOOD(qm_store_ledger_put(store, slot, &l, &fault));
    }
    COMMIT();
    quarters(3, 5);
    ALERTS("unmeasured", 0);
    cr_expect_eq(quarters(101, 5), 5);
    ALERTS("unmeasured", 1);
}

/* ---- refusals ---------------------------------------------------------------------------------------------------------- */

Test(judge, what_is_refused_changes_nothing_and_is_counted)
{
    home_enroll("a", 1, SELECT);
    accept_set((struct said){"a", 1, 2, 3}, QM_SET_WHOLE, WHOLE);
    say((struct said){"a", 1, 9, 3, 1, 100});
    run();
    const struct qm_ledger before = entry_of("a");
    say_refused("a", QM_BAD_SIGNATURE);
    say_refused("nobody", QM_UNKNOWN_INSTANCE);
    run();
    struct qm_ledger after = entry_of("a");
    cr_expect_eq(after.refused_count, 1);
    after.refused_count = before.refused_count;
    after.refused_s = before.refused_s;
    after.refused_reason = before.refused_reason;
    cr_expect_arr_eq(&after, &before, sizeof after);
    ALERTS("bad_signature", 1);
    ALERTS("unknown_instance", 1);
}

/* Sources are what somebody with a spool to write into makes of it. */
Test(judge, sources_without_end_share_a_row)
{
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 700; i++) {
            char name[32];
            const int n = snprintf(name, sizeof name, "%u/x.mpk", 700 * round + i);
            const struct qm_result r = {.run = "r", .source = {(const uint8_t *)name, (size_t)n}, .first_fail = -1, .checked_ms = now,
                                        .reason = QM_MALFORMED};
            add(&r);
        }
        run();
    }
    ALERTS("malformed", QM_REFUSED_ROWS_MAX + 1);
    cr_expect_eq(home_ask("SELECT sum(count) FROM alert WHERE kind = 16"), 2100);
    say_refused("nobody", QM_UNKNOWN_INSTANCE);
    run();
    cr_expect_eq(home_ask("SELECT count(*) FROM refused WHERE source = '(other senders)'"), 2);
}

/* A beacon never goes back, but to deliver a record once more is normal. */
Test(judge, a_record_delivered_again_is_a_duplicate_whatever_its_beacon)
{
    struct bytes b;
    uint8_t digest[QM_DIGEST_MAX];
    BEGIN();
    GOOD(qm_store_config_set(store, "", "freshness", "beacon", &fault));
    COMMIT();
    home_enroll("a", 1, SELECT);
    accept_set((struct said){"a", 1, 2, 3}, QM_SET_WHOLE, WHOLE);
    for (uint32_t beacon = 1; beacon <= 3; beacon++) {
        struct qm_result r = found(&(struct said){"a", 1, 2, 3, 1, beacon == 3 ? 1 : beacon}, &b, digest);
        r.fresh = QM_FRESH_BEACON;
        r.beacon = beacon == 3 ? 1 : beacon;
        add(&r);
        run();
    }
    cr_expect_eq(results(QM_DUPLICATE, QM_DUPLICATE_RECORD), 1);
    ALERTS("stale_nonce", 0);
}

/* ---- what enrolment says ----------------------------------------------------------------------------------------------- */

Test(judge, another_key_for_an_id_is_told_once_for_each_key)
{
    home_enroll("a", 1, SELECT);
    cr_expect_eq(home_try_enroll("a", 2, SELECT), QM_E_REFUSED);
    cr_expect_eq(home_try_enroll("a", 2, SELECT), QM_E_REFUSED);
    ALERTS("key_conflict", 1);
    cr_expect_eq(home_ask("SELECT count FROM alert WHERE kind = 9"), 2);
    cr_expect_eq(home_try_enroll("a", 3, SELECT), QM_E_REFUSED);
    ALERTS("key_conflict", 2);
    say((struct said){"a", 1, 2, 3, 1, 100});
    run();
    say((struct said){"a", 1, 2, 3, 1, 200});
    run();
    STANDS("a", QM_TRUSTED, QM_ALL_GOOD);
    ALERTS("key_conflict", 2); /* a pass says nothing about it */
}

/* What verify writes does not say how fresh a quote is. */
Test(judge, an_enrolled_nonce_is_fresh_in_a_stream_too)
{
    home_enroll("a", 1, SELECT ",\"nonce\":\"00ff\"");
    say((struct said){"a", 1, 2, 3, 1, 100});
    run();
    cr_expect_eq(entry_of("a").fresh, QM_FRESH_NONCE);
    say((struct said){"a", 1, 2, 3, 1, 200});
    run();
    cr_expect_eq(entry_of("a").fresh, QM_FRESH_CLOCK, "it was used");
    home_enroll("b", 2, SELECT);
    say((struct said){"b", 1, 2, 3, 1, 100});
    run();
    cr_expect_eq(entry_of("b").fresh, QM_FRESH_CLOCK);
}

/* Where nothing comes from anyone, nobody is taken out for it. */
Test(judge, a_silent_fleet_is_not_retired)
{
    fleet_of(4);
    BEGIN();
    GOOD(qm_store_config_set(store, "", "retire_after", "30h", &fault));
    COMMIT();
    quarters(1, 4);
    quarters(150, 0);
    cr_expect(did.fleet_silent);
    cr_expect_eq(home_ask("SELECT count(*) FROM instance"), 4);
    quarters(1, 3);
    cr_expect_eq(home_ask("SELECT count(*) FROM instance"), 3);
}

/* ---- decisions --------------------------------------------------------------------------------------------------------- */

static void is_refused(void *ctx, uint64_t no, const char *why)
{
    (void)ctx;
    cr_assert_fail("alert %llu: %s", (unsigned long long)no, why);
}

static void may_be_refused(void *ctx, uint64_t no, const char *why)
{
    (void)ctx;
    (void)no;
    (void)why;
}

static struct qm_decided try(enum qm_decide what, uint64_t no, bool group, qm_decision_refused refused)
{
    const struct qm_pick pick = {.what = what, .no = &no, .count = 1};
    const struct qm_decision decision = {.what = what, .reason = "test", .group = group};
    struct qm_picked picked;
    struct qm_decided decided;
    GOOD(qm_alerts_pick(store, &pick, &picked, &fault));
    BEGIN();
    GOOD(qm_alerts_decide(store, &decision, refused, NULL, &decided, &fault));
    COMMIT();
    return decided;
}

static void decide(enum qm_decide what, uint64_t no, bool group)
{
    (void)try(what, no, group, is_refused);
}

Test(judge, what_is_reopened_for_a_group_is_closed_by_every_pass)
{
    static const char *const ids[] = {"a", "b"};
    enum { SHARED = 0x11, OWN = 0x20 };
    for (unsigned i = 0; i < 2; i++) {
        home_enroll(ids[i], i + 1, SELECT ",\"group\":\"g\"");
        accept_set((struct said){ids[i], 1, 2, 3}, QM_SET_INSTANCE, OWN);
    }
    accept_set((struct said){"a", 1, 2, 3}, QM_SET_GROUP, SHARED);
    for (uint64_t clock = 100; clock <= 300; clock += 100) {
        for (unsigned i = 0; i < 2; i++)
            say((struct said){ids[i], 1, clock == 100 ? 2 : 9, 3, 1, clock});
        run();
        if (clock == 200) {
            ALERTS("pcr_mismatch", 2);
            decide(QM_DECIDE_ACCEPT, (uint64_t)home_ask("SELECT min(no) FROM alert WHERE kind = 0"), true);
        }
    }
    for (unsigned i = 0; i < 2; i++)
        STANDS(ids[i], QM_TRUSTED, QM_ALL_GOOD);
    decide(QM_DECIDE_REOPEN, (uint64_t)home_ask("SELECT min(no) FROM alert WHERE kind = 0"), false);
    ALERTS("pcr_mismatch", 2);
    for (unsigned i = 0; i < 2; i++) {
        STANDS(ids[i], QM_UNTRUSTED, QM_PCR_MISMATCH);
        say((struct said){ids[i], 1, 2, 3, 2, 400});
    }
    run();
    ALERTS("pcr_mismatch", 0);
}

Test(judge, a_change_that_is_shown_again_has_one_open_row)
{
    bool ended;
    home_enroll("a", 1, SELECT);
    accept_set((struct said){"a", 1, 2, 3}, QM_SET_WHOLE, WHOLE);
    say((struct said){"a", 1, 9, 3, 1, 100});
    run();
    decide(QM_DECIDE_ACCEPT, 1, false);
    STANDS("a", QM_TRUSTED, QM_ALL_GOOD);
    BEGIN();
    GOOD(qm_set_end(store, (uint64_t)home_ask("SELECT max(no) FROM baseline"), "was bad", &ended, &fault));
    COMMIT();
    say((struct said){"a", 1, 9, 3, 1, 200});
    run();
    ALERTS("pcr_mismatch", 1);
    decide(QM_DECIDE_REOPEN, 1, false);
    ALERTS("pcr_mismatch", 1);
}

/* The sequence that a replaced key's TPM went on from says nothing about the new one. */
Test(judge, a_rollback_of_a_key_that_was_replaced_is_not_accepted)
{
    home_enroll("a", 1, SELECT);
    for (uint64_t clock = 300; clock >= 100; clock -= 100) {
        say((struct said){"a", 1, 2, 3, clock == 300 ? 5 : 4, clock == 300 ? 300 : 300 - clock});
        run();
    }
    ALERTS("cloned_or_rolled_back", 1);
    const uint64_t no = (uint64_t)home_ask("SELECT no FROM alert WHERE kind = 5");
    home_change("UPDATE ak_history SET until_ms = (SELECT last_ms + 1 FROM alert WHERE kind = 5)");
    cr_expect_eq(try(QM_DECIDE_ACCEPT, no, false, may_be_refused).refused, 1);
    cr_expect_eq(entry_of("a").last.reset, 5);
    home_change("UPDATE ak_history SET until_ms = (SELECT last_ms - 1 FROM alert WHERE kind = 5)");
    cr_expect_eq(try(QM_DECIDE_ACCEPT, no, false, may_be_refused).refused, 0);
    cr_expect_eq(entry_of("a").last.reset, 4);
}
