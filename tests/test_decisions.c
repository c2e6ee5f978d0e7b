/* Decisions about alerts: what they change in sets, statuses and alerts, and what they refuse. */
#include <criterion/criterion.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/compare.h"
#include "tests/craft.h"
#include "tools/store/store_decisions.h"
#include "tools/store/store_ledger.h"

static char home[512];
static struct qm_store *store;
static struct qm_json *json;
static struct qm_enrolment *e;
static struct qm_live_sets live;
static struct qm_fault fault;
static char refusals[4096]; /* "NO why;" of the last decision */

#define OK(call) cr_assert_eq((call), QM_OK, "%s", fault.text)

static void make_home(void)
{
    bool made;
    snprintf(home, sizeof home, "%s/home", craft_dir());
    e = aligned_alloc(QM_CACHE_LINE, qm_align_up(sizeof *e, QM_CACHE_LINE));
    MUST(e != NULL);
    OK(qm_json_open(&json, &fault));
    OK(qm_live_sets_init(&live, &fault));
    OK(qm_store_create(home, &made, &fault));
    OK(qm_store_open(&store, home, true, &fault));
}

static void end(void)
{
    qm_live_sets_close(&live);
    qm_store_close(store);
    qm_json_close(json);
    free(e);
    craft_free_all();
}

TestSuite(decisions, .init = make_home, .fini = end);

static sqlite3_stmt *statement(sqlite3 **db, const char *sql)
{
    sqlite3_stmt *st;
    char path[600];
    snprintf(path, sizeof path, "%s/fleet.db", home);
    MUST(sqlite3_open(path, db) == SQLITE_OK);
    MUST(sqlite3_prepare_v2(*db, sql, -1, &st, NULL) == SQLITE_OK);
    return st;
}

static long long ask(const char *sql)
{
    sqlite3 *db;
    sqlite3_stmt *st = statement(&db, sql);
    long long n = sqlite3_step(st) == SQLITE_ROW ? sqlite3_column_int64(st, 0) : -1;
    sqlite3_finalize(st);
    sqlite3_close(db);
    return n;
}

static void enroll(const char *id, const char *more)
{
    struct craft c = {0}, t = {0};
    enum qm_enrolled what;
    uint8_t digest[32];
    craft_tpmt_public(&t, craft_key("p256", 1), CRAFT_AK_ATTRIBUTES, QM_TPM_ALG_NULL, 0);
    craft_text(&c, "{\"id\":\"");
    craft_text(&c, id);
    craft_text(&c, "\",\"select\":[{\"bank\":\"sha256\",\"pcrs\":[0,4,5]}],\"ak\":\"");
    craft_text(&c, craft_base64(craft_span(&t)));
    craft_text(&c, "\"");
    craft_text(&c, more);
    craft_text(&c, "}");
    craft_hash(QM_HASH_SHA256, craft_span(&c), digest);
    OK(qm_enrolment_read(json, (const char *)c.p, c.len, e, &fault));
    OK(qm_store_begin(store, &fault));
    OK(qm_store_enroll(store, e, digest, &(struct qm_enroll_options){0}, &what, &fault));
    OK(qm_store_commit(store, &fault));
}

/* With a baseline: PCRs 0, 4 and 5 of these bytes. more: for example ,"group":"web" */
static void enroll_as(const char *id, uint8_t p0, uint8_t p4, uint8_t p5, const char *more)
{
    const uint8_t byte[3] = {p0, p4, p5};
    static const unsigned pcr[3] = {0, 4, 5};
    char text[600];
    size_t n = (size_t)snprintf(text, sizeof text, "%s,\"baseline\":{", more);
    for (unsigned i = 0; i < 3; i++) {
        n += (size_t)snprintf(text + n, sizeof text - n, "%s\"%u\":\"", i != 0 ? "," : "", pcr[i]);
        for (unsigned k = 0; k < 32; k++)
            n += (size_t)snprintf(text + n, sizeof text - n, "%02x", byte[i]);
        n += (size_t)snprintf(text + n, sizeof text - n, "\"");
    }
    snprintf(text + n, sizeof text - n, "}");
    enroll(id, text);
}

static struct qm_ledger ledger(const char *id)
{
    struct qm_instance_row row;
    struct qm_ledger entry;
    bool found;
    OK(qm_store_instance_by_id(store, id, strlen(id), &row, &found, &fault));
    cr_assert(found);
    OK(qm_store_ledger_get(store, row.slot, &entry, &fault));
    return entry;
}

