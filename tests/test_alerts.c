/* Alerts in the store: what opens a row, repeats it and closes it. */
#include <criterion/criterion.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/craft.h"
#include "tools/store/store_alerts.h"

enum { DAY = 24 * 3600 * 1000, HOUR = 3600 * 1000 };
#define NOW 1800000000000ull

static char home[512];
static struct qm_store *store;
static struct qm_fault fault;

static void begin(void)
{
    cr_assert_eq(qm_store_begin(store, &fault), QM_OK, "%s", fault.text);
}

static void commit(void)
{
    cr_assert_eq(qm_store_commit(store, &fault), QM_OK, "%s", fault.text);
}

static void make_home(void)
{
    bool made;
    snprintf(home, sizeof home, "%s/home", craft_dir());
    cr_assert_eq(qm_store_create(home, &made, &fault), QM_OK, "%s", fault.text);
    cr_assert_eq(qm_store_open(&store, home, true, &fault), QM_OK, "%s", fault.text);
    begin();
}

static void end(void)
{
    qm_store_close(store);
    craft_free_all();
}

TestSuite(alerts, .init = make_home, .fini = end);

/* One number from the database, after what was done so far is committed. */
static long long ask(const char *sql)
{
    sqlite3 *db;
    sqlite3_stmt *st;
    char path[600];
    commit();
    begin();
    snprintf(path, sizeof path, "%s/fleet.db", home);
    MUST(sqlite3_open(path, &db) == SQLITE_OK);
    MUST(sqlite3_prepare_v2(db, sql, -1, &st, NULL) == SQLITE_OK);
    int rc = sqlite3_step(st);
    long long n = rc == SQLITE_ROW ? sqlite3_column_int64(st, 0) : -1;
    sqlite3_finalize(st);
    sqlite3_close(db);
    return n;
}

static struct qm_change_item item(unsigned pcr, uint8_t expected, uint8_t measured)
{
    struct qm_change_item i = {.pcr = (uint8_t)pcr};
    memset(i.expected, expected, 32);
    memset(i.measured, measured, 32);
    return i;
}

static struct qm_alert_raised raise(const struct qm_alert_new *a)
{
    struct qm_alert_raised r;
    cr_assert_eq(qm_alert_raise(store, a, &r, &fault), QM_OK, "%s", fault.text);
    return r;
}

/* PCR 4 of a machine has another value. */
static struct qm_alert_raised mismatch(uint64_t slot, uint8_t measured, uint64_t at_ms, uint32_t restarts)
{
    struct qm_change_item i = item(4, 1, measured);
    return raise(&(struct qm_alert_new){
        .kind = QM_ALERT_PCR_MISMATCH, .slot = slot, .item = &i, .item_count = 1, .at_ms = at_ms, .restarts = restarts});
}

static uint64_t pass(uint64_t slot, uint64_t at_ms, uint32_t restarts)
{
    uint64_t left, closed;
    const uint32_t kinds = 1u << QM_ALERT_PCR_MISMATCH;
    cr_assert_eq(qm_alert_resolve(store, slot, kinds, at_ms, restarts, &left, &closed, &fault), QM_OK, "%s", fault.text);
    return left;
}

/* By a connection of its own; the store is in no transaction. */
static void change(const char *sql)
{
    sqlite3 *db;
    char path[600];
    snprintf(path, sizeof path, "%s/fleet.db", home);
    MUST(sqlite3_open(path, &db) == SQLITE_OK);
    MUST(sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK);
    sqlite3_close(db);
}

static void ignore(uint64_t no, uint64_t until_ms)
{
    char sql[120];
    snprintf(sql, sizeof sql, "UPDATE alert SET state = 1, seen = 1, until_ms = nullif(%llu, 0) WHERE no = %llu",
             (unsigned long long)until_ms, (unsigned long long)no);
    commit();
    change(sql);
    begin();
}

