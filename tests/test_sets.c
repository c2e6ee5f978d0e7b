/* Accepted sets: which live for an instance, how a group's and an instance's pair, what the table gets of them, and judging
 * again. */
#include "engine/compare.h"
#include "tests/homes.h"
#include "tools/store/store_ledger.h"
#include "tools/store/store_sets.h"

static struct qm_live_sets live;

static void make(void)
{
    home_make();
    GOOD(qm_live_sets_init(&live, &fault));
}

static void end(void)
{
    qm_live_sets_close(&live);
    home_end();
}

TestSuite(sets, .init = make, .fini = end);

/* Values by their first byte: all 32 bytes of PCR p of set n are n + p. */
static uint8_t value_bytes[256][32];
static const uint8_t *value_of(unsigned n)
{
    memset(value_bytes[n], (int)n, 32);
    return value_bytes[n];
}

static void values_of(unsigned n, const uint8_t *value[QM_PCR_COUNT])
{
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++)
        value[pcr] = value_of(n + pcr);
}

static struct qm_set_new set_of(enum qm_set_kind kind, uint64_t owner, uint32_t mask, unsigned n)
{
    struct qm_set_new set = {.kind = kind, .mask = mask, .origin = "set", .why = "a test"};
    if (kind == QM_SET_GROUP)
        set.group_no = (uint32_t)owner;
    else
        set.slot = owner;
    values_of(n, set.value);
    return set;
}

static uint64_t add_until(enum qm_set_kind kind, uint64_t owner, uint32_t mask, unsigned n, uint64_t until_ms)
{
    struct qm_set_new set = set_of(kind, owner, mask, n);
    uint64_t no;
    bool added;
    set.until_ms = until_ms;
    BEGIN();
    GOOD(qm_set_add(store, &set, &no, &added, &fault));
    COMMIT();
    cr_assert(added);
    return no;
}

static uint64_t add(enum qm_set_kind kind, uint64_t owner, uint32_t mask, unsigned n)
{
    return add_until(kind, owner, mask, n, 0);
}

static void end_set(uint64_t no)
{
    bool found;
    BEGIN();
    GOOD(qm_set_end(store, no, "over", &found, &fault));
    COMMIT();
    cr_assert(found);
}

static struct qm_instance_row row_of(const char *id)
{
    struct qm_instance_row row;
    bool found;
    GOOD(qm_store_instance_by_id(store, id, strlen(id), &row, &found, &fault));
    cr_assert(found, "%s", id);
    return row;
}

static void load(const char *id)
{
    struct qm_instance_row row = row_of(id);
    GOOD(qm_live_sets_load(store, &row, &live, &fault));
}

/* The sets as first bytes of PCRs 1 and 4: "1:11 4:24 ..." where absent "-". */
static const char *shape(const struct qm_set *const *set, unsigned count)
{
    static char text[4096];
    size_t used = 0;
    text[0] = '\0';
    for (unsigned i = 0; i < count; i++) {
        const uint8_t *one = qm_set_value(set[i], 1), *four = qm_set_value(set[i], 4);
        char a[8] = "-", b[8] = "-";
        if (one != NULL)
            snprintf(a, sizeof a, "%u", one[0]);
        if (four != NULL)
            snprintf(b, sizeof b, "%u", four[0]);
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s/%s", i != 0 ? " " : "", a, b);
    }
    return text;
}

/* Live sets and the table say the same, in the same order. */
static void expect_sets(const char *id, const char *expected)
{
    load(id);
    cr_expect_str_eq(shape(live.set, live.count), expected, "%s: live sets %s, not %s", id, shape(live.set, live.count),
                     expected);
    home_publish();
    struct qm_table *t = home_table();
    struct qm_instance found = home_find(t, id);
    cr_expect_str_eq(shape(found.set, found.set_count), expected, "%s: in the table %s, not %s", id,
                     shape(found.set, found.set_count), expected);
    for (unsigned i = 0; i < found.set_count && i < live.count; i++) {
        const struct qm_set *a = found.set[i], *b = live.set[i];
        cr_expect(a->set_no == b->set_no && a->pair_no == b->pair_no && a->mask == b->mask && a->pair_mask == b->pair_mask);
        cr_expect(a->composite_size == b->composite_size && memcmp(a->composite, b->composite, a->composite_size) == 0);
        for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++)
            if (qm_set_value(a, pcr) != NULL)
                cr_expect_eq(memcmp(qm_set_value(a, pcr), qm_set_value(b, pcr), 32), 0);
    }
    qm_table_close(t);
}