/* What a run does with a record that proves these values, in a few lines: compared, alerts raised
 * by class or resolved, the entry written. */
static void measure(const char *id, uint8_t p0, uint8_t p4, uint8_t p5, uint32_t reset)
{
    uint8_t bytes[3][32];
    const uint8_t *value[QM_PCR_COUNT] = {[0] = bytes[0], [4] = bytes[1], [5] = bytes[2]};
    struct qm_instance_row row;
    struct qm_comparison c;
    struct qm_ledger entry;
    enum qm_status status;
    enum qm_reason reason;
    uint64_t left, closed;
    bool found;
    memset(bytes[0], p0, 32);
    memset(bytes[1], p4, 32);
    memset(bytes[2], p5, 32);
    OK(qm_store_begin(store, &fault));
    OK(qm_store_instance_by_id(store, id, strlen(id), &row, &found, &fault));
    cr_assert(found);
    OK(qm_store_ledger_get(store, row.slot, &entry, &fault));
    OK(qm_live_sets_load(store, &row, &live, &fault));
    qm_conclude(value, row.profile.baselined, live.set, live.count, &status, &reason, &c);
    entry.flags |= QM_LEDGER_SEEN | QM_LEDGER_STATUS | QM_LEDGER_PROVEN;
    entry.last = (struct qm_sequence){.reset = reset, .clock_ms = 1000 * reset};
    entry.authentic_ms = qm_store_now_ms(store);
    entry.status = (uint8_t)status;
    entry.reason = (uint8_t)reason;
    entry.log = QM_LOG_REPLAYED;
    entry.group = row.group_no;
    entry.set_a = c.set != NULL ? c.set->set_no : 0;
    entry.set_b = c.set != NULL ? c.set->pair_no : 0;
    entry.change[0] = entry.change[1] = 0;
    if (status == QM_TRUSTED)
        OK(qm_alert_resolve(store, row.slot, 1u << QM_ALERT_PCR_MISMATCH, entry.authentic_ms, reset, &left, &closed, &fault));
    unsigned rows = 0;
    for (unsigned own = 0; own < 2; own++) {
        struct qm_change_item item[3];
        struct qm_alert_raised raised;
        struct qm_alert_new a = {
            .slot = row.slot, .group_no = row.group_no, .item = item, .at_ms = entry.authentic_ms, .restarts = reset};
        const uint32_t mask = row.group_no == 0 ? (own ? 0u : ~0u) : own ? 1u << 5 : ~(1u << 5);
        a.set_kind = row.group_no == 0 ? QM_SET_WHOLE : own ? QM_SET_INSTANCE : QM_SET_GROUP;
        for (unsigned pcr = 0; pcr < 6; pcr++)
            if ((c.differ & mask) >> pcr & 1) {
                item[a.item_count].pcr = (uint8_t)pcr;
                memcpy(item[a.item_count].expected, qm_set_value(c.set, pcr), 32);
                memcpy(item[a.item_count++].measured, value[pcr], 32);
            }
        if (a.item_count == 0)
            continue;
        OK(qm_alert_raise(store, &a, &raised, &fault));
        entry.change[rows++] = (uint32_t)raised.change;
        entry.flags |= QM_LEDGER_ALERTS;
    }
    OK(qm_store_ledger_put(store, row.slot, &entry, &fault));
    OK(qm_store_commit(store, &fault));
}

static struct qm_alert_raised raise(struct qm_alert_new *a, const char *id)
{
    struct qm_instance_row row;
    struct qm_alert_raised raised;
    bool found;
    OK(qm_store_instance_by_id(store, id, strlen(id), &row, &found, &fault));
    a->slot = row.slot;
    a->group_no = row.group_no;
    OK(qm_store_begin(store, &fault));
    OK(qm_alert_raise(store, a, &raised, &fault));
    OK(qm_store_commit(store, &fault));
    return raised;
}

static void refused(void *ctx, uint64_t no, const char *why)
{
    (void)ctx;
    size_t n = strlen(refusals);
    snprintf(refusals + n, sizeof refusals - n, "%llu %s;", (unsigned long long)no, why);
}

static struct qm_picked pick(const struct qm_pick *p)
{
    struct qm_picked picked;
    OK(qm_alerts_pick(store, p, &picked, &fault));
    return picked;
}