Test(alerts, a_repeat_moves_last_seen_and_count)
{
    struct qm_alert_raised first = mismatch(1, 7, NOW, 3);
    cr_assert(first.opened);
    cr_assert_eq(first.state, QM_ALERT_OPEN);
    struct qm_alert_raised again = mismatch(1, 7, NOW + 5, 4);
    cr_assert(!again.opened);
    cr_assert_eq(again.no, first.no);
    cr_assert_eq(again.change, first.change);
    /* an older record that comes late counts, and does not move the time back */
    mismatch(1, 7, NOW - 5, 2);
    cr_expect_eq(ask("SELECT count FROM alert"), 3);
    cr_expect_eq(ask("SELECT last_ms FROM alert"), NOW + 5);
    cr_expect_eq(ask("SELECT first_ms FROM alert"), NOW);
    /* a record that proves more of one that was counts no repeat */
    struct qm_change_item i = item(4, 1, 7);
    struct qm_alert_new a = {.slot = 1, .item = &i, .item_count = 1, .at_ms = NOW + 99, .quiet = true};
    cr_expect_eq(raise(&a).no, first.no);
    cr_expect_eq(ask("SELECT count FROM alert"), 3);
    cr_expect_eq(ask("SELECT last_ms FROM alert"), NOW + 5);
}

Test(alerts, a_change_stands_once_for_its_cohort)
{
    struct qm_change_item i[2] = {item(4, 1, 2), item(9, 1, 2)}, other[2] = {item(4, 1, 2), item(9, 3, 2)};
    struct qm_alert_new a = {.slot = 1, .group_no = 5, .item = i, .item_count = 2, .at_ms = NOW};
    struct qm_alert_raised first = raise(&a);
    a.slot = 2;
    cr_expect_eq(raise(&a).change, first.change);
    a.group_no = 6;
    cr_expect_neq(raise(&a).change, first.change, "another group");
    a = (struct qm_alert_new){.slot = 3, .group_no = 5, .item = other, .item_count = 2, .at_ms = NOW};
    cr_expect_neq(raise(&a).change, first.change, "the same measured values, but others expected");
    a = (struct qm_alert_new){.slot = 4, .group_no = 5, .set_kind = QM_SET_GROUP, .item = i, .item_count = 2, .at_ms = NOW};
    cr_expect_neq(raise(&a).change, first.change, "another class");
    cr_expect_eq(ask("SELECT count(*) FROM change"), 4);
    /* the name is the contract's: over the triples alone, so the same wherever it stands */
    uint8_t text[130], digest[32];
    char name[17] = "", sql[120];
    for (unsigned k = 0; k < 2; k++) {
        text[65 * k] = i[k].pcr;
        memset(text + 65 * k + 1, 1, 32);
        memset(text + 65 * k + 33, 2, 32);
    }
    craft_hash(QM_HASH_SHA256, (struct qm_span){text, sizeof text}, digest);
    for (unsigned k = 0; k < 8; k++)
        snprintf(name + 2 * k, 3, "%02x", digest[k]);
    snprintf(sql, sizeof sql, "SELECT count(*) FROM change WHERE name = '%s'", name);
    cr_expect_eq(ask(sql), 3);
}

Test(alerts, unproven_values_are_named_by_the_signed_digest)
{
    uint8_t digest[32] = {9}, other[32] = {8};
    struct qm_alert_new a = {.slot = 1, .digest = {digest, 32}, .at_ms = NOW};
    struct qm_alert_raised first = raise(&a);
    cr_expect_eq(raise(&a).no, first.no);
    a.digest.p = other;
    cr_expect_neq(raise(&a).no, first.no);
    cr_expect_eq(ask("SELECT length(items) FROM change LIMIT 1"), 32);
    cr_expect_eq(ask("SELECT length(name) FROM change LIMIT 1"), 16);
}

