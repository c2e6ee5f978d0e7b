/* The events behind PCR values: what a worker keeps of the logs it sees, what the store keeps of that, what it still lacks, and
 * that both stay within their bounds. */
#include <criterion/criterion.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/table.h"
#include "tests/craft.h"
#include "tools/event_keep.h"

enum { SHA256 = 1 << QM_HASH_SHA256, EV_IPL = 0x0d, DAY_MS = 24 * 60 * 60 * 1000 };

static char home[512];
static struct qm_store *store;
static struct qm_fault fault;
static sqlite3 *db;

#define GOOD(call) cr_assert_eq(call, QM_OK, "%s", fault.text)

static void make_home(void)
{
    bool made;
    char path[600];
    snprintf(home, sizeof home, "%s/home", craft_dir());
    GOOD(qm_store_create(home, &made, &fault));
    GOOD(qm_store_open(&store, home, true, &fault));
    snprintf(path, sizeof path, "%s/fleet.db", home);
    cr_assert_eq(sqlite3_open(path, &db), SQLITE_OK);
}

static void end(void)
{
    sqlite3_close(db);
    qm_store_close(store);
    craft_free_all();
}

TestSuite(events, .init = make_home, .fini = end);

static void sql(const char *text)
{
    cr_assert_eq(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK, "%s: %s", text, sqlite3_errmsg(db));
}

static int64_t number(const char *text)
{
    sqlite3_stmt *st;
    cr_assert_eq(sqlite3_prepare_v2(db, text, -1, &st, NULL), SQLITE_OK, "%s: %s", text, sqlite3_errmsg(db));
    cr_assert_eq(sqlite3_step(st), SQLITE_ROW, "%s", text);
    int64_t n = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    return n;
}

/* ---- logs, lists, values ----------------------------------------------------------------------------------------------- */

/* A log with two events in each PCR of mask; words tell logs apart. */
struct boot {
    struct qm_span log;
    struct craft_pcrs pcrs;
};
static struct boot boot_of(uint32_t mask, const char *words, unsigned events)
{
    struct boot b;
    struct craft log = {0};
    craft_pcrs_reset(&b.pcrs);
    craft_log_open(&log, SHA256);
    for (unsigned i = 0; i < events; i++)
        for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++)
            if ((mask >> pcr & 1) != 0)
                craft_log_event(&log, SHA256, pcr, EV_IPL, words, &b.pcrs);
    b.log = craft_span(&log);
    return b;
}

static struct qm_span list_of(const struct boot *b, unsigned pcr)
{
    static uint8_t room[QM_EVENT_LIST_BYTES_MAX];
    size_t len = qm_event_list_collect(b->log, pcr, b->pcrs.value[QM_HASH_SHA256][pcr], room, sizeof room);
    cr_assert_neq(len, 0);
    return craft_exact((struct qm_span){room, len});
}

/* Values as a set has them; gives their number. */
static uint64_t values_made(uint32_t mask, const struct boot *b)
{
    sqlite3_stmt *st;
    uint8_t value[32 * QM_PCR_COUNT], *to = value;
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++)
        if ((mask >> pcr & 1) != 0) {
            memcpy(to, b->pcrs.value[QM_HASH_SHA256][pcr], 32);
            to += 32;
        }
    cr_assert_eq(sqlite3_prepare_v2(db, "INSERT INTO pcr_values(mask, hash, value) VALUES(?1, 0, ?2)", -1, &st, NULL), SQLITE_OK);
    sqlite3_bind_int64(st, 1, mask);
    sqlite3_bind_blob(st, 2, value, (int)(to - value), SQLITE_STATIC);
    cr_assert_eq(sqlite3_step(st), SQLITE_DONE, "%s", sqlite3_errmsg(db));
    sqlite3_finalize(st);
    return (uint64_t)sqlite3_last_insert_rowid(db);
}