Test(sets, adding)
{
    home_enroll("a", 0, "");
    const uint64_t slot = row_of("a").slot;
    const uint64_t generation = qm_store_generation(store);
    struct qm_set_new set = set_of(QM_SET_WHOLE, slot, 0x3ff, 1);
    uint64_t no, again;
    bool added;
    set.alert = 7;
    set.run = 8;
    BEGIN();
    GOOD(qm_set_add(store, &set, &no, &added, &fault));
    cr_expect(added);
    GOOD(qm_set_add(store, &set, &again, &added, &fault));
    cr_expect(!added && again == no, "an equal live set is found again");
    COMMIT();
    cr_expect_eq(row_of("a").generation, generation + 1);
    cr_expect_eq(
        home_ask("SELECT count(*) FROM baseline WHERE origin = 'set' AND who <> '' AND why = 'a test' AND alert = 7 AND run = 8"
                 " AND since_ms > 0 AND until_ms IS NULL AND ended_ms IS NULL"),
        1);
    BEGIN();
    set.mask = 0x1003ff;
    GOOD(qm_set_add(store, &set, &again, &added, &fault));
    cr_expect(added, "other PCRs, another set");
    set.mask = 1 << 16;
    cr_expect_eq(qm_set_add(store, &set, &again, &added, &fault), QM_E_REFUSED);
    set.mask = 1 << 23 | 1;
    cr_expect_eq(qm_set_add(store, &set, &again, &added, &fault), QM_E_REFUSED);
    set.mask = 0;
    cr_expect_eq(qm_set_add(store, &set, &again, &added, &fault), QM_E_REFUSED);
    qm_store_rollback(store);
    end_set(no);
    BEGIN();
    bool found;
    GOOD(qm_set_end(store, no, "twice", &found, &fault));
    cr_expect_not(found);
    GOOD(qm_set_end(store, 999, "none", &found, &fault));
    cr_expect_not(found);
    COMMIT();
    cr_expect_eq(
        home_ask("SELECT count(*) FROM baseline WHERE ended_ms IS NOT NULL AND ended_who <> '' AND ended_why = 'over'"), 1);
}

Test(sets, eight_of_each_kind)
{
    home_enroll("a", 0, ",\"group\":\"g\"");
    const struct qm_instance_row row = row_of("a");
    uint64_t first = 0, no;
    bool added;
    for (unsigned kind = QM_SET_WHOLE; kind <= QM_SET_INSTANCE; kind++) {
        const uint64_t owner = kind == QM_SET_GROUP ? row.group_no : row.slot;
        for (unsigned i = 0; i < QM_SET_MAX; i++) {
            no = add((enum qm_set_kind)kind, owner,
                     kind == QM_SET_INSTANCE ? 0x62
                     : kind == QM_SET_GROUP  ? 0x39d
                                             : 0x3ff,
                     10 * i + kind);
            first = i == 0 ? no : first;
        }
        struct qm_set_new set = set_of((enum qm_set_kind)kind, owner, 0x3ff, 200);
        char list[32];
        BEGIN();
        cr_expect_eq(qm_set_add(store, &set, &no, &added, &fault), QM_E_LIMIT);
        snprintf(list, sizeof list, "(%llu, ", (unsigned long long)first);
        cr_expect(strstr(fault.text, "which is to end") != NULL && strstr(fault.text, list) != NULL, "%s", fault.text);
        qm_store_rollback(store);
    }
    load("a");
    cr_expect(live.whole_count == 8 && live.group_count == 8 && live.instance_count == 8);
    cr_expect_eq(live.count, QM_SETS_MAX, "whole ones, and the group's beside the own ones and the own part of whole ones: %u",
                 live.count);
    home_publish();
    struct qm_table *t = home_table();
    cr_expect_eq(home_find(t, "a").set_count, QM_SETS_MAX);
    qm_table_close(t);
    end_set(first);
    add(QM_SET_INSTANCE, row.slot, 0x62, 200);
}