Test(alerts, eight_rows_then_many)
{
    struct qm_alert_raised r = {0};
    for (unsigned k = 0; k < QM_ALERTS_ALONE_MAX; k++) {
        r = mismatch(1, (uint8_t)(10 + k), NOW + k, 1);
        cr_assert(r.opened);
    }
    cr_expect_eq(ask("SELECT count(*) FROM alert"), QM_ALERTS_ALONE_MAX);
    struct qm_alert_raised over = mismatch(1, 100, NOW + 50, 1);
    cr_expect(over.opened);
    uint64_t change = over.change;
    cr_expect_eq(ask("SELECT count(*) FROM alert a JOIN change c ON c.no = a.change WHERE c.name = 'many'"), 1);
    /* whatever else comes is the same row, and leaves nothing behind that grows */
    const long long changes = ask("SELECT count(*) FROM change");
    for (unsigned k = 0; k < 20; k++) {
        struct qm_alert_raised more = mismatch(1, (uint8_t)(101 + k), NOW + 60 + k, 1);
        cr_expect(!more.opened);
        cr_expect_eq(more.no, over.no);
        cr_expect_eq(more.change, change);
    }
    cr_expect_eq(ask("SELECT count(*) FROM change"), changes);
    cr_expect_eq(ask("SELECT count FROM alert WHERE no = (SELECT max(no) FROM alert)"), 21);
    char sql[160];
    snprintf(sql, sizeof sql, "SELECT hex(substr(items, 34, 1)) = '78' FROM change WHERE no = %llu",
             (unsigned long long)change);
    cr_expect_eq(ask(sql), 1, "the change for the ledger is what differs now: measured 120");
    /* those that have rows repeat there */
    cr_expect_eq(mismatch(1, 10, NOW + 99, 1).no, 1);
    /* another machine, and another kind of this one, are not full */
    cr_expect(mismatch(2, 100, NOW, 1).opened);
    cr_expect_eq(ask("SELECT count(*) FROM alert a JOIN change c ON c.no = a.change WHERE c.name = 'many'"), 1);
    struct qm_alert_new log = {.kind = QM_ALERT_LOG_INCONSISTENT, .slot = 1, .at_ms = NOW};
    raise(&log);
    cr_expect_eq(ask("SELECT count(*) FROM alert a JOIN change c ON c.no = a.change WHERE c.name = 'many'"), 1);
    /* a pass ends them all, and then there is room again */
    cr_expect_eq(pass(1, NOW + 200, 2), 1, "the log's");
    cr_expect_eq(ask("SELECT count(*) FROM alert WHERE slot = 1 AND state = 3 AND closed_ms = "
                     "1800000000200"),
                 QM_ALERTS_ALONE_MAX + 1);
    cr_expect(mismatch(1, 50, NOW + 300, 3).opened);
    cr_expect_eq(ask("SELECT c.name <> 'many' FROM alert a JOIN change c ON c.no = a.change ORDER "
                     "BY a.no DESC LIMIT 1"),
                 1);
}

/* A machine that differs and passes in turns, each time in another way. */
/* What may have fewer rows of its own leaves the others; and an ignored row for many hides nothing that is not of the kind that was ignored. */
Test(alerts, rows_for_what_counts_more)
{
    static const char of_many[] = "SELECT count(*) FROM alert a JOIN change c ON c.no = a.change WHERE c.name = 'many'";
    char subject[2] = "a";
    struct qm_alert_new a = {.kind = QM_ALERT_KEY_CONFLICT, .slot = 1, .subject = {(const uint8_t *)subject, 1}, .at_ms = NOW};
    uint64_t many = 0;
    for (a.alone_max = 3; subject[0] < 'h'; subject[0]++)
        many = raise(&a).no;
    cr_expect_eq(ask("SELECT count(*) FROM alert"), 4);
    cr_expect_eq(ask(of_many), 1);
    ignore(many, 0);
    a.alone_max = 0;
    a.apart = true;
    for (unsigned i = 0; i < QM_ALERTS_ALONE_MAX - 3; i++, subject[0]++)
        cr_expect(raise(&a).opened);
    cr_expect_eq(ask(of_many), 1);
    struct qm_alert_raised r = raise(&a);
    cr_expect(r.opened && r.no != many, "beside the one that was ignored");
    subject[0]++;
    cr_expect_eq(raise(&a).no, r.no, "one is enough");
    a.apart = false;
    subject[0]++;
    cr_expect_eq(raise(&a).no, r.no, "and everything goes where it is seen");
    ignore(r.no, 0);
    subject[0]++;
    cr_expect_not(raise(&a).opened, "what is ignored goes on being counted");
    cr_expect_eq(ask(of_many), 2);
}