/* In a transaction of its own, as a run that began then ends it; whether the generation moved. */
static bool put(const struct boot *b, unsigned pcr, uint64_t values_no)
{
    uint64_t before = qm_store_generation(store);
    struct qm_span list = list_of(b, pcr);
    const struct qm_events_missing missing = {.newest = INT64_MAX};
    bool kept;
    GOOD(qm_store_begin(store, &fault));
    GOOD(qm_store_events_put(store, pcr, b->pcrs.value[QM_HASH_SHA256][pcr], list, values_no != 0, &kept, &fault));
    if (kept && values_no != 0)
        GOOD(qm_store_events_found(store, values_no, 1u << pcr, &fault));
    GOOD(qm_store_events_settle(store, &missing, &fault));
    GOOD(qm_store_commit(store, &fault));
    return qm_store_generation(store) != before;
}

static bool has(const struct boot *b, unsigned pcr)
{
    static uint8_t room[QM_EVENT_LIST_BYTES_MAX];
    struct qm_event_list list;
    bool found;
    GOOD(qm_store_events_get(store, pcr, b->pcrs.value[QM_HASH_SHA256][pcr], room, &list, &found, &fault));
    if (found) {
        struct qm_span was = list_of(b, pcr);
        cr_assert_arr_eq(room, was.p, was.len);
    }
    return found;
}

/* PCRs that values lack, as a run is told; 0: none. */
static uint32_t lacking(uint64_t values_no)
{
    struct qm_events_missing m;
    GOOD(qm_store_events_missing(store, &m, &fault));
    const struct qm_values_missing *v = qm_events_missing_find(&m, values_no);
    uint32_t mask = v != NULL ? v->mask : 0;
    qm_events_missing_free(&m);
    return mask;
}

/* ---- the store --------------------------------------------------------------------------------------------------------- */

Test(events, nothing_is_missing_in_a_new_home)
{
    struct qm_events_missing m;
    GOOD(qm_store_events_missing(store, &m, &fault));
    cr_expect_eq(m.count, 0);
    cr_expect_null(m.at, "and nothing was taken to say so");
    cr_expect_null(qm_events_missing_find(&m, 1));
    qm_events_missing_free(&m);
}

Test(events, what_values_lack_until_it_comes)
{
    struct boot one = boot_of(0x103, "cmd", 2), two = boot_of(0x103, "another", 2);
    uint64_t a = values_made(0x103, &one), b = values_made(0x100, &two);
    cr_expect_eq(lacking(a), 0x103);
    cr_expect_eq(lacking(b), 0x100);
    cr_expect_eq(lacking(0), 0);
    cr_expect_eq(lacking(b + 1), 0);
    put(&one, 8, a);
    cr_expect_eq(lacking(a), 0x3);
    cr_expect(has(&one, 8) && !has(&one, 0) && !has(&two, 8));
    put(&one, 8, a);
    put(&one, 0, 0);
    cr_expect(has(&one, 0));
    cr_expect_eq(lacking(a), 0x3, "nobody said that it lacks it no more");
    put(&one, 0, a);
    put(&one, 1, a);
    cr_expect_eq(lacking(a), 0);
    cr_expect_eq(number("SELECT count(*) FROM events_missing"), 1);
    cr_expect_eq(number("SELECT value FROM meta WHERE key = 'events_bytes'"),
                 number("SELECT sum(length(events)) FROM pcr_events"));
}

static void told_before(unsigned long ms)
{
    char text[200];
    snprintf(text, sizeof text, "UPDATE meta SET value = %llu WHERE key = 'events_told_ms'",
             (unsigned long long)qm_store_now_ms(store) - ms);
    sql(text);
}

/* When the table is made anew for what was put: where nothing is missing any more or it is much, else after a day; with 100,000
 * machines, whose table takes 0.6 s, not within a minute in any case. */