static struct qm_decided decide(const struct qm_decision *d)
{
    struct qm_decided decided;
    refusals[0] = '\0';
    OK(qm_store_begin(store, &fault));
    OK(qm_alerts_decide(store, d, refused, NULL, &decided, &fault));
    OK(qm_store_commit(store, &fault));
    return decided;
}

static struct qm_decided accept(uint64_t first, uint64_t second, bool group)
{
    const uint64_t no[2] = {first, second};
    pick(&(struct qm_pick){.what = QM_DECIDE_ACCEPT, .no = no, .count = second != 0 ? 2 : 1});
    return decide(&(struct qm_decision){.what = QM_DECIDE_ACCEPT, .reason = "kernel 6.12", .group = group});
}

static struct qm_decided simply(enum qm_decide what, uint64_t no, uint64_t until_ms)
{
    pick(&(struct qm_pick){.what = what, .no = &no, .count = 1});
    return decide(&(struct qm_decision){.what = what, .reason = "because", .until_ms = until_ms});
}

#define expect_status(id_, status_)                                                                                            \
    cr_expect_eq(ledger(id_).status, (status_), "%s is %s", id_, qm_status_name((enum qm_status)ledger(id_).status))
#define expect_state(no_, state_)                                                                                              \
    do {                                                                                                                       \
        char sql_[80];                                                                                                         \
        snprintf(sql_, sizeof sql_, "SELECT state FROM alert WHERE no = %d", (int)(no_));                                      \
        cr_expect_eq(ask(sql_), (state_), "alert %d is %s", (int)(no_), qm_alert_state_name((enum qm_alert_state)ask(sql_)));  \
    } while (0)

/* ---- accept ------------------------------------------------------------------------------------------------------- */

Test(decisions, accept_makes_a_whole_set_and_judges_again)
{
    enroll_as("a", 1, 2, 3, "");
    measure("a", 1, 2, 3, 1);
    expect_status("a", QM_TRUSTED);
    measure("a", 1, 9, 3, 2);
    expect_status("a", QM_UNTRUSTED);
    struct qm_decided d = accept(1, 0, false);
    cr_expect_eq(d.alerts, 1);
    cr_expect_eq(d.sets, 1);
    cr_expect_eq(d.judged, 1);
    cr_expect_eq(d.passing, 1);
    expect_status("a", QM_TRUSTED);
    expect_state(1, QM_ALERT_ACCEPTED);
    cr_expect_eq(ask("SELECT count(*) FROM baseline WHERE kind = 0 AND origin = 'accepted' AND "
                     "alert = 1 AND why = 'kernel 6.12'"),
                 1);
    cr_expect_eq(ask("SELECT set_no = (SELECT max(no) FROM baseline) AND seen = 1 AND closed_ms IS "
                     "NOT NULL FROM alert"),
                 1);
    cr_expect_eq(ask("SELECT count(*) FROM decision d JOIN alert_decision x ON x.decision = d.no "
                     "WHERE d.what = 'accept' AND x.alert = 1"
                     " AND d.alerts = 1"),
                 1);
    /* both pass from now on, and a mixture with another value does not */
    measure("a", 1, 2, 3, 3);
    expect_status("a", QM_TRUSTED);
    measure("a", 1, 9, 3, 4);
    expect_status("a", QM_TRUSTED);
    measure("a", 7, 9, 3, 5);
    expect_status("a", QM_UNTRUSTED);
    /* what is decided already is not decided again */
    d = accept(1, 0, false);
    cr_expect_eq(d.alerts + d.sets, 0);
    cr_expect_str_eq(refusals, "1 it is accepted;");
    cr_expect_eq(ask("SELECT count(*) FROM decision"), 1);
}

Test(decisions, log_required_stays_so)
{
    enroll_as("a", 1, 2, 3, ",\"require_log\":true");
    measure("a", 1, 9, 3, 1);
    OK(qm_store_begin(store, &fault));
    struct qm_ledger entry = ledger("a");
    entry.log = QM_LOG_ABSENT;
    OK(qm_store_ledger_put(store, 1, &entry, &fault));
    OK(qm_store_commit(store, &fault));
    accept(1, 0, false);
    expect_status("a", QM_UNTRUSTED);
    cr_expect_eq(ledger("a").reason, QM_LOG_REQUIRED);
}