Test(sets, pairs)
{
    home_enroll("a", 0, ",\"group\":\"g\"");
    home_enroll("b", 1, ",\"group\":\"g\"");
    home_enroll("c", 2, "");
    const struct qm_instance_row a = row_of("a"), b = row_of("b");
    cr_assert(a.group_no != 0 && a.group_no == b.group_no && row_of("c").group_no == 0);
    expect_sets("a", "");
    const uint64_t g1 = add(QM_SET_GROUP, a.group_no, 0x39d, 10);
    expect_sets("a", "-/14");
    load("a");
    cr_expect(live.set[0]->composite_size == 0 && live.set[0]->pair_no == 0, "the group's alone proves nothing");
    const uint64_t a1 = add(QM_SET_INSTANCE, a.slot, 0x62, 50);
    expect_sets("a", "51/14");
    expect_sets("b", "-/14");
    load("a");
    cr_expect(live.set[0]->composite_size == 32 && live.set[0]->mask == 0x3ff && live.set[0]->pair_mask == 0x62);
    add(QM_SET_GROUP, a.group_no, 0x39d, 20);
    expect_sets("a", "51/24 51/14");
    add(QM_SET_INSTANCE, a.slot, 0x62, 60);
    expect_sets("a", "61/24 61/14 51/24 51/14");
    expect_sets("b", "-/24 -/14");
    expect_sets("c", "");
    end_set(g1);
    expect_sets("a", "61/24 51/24");
    end_set(a1);
    expect_sets("a", "61/24");
    end_set((uint64_t)home_ask("SELECT no FROM baseline WHERE kind = 1 AND ended_ms IS NULL"));
    expect_sets("a", "61/-");
    expect_sets("b", "");
}

/* What a whole set has of the instance's own PCRs stands beside the group's sets. */
Test(sets, whole_beside_group)
{
    home_enroll("a", 0, ",\"group\":\"g\"");
    const struct qm_instance_row a = row_of("a");
    add(QM_SET_WHOLE, a.slot, 0x3ff, 10);
    expect_sets("a", "11/14");
    add(QM_SET_GROUP, a.group_no, 0x39d, 30);
    expect_sets("a", "11/34 11/14");
    load("a");
    cr_expect(live.set[0]->composite_size == 32 && live.set[0]->pair_no == live.set[1]->set_no && live.set[1]->pair_no == 0);
    /* the same own values in a set of their own make no second pair; others do */
    add(QM_SET_INSTANCE, a.slot, 0x62, 10);
    expect_sets("a", "11/34 11/14");
    add(QM_SET_WHOLE, a.slot, 0x3ff, 40);
    expect_sets("a", "41/44 41/34 11/34 11/14");
}

Test(sets, classes)
{
    home_enroll("a", 0, ",\"group\":\"g\"");
    const struct qm_instance_row a = row_of("a");
    add(QM_SET_GROUP, a.group_no, 0x3ff, 10);
    expect_sets("a", "-/14");
    BEGIN();
    GOOD(qm_store_config_set(store, "g", "instance_pcrs", "none", &fault));
    COMMIT();
    expect_sets("a", "11/14");
    load("a");
    cr_expect_eq(live.set[0]->composite_size, 32, "all are the group's: its set is whole");
    BEGIN();
    GOOD(qm_store_config_set(store, "g", "ignored_pcrs", "4", &fault));
    COMMIT();
    expect_sets("a", "11/-");
    load("a");
    cr_expect(live.set[0]->composite_size == 0 && live.set[0]->mask == 0x3ef && row_of("a").profile.baselined == 0x3ef);
    BEGIN();
    GOOD(qm_store_config_set(store, "g", "instance_pcrs", "0-23", &fault));
    COMMIT();
    expect_sets("a", "");
    add(QM_SET_INSTANCE, a.slot, 0x3ff, 20);
    expect_sets("a", "21/-");
    const uint8_t *value[QM_PCR_COUNT];
    values_of(20, value);
    cr_expect(qm_compare(value, 0x3ef, live.set, live.count).passes, "all are its own: its set is whole");
}