Test(events, when_the_table_is_worth_it)
{
    struct boot one = boot_of(0x3ff, "cmd", 2), big = boot_of(0x3ff, "many more", 60), absent = boot_of(1, "absent", 2);
    uint64_t a = values_made(0x3ff, &one), never = values_made(1, &absent), b = values_made(0x3ff, &big);
    sql("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) INSERT INTO instance(slot, id, ak, profile,"
        " require_log, line, enrolled_ms, changed_ms, generation) SELECT i, i, 1, 1, 0, x'00', 1, 1, 1 FROM n");
    cr_expect(!put(&one, 9, 0), "nobody lacked it");
    told_before(30 * 1000);
    cr_expect(!put(&one, 0, a), "the first, and soon after");
    told_before(60 * 1000);
    cr_expect(put(&one, 0, 0), "much, a minute later, whenever it was put");
    cr_expect_eq(number("SELECT value FROM meta WHERE key = 'events_new'"), 0);
    cr_expect_eq(number("SELECT value FROM meta WHERE key = 'events_found'"), 0);
    for (unsigned pcr = 1; pcr < 8; pcr++)
        cr_expect(!put(&one, pcr, a), "much, at once");
    told_before(60 * 1000);
    cr_expect(put(&big, 0, b), "much");
    told_before(23 * 3600 * 1000);
    cr_expect(!put(&one, 8, a), "little, for hours");
    cr_expect_eq(number("SELECT value FROM meta WHERE key = 'events_new'"), (int64_t)list_of(&one, 8).len);
    told_before(24 * 3600 * 1000);
    cr_expect(put(&one, 9, a), "little, for a day");
    told_before(24 * 3600 * 1000);
    cr_expect(!put(&big, 0, b), "nothing that was lacked");
    cr_expect(!put(&big, 3, 0), "nor this");
    sql("DELETE FROM events_missing WHERE mask <> 1");
    told_before(60 * 1000);
    cr_expect(put(&absent, 0, never), "the last");
    cr_expect_eq(number("SELECT count(*) FROM events_missing"), 0);
    told_before(60 * 1000);
    cr_expect(!put(&absent, 0, never));
}

Test(events, rolled_back_is_not_kept)
{
    struct boot one = boot_of(1, "cmd", 2);
    uint64_t a = values_made(1, &one);
    struct qm_span list = list_of(&one, 0);
    GOOD(qm_store_begin(store, &fault));
    bool kept;
    GOOD(qm_store_events_put(store, 0, one.pcrs.value[QM_HASH_SHA256][0], list, true, &kept, &fault));
    GOOD(qm_store_events_found(store, a, 1, &fault));
    qm_store_rollback(store);
    cr_expect(!has(&one, 0));
    cr_expect_eq(lacking(a), 1);
    cr_expect_eq(number("SELECT value FROM meta WHERE key = 'events_bytes'"), 0);
}

/* A run that learns puts the lists before anybody can say which values lack them. */
Test(events, settled_after_learning)
{
    struct boot old = boot_of(3, "old", 2), learned = boot_of(3, "learned", 2), half = boot_of(3, "half", 2);
    struct qm_events_missing m;
    uint64_t before = values_made(3, &old);
    put(&old, 0, 0);
    GOOD(qm_store_events_missing(store, &m, &fault));
    uint64_t a = values_made(3, &learned), b = values_made(3, &half);
    put(&learned, 0, 0);
    put(&learned, 1, 0);
    put(&half, 1, 0);
    uint64_t generation = qm_store_generation(store);
    GOOD(qm_store_begin(store, &fault));
    GOOD(qm_store_events_settle(store, &m, &fault));
    GOOD(qm_store_commit(store, &fault));
    qm_events_missing_free(&m);
    cr_expect_eq(lacking(a), 0);
    cr_expect_eq(lacking(b), 1);
    cr_expect_eq(lacking(before), 3, "older ones are asked for, as they were");
    cr_expect_eq(qm_store_generation(store), generation);
}

Test(events, every_values_has_its_turn)
{
    sql("BEGIN");
    sql("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9000)"
        " INSERT INTO pcr_values(mask, hash, value) SELECT 1, 0, CAST(printf('%032d', i) AS BLOB) FROM n");
    sql("COMMIT");
    struct qm_events_missing m;
    bool seen_first = false, seen_last = false, missed = false;
    /* Each has 512 chances in 9,000 a turn. */
    for (unsigned turn = 0; turn < 2000 && !(seen_first && seen_last && missed); turn++) {
        GOOD(qm_store_begin(store, &fault)); /* reads the clock */
        GOOD(qm_store_events_missing(store, &m, &fault));
        qm_store_rollback(store);
        cr_assert_eq(m.count, QM_EVENTS_MISSING_MAX);
        size_t entries = 0;
        for (uint64_t i = 0; i < m.room; i++)
            entries += m.at[i].values_no != 0;
        cr_assert_eq(entries, m.count, "none twice");
        bool first = qm_events_missing_find(&m, 1) != NULL, last = qm_events_missing_find(&m, 9000) != NULL;
        seen_first |= first;
        seen_last |= last;
        missed |= !first || !last || qm_events_missing_find(&m, 4500) == NULL;
        qm_events_missing_free(&m);
        sqlite3_sleep(3);
    }
    cr_expect(seen_first && seen_last && missed);
}