Test(decisions, both_classes_at_once_are_one_set)
{
    enroll_as("a", 1, 2, 3, ",\"group\":\"web\"");
    measure("a", 1, 8, 9, 1);
    cr_assert_eq(ask("SELECT count(*) FROM alert"), 2);
    struct qm_decided d = accept(1, 2, false);
    cr_expect_eq(d.alerts, 2);
    cr_expect_eq(d.sets, 1);
    expect_status("a", QM_TRUSTED);
    cr_expect_eq(ask("SELECT count(*) FROM baseline"), 2, "no set of what nobody measured");
}

Test(decisions, one_class_and_then_the_other)
{
    enroll_as("a", 1, 2, 3, ",\"group\":\"web\"");
    measure("a", 1, 8, 9, 1);
    struct qm_decided d = accept(2, 0, false);
    cr_expect_eq(d.sets, 1);
    expect_status("a", QM_UNTRUSTED);
    expect_state(1, QM_ALERT_OPEN);
    d = accept(1, 0, false);
    cr_expect_eq(d.sets, 1);
    expect_status("a", QM_TRUSTED);
}

Test(decisions, accept_for_a_group)
{
    static const char web[] = ",\"group\":\"web\"";
    enroll_as("a", 1, 2, 3, web);
    enroll_as("b", 1, 2, 4, web);
    enroll_as("c", 1, 2, 5, web);
    enroll_as("d", 1, 2, 6, web);
    enroll_as("other", 1, 2, 3, ",\"group\":\"db\"");
    measure("a", 1, 8, 3, 1);  /* 1 */
    measure("b", 1, 8, 4, 1);  /* 2 */
    measure("c", 1, 8, 99, 1); /* 3 group's, 4 its own */
    measure("d", 1, 2, 6, 1);
    measure("other", 1, 8, 3, 1); /* 5 */
    struct qm_decided d = accept(1, 0, true);
    cr_expect_eq(d.sets, 1);
    cr_expect_eq(d.alerts, 3, "all of the group that differ in the same");
    cr_expect_eq(ask("SELECT count(*) FROM baseline WHERE kind = 1 AND alert = 1"), 1);
    cr_expect_eq(ask("SELECT length(v.value) FROM baseline b JOIN pcr_values v ON v.no = b.vals "
                     "WHERE b.kind = 1"),
                 64, "PCRs 0 and 4");
    expect_status("a", QM_TRUSTED);
    expect_status("b", QM_TRUSTED);
    expect_status("c", QM_UNTRUSTED);
    expect_state(3, QM_ALERT_ACCEPTED);
    expect_state(4, QM_ALERT_OPEN);
    expect_status("other", QM_UNTRUSTED);
    expect_state(5, QM_ALERT_OPEN);
    /* whoever reboots later passes, and still on what was before */
    measure("d", 1, 8, 6, 2);
    expect_status("d", QM_TRUSTED);
    measure("d", 1, 2, 6, 3);
    expect_status("d", QM_TRUSTED);
    /* its own: not for the group */
    d = accept(4, 0, true);
    cr_expect_eq(d.alerts, 0);
    cr_expect_not_null(strstr(refusals, "4 it is about PCRs that are the machine's own"));
    d = accept(4, 0, false);
    expect_status("c", QM_TRUSTED);
    /* reopened: withdrawn, for all that it was accepted for */
    d = simply(QM_DECIDE_REOPEN, 2, 0);
    cr_expect_eq(d.alerts, 3);
    cr_expect_eq(d.sets, 1);
    expect_status("a", QM_UNTRUSTED);
    expect_status("b", QM_UNTRUSTED);
    expect_status("c", QM_TRUSTED); /* on a whole set of its own */
    expect_state(1, QM_ALERT_OPEN);
    cr_expect_eq(ask("SELECT ended_ms IS NOT NULL AND ended_why = 'because' FROM baseline WHERE kind = 1"), 1);
    /* and accepted once more */
    d = accept(1, 0, true);
    expect_status("a", QM_TRUSTED);
    expect_status("b", QM_TRUSTED);
}

