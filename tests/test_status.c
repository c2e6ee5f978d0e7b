/* The fleet as it stands: what is counted, what a machine is shown with, which runs count. */
#include <inttypes.h>

#include "tests/homes.h"
#include "tools/store/store_ledger.h"
#include "tools/store/store_status.h"

#define MINUTE 60000ull
#define HOUR   (60 * MINUTE)
#define PCRS_0_9 ",\"select\":[{\"bank\":\"sha256\",\"pcrs\":[0,1,4]}],\"baselined\":[0,1,4]"
#define VALUE(c) #c #c #c #c #c #c #c #c #c #c #c #c #c #c #c #c
#define V32(c)   VALUE(c) VALUE(c)
#define BASELINE ",\"baseline\":{\"0\":\"" V32(a0) "\",\"1\":\"" V32(a1) "\",\"4\":\"" V32(a4) "\"}"

static struct qm_fleet f;
static uint64_t now;

static void make(void)
{
    home_make();
    now = qm_store_now_ms(store);
}

static void end(void)
{
    qm_fleet_close(&f);
    home_end();
}

TestSuite(status, .init = make, .fini = end);

/* What was looked at stays as it was while it is open, and nothing can be written beside it. */
static void begin(void)
{
    qm_fleet_close(&f);
    BEGIN();
}

static void look(void)
{
    qm_fleet_close(&f);
    GOOD(qm_fleet_open(&f, store, NULL, &fault));
}

static uint64_t slot_of(const char *id)
{
    char sql[200];
    snprintf(sql, sizeof sql, "SELECT slot FROM instance WHERE id = '%s'", id);
    return (uint64_t)home_ask(sql);
}

/* The machine's newest record said this, so long ago. */
static void judged(const char *id, enum qm_status status, enum qm_reason reason, enum qm_fresh fresh, uint64_t ago_ms)
{
    struct qm_ledger l;
    begin();
    GOOD(qm_store_ledger_get(store, slot_of(id), &l, &fault));
    l.flags |= QM_LEDGER_SEEN | QM_LEDGER_STATUS;
    l.status = (uint8_t)status;
    l.reason = (uint8_t)reason;
    l.fresh = (uint8_t)fresh;
    l.authentic_ms = now - ago_ms;
    l.good_ms = status == QM_TRUSTED ? l.authentic_ms : l.good_ms;
    GOOD(qm_store_ledger_put(store, slot_of(id), &l, &fault));
    COMMIT();
}

static void passes_on(const char *id, uint32_t set_a, uint32_t set_b)
{
    struct qm_ledger l;
    begin();
    GOOD(qm_store_ledger_get(store, slot_of(id), &l, &fault));
    l.set_a = set_a;
    l.set_b = set_b;
    GOOD(qm_store_ledger_put(store, slot_of(id), &l, &fault));
    COMMIT();
}

static void refused(const char *id, enum qm_reason reason)
{
    struct qm_ledger l;
    begin();
    GOOD(qm_store_ledger_get(store, slot_of(id), &l, &fault));
    qm_ledger_refuse(&l, reason, now);
    GOOD(qm_store_ledger_put(store, slot_of(id), &l, &fault));
    COMMIT();
}

/* A run that ended so long ago and took so long, with so many trusted records. */
static void ran(unsigned no, uint64_t ago_ms, uint64_t took_ms, unsigned trusted)
{
    char sql[400];
    snprintf(sql, sizeof sql,
             "INSERT INTO run VALUES(%u, 'run-%u', 'run', %" PRIu64 ", %" PRIu64 ", 1, %u, 1, '{\"by_status\":{\"trusted\":%u,\"duplicate\":4}}')",
             no, no, now - ago_ms - took_ms, now - ago_ms, trusted, trusted);
    home_change(sql);
}

static struct qm_fleet_summary *summary(const struct qm_fleet_filter *filter)
{
    struct qm_fleet_summary *s;
    look();
    GOOD(qm_fleet_summarize(&f, filter, &s, &fault));
    return s;
}