static void bytes_are(int64_t n)
{
    char text[120];
    snprintf(text, sizeof text, "UPDATE meta SET value = %lld WHERE key = 'events_bytes'", (long long)n);
    sql(text);
}

/* Lists that nothing lacks take half of the room, the others all; then a tenth of all lists goes, once a day. */
Test(events, lists_are_bounded)
{
    struct boot junk = boot_of(1, "junk", 2), one = boot_of(7, "cmd", 2);
    uint64_t a = values_made(7, &one);
    const int64_t len = (int64_t)list_of(&junk, 0).len, one_len = (int64_t)list_of(&one, 0).len;
    bytes_are(QM_EVENTS_BYTES_MAX / 2 - len + 1);
    put(&junk, 0, 0);
    cr_expect(!has(&junk, 0));
    bytes_are(QM_EVENTS_BYTES_MAX / 2 - len);
    put(&junk, 0, 0);
    cr_expect(has(&junk, 0));
    bytes_are(QM_EVENTS_BYTES_MAX - one_len);
    put(&one, 0, a);
    cr_expect(has(&one, 0));
    cr_expect_eq(number("SELECT value FROM meta WHERE key = 'events_dropped_ms'"), 0);

    /* full, and a share dropped today: what lacks its list is not asked for, and is not kept */
    char text[200];
    snprintf(text, sizeof text, "UPDATE meta SET value = %llu WHERE key = 'events_dropped_ms'",
             (unsigned long long)qm_store_now_ms(store));
    sql(text);
    cr_expect_eq(lacking(a), 0);
    put(&one, 1, a);
    cr_expect(!has(&one, 1));
    cr_expect_eq(number("SELECT mask FROM events_missing"), 6);

    /* yesterday: today's share goes. A share per day of ten, by the value's first byte. */
    sql("DELETE FROM pcr_events");
    for (unsigned i = 0; i < 256; i++) {
        snprintf(text, sizeof text, "INSERT INTO pcr_events VALUES(%u, x'%02x%062x', x'0000000000000000')", i % 24, i, i);
        sql(text);
    }
    bytes_are(QM_EVENTS_BYTES_MAX);
    snprintf(text, sizeof text, "UPDATE meta SET value = %llu WHERE key = 'events_dropped_ms'",
             (unsigned long long)qm_store_now_ms(store) - DAY_MS - 1000);
    sql(text);
    sql("UPDATE events_missing SET mask = 2");
    cr_expect_eq(lacking(a), 2);
    put(&one, 1, a);
    const unsigned share = (unsigned)(qm_store_now_ms(store) / DAY_MS % 10); /* of the day that it was when they went */
    unsigned first = share * 256 / 10, last = (share + 1) * 256 / 10 - 1;
    const int gone = (int)(last - first + 1);
    cr_expect_eq(number("SELECT count(*) FROM pcr_events WHERE length(events) = 8"), 256 - gone);
    snprintf(text, sizeof text, "SELECT count(*) FROM pcr_events WHERE substr(hex(value), 1, 2) BETWEEN '%02X' AND '%02X'"
             " AND length(events) = 8", first, last);
    cr_expect_eq(number(text), 0);
    cr_expect(has(&one, 1), "there is room for it now");
    cr_expect_eq(number("SELECT value FROM meta WHERE key = 'events_bytes'"), QM_EVENTS_BYTES_MAX - 8 * gone + one_len);
    cr_expect_eq(number("SELECT mask FROM events_missing"), 5, "all are asked for again but what came just now");
    cr_expect_eq(number("SELECT value FROM meta WHERE key = 'events_dropped_ms'"), (int64_t)qm_store_now_ms(store));
}