Test(decisions, a_group_set_for_each_nearest_set)
{
    static const char web[] = ",\"group\":\"web\"";
    enroll_as("a", 1, 2, 3, web);
    enroll_as("b", 7, 2, 4, web); /* other firmware */
    measure("a", 1, 8, 3, 1);
    measure("b", 7, 8, 4, 1);
    cr_assert_eq(ask("SELECT count(DISTINCT change) FROM alert"), 1);
    struct qm_decided d = accept(1, 0, true);
    cr_expect_eq(d.alerts, 1, "the other one's set is another");
    expect_status("b", QM_UNTRUSTED);
    d = accept(2, 0, true);
    cr_expect_eq(d.sets, 1);
    expect_status("b", QM_TRUSTED);
    cr_expect_eq(ask("SELECT count(*) FROM baseline WHERE kind = 1"), 2);
}

Test(decisions, for_every_group_at_once)
{
    const uint64_t one[1] = {1};
    enroll_as("a", 1, 2, 3, ",\"group\":\"web\"");
    enroll_as("b", 1, 2, 4, ",\"group\":\"db\"");
    enroll_as("c", 1, 2, 5, ",\"group\":\"db\"");
    measure("a", 1, 8, 3, 1);
    measure("b", 1, 8, 4, 1);
    measure("c", 1, 8, 5, 1);
    pick(&(struct qm_pick){.what = QM_DECIDE_ACCEPT, .no = one, .count = 1, .same = true, .all_groups = true});
    struct qm_decided d = decide(&(struct qm_decision){.what = QM_DECIDE_ACCEPT, .reason = "x", .group = true});
    cr_expect_eq(d.alerts, 3);
    cr_expect_eq(d.sets, 2);
    cr_expect_eq(d.passing, 3);
    cr_expect_eq(ask("SELECT count(DISTINCT grp) FROM baseline WHERE kind = 1"), 2);
}

Test(decisions, a_machine_without_values_of_its_own)
{
    enroll_as("a", 1, 2, 3, ",\"group\":\"web\"");
    measure("a", 1, 8, 3, 1);
    accept(1, 0, true);
    enroll("young", ",\"group\":\"web\"");
    measure("young", 1, 9, 7, 1); /* compared with the group's set alone: its own PCR 5 was never learned */
    struct qm_decided d = accept(2, 0, false);
    cr_expect_eq(d.sets, 0);
    cr_expect_str_eq(refusals, "2 there is no value for PCR 5 yet; accept it for the group;");
    d = accept(2, 0, true);
    cr_expect_eq(d.sets, 1);
    expect_state(2, QM_ALERT_ACCEPTED);
}

Test(decisions, what_cannot_be_accepted)
{
    uint8_t digest[32] = {1};
    enroll_as("a", 1, 2, 3, "");
    raise(&(struct qm_alert_new){.digest = {digest, 32}, .at_ms = 5}, "a");
    raise(&(struct qm_alert_new){.kind = QM_ALERT_UNMEASURED, .at_ms = 5}, "a");
    raise(&(struct qm_alert_new){.kind = QM_ALERT_CLONED_OR_ROLLED_BACK, .at_ms = 5, .detail = "{}"}, "a");
    for (uint8_t k = 0; k < QM_ALERTS_ALONE_MAX; k++)
        measure("a", 1, (uint8_t)(20 + k), 3, 2);
    cr_assert_eq(ask("SELECT count(*) FROM alert a JOIN change c ON c.no = a.change WHERE c.name = "
                     "'many' AND a.no = 11"),
                 1);
    struct qm_decided d = accept(1, 2, false);
    cr_expect_eq(d.refused, 2);
    cr_expect_not_null(strstr(refusals, "1 its PCR values were not proven; have the machine send them"), "%s", refusals);
    cr_expect_not_null(strstr(refusals, "2 it shows no values"), "%s", refusals);
    d = accept(3, 11, false);
    cr_expect_not_null(strstr(refusals, "3 it does not say where the TPM went on"), "%s", refusals);
    cr_expect_not_null(strstr(refusals, "11 it stands for many changes"), "%s", refusals);
    cr_expect_eq(ask("SELECT count(*) FROM baseline"), 1);
    cr_expect_eq(ask("SELECT count(*) FROM decision"), 0);
    enroll("fresh", ",\"group\":\"web\"");
    struct qm_change_item i = {.pcr = 4};
    raise(&(struct qm_alert_new){.item = &i, .item_count = 1, .set_kind = QM_SET_GROUP, .at_ms = 5}, "fresh");
    accept(12, 0, false);
    cr_expect_not_null(strstr(refusals, "12 the set that it differs from is no longer accepted"), "%s", refusals);
}