/* ---- the summary ------------------------------------------------------------------------------------------------------- */

static void five_machines(void)
{
    home_enroll("good", 1, ",\"group\":\"web\",\"tags\":{\"rack\":\"1\"}");
    home_enroll("bad", 2, ",\"group\":\"web\",\"tags\":{\"rack\":\"2\"}");
    home_enroll("quiet", 3, ",\"group\":\"db\",\"tags\":{\"rack\":\"2\",\"zone\":\"a\"}");
    home_enroll("forged", 4, "");
    home_enroll("fresh", 5, "");
    judged("good", QM_TRUSTED, QM_ALL_GOOD, QM_FRESH_BEACON, MINUTE);
    judged("bad", QM_UNTRUSTED, QM_PCR_MISMATCH, QM_FRESH_CLOCK, 25 * HOUR);
    judged("quiet", QM_TRUSTED, QM_ALL_GOOD, QM_FRESH_CLOCK, 25 * HOUR);
    refused("forged", QM_BAD_SIGNATURE);
    /* enrolled long ago, or silence would be counted from now */
    begin();
    for (uint64_t slot = 1; slot <= 3; slot++) {
        struct qm_ledger l;
        GOOD(qm_store_ledger_get(store, slot, &l, &fault));
        l.enrolled_s -= 100 * 3600;
        GOOD(qm_store_ledger_put(store, slot, &l, &fault));
    }
    COMMIT();
    ran(1, MINUTE, 1000, 3);
}

Test(status, counts_by_status_reason_group_and_freshness)
{
    five_machines();
    struct qm_fleet_summary *s = summary(NULL);
    cr_expect_eq(s->instances, 5);
    for (unsigned i = 0; i < QM_STANDS_COUNT; i++)
        cr_expect_eq(s->by_status[i], 1, "%s: %" PRIu64, qm_standing_name(i), s->by_status[i]);
    cr_expect_eq(s->by_reason[QM_STANDS_UNTRUSTED][QM_PCR_MISMATCH], 1);
    cr_expect_eq(s->by_reason[QM_STANDS_INVALID][QM_BAD_SIGNATURE], 1);
    cr_expect_eq(s->by_reason[QM_STANDS_NEW][QM_REASON_NO_RECORD], 1);
    cr_expect_eq(s->by_silence[QM_SILENCE_INSTANCE], 1);
    cr_expect_eq(s->by_fresh[QM_FRESH_BEACON], 1);
    cr_expect_eq(s->by_fresh[QM_FRESH_CLOCK], 0, "quiet is not trusted any more");
    cr_expect_eq(s->stale, 1);
    cr_expect_eq(f.scope_count, 3);
    cr_expect_str_eq(f.scope[1].name, "web");
    cr_expect_eq(s->group[1].instances, 2);
    cr_expect_eq(s->group[1].by_status[QM_STANDS_UNTRUSTED], 1);
    cr_expect_eq(s->group[2].by_status[QM_STANDS_UNMEASURED], 1);
    cr_expect_eq(s->group[0].instances, 2);
    cr_expect_eq(s->listed[QM_STANDS_UNTRUSTED][0], slot_of("bad"));
    cr_expect_eq(s->listed[QM_STANDS_UNMEASURED][0], slot_of("quiet"));
    qm_fleet_summary_close(s);
}