Test(events, damage_is_told)
{
    static uint8_t room[QM_EVENT_LIST_BYTES_MAX];
    struct boot one = boot_of(1, "cmd", 2);
    struct qm_event_list list;
    bool found, built;
    put(&one, 0, 0);
    GOOD(qm_store_publish(store, &built, &fault));
    sql("UPDATE pcr_events SET events = substr(events, 2)");
    cr_expect_eq(qm_store_events_get(store, 0, one.pcrs.value[QM_HASH_SHA256][0], room, &list, &found, &fault), QM_E_FORMAT);
    cr_expect(!found);
    sql("UPDATE meta SET value = value + 1 WHERE key = 'generation'");
    cr_expect_eq(qm_store_publish(store, &built, &fault), QM_E_FORMAT);
    sql("UPDATE pcr_events SET events = zeroblob(400000)");
    cr_expect_eq(qm_store_events_get(store, 0, one.pcrs.value[QM_HASH_SHA256][0], room, &list, &found, &fault), QM_E_FORMAT);
}

Test(events, the_table_gets_them)
{
    struct boot one = boot_of(0x103, "cmd", 2), other = boot_of(1, "other", 2);
    uint64_t a = values_made(0x103, &one);
    struct qm_table *t;
    struct qm_event_list list;
    bool built, found;
    char path[600];
    GOOD(qm_store_publish(store, &built, &fault));
    for (unsigned pcr = 0; pcr < 9; pcr += pcr == 1 ? 7 : 1)
        put(&one, pcr, a);
    GOOD(qm_store_publish(store, &built, &fault));
    cr_expect(built);
    snprintf(path, sizeof path, "%s/fleet.tbl", home);
    GOOD(qm_table_open(&t, path, &fault));
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++) {
        GOOD(qm_table_events(t, pcr, one.pcrs.value[QM_HASH_SHA256][pcr], &list, &found, &fault));
        cr_expect_eq(found, (0x103u >> pcr & 1) != 0);
        if (found)
            cr_expect_eq(list.count, 2);
    }
    GOOD(qm_table_events(t, 0, other.pcrs.value[QM_HASH_SHA256][0], &list, &found, &fault));
    cr_expect(!found);
    qm_table_close(t);
}

/* ---- a worker's ---------------------------------------------------------------------------------------------------------- */

static struct qm_result result_of(const struct boot *b, uint32_t mask, enum qm_reason reason, uint64_t set_a, uint64_t set_b,
                                  const struct boot *expected)
{
    struct qm_result r = {.reason = (uint8_t)reason, .log = QM_LOG_REPLAYED, .proven = true, .set_a = (uint32_t)set_a,
                          .set_b = (uint32_t)set_b};
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++)
        if ((mask >> pcr & 1) != 0)
            r.stage[r.stage_count++] = (struct qm_stage){.pcr = (uint8_t)pcr, .measured = b->pcrs.value[QM_HASH_SHA256][pcr],
                                                         .expected = expected != NULL ? expected->pcrs.value[QM_HASH_SHA256][pcr] : NULL};
    return r;
}

static void take(struct qm_event_keep *k, const struct boot *b, struct qm_result r)
{
    struct qm_record record = {.evidence = {.log = b->log}};
    qm_event_keep_take(k, &record, &r);
}

/* Puts what was kept; the number of lists that there are then. */
static int64_t stored(struct qm_event_keep *k, const struct qm_events_missing *m)
{
    GOOD(qm_store_begin(store, &fault));
    GOOD(qm_event_keep_store(k, store, &fault));
    if (m != NULL)
        GOOD(qm_store_events_settle(store, m, &fault));
    GOOD(qm_store_commit(store, &fault));
    return number("SELECT count(*) FROM pcr_events");
}