Test(decisions, eight_sets_and_no_more)
{
    enroll_as("a", 1, 2, 3, "");
    for (uint8_t k = 0; k < QM_SET_MAX; k++) {
        measure("a", 1, (uint8_t)(20 + k), 3, k + 1u);
        struct qm_decided d = accept(k + 1u, 0, false);
        cr_expect_eq(d.refused, k == QM_SET_MAX - 1 ? 1 : 0, "%u: %s", k, refusals);
    }
    expect_status("a", QM_UNTRUSTED);
    expect_state(QM_SET_MAX, QM_ALERT_OPEN);
}

Test(decisions, an_older_records_alert)
{
    enroll_as("a", 1, 2, 3, "");
    measure("a", 1, 8, 3, 1);
    measure("a", 9, 2, 3, 2);
    struct qm_decided d = accept(1, 0, false);
    cr_expect_eq(d.sets, 1);
    expect_status("a", QM_UNTRUSTED); /* what it measures now was not accepted, nor a mixture of both */
    expect_state(2, QM_ALERT_OPEN);
    measure("a", 9, 8, 3, 3);
    expect_status("a", QM_UNTRUSTED);
    measure("a", 1, 8, 3, 4);
    expect_status("a", QM_TRUSTED);
}

Test(decisions, reopen_withdraws)
{
    enroll_as("a", 1, 2, 3, "");
    measure("a", 1, 8, 3, 1);
    accept(1, 0, false);
    expect_status("a", QM_TRUSTED);
    struct qm_decided d = simply(QM_DECIDE_REOPEN, 1, 0);
    cr_expect_eq(d.sets, 1);
    cr_expect_eq(d.judged, 1);
    expect_status("a", QM_UNTRUSTED);
    expect_state(1, QM_ALERT_OPEN);
    cr_expect_eq(ask("SELECT count(*) FROM baseline WHERE ended_ms IS NULL"), 1);
    measure("a", 1, 8, 3, 2);
    cr_expect_eq(ask("SELECT count FROM alert"), 2, "the same row goes on");
    accept(1, 0, false);
    expect_status("a", QM_TRUSTED);
    cr_expect_eq(ask("SELECT count(*) FROM alert_decision WHERE alert = 1"), 3);
}

Test(decisions, a_clone_goes_on_from_what_is_shown)
{
    enroll_as("a", 1, 2, 3, "");
    measure("a", 1, 2, 3, 7);
    struct qm_alert_new a = {.kind = QM_ALERT_CLONED_OR_ROLLED_BACK,
                             .at_ms = 5,
                             .detail = "{\"seen\":{\"reset\":7,\"restart\":0,\"clock\":7000},"
                                       "\"refused\":{\"reset\":4,\"restart\":2,\"clock\":4321}}"};
    raise(&a, "a");
    struct qm_decided d = accept(1, 0, false);
    cr_expect_eq(d.alerts, 1);
    cr_expect_eq(ledger("a").last.reset, 4);
    cr_expect_eq(ledger("a").last.restart, 2);
    cr_expect_eq(ledger("a").last.clock_ms, 4321);
    expect_state(1, QM_ALERT_ACCEPTED);
    simply(QM_DECIDE_REOPEN, 1, 0);
    cr_expect_eq(ledger("a").last.reset, 7);
    expect_state(1, QM_ALERT_OPEN);
    /* it went on meanwhile: that stays */
    accept(1, 0, false);
    measure("a", 1, 2, 3, 5);
    simply(QM_DECIDE_REOPEN, 1, 0);
    cr_expect_eq(ledger("a").last.reset, 5);
}

/* ---- the others --------------------------------------------------------------------------------------------------- */