Test(sets, until)
{
    home_enroll("a", 0, ",\"group\":\"g\"");
    const struct qm_instance_row a = row_of("a");
    add(QM_SET_WHOLE, a.slot, 0x3ff, 10);
    add_until(QM_SET_WHOLE, a.slot, 0x3ff, 20, qm_store_now_ms(store) + 3600000);
    add_until(QM_SET_GROUP, a.group_no, 0x39d, 30, qm_store_now_ms(store) + 3600000);
    expect_sets("a", "21/34 11/34 21/24 11/14");
    struct qm_table *t = home_table();
    cr_expect(qm_table_expires_ms(t) > qm_store_now_ms(store) && qm_table_expires_ms(t) < qm_store_now_ms(store) + 3700000);
    qm_table_close(t);
    home_change("UPDATE baseline SET until_ms = until_ms - 3600000 WHERE until_ms IS NOT NULL");
    BEGIN();
    COMMIT();
    load("a");
    cr_expect_str_eq(shape(live.set, live.count), "11/14", "what has ended by itself does not count");
    uint64_t count;
    BEGIN();
    GOOD(qm_sets_expire(store, &count, &fault));
    COMMIT();
    cr_expect_eq(count, 2);
    cr_expect_eq(home_ask("SELECT count(*) FROM baseline WHERE ended_ms = until_ms AND ended_why = 'until'"), 2);
    expect_sets("a", "11/14");
    BEGIN();
    GOOD(qm_sets_expire(store, &count, &fault));
    COMMIT();
    cr_expect_eq(count, 0);
    /* a shorter life does not stand for a longer one */
    add_until(QM_SET_WHOLE, a.slot, 0x3ff, 50, qm_store_now_ms(store) + 3600000);
    add(QM_SET_WHOLE, a.slot, 0x3ff, 50);
}

/* A table whose sets have ended by themselves is made again. */
Test(sets, table_that_says_too_much)
{
    home_enroll("a", 0, "");
    add_until(QM_SET_WHOLE, row_of("a").slot, 0x3ff, 10, qm_store_now_ms(store) + 300);
    cr_expect(home_publish());
    cr_expect_not(home_publish());
    while (qm_store_now_ms(store) < (uint64_t)home_ask("SELECT until_ms FROM baseline")) {
        BEGIN();
        COMMIT();
    }
    cr_expect(home_publish());
    struct qm_table *t = home_table();
    cr_expect(home_find(t, "a").set_count == 0 && qm_table_expires_ms(t) == UINT64_MAX);
    qm_table_close(t);
}

Test(sets, values)
{
    const uint8_t *value[QM_PCR_COUNT];
    uint8_t got[32 * QM_PCR_COUNT];
    uint64_t no, again, other;
    uint32_t mask;
    bool found;
    values_of(3, value);
    BEGIN();
    GOOD(qm_values_put(store, 0x800001, value, &no, &fault));
    GOOD(qm_values_put(store, 0x800001, value, &again, &fault));
    GOOD(qm_values_put(store, 0x1, value, &other, &fault));
    cr_expect(no == again && no != other);
    for (unsigned i = 0; i < 2; i++) {
        GOOD(qm_values_get(store, no, &mask, got, &found, &fault));
        cr_expect(found && mask == 0x800001 && got[0] == 3 && got[32] == 26);
    }
    qm_store_rollback(store);
    GOOD(qm_values_get(store, no, &mask, got, &found, &fault));
    cr_expect_not(found, "what was undone is not there");
    GOOD(qm_values_get(store, 0, &mask, got, &found, &fault));
    cr_expect_not(found);
}

/* ---- judging again ---------------------------------------------------------------------------------------------------- */