Test(status, a_filter_counts_the_same_machines)
{
    five_machines();
    struct qm_fleet_summary *s = summary(&(struct qm_fleet_filter){.group = "web"});
    cr_expect_eq(s->instances, 2);
    qm_fleet_summary_close(s);
    s = summary(&(struct qm_fleet_filter){.tag_key = "rack", .tag_value = "2"});
    cr_expect_eq(s->instances, 2);
    cr_expect_eq(s->by_status[QM_STANDS_UNTRUSTED], 1);
    cr_expect_eq(s->by_status[QM_STANDS_UNMEASURED], 1);
    cr_expect_null(s->tag);
    qm_fleet_summary_close(s);
    s = summary(&(struct qm_fleet_filter){.group = "db", .tag_key = "rack", .tag_value = "1"});
    cr_expect_eq(s->instances, 0);
    qm_fleet_summary_close(s);
    s = summary(&(struct qm_fleet_filter){.tag_key = "rack"});
    cr_assert_eq(s->tag_count, 3);
    cr_expect_str_eq(s->tag[0].value, "");
    cr_expect_eq(s->tag[0].instances, 2);
    cr_expect_str_eq(s->tag[1].value, "1");
    cr_expect_eq(s->tag[1].by_status[QM_STANDS_TRUSTED], 1);
    cr_expect_str_eq(s->tag[2].value, "2");
    cr_expect_eq(s->tag[2].instances, 2);
    qm_fleet_summary_close(s);
}

Test(status, slots_without_a_machine_do_not_count)
{
    for (unsigned i = 0; i < 70; i++) { /* three blocks */
        char id[16];
        snprintf(id, sizeof id, "m%u", i);
        home_enroll(id, 1, "");
    }
    begin();
    GOOD(qm_store_ledger_put(store, 33, &(struct qm_ledger){0}, &fault));
    COMMIT();
    struct qm_fleet_summary *s = summary(NULL);
    cr_expect_eq(s->instances, 69);
    cr_expect_eq(s->by_status[QM_STANDS_NEW], 69);
    qm_fleet_summary_close(s);
}

Test(status, an_entry_that_is_damaged_is_said)
{
    struct qm_fleet_summary *s;
    home_enroll("a", 1, "");
    begin();
    GOOD(qm_store_ledger_put(store, slot_of("a"), &(struct qm_ledger){.enrolled_s = 1, .reason = QM_REASON_COUNT}, &fault));
    COMMIT();
    look();
    cr_expect_eq(qm_fleet_summarize(&f, NULL, &s, &fault), QM_E_FORMAT);
    cr_expect_not_null(strstr(fault.text, "entry 1 of the ledger"), "%s", fault.text);
}

Test(status, machines_by_the_set_that_they_pass_on)
{
    for (unsigned i = 0; i < 6; i++) {
        char id[16];
        snprintf(id, sizeof id, "m%u", i);
        home_enroll(id, i, i < 4 ? ",\"group\":\"web\"" : "");
        judged(id, QM_TRUSTED, QM_ALL_GOOD, QM_FRESH_CLOCK, MINUTE);
    }
    home_change("INSERT INTO pcr_values VALUES(7, 1, 0, x'00'), (8, 1, 0, x'01'), (9, 1, 0, x'02'), (10, 1, 0, x'03')");
    home_change("INSERT INTO baseline(no, kind, grp, vals, origin, who, since_ms) VALUES(20, 1, 1, 7, 'accepted', 'me', 5),"
                " (21, 1, 1, 8, 'set', 'me', 6)");
    passes_on("m0", 7, 10);
    passes_on("m1", 7, 10);
    passes_on("m2", 9, 10); /* a group's set that has ended */
    passes_on("m3", 9, 0);
    passes_on("m4", 9, 0);
    passes_on("m5", 10, 0);
    struct qm_fleet_summary *s = summary(NULL);
    cr_assert_eq(s->set_count, 4);
    cr_expect(s->set[0].no == 20 && s->set[0].instances == 2 && s->set[0].group_no == 1 && s->set[0].since_ms == 5);
    cr_expect_str_eq(s->set[0].origin, "accepted");
    cr_expect(s->set[1].no == 0 && s->set[1].values == 9 && s->set[1].instances == 1);
    cr_expect(s->set[2].no == 21 && s->set[2].instances == 0, "one that nobody passes on is said too");
    cr_expect(s->set[3].group_no == 0 && s->set[3].values == 9 && s->set[3].instances == 2);
    cr_expect_eq(s->set_alone, 1);
    qm_fleet_summary_close(s);
}

/* ---- runs -------------------------------------------------------------------------------------------------------------- */