Test(events, a_worker_keeps_what_is_lacked_once)
{
    struct boot one = boot_of(0x103, "cmd", 2);
    uint64_t a = values_made(0x101, &one), b = values_made(0x002, &one);
    struct qm_events_missing m;
    struct qm_event_keep *k;
    GOOD(qm_store_events_missing(store, &m, &fault));
    GOOD(qm_event_keep_open(&k, &m, 1 << 20, &fault));
    for (unsigned i = 0; i < 3; i++)
        take(k, &one, result_of(&one, 0x103, QM_ALL_GOOD, a, b, &one));
    cr_expect_eq(stored(k, &m), 3);
    cr_expect_eq(lacking(a), 0);
    cr_expect_eq(lacking(b), 0);
    cr_expect(has(&one, 0) && has(&one, 1) && has(&one, 8));
    qm_event_keep_close(k);
    qm_events_missing_free(&m);

    /* now nothing lacks anything */
    GOOD(qm_store_events_missing(store, &m, &fault));
    GOOD(qm_event_keep_open(&k, &m, 1 << 20, &fault));
    sql("DELETE FROM pcr_events");
    take(k, &one, result_of(&one, 0x103, QM_ALL_GOOD, a, b, &one));
    cr_expect_eq(stored(k, &m), 0);
    qm_event_keep_close(k);
    qm_events_missing_free(&m);
}

/* Values that share a PCR's value share its list, and each of them is told of it. */
Test(events, values_that_share_a_list)
{
    struct boot one = boot_of(0x3, "cmd", 2);
    uint64_t a = values_made(0x1, &one), b = values_made(0x3, &one);
    struct qm_events_missing m;
    struct qm_event_keep *k;
    GOOD(qm_store_events_missing(store, &m, &fault));
    GOOD(qm_event_keep_open(&k, &m, 1 << 20, &fault));
    take(k, &one, result_of(&one, 0x1, QM_ALL_GOOD, a, 0, &one));
    take(k, &one, result_of(&one, 0x3, QM_ALL_GOOD, b, 0, &one));
    cr_expect_eq(stored(k, &m), 2);
    cr_expect_eq(lacking(a), 0);
    cr_expect_eq(lacking(b), 0);
    qm_event_keep_close(k);
    qm_events_missing_free(&m);
}

Test(events, what_else_a_worker_keeps)
{
    struct boot one = boot_of(0x103, "cmd", 2), two = boot_of(0x101, "cmd", 2);
    static const struct {
        const char *name;
        enum qm_reason reason;
        enum qm_log_state log;
        bool proven, expects;
        uint32_t kept;
    } cases[] = {
        {"new", QM_NO_BASELINE, QM_LOG_REPLAYED, true, false, 0x103},
        {"new, no log", QM_NO_BASELINE, QM_LOG_ABSENT, true, false, 0},
        {"new, nothing proven", QM_PCR_VALUES_MISSING, QM_LOG_INCONSISTENT, false, false, 0},
        {"mismatch", QM_PCR_MISMATCH, QM_LOG_REPLAYED, true, true, 0x002}, /* the others agree */
        {"mismatch, another log", QM_PCR_MISMATCH, QM_LOG_INCONSISTENT, true, true, 0},
        {"trusted", QM_ALL_GOOD, QM_LOG_REPLAYED, true, true, 0},
        {"log required", QM_LOG_REQUIRED, QM_LOG_UNREPLAYABLE, true, false, 0},
    };
    for (size_t i = 0; i < QM_COUNT(cases); i++) {
        struct qm_event_keep *k;
        GOOD(qm_event_keep_open(&k, NULL, 1 << 20, &fault));
        struct qm_result r = result_of(&one, 0x103, cases[i].reason, 1, 2, cases[i].expects ? &two : NULL);
        r.log = (uint8_t)cases[i].log;
        r.proven = cases[i].proven;
        for (unsigned s = 0; !r.proven && s < r.stage_count; s++)
            r.stage[s].measured = NULL;
        take(k, &one, r);
        take(k, &one, r);
        sql("DELETE FROM pcr_events");
        cr_expect_eq(stored(k, NULL), __builtin_popcount(cases[i].kept), "%s", cases[i].name);
        for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++)
            if ((cases[i].kept >> pcr & 1) != 0)
                cr_expect(has(&one, pcr), "%s: PCR %u", cases[i].name, pcr);
        qm_event_keep_close(k);
    }
}