static uint32_t values_no(uint32_t mask, unsigned n)
{
    const uint8_t *value[QM_PCR_COUNT];
    uint64_t no;
    values_of(n, value);
    BEGIN();
    GOOD(qm_values_put(store, mask, value, &no, &fault));
    COMMIT();
    return (uint32_t)no;
}

/* A change from values of set n to those of set to, at the PCRs of mask; 0 PCRs: a digest of 32 bytes to. */
static uint32_t change_no(uint32_t mask, unsigned n, unsigned to)
{
    char sql[8192] = "INSERT INTO change(kind, grp, class, key, name, items, first_ms) VALUES(0, 0, 0, randomblob(32), '', x'";
    size_t used = strlen(sql);
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++)
        if ((mask >> pcr & 1) != 0) {
            used += (size_t)snprintf(sql + used, sizeof sql - used, "%02x", pcr);
            for (unsigned i = 0; i < 64; i++)
                used += (size_t)snprintf(sql + used, sizeof sql - used, "%02x", i < 32 ? n + pcr : to + pcr);
        }
    for (unsigned i = 0; mask == 0 && i < 32; i++)
        used += (size_t)snprintf(sql + used, sizeof sql - used, "%02x", to);
    snprintf(sql + used, sizeof sql - used, "', 1)");
    home_change(sql);
    return (uint32_t)home_ask("SELECT max(no) FROM change");
}

static void put(const char *id, struct qm_ledger entry)
{
    const struct qm_instance_row row = row_of(id);
    entry.group = row.group_no;
    entry.authentic_ms = 1000;
    entry.flags |= QM_LEDGER_STATUS | QM_LEDGER_SEEN;
    BEGIN();
    GOOD(qm_store_ledger_put(store, row.slot, &entry, &fault));
    COMMIT();
}

static struct qm_ledger get(const char *id)
{
    struct qm_ledger entry;
    GOOD(qm_store_ledger_get(store, row_of(id).slot, &entry, &fault));
    return entry;
}

static struct qm_rejudged rejudge(const char *id)
{
    struct qm_rejudged r;
    BEGIN();
    GOOD(qm_store_rejudge(store, row_of(id).slot, NULL, &r, &fault));
    COMMIT();
    return r;
}

static void expect_measured(const char *id, uint32_t expected_mask, const unsigned first[QM_PCR_COUNT])
{
    uint8_t room[32 * QM_PCR_COUNT];
    const uint8_t *value[QM_PCR_COUNT];
    const struct qm_ledger entry = get(id);
    uint32_t mask;
    bool known;
    GOOD(qm_store_measured(store, &entry, room, value, &mask, &known, &fault));
    cr_expect(known == (expected_mask != 0) && mask == expected_mask, "%s: mask %x, known %d", id, mask, known);
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++) {
        cr_expect_eq(value[pcr] != NULL, mask >> pcr & 1);
        if (value[pcr] != NULL)
            cr_expect(value[pcr][0] == first[pcr] && value[pcr][31] == first[pcr], "PCR %u is %u, not %u", pcr, value[pcr][0],
                      first[pcr]);
    }
}

Test(sets, measured)
{
    home_enroll("a", 0, ",\"group\":\"g\"");
    put("a", (struct qm_ledger){.status = QM_TRUSTED, .set_a = values_no(0x3ff, 10)});
    expect_measured("a", 0, NULL); /* not proven */
    put("a", (struct qm_ledger){.flags = QM_LEDGER_PROVEN, .set_a = values_no(0x3ff, 10)});
    expect_measured("a", 0x3ff, (const unsigned[QM_PCR_COUNT]){10, 11, 12, 13, 14, 15, 16, 17, 18, 19});
    put("a", (struct qm_ledger){.flags = QM_LEDGER_PROVEN, .set_a = values_no(0x39d, 100), .set_b = values_no(0x62, 50)});
    expect_measured("a", 0x3ff, (const unsigned[QM_PCR_COUNT]){100, 51, 102, 103, 104, 55, 56, 107, 108, 109});
    /* beside the group's a whole set counts for the instance's own PCRs only */
    put("a", (struct qm_ledger){.flags = QM_LEDGER_PROVEN, .set_a = values_no(0x39d, 100), .set_b = values_no(0x3ff, 50)});
    expect_measured("a", 0x3ff, (const unsigned[QM_PCR_COUNT]){100, 51, 102, 103, 104, 55, 56, 107, 108, 109});
    put("a", (struct qm_ledger){.flags = QM_LEDGER_PROVEN,
                                .set_a = values_no(0x39d, 100),
                                .set_b = values_no(0x3ff, 50),
                                .change = {change_no(0x10, 100, 150), change_no(0x20, 50, 160)}});
    expect_measured("a", 0x3ff, (const unsigned[QM_PCR_COUNT]){100, 51, 102, 103, 154, 165, 56, 107, 108, 109});
}