Test(status, a_verifier_that_does_not_run_is_said)
{
    look();
    cr_expect(qm_fleet_verifier_stopped(&f), "it never ran");
    ran(1, 13 * HOUR, 1000, 1);
    look();
    cr_expect(qm_fleet_verifier_stopped(&f));
    cr_expect_str_eq(f.last.id, "run-1");
    ran(2, 11 * HOUR, 1000, 1);
    look();
    cr_expect(!qm_fleet_verifier_stopped(&f));
    cr_expect_eq(f.last.end_ms, now - 11 * HOUR);
    cr_expect_eq(f.last.start_ms, now - 11 * HOUR - 1000);
}

Test(status, gaps_between_runs)
{
    ran(1, 40 * HOUR, 1000, 1);
    ran(2, 20 * HOUR, 1000, 1);
    look();
    cr_expect_eq(f.scope[0].gap_end_ms, now - 20 * HOUR - 1000, "20 hours are more than half of 24");
    ran(3, 10 * HOUR, 1000, 1);
    look();
    cr_expect_eq(f.scope[0].gap_end_ms, now - 20 * HOUR - 1000, "10 hours are not");
    home_change("DELETE FROM run WHERE no = 1");
    look();
    cr_expect_eq(f.scope[0].gap_end_ms, 0, "before the first run there is no gap");
    qm_fleet_close(&f);
    GOOD(qm_fleet_open(&f, store, &(struct qm_run_now){.start_ms = now + 3 * HOUR, .end_ms = now + 3 * HOUR}, &fault));
    cr_expect_eq(f.scope[0].gap_end_ms, now + 3 * HOUR, "the run that is at work ends one");
    qm_fleet_close(&f);
    GOOD(qm_fleet_open(&f, store, &(struct qm_run_now){.start_ms = now + 2 * HOUR, .end_ms = now + 2 * HOUR}, &fault));
    cr_expect_eq(f.scope[0].gap_end_ms, 0);
}

/* Somebody was heard so long ago, the home made so long ago. */
static void heard(uint64_t ago_ms, uint64_t made_ago_ms)
{
    char sql[300];
    now = qm_store_now_ms(store);
    snprintf(sql, sizeof sql, "REPLACE INTO meta VALUES('authentic_ms', %" PRIu64 "), ('created_ms', %" PRIu64 ")", now - ago_ms,
             now - made_ago_ms);
    home_change(sql);
    look();
}

Test(status, nothing_from_anyone)
{
    home_enroll("a", 1, ",\"group\":\"slow\"");
    heard(25 * HOUR, 24 * HOUR);
    cr_expect(!f.scope[0].silent, "the home is young");
    heard(24 * HOUR, 100 * HOUR);
    cr_expect(!f.scope[0].silent);
    heard(24 * HOUR + 1, 100 * HOUR);
    cr_expect(f.scope[0].silent);
    begin();
    GOOD(qm_store_config_set(store, "slow", "unmeasured_after", "26h", &fault));
    COMMIT();
    heard(25 * HOUR, 100 * HOUR);
    cr_expect(f.scope[0].silent);
    cr_expect(!f.scope[1].silent, "26 hours back there was a record");
    cr_expect_eq(qm_fleet_times(&f, 1).unmeasured_after_ms, 26 * HOUR);
    ran(1, 40 * HOUR, 1000, 1);
    ran(2, 20 * HOUR, 1000, 0);
    look();
    cr_expect(!f.scope[0].silent, "a gap ended meanwhile");
    home_change("DELETE FROM run");
    qm_fleet_close(&f);
    GOOD(qm_fleet_open(&f, store, &(struct qm_run_now){now - 1000, now, 0}, &fault));
    cr_expect(f.scope[0].silent);
    qm_fleet_close(&f);
    GOOD(qm_fleet_open(&f, store, &(struct qm_run_now){now - 1000, now, now}, &fault));
    cr_expect(!f.scope[0].silent, "the run that is at work took something in");
}

/* ---- one machine ------------------------------------------------------------------------------------------------------- */