Test(decisions, ignore_reopen_ack)
{
    enroll_as("a", 1, 2, 3, "");
    measure("a", 1, 8, 3, 1);
    const uint64_t until = qm_store_now_ms(store) + 1000000;
    simply(QM_DECIDE_IGNORE, 1, until);
    expect_state(1, QM_ALERT_IGNORED);
    expect_status("a", QM_UNTRUSTED);
    cr_expect_eq((uint64_t)ask("SELECT until_ms FROM alert"), until);
    measure("a", 1, 8, 3, 2);
    expect_state(1, QM_ALERT_IGNORED);
    cr_expect_eq(ask("SELECT count FROM alert"), 2);
    /* ignored once more, without an end */
    simply(QM_DECIDE_IGNORE, 1, 0);
    cr_expect_eq(ask("SELECT until_ms IS NULL FROM alert"), 1);
    simply(QM_DECIDE_REOPEN, 1, 0);
    expect_state(1, QM_ALERT_OPEN);
    simply(QM_DECIDE_REOPEN, 1, 0);
    cr_expect_str_eq(refusals, "1 it is open;");
    measure("a", 1, 2, 3, 3);
    expect_state(1, QM_ALERT_RESOLVED);
    simply(QM_DECIDE_IGNORE, 1, 0);
    cr_expect_str_eq(refusals, "1 it is resolved;");
    simply(QM_DECIDE_ACK, 1, 0);
    cr_expect_eq(ask("SELECT seen FROM alert"), 1);
    cr_expect_eq(ask("SELECT count(*) FROM alert_decision"), 4);
}

static uint64_t picks(struct qm_pick p)
{
    return pick(&p).alerts;
}

Test(decisions, picking)
{
    enroll_as("a", 1, 2, 3, ",\"group\":\"web\",\"tags\":{\"rack\":\"7\"}");
    enroll_as("b", 1, 2, 3, ",\"group\":\"web\",\"tags\":{\"rack\":\"8\"}");
    enroll_as("c", 1, 2, 3, ",\"group\":\"db\",\"tags\":{\"rack\":\"7\"}");
    enroll_as("d", 1, 2, 3, ",\"tags\":{\"rack\":\"7\"}");
    measure("a", 1, 8, 3, 1);
    measure("b", 1, 8, 3, 1);
    measure("c", 1, 8, 3, 1);
    measure("d", 1, 8, 3, 1);
    measure("d", 1, 9, 3, 2);
    const uint64_t one[1] = {1}, two[2] = {1, 4}, wrong[2] = {1, 77};
    cr_expect_eq(picks((struct qm_pick){.no = one, .count = 1}), 1);
    cr_expect_eq(picks((struct qm_pick){.no = one, .count = 1, .same = true}), 2);
    cr_expect_eq(picks((struct qm_pick){.no = one, .count = 1, .same = true, .all_groups = true}), 3,
                 "the one without a group has no classes");
    cr_expect_eq(picks((struct qm_pick){.no = two, .count = 2, .same = true}), 3);
    cr_expect_eq(picks((struct qm_pick){.no = one, .count = 1, .same = true, .tag_key = "rack", .tag_value = "8"}), 1);
    cr_expect_eq(picks((struct qm_pick){.kind = "pcr_mismatch", .tag_key = "rack", .tag_value = "7"}), 4);
    cr_expect_eq(picks((struct qm_pick){.kind = "replayed", .tag_key = "rack", .tag_value = "7"}), 0);
    struct qm_picked p = pick(&(struct qm_pick){.no = two, .count = 2, .same = true});
    cr_expect_eq(p.machines, 3);
    cr_expect_eq(p.groups, 2);
    cr_expect_eq(p.unknown, 0);
    cr_expect_eq(pick(&(struct qm_pick){.no = wrong, .count = 2}).unknown, 77);
    /* a decision is about what was picked, not about what came since */
    pick(&(struct qm_pick){.what = QM_DECIDE_IGNORE, .no = one, .count = 1, .same = true});
    enroll_as("late", 1, 2, 3, ",\"group\":\"web\"");
    measure("late", 1, 8, 3, 1);
    cr_expect_eq(decide(&(struct qm_decision){.what = QM_DECIDE_IGNORE, .reason = "x"}).alerts, 2);
    cr_expect_eq(ask("SELECT count(*) FROM alert WHERE state = 1"), 2);
}

/* ---- reading ------------------------------------------------------------------------------------------------------ */

static qm_err count_view(void *ctx, const struct qm_alert_view *a, struct qm_fault *f)
{
    (void)f;
    uint64_t *sum = ctx;
    *sum = *sum * 100 + a->no;
    return QM_OK;
}

/* The numbers of the alerts, two digits each. */
static uint64_t listed(struct qm_alert_filter f)
{
    uint64_t sum = 0;
    OK(qm_alerts_each(store, &f, count_view, &sum, &fault));
    return sum;
}