Test(sets, judged_again)
{
    home_enroll("a", 0, "");
    const uint64_t slot = row_of("a").slot;
    const uint64_t old = add(QM_SET_WHOLE, slot, 0x3ff, 10);
    cr_expect_not(rejudge("a").changed, "without a record there is nothing to judge");
    const struct qm_ledger mismatch = {.flags = QM_LEDGER_PROVEN,
                                       .status = QM_UNTRUSTED,
                                       .reason = QM_PCR_MISMATCH,
                                       .first_fail = 4,
                                       .log = QM_LOG_REPLAYED,
                                       .set_a = values_no(0x3ff, 10),
                                       .change = {change_no(0x110, 10, 50)}};
    put("a", mismatch);
    struct qm_rejudged r = rejudge("a");
    cr_expect(!r.changed && r.status == QM_UNTRUSTED);
    /* the measured values are accepted */
    struct qm_set_new set = set_of(QM_SET_WHOLE, slot, 0x3ff, 10);
    uint64_t no;
    bool added;
    set.value[4] = value_of(54);
    set.value[8] = value_of(58);
    BEGIN();
    GOOD(qm_set_add(store, &set, &no, &added, &fault));
    COMMIT();
    r = rejudge("a");
    cr_expect(r.changed && r.before == QM_UNTRUSTED && r.status == QM_TRUSTED && r.reason == QM_ALL_GOOD);
    struct qm_ledger l = get("a");
    cr_expect(l.status == QM_TRUSTED && l.reason == QM_ALL_GOOD && l.first_fail == 0xff && l.change[0] == 0 &&
              l.good_ms == 1000);
    cr_expect_eq(l.set_a, home_ask("SELECT vals FROM baseline ORDER BY no DESC LIMIT 1"));
    /* and withdrawn: it fails, and what was measured is still known */
    end_set(no);
    r = rejudge("a");
    cr_expect(r.changed && r.status == QM_UNTRUSTED && r.reason == QM_PCR_MISMATCH && get("a").first_fail == 4);
    expect_measured("a", 0x3ff, (const unsigned[QM_PCR_COUNT]){10, 11, 12, 13, 54, 15, 16, 17, 58, 19});
    end_set(old);
    r = rejudge("a");
    cr_expect(r.changed && r.status == QM_NEW && r.reason == QM_NO_BASELINE, "no sets are left");
    cr_expect_eq(get("a").first_fail, 0xff);
}

Test(sets, judged_again_with_the_log_in_mind)
{
    home_enroll("a", 0, ",\"require_log\":true");
    put("a", (struct qm_ledger){.flags = QM_LEDGER_PROVEN,
                                .status = QM_UNTRUSTED,
                                .reason = QM_PCR_MISMATCH,
                                .log = QM_LOG_ABSENT,
                                .set_a = values_no(0x3ff, 10)});
    add(QM_SET_WHOLE, row_of("a").slot, 0x3ff, 10);
    struct qm_rejudged r = rejudge("a");
    cr_expect(r.changed && r.status == QM_UNTRUSTED && r.reason == QM_LOG_REQUIRED);
    cr_expect_eq(get("a").good_ms, 0);
    home_enroll("a", 0, ""); /* the line changes, and with it the verdict */
    cr_expect(get("a").status == QM_TRUSTED && get("a").good_ms == 1000);
}