static struct qm_machine last_seen;
static unsigned seen_count;

static qm_err keep(void *ctx, const struct qm_machine *m, struct qm_fault *fault_)
{
    (void)fault_;
    last_seen = *m;
    seen_count++;
    if (ctx != NULL)
        GOOD(qm_machine_stages(&f, m, ctx, &fault));
    return QM_OK;
}

static bool machine(const char *id, struct qm_machine_stages *stages)
{
    bool found;
    look();
    GOOD(qm_fleet_id(&f, id, strlen(id), keep, stages, &found, &fault));
    return found;
}

Test(status, a_machine_is_found_by_id_or_said_to_be_unknown)
{
    home_enroll("a", 1, "");
    cr_expect(machine("a", NULL));
    cr_expect_eq(last_seen.standing.status, QM_STANDS_NEW);
    cr_expect(!machine("b", NULL));
    cr_expect_eq(qm_fleet_unknown(&f, "b\x1b", &fault), QM_E_USAGE);
    cr_expect_str_eq(fault.text, "no instance 'b\\u{1b}' is enrolled");
    home_change("INSERT INTO retired(slot, id, retired_ms, who) VALUES(9, 'gone', 1, 'somebody')");
    look();
    cr_expect_eq(qm_fleet_unknown(&f, "gone", &fault), QM_E_USAGE);
    cr_expect_not_null(strstr(fault.text, "'gone' was retired"), "%s", fault.text);
}

Test(status, stages_before_and_after_a_record)
{
    struct qm_machine_stages s;
    home_enroll("a", 1, PCRS_0_9 BASELINE);
    cr_assert(machine("a", &s));
    cr_assert_eq(s.count, 3);
    for (unsigned i = 0; i < 3; i++) {
        cr_expect_eq(s.stage[i].state, QM_STAGE_UNKNOWN);
        cr_expect_null(s.stage[i].measured);
        cr_assert_not_null(s.stage[i].expected, "what is accepted is known");
    }
    cr_expect_eq(s.stage[2].pcr, 4);
    cr_expect_eq(s.stage[2].expected[31], 0xa4);

    /* a record that differs in PCR 1 */
    const uint32_t values = (uint32_t)home_ask("SELECT vals FROM baseline");
    uint8_t items[65] = {1};
    memset(items + 1, 0xa1, 32);
    memset(items + 33, 0xbb, 32);
    char sql[600] = "INSERT INTO change(no, kind, grp, class, key, name, items, first_ms) VALUES(5, 0, 0, 0, x'00', 'n', x'";
    for (size_t i = 0, n = strlen(sql); i < sizeof items; i++, n += 2)
        snprintf(sql + n, sizeof sql - n, "%02x", items[i]);
    strncat(sql, "', 1)", sizeof sql - strlen(sql) - 1);
    home_change(sql);
    struct qm_ledger l;
    judged("a", QM_UNTRUSTED, QM_PCR_MISMATCH, QM_FRESH_CLOCK, MINUTE);
    begin();
    GOOD(qm_store_ledger_get(store, slot_of("a"), &l, &fault));
    l.flags |= QM_LEDGER_PROVEN;
    l.set_a = values;
    l.change[0] = 5;
    l.first_fail = 1;
    GOOD(qm_store_ledger_put(store, slot_of("a"), &l, &fault));
    COMMIT();
    cr_assert(machine("a", &s));
    cr_expect_eq(s.first_fail, 1);
    cr_expect_eq(s.stage[0].state, QM_STAGE_PASS);
    cr_expect_eq(s.stage[1].state, QM_STAGE_FAIL);
    cr_expect_eq(s.stage[1].measured[0], 0xbb);
    cr_expect_eq(s.stage[1].expected[0], 0xa1);
    cr_expect_eq(s.stage[2].state, QM_STAGE_NOT_REACHED);
    cr_expect_eq(s.stage[2].measured[0], 0xa4, "green before it would be, grey after the first that failed");
    cr_expect_str_eq(s.name[2], qm_stage_name(4));
    begin();
    GOOD(qm_store_config_set(store, "", "stage.4", "loader", &fault));
    COMMIT();
    cr_assert(machine("a", &s));
    cr_expect_str_eq(s.name[2], "loader");
}