Test(alerts, so_many_rows_a_day_then_many)
{
    static const char rows[] = "SELECT count(*) FROM alert", changes[] = "SELECT count(*) FROM change";
    uint64_t last = 0, at_ms = NOW;
    for (unsigned k = 0; k < 100; k++, at_ms += 1000) {
        struct qm_alert_raised r = mismatch(1, (uint8_t)(2 + k), at_ms, k);
        cr_assert(r.opened && r.no > last, "what is opened is new, %u", k);
        last = r.no;
        cr_assert_eq(pass(1, at_ms, k), 0);
        if (k == QM_ALERTS_A_DAY_MAX - 1)
            cr_expect_eq(ask("SELECT count(*) FROM alert a JOIN change c ON c.no = a.change WHERE c.name = 'many'"), 0);
    }
    cr_expect_eq(ask(rows), QM_ALERTS_A_DAY_MAX + 1);
    cr_expect_eq(ask(changes), QM_ALERTS_A_DAY_MAX + 2, "that of many, and what it differed in last");
    cr_expect_eq(ask("SELECT count FROM alert WHERE no = (SELECT max(no) FROM alert) AND state = 3 AND seen = 0"), 100 - QM_ALERTS_A_DAY_MAX);
    cr_expect_eq(ask("SELECT first_ms FROM alert WHERE no = (SELECT max(no) FROM alert)"), (long long)(NOW + 1000 * QM_ALERTS_A_DAY_MAX));
    /* what repeats is one row as before; other machines and kinds have their own */
    struct qm_alert_raised r = mismatch(1, 150, at_ms, 1);
    cr_expect(r.opened && r.no > last);
    cr_expect(!mismatch(1, 150, at_ms, 1).opened && mismatch(1, 151, at_ms, 1).no == r.no);
    cr_expect_eq(pass(1, at_ms, 2), 0);
    mismatch(2, 150, at_ms, 1);
    cr_expect_eq(ask("SELECT c.name <> 'many' FROM alert a JOIN change c ON c.no = a.change WHERE a.slot = 2"), 1);
    struct qm_alert_new log = {.kind = QM_ALERT_LOG_INCONSISTENT, .slot = 1, .at_ms = at_ms};
    raise(&log);
    cr_expect_eq(ask("SELECT c.name <> 'many' FROM alert a JOIN change c ON c.no = a.change WHERE a.slot = 1 AND a.kind = 3"), 1);
    /* a row that somebody did something about stays as it is */
    commit();
    change("INSERT INTO decision VALUES(1, 5, 'w', 'ack', NULL, NULL, 1);"
           "INSERT INTO alert_decision SELECT max(no), 1 FROM alert WHERE slot = 1 AND kind = 0");
    begin();
    mismatch(1, 160, at_ms, 2);
    cr_expect_eq(ask("SELECT count(*) FROM alert a JOIN change c ON c.no = a.change WHERE c.name = 'many'"), 2);
    cr_expect_eq(pass(1, at_ms, 3), 1, "the log's stays");
    /* another day has room again */
    at_ms = NOW + DAY + 1000 * QM_ALERTS_A_DAY_MAX;
    mismatch(1, 170, at_ms, 3);
    cr_expect_eq(ask("SELECT c.name <> 'many' FROM alert a JOIN change c ON c.no = a.change ORDER BY a.no DESC LIMIT 1"), 1);
}

Test(alerts, a_pass_resolves_and_says_nobody_looked)
{
    mismatch(1, 7, NOW, 3);
    mismatch(2, 7, NOW, 3);
    cr_expect_eq(pass(1, NOW + 10, 3), 0);
    cr_expect_eq(ask("SELECT state * 10 + seen FROM alert WHERE slot = 1"), 30);
    cr_expect_eq(ask("SELECT state FROM alert WHERE slot = 2"), 0);
    /* it comes back: a new row */
    cr_expect(mismatch(1, 7, NOW + 20, 4).opened);
    cr_expect_eq(ask("SELECT count(*) FROM alert WHERE slot = 1"), 2);
}

Test(alerts, ignored_counts_on_and_ends_with_a_restart_that_passes)
{
    uint64_t no = mismatch(1, 7, NOW, 3).no;
    ignore(no, 0);
    struct qm_alert_raised again = mismatch(1, 7, NOW + 10, 4);
    cr_expect_eq(again.no, no);
    cr_expect_eq(again.state, QM_ALERT_IGNORED);
    cr_expect_eq(ask("SELECT count FROM alert"), 2);
    cr_expect_eq(pass(1, NOW + 20, 4), 1, "the same boot passes: something else was decided");
    cr_expect_eq(ask("SELECT state FROM alert"), QM_ALERT_IGNORED);
    cr_expect_eq(pass(1, NOW + 30, 5), 0);
    cr_expect_eq(ask("SELECT state * 10 + seen FROM alert"), 31);
}