static qm_err keep_json(void *ctx, const struct qm_alert_view *a, struct qm_fault *f)
{
    (void)f;
    qm_alert_json(ctx, a);
    return QM_OK;
}

static qm_err keep_cohorts(void *ctx, const struct qm_cohort *c, struct qm_fault *f)
{
    (void)f;
    struct qm_out *o = ctx;
    qm_out_u64(o, c->alerts);
    qm_out_char(o, c->one.group.len != 0 ? '@' : '-');
    qm_out_u64(o, c->by_state[QM_ALERT_OPEN]);
    qm_out_char(o, ' ');
    return QM_OK;
}

Test(decisions, lists_and_filters)
{
    enroll_as("a", 1, 2, 3, ",\"group\":\"web\",\"tags\":{\"rack\":\"7\"}");
    enroll_as("b", 1, 2, 3, ",\"group\":\"web\"");
    enroll_as("c", 1, 2, 3, "");
    measure("a", 1, 8, 3, 1); /* 1 */
    measure("b", 1, 8, 3, 1); /* 2 */
    measure("c", 1, 8, 9, 1); /* 3 */
    raise(&(struct qm_alert_new){.kind = QM_ALERT_REPLAYED, .at_ms = 5}, "c");
    simply(QM_DECIDE_IGNORE, 2, 0);
    measure("a", 1, 2, 3, 2);
    cr_expect_eq(listed((struct qm_alert_filter){.pcr = -1}), 1020304);
    cr_expect_eq(listed((struct qm_alert_filter){.pcr = -1, .states = 3}), 20304);
    cr_expect_eq(listed((struct qm_alert_filter){.pcr = -1, .states = 8}), 1);
    cr_expect_eq(listed((struct qm_alert_filter){.pcr = -1, .unseen = true}), 1);
    cr_expect_eq(listed((struct qm_alert_filter){.pcr = 4}), 10203);
    cr_expect_eq(listed((struct qm_alert_filter){.pcr = 5}), 3);
    cr_expect_eq(listed((struct qm_alert_filter){.pcr = 0}), 0);
    cr_expect_eq(listed((struct qm_alert_filter){.pcr = -1, .kind = "replayed"}), 4);
    cr_expect_eq(listed((struct qm_alert_filter){.pcr = -1, .id = "c"}), 304);
    cr_expect_eq(listed((struct qm_alert_filter){.pcr = -1, .id = "nobody"}), 0);
    cr_expect_eq(listed((struct qm_alert_filter){.pcr = -1, .group = "web"}), 102);
    cr_expect_eq(listed((struct qm_alert_filter){.pcr = -1, .tag_key = "rack", .tag_value = "7"}), 1);
    cr_expect_eq(listed((struct qm_alert_filter){.pcr = -1, .since_ms = 1000000}), 10203);
    cr_expect_eq(listed((struct qm_alert_filter){.pcr = -1, .after_no = 2}), 304);
    char text[200], line[8192];
    struct qm_out o = qm_out_init(text, sizeof text - 1);
    OK(qm_cohorts_each(store, &(struct qm_alert_filter){.pcr = -1}, keep_cohorts, &o, &fault));
    text[o.len] = '\0';
    cr_expect_str_eq(text, "2@0 1-1 1-1 ");
    /* the contract's form */
    bool found;
    o = qm_out_init(line, sizeof line - 1);
    OK(qm_alert_get(store, 2, keep_json, &o, &found, &fault));
    cr_assert(found);
    line[o.len] = '\0';
    cr_expect_not_null(strstr(line, "{\"v\":1,\"kind\":\"alert\",\"no\":2,\"alert\":\"pcr_"
                                    "mismatch\",\"id\":\"b\",\"group\":\"web\",\"pcr\":4,"
                                    "\"measured\":\"0808"),
                       "%s", line);
    cr_expect_not_null(strstr(line, "\"changes\":[{\"pcr\":4,\"expected\":\"0202"), "%s", line);
    cr_expect_not_null(strstr(line, "\"count\":1,\"state\":\"ignored\",\"seen\":true,\"until\":"
                                    "null,\"closed\":null,\"detail\":null,"),
                       "%s", line);
    cr_expect_not_null(strstr(line, "\"what\":\"ignore\",\"why\":\"because\"}]}\n"), "%s", line);
    OK(qm_alert_get(store, 99, keep_json, &o, &found, &fault));
    cr_expect(!found);
}