Test(status, the_key_and_how_it_came)
{
    struct qm_machine_key key;
    home_enroll("a", 1, "");
    look();
    GOOD(qm_machine_key(&f, slot_of("a"), &key, &fault));
    cr_expect_str_eq(key.how, "file");
    cr_expect_eq(key.earlier, 0);
    cr_expect(key.since_ms >= now && key.since_ms < now + 60 * MINUTE);
    cr_expect_neq(key.digest[0] | key.digest[1] | key.digest[2], 0);
    home_change("UPDATE ak_history SET until_ms = 7; INSERT INTO ak_history(slot, ak, since_ms, who, how)"
                " VALUES(1, 1, 7, 'you', 'file')");
    look();
    GOOD(qm_machine_key(&f, slot_of("a"), &key, &fault));
    cr_expect_str_eq(key.who, "you");
    cr_expect_eq(key.earlier, 1);
    cr_expect_eq(key.since_ms, 7);
    cr_expect(!key.has_ek && key.bound[0] == '\0' && key.proven_ms == 0);
    home_change("UPDATE ak_history SET how = 'credential', ek = x'" "0102030405060708" "0102030405060708" "0102030405060708" "0102030405060708"
                "', bound = 'expected', proven_ms = 9 WHERE until_ms IS NULL");
    look();
    GOOD(qm_machine_key(&f, slot_of("a"), &key, &fault));
    cr_expect_str_eq(key.how, "credential");
    cr_expect_str_eq(key.bound, "expected");
    cr_expect(key.has_ek && key.ek[1] == 2 && key.ek[31] == 8 && key.proven_ms == 9);
}

static unsigned alert_count;
static uint64_t alert_no;

static qm_err count_alert(void *ctx, const struct qm_machine_alert *a, struct qm_fault *fault_)
{
    (void)ctx;
    (void)fault_;
    alert_count++;
    alert_no = a->no;
    return QM_OK;
}

Test(status, alerts_that_are_open_ignored_or_not_looked_at)
{
    char sql[700];
    home_enroll("a", 1, "");
    home_change("INSERT INTO change(no, kind, grp, class, key, name, items, first_ms) VALUES(1, 0, 0, 0, x'00', 'n', x'', 1)");
    snprintf(sql, sizeof sql,
             "INSERT INTO alert(no, kind, slot, change, state, seen, first_ms, last_ms, count, closed_ms) VALUES"
             "(1, 0, 1, 1, 0, 0, 1, 1, 1, NULL), (2, 4, 1, 1, 1, 0, 1, 1, 1, NULL), (3, 0, 1, 1, 2, 0, 1, 1, 1, %" PRIu64 "),"
             "(4, 0, 1, 1, 3, 1, 1, 1, 1, %" PRIu64 "), (5, 0, 1, 1, 3, 0, 1, 1, 1, %" PRIu64 "), (6, 0, 1, 1, 3, 0, 1, 1, 1, 5)",
             now, now, now);
    home_change(sql);
    cr_assert(machine("a", NULL));
    GOOD(qm_machine_alerts(&f, &last_seen, count_alert, NULL, &fault));
    cr_expect_eq(alert_count, 3, "open, ignored, and one that passes again: %u", alert_count);
    cr_expect_eq(alert_no, 1, "newest first");
    struct qm_fleet_summary *s = summary(NULL);
    cr_expect_eq(s->alerts[QM_ALERT_PCR_MISMATCH][0], 1);
    cr_expect_eq(s->alerts[QM_ALERT_PCR_MISMATCH][1], 0);
    cr_expect_eq(s->alerts[QM_ALERT_REPLAYED][1], 1);
    cr_expect_eq(s->alerts_unseen, 1);
    qm_fleet_summary_close(s);
}