Test(alerts, rows_of_the_home_and_of_groups)
{
    struct qm_alert_new a = {.kind = QM_ALERT_UNMEASURED, .group_no = 3, .at_ms = NOW, .detail = "{\"machines\":12}"};
    struct qm_alert_raised first = raise(&a);
    cr_expect(first.opened);
    a.detail = "{\"machines\":14}";
    cr_expect_eq(raise(&a).no, first.no);
    a.group_no = 0;
    cr_expect_neq(raise(&a).no, first.no);
    cr_expect_eq(ask("SELECT json_extract(detail, '$.machines') FROM alert WHERE no = 1"), 14);
    uint64_t closed;
    cr_assert_eq(qm_alert_resolve_shared(store, QM_ALERT_UNMEASURED, 3, (struct qm_span){0}, NOW + 1, &closed, &fault), QM_OK);
    cr_expect_eq(closed, 1);
    cr_assert_eq(qm_alert_resolve_shared(store, QM_ALERT_UNMEASURED, 4, (struct qm_span){0}, NOW + 1, &closed, &fault), QM_OK);
    cr_expect_eq(closed, 0);
    cr_expect_eq(ask("SELECT state FROM alert WHERE no = 1"), QM_ALERT_RESOLVED);
    cr_expect_eq(ask("SELECT state FROM alert WHERE no = 2"), QM_ALERT_OPEN);
}

static bool refuse(enum qm_reason reason, const char *source, unsigned from, unsigned count, uint64_t at_ms)
{
    struct qm_refusals r = {.reason = reason, .source = source, .count = count, .last_ms = at_ms};
    char ids[1024][12];
    bool opened;
    MUST(count <= QM_COUNT(ids));
    for (unsigned k = 0; k < count; k++) {
        snprintf(ids[k], sizeof ids[k], "id-%u\"", from + k);
        struct qm_span id = {(const uint8_t *)ids[k], strlen(ids[k])};
        qm_sketch_add(r.sketch, id);
        if (r.id_count < QM_REFUSED_IDS)
            r.id[r.id_count++] = id;
    }
    cr_assert_eq(qm_alert_refused(store, &r, &opened, &fault), QM_OK, "%s", fault.text);
    return opened;
}

Test(alerts, refusals_are_a_row_for_each_reason_and_source)
{
    cr_expect(refuse(QM_BAD_SIGNATURE, "east, owner 1001", 0, 5, NOW));
    cr_expect(refuse(QM_BAD_SIGNATURE, "west, owner 1001", 0, 1, NOW));
    cr_expect(refuse(QM_MALFORMED, "east, owner 1001", 0, 1, NOW));
    cr_expect(!refuse(QM_BAD_SIGNATURE, "east, owner 1001", 3, 40, NOW + 5));
    cr_expect_eq(ask("SELECT count(*) FROM alert"), 3);
    cr_expect_eq(ask("SELECT count FROM alert WHERE no = 1"), 45);
    cr_expect_eq(ask("SELECT json_array_length(ids) FROM refused WHERE change = 1"), QM_REFUSED_IDS);
    cr_expect_eq(ask("SELECT json_extract(ids, '$[4]') = 'id-4\"' FROM refused WHERE change = 1"), 1);
    cr_expect_eq(ask("SELECT json_extract(ids, '$[5]') = 'id-5\"' FROM refused WHERE change = 1"), 1);
    /* replays and what check 10 says are of the machine: never such a row */
    cr_expect(!refuse(QM_REPLAYED, "east, owner 1001", 0, 1, NOW));
    cr_expect_eq(ask("SELECT count(*) FROM alert"), 3);
    /* they end a day after the last one */
    uint64_t dropped;
    cr_assert_eq(qm_alerts_age(store, NOW + DAY, 0, &dropped, &fault), QM_OK, "%s", fault.text);
    cr_expect_eq(ask("SELECT count(*) FROM alert WHERE state = 0"), 3);
    cr_assert_eq(qm_alerts_age(store, NOW + DAY + 1, 0, &dropped, &fault), QM_OK);
    cr_expect_eq(ask("SELECT count(*) FROM alert WHERE state = 0"), 1);
    cr_assert_eq(qm_alerts_age(store, NOW + DAY + 6, 0, &dropped, &fault), QM_OK);
    cr_expect_eq(ask("SELECT count(*) FROM alert WHERE state = 0"), 0);
    /* and begin anew */
    cr_expect(refuse(QM_BAD_SIGNATURE, "east, owner 1001", 100, 2, NOW + 2 * DAY));
    cr_expect_eq(ask("SELECT json_array_length(ids) FROM refused WHERE change = 1"), 2);
}