Test(sets, learned_stays_learned)
{
    home_enroll("a", 0, "");
    const uint64_t no = add(QM_SET_WHOLE, row_of("a").slot, 0x3ff, 10);
    put("a", (struct qm_ledger){.flags = QM_LEDGER_PROVEN,
                                .status = QM_NEW,
                                .reason = QM_LEARNED,
                                .log = QM_LOG_REPLAYED,
                                .set_a = values_no(0x3ff, 10)});
    struct qm_rejudged r = rejudge("a");
    cr_expect(!r.changed && r.reason == QM_LEARNED);
    end_set(no);
    add(QM_SET_WHOLE, row_of("a").slot, 0x3ff, 20);
    cr_expect(rejudge("a").reason == QM_PCR_MISMATCH && get("a").status == QM_UNTRUSTED);
}

/* Not proven: what is known is the signed digest, if that. */
Test(sets, judged_again_by_digest)
{
    home_enroll("a", 0, "");
    const uint64_t slot = row_of("a").slot;
    add(QM_SET_WHOLE, slot, 0x3ff, 10);
    load("a");
    put("a", (struct qm_ledger){.status = QM_UNTRUSTED, .reason = QM_PCR_MISMATCH, .change = {change_no(0, 0, 200)}});
    cr_expect_not(rejudge("a").changed);
    char sql[256] = "UPDATE change SET items = x'";
    for (unsigned i = 0; i < 32; i++)
        snprintf(sql + strlen(sql), sizeof sql - strlen(sql), "%02x", live.set[0]->composite[i]);
    snprintf(sql + strlen(sql), sizeof sql - strlen(sql), "'");
    home_change(sql);
    struct qm_rejudged r = rejudge("a");
    cr_expect(r.changed && r.status == QM_TRUSTED);
    cr_expect((get("a").flags & QM_LEDGER_PROVEN) != 0 && get("a").change[0] == 0);
    expect_measured("a", 0x3ff, (const unsigned[QM_PCR_COUNT]){10, 11, 12, 13, 14, 15, 16, 17, 18, 19});
    /* one that said nothing about values, before there was a baseline */
    home_enroll("b", 1, "");
    put("b", (struct qm_ledger){.status = QM_NEW, .reason = QM_PCR_VALUES_MISSING});
    cr_expect_not(rejudge("b").changed);
    add(QM_SET_WHOLE, row_of("b").slot, 0x3ff, 10);
    r = rejudge("b");
    cr_expect(r.changed && r.status == QM_UNTRUSTED && r.reason == QM_PCR_MISMATCH,
              "the baseline would prove it if it were so");
}

static qm_err count_changed(void *ctx, uint64_t slot, const struct qm_rejudged *r, struct qm_fault *f)
{
    (void)f;
    cr_expect(slot != 0 && r->changed && r->status == QM_TRUSTED);
    ++*(unsigned *)ctx;
    return QM_OK;
}