/* A PCR that no list can be made of is tried once, not at every record. */
Test(events, what_cannot_be_listed)
{
    struct boot many = boot_of(0x1, "cmd", QM_EVENT_LIST_MAX + 1), few = boot_of(0x1, "cmd", 1);
    uint64_t a = values_made(0x1, &many);
    struct qm_events_missing m;
    struct qm_event_keep *k;
    GOOD(qm_store_events_missing(store, &m, &fault));
    GOOD(qm_event_keep_open(&k, &m, 1 << 20, &fault));
    take(k, &many, result_of(&many, 0x1, QM_ALL_GOOD, a, 0, &many));
    many.log = few.log; /* would be taken if it were looked at, were it the right one */
    many.pcrs = few.pcrs;
    take(k, &many, result_of(&few, 0x1, QM_ALL_GOOD, a, 0, &few));
    cr_expect_eq(stored(k, &m), 0);
    cr_expect_eq(lacking(a), 1);
    qm_event_keep_close(k);
    qm_events_missing_free(&m);
}

Test(events, a_worker_is_bounded)
{
    struct qm_event_keep *k;
    GOOD(qm_event_keep_open(&k, NULL, QM_EVENT_KEEP_BYTES, &fault));
    struct boot shared = boot_of(0x2, "shared", 100);
    for (unsigned turn = 0; turn < 800; turn++) {
        char words[16];
        snprintf(words, sizeof words, "cmd %u", turn);
        struct boot one = boot_of(0x1, words, 3);
        take(k, &one, result_of(&one, 0x1, QM_NO_BASELINE, 0, 0, NULL));
    }
    const uint64_t dropped = qm_event_keep_dropped(k), made = 800 - dropped, most = QM_EVENT_KEEP_LISTS + 800 / QM_EVENT_KEEP_RECORDS;
    cr_expect_eq(made, most / 2, "%u: what a machine has for itself", (unsigned)made);
    for (unsigned turn = 0; turn < 3; turn++)
        take(k, &shared, result_of(&shared, 0x2, QM_NO_BASELINE, 0, 0, NULL));
    cr_expect_eq(qm_event_keep_dropped(k), dropped + 1, "once: then it is shared");
    cr_expect_eq(stored(k, NULL), made + 1);
    cr_expect(has(&shared, 1));
    qm_event_keep_close(k);
}

/* Values by arithmetic, and no log leads there: that is tried as often as the records allow, whether a value is seen once or twice,
 * and while there are places. */
Test(events, a_worker_tries_in_proportion)
{
    for (unsigned times = 1; times <= 2; times++) {
        struct qm_event_keep *k;
        const uint64_t records = 40000 * times, most = (QM_EVENT_KEEP_LISTS + records / QM_EVENT_KEEP_RECORDS) / (3 - times);
        uint64_t tried = 0;
        GOOD(qm_event_keep_open(&k, NULL, QM_EVENT_KEEP_BYTES, &fault));
        for (unsigned i = 0; i < records; i++) {
            struct boot one = {.log = {(const uint8_t *)"", 0}};
            unsigned n = i / times;
            uint64_t dropped = qm_event_keep_dropped(k);
            memset(&one.pcrs, 0, sizeof one.pcrs);
            memcpy(one.pcrs.value[QM_HASH_SHA256][0], &n, sizeof n);
            take(k, &one, result_of(&one, 0x1, QM_NO_BASELINE, 0, 0, NULL));
            tried += qm_event_keep_dropped(k) == dropped && i % times == times - 1;
        }
        cr_expect(tried <= most && tried > most - most / 5, "%u of %u, seen %u times", (unsigned)tried, (unsigned)most, times);
        qm_event_keep_close(k);
    }
}

/* Room that is used up stays within its bounds, and what came before is whole. */
Test(events, a_full_worker)
{
    struct qm_event_keep *k;
    GOOD(qm_event_keep_open(&k, NULL, QM_EVENT_LIST_BYTES_MAX + 1, &fault));
    struct boot one = boot_of(0x7, "cmd", 2);
    take(k, &one, result_of(&one, 0x1, QM_NO_BASELINE, 0, 0, NULL));
    take(k, &one, result_of(&one, 0x6, QM_NO_BASELINE, 0, 0, NULL));
    cr_expect_eq(qm_event_keep_dropped(k), 2);
    cr_expect_eq(stored(k, NULL), 1);
    cr_expect(has(&one, 0));
    qm_event_keep_close(k);
}