Test(alerts, ids_are_estimated)
{
    static const unsigned counts[] = {0, 1, 2, 10, 100, 1000, 10000, 200000};
    for (size_t k = 0; k < QM_COUNT(counts); k++) {
        uint8_t sketch[QM_SKETCH_BYTES] = {0};
        for (unsigned n = 0; n < counts[k]; n++)
            for (unsigned twice = 0; twice < 2; twice++)
                qm_sketch_add(sketch, (struct qm_span){(const uint8_t *)&n, sizeof n});
        const double said = (double)qm_sketch_estimate(sketch), off = said - counts[k];
        cr_expect(counts[k] < 3 ? said == counts[k] : off < 0.25 * counts[k] && off > -0.25 * counts[k], "%u: %g", counts[k],
                  said);
    }
}

Test(alerts, time_opens_ignored_ones_and_drops_history)
{
    uint64_t dropped, a = mismatch(1, 7, NOW, 3).no, b = mismatch(2, 8, NOW, 3).no;
    mismatch(3, 9, NOW, 3);
    ignore(a, NOW + HOUR);
    ignore(b, 0);
    cr_assert_eq(qm_alerts_age(store, NOW + HOUR - 1, DAY, &dropped, &fault), QM_OK, "%s", fault.text);
    cr_expect_eq(ask("SELECT state FROM alert WHERE no = 1"), QM_ALERT_IGNORED);
    cr_assert_eq(qm_alerts_age(store, NOW + HOUR, DAY, &dropped, &fault), QM_OK);
    cr_expect_eq(ask("SELECT state FROM alert WHERE no = 1"), QM_ALERT_OPEN);
    cr_expect_eq(ask("SELECT state FROM alert WHERE no = 2"), QM_ALERT_IGNORED);
    pass(3, NOW + HOUR, 4);
    cr_assert_eq(qm_alerts_age(store, NOW + HOUR + 30ull * DAY, 0, &dropped, &fault), QM_OK);
    cr_expect_eq(ask("SELECT seen FROM alert WHERE no = 3"), 0);
    cr_assert_eq(qm_alerts_age(store, NOW + HOUR + 30ull * DAY + 1, 0, &dropped, &fault), QM_OK);
    cr_expect_eq(ask("SELECT seen FROM alert WHERE no = 3"), 1);
    cr_expect_eq(dropped, 0);
    cr_assert_eq(qm_alerts_age(store, NOW + HOUR + 40ull * DAY, 40ull * DAY, &dropped, &fault), QM_OK);
    cr_expect_eq(dropped, 0);
    cr_assert_eq(qm_alerts_age(store, NOW + HOUR + 40ull * DAY + 1, 40ull * DAY, &dropped, &fault), QM_OK);
    cr_expect_eq(dropped, 1);
    cr_expect_eq(ask("SELECT count(*) FROM alert"), 2, "what is open or ignored stays however old");
    cr_expect_eq(ask("SELECT count(*) FROM change"), 2);
}

Test(alerts, a_machine_that_is_taken_out)
{
    mismatch(1, 7, NOW, 3);
    pass(1, NOW + 10, 4);
    ignore(mismatch(1, 8, NOW + 20, 5).no, NOW + DAY);
    mismatch(2, 7, NOW, 3);
    cr_assert_eq(qm_alert_retire(store, 1, NOW + 30, &fault), QM_OK, "%s", fault.text);
    cr_expect_eq(ask("SELECT count(*) FROM alert WHERE slot = 1 AND state = 3 AND seen = 1"), 2);
    cr_expect_eq(ask("SELECT sum(closed_ms) FROM alert WHERE slot = 1"), 2 * (long long)NOW + 40);
    cr_expect_eq(ask("SELECT state FROM alert WHERE slot = 2"), QM_ALERT_OPEN);
}

Test(alerts, names)
{
    unsigned kinds = 0;
    for (unsigned k = 0; k < 40; k++)
        if (qm_alert_kind_name((enum qm_alert_kind)k) != NULL)
            kinds++;
    cr_expect_eq(kinds, 17);
    cr_expect_str_eq(qm_alert_kind_name(QM_ALERT_CLONED_OR_ROLLED_BACK), "cloned_or_rolled_back");
    cr_expect_str_eq(qm_alert_state_name(QM_ALERT_RESOLVED), "resolved");
    cr_expect_null(qm_alert_state_name((enum qm_alert_state)4));
}