Test(sets, a_group_judged_again, .timeout = 60)
{
    enum { MACHINES = 40 };
    char id[16];
    const uint32_t before = values_no(0x3ff, 10);
    home_enroll("other", 1, ",\"group\":\"h\"");
    for (unsigned i = 0; i < MACHINES; i++) {
        snprintf(id, sizeof id, "m%u", i);
        home_enroll(id, 0, i != 7 ? ",\"group\":\"g\"" : ",\"group\":\"h\"");
    }
    const uint32_t change = change_no(0x310, 10, 40), worse = change_no(0x90, 10, 70);
    for (unsigned i = 0; i < MACHINES; i++) {
        snprintf(id, sizeof id, "m%u", i);
        add(QM_SET_WHOLE, row_of(id).slot, 0x3ff, 10);
        put(id, (struct qm_ledger){.flags = QM_LEDGER_PROVEN,
                                   .status = QM_UNTRUSTED,
                                   .reason = QM_PCR_MISMATCH,
                                   .log = QM_LOG_REPLAYED,
                                   .set_a = before,
                                   .change = {i == 11 ? worse : change},
                                   .first_fail = 4});
    }
    struct qm_set_new set = set_of(QM_SET_GROUP, row_of("m0").group_no, 0x39d, 10);
    set.value[4] = value_of(44);
    set.value[8] = value_of(48);
    set.value[9] = value_of(49);
    uint64_t no;
    unsigned count = 0;
    bool added;
    BEGIN();
    GOOD(qm_set_add(store, &set, &no, &added, &fault));
    GOOD(qm_store_rejudge_group(store, row_of("m0").group_no, count_changed, &count, &fault));
    COMMIT();
    cr_expect_eq(count, MACHINES - 2, "all but the one of another group and the one that differs: %u", count);
    cr_expect(get("m7").status == QM_UNTRUSTED && get("m11").status == QM_UNTRUSTED && get("m12").status == QM_TRUSTED);
    cr_expect(get("m12").set_a != 0 && get("m12").set_b == before, "the group's beside its own part of the whole one");
    expect_measured("m12", 0x3ff, (const unsigned[QM_PCR_COUNT]){10, 11, 12, 13, 44, 15, 16, 17, 48, 49});
    /* classes that move: which value is whose is not known any more, and the verdict stands until the next record */
    BEGIN();
    GOOD(qm_store_config_set(store, "g", "instance_pcrs", "1,4", &fault));
    COMMIT();
    expect_measured("m12", 0, NULL);
    cr_expect(!rejudge("m12").changed && get("m12").status == QM_TRUSTED);
}

Test(sets, group_of_an_enrolment)
{
    home_enroll("a", 0, ",\"group\":\"g\"");
    put("a", (struct qm_ledger){
                 .flags = QM_LEDGER_PROVEN, .status = QM_TRUSTED, .set_a = values_no(0x39d, 10), .set_b = values_no(0x62, 10)});
    cr_expect(get("a").group == row_of("a").group_no);
    home_enroll("a", 0, ",\"group\":\"h\"");
    cr_expect(get("a").group == row_of("a").group_no && row_of("a").group[0] == 'h' && row_of("a").group_no == 2);
    cr_expect_eq(get("a").status, QM_TRUSTED);
    home_enroll("a", 0, "");
    cr_expect_eq(get("a").group, 0);
    home_enroll("b", 1, ",\"group\":\"g\"");
    cr_expect(row_of("b").group_no == 1);
    cr_expect_eq(home_ask("SELECT count(*) FROM ledger"), 1);
}

Test(sets, keep_old)
{
    home_enroll("a", 0, "");
    const uint64_t slot = row_of("a").slot;
    uint64_t ended;
    add(QM_SET_WHOLE, slot, 0x3ff, 10);
    add(QM_SET_WHOLE, slot, 0x3ff, 20);
    add(QM_SET_WHOLE, slot, 0x3ff, 30);
    struct qm_ledger passes = {.set_a = values_no(0x3ff, 20)};
    BEGIN();
    GOOD(qm_sets_keep_old(store, slot, &passes, 1000, &ended, &fault));
    cr_expect_eq(ended, 0);
    GOOD(qm_sets_keep_old(store, slot, &passes, 1000, &ended, &fault));
    cr_expect_eq(ended, 0, "it has just passed for the first time");
    COMMIT();
    cr_expect_eq(home_ask("SELECT count(*) FROM baseline WHERE passed_ms > 0"), 1);
    home_change("UPDATE baseline SET passed_ms = passed_ms - 2000 WHERE passed_ms IS NOT NULL");
    const uint64_t generation = qm_store_generation(store);
    BEGIN();
    GOOD(qm_sets_keep_old(store, slot, &passes, 1000, &ended, &fault));
    COMMIT();
    cr_expect(ended == 1 && qm_store_generation(store) == generation + 1);
    cr_expect_eq(home_ask("SELECT count(*) FROM baseline WHERE ended_why = 'keep_old' AND no = 1"), 1);
    expect_sets("a", "31/34 21/24");
}
