/* Parking machines and taking them out; sets given and ended by hand, with what follows of it; beacons in the store. */
#include "tests/homes.h"
#include "tools/store/store_alerts.h"
#include "tools/store/store_baseline.h"
#include "tools/store/store_beacon.h"
#include "tools/store/store_config.h"
#include "tools/store/store_events.h"
#include "tools/store/store_ledger.h"
#include "tools/store/store_retire.h"

TestSuite(retire, .init = home_make, .fini = home_end);

static uint64_t slot_of(const char *id)
{
    struct qm_instance_row row;
    bool found;
    GOOD(qm_store_instance_by_id(store, id, strlen(id), &row, &found, &fault));
    return found ? row.slot : 0;
}

static struct qm_ledger get(uint64_t slot)
{
    struct qm_ledger entry;
    GOOD(qm_store_ledger_get(store, slot, &entry, &fault));
    return entry;
}

static void put(uint64_t slot, const struct qm_ledger *entry)
{
    BEGIN();
    GOOD(qm_store_ledger_put(store, slot, entry, &fault));
    COMMIT();
}

static void retire(const char *const *ids, unsigned count, const char *why)
{
    struct qm_slots l = {0};
    BEGIN();
    for (unsigned i = 0; i < count; i++)
        GOOD(qm_slots_add_id(store, &l, ids[i], strlen(ids[i]), &fault));
    GOOD(qm_slots_narrow(store, &l, NULL, NULL, 0, &fault));
    GOOD(qm_store_retire(store, &l, why, &fault));
    COMMIT();
    qm_slots_close(&l);
}

static uint64_t raise(uint64_t slot, enum qm_alert_kind kind)
{
    struct qm_alert_new a = {
        .kind = kind, .slot = slot, .digest = {(const uint8_t *)"01234567890123456789012345678901", 32}, .at_ms = 5};
    struct qm_alert_raised raised;
    BEGIN();
    GOOD(qm_alert_raise(store, &a, &raised, &fault));
    COMMIT();
    return raised.no;
}

/* Baselined 0 and 4, all of whose bytes are b. */
static const char *line(unsigned b, const char *more)
{
    static char text[1024];
    char hex[65];
    for (unsigned i = 0; i < 32; i++)
        snprintf(hex + 2 * i, 3, "%02x", b);
    snprintf(text, sizeof text, ",\"baselined\":[0,4],\"baseline\":{\"0\":\"%s\",\"4\":\"%s\"}%s", hex, hex, more);
    return text;
}

Test(retire, leaves_all_but_its_history)
{
    home_enroll("a", 0, "");
    home_enroll("b", 1, line(1, ",\"group\":\"g\""));
    const uint64_t slot = slot_of("b");
    raise(slot, QM_ALERT_PCR_MISMATCH);
    raise(slot, QM_ALERT_UNMEASURED);
    raise(slot_of("a"), QM_ALERT_UNMEASURED);
    home_change("UPDATE alert SET state = 1, until_ms = 9 WHERE kind = 10");
    cr_expect(home_publish());
    retire((const char *const[]){"b", "b"}, 2, "scrapped");
    cr_expect_eq(slot_of("b"), 0);
    cr_expect_eq(
        home_ask(
            "SELECT count(*) FROM retired WHERE id = 'b' AND grp = 'g' AND who <> '' AND why = 'scrapped' AND retired_ms > 0"),
        1);
    cr_expect_eq(home_ask("SELECT count(*) FROM baseline WHERE ended_ms IS NOT NULL AND ended_why = 'retired'"), 1);
    cr_expect_eq(home_ask("SELECT count(*) FROM ak_history WHERE until_ms IS NOT NULL"), 1);
    cr_expect_eq(home_ask("SELECT count(*) FROM alert WHERE state IN (0, 1)"), 1, "the other's stays");
    cr_expect_eq(home_ask("SELECT count(*) FROM alert WHERE state = 3 AND closed_ms > 0 AND until_ms IS NULL AND seen = 1"), 2);
    cr_expect_eq(home_ask("SELECT count(*) FROM journal WHERE what = 'retire' AND subject = 'b' AND why = 'scrapped'"), 1);
    cr_expect_eq(get(slot).enrolled_s, 0);
    cr_expect(home_publish());
    struct qm_table *t = home_table();
    cr_expect(home_find(t, "b").key == NULL && home_find(t, "a").key != NULL);
    qm_table_close(t);
    /* the id anew: another machine, with nothing of the old one's */
    home_enroll("b", 1, "");
    cr_expect(slot_of("b") > slot, "a slot is never given again: %llu", (unsigned long long)slot_of("b"));
    retire((const char *const[]){"a", "b"}, 2, NULL);
    home_enroll("c", 2, "");
    cr_expect_eq(slot_of("c"), slot + 2);
    cr_expect_eq(home_ask("SELECT count(*) FROM journal WHERE subject = '2 machines'"), 1);
}

Test(retire, which_ones)
{
    struct qm_slots l = {0};
    home_enroll("a", 0, ",\"tags\":{\"rack\":\"7\",\"k\":\"v\"}");
    home_enroll("b", 1, ",\"tags\":{\"rack\":\"7\"}");
    home_enroll("c", 2, ",\"tags\":{\"rack\":\"8\"}");
    GOOD(qm_slots_add_tag(store, &l, "rack", "7", &fault));
    cr_expect(l.count == 2 && l.slot[0] == slot_of("a") && l.slot[1] == slot_of("b"));
    GOOD(qm_slots_narrow(store, &l, "k", "v", 0, &fault));
    cr_expect(l.count == 1 && l.slot[0] == slot_of("a"));
    qm_slots_close(&l);
    GOOD(qm_slots_add_tag(store, &l, NULL, NULL, &fault));
    cr_expect_eq(l.count, 3);
    struct qm_ledger entry = get(slot_of("b"));
    entry.enrolled_s -= 7200;
    put(slot_of("b"), &entry);
    entry = get(slot_of("c"));
    entry.enrolled_s -= 7200;
    entry.authentic_ms = qm_store_now_ms(store) - 60000;
    put(slot_of("c"), &entry);
    GOOD(qm_slots_narrow(store, &l, NULL, NULL, 3600000, &fault));
    cr_expect(l.count == 1 && l.slot[0] == slot_of("b"), "only what sent nothing for so long");
    cr_expect_eq(qm_slots_add_id(store, &l, "nobody", 6, &fault), QM_E_REFUSED);
    qm_slots_close(&l);
}

Test(retire, hold)
{
    struct qm_slots l = {0};
    uint64_t changed;
    home_enroll("a", 0, "");
    const uint64_t slot = slot_of("a");
    struct qm_ledger silent = get(slot);
    silent.flags |= QM_LEDGER_RAISED_SILENT;
    put(slot, &silent);
    raise(slot, QM_ALERT_UNMEASURED);
    raise(slot, QM_ALERT_PCR_MISMATCH);
    GOOD(qm_slots_add_id(store, &l, "a", 1, &fault));
    BEGIN();
    GOOD(qm_store_hold(store, &l, qm_store_now_ms(store), NULL, &changed, &fault));
    cr_expect_eq(changed, 0, "there is no hold to end");
    const uint64_t until = qm_store_now_ms(store) + 86400000;
    GOOD(qm_store_hold(store, &l, until, "mended", &changed, &fault));
    COMMIT();
    cr_expect(changed == 1 && get(slot).hold_until_s == until / 1000);
    cr_expect_eq(home_ask("SELECT count(*) FROM alert WHERE state = 0 AND kind = 0"), 1);
    cr_expect_eq(home_ask("SELECT count(*) FROM alert WHERE state = 0"), 1, "its silence is nobody's business any more");
    cr_expect_eq(get(slot).flags & QM_LEDGER_RAISED_SILENT, 0);
    cr_expect_eq(
        home_ask("SELECT hold_until_ms FROM instance WHERE hold_why = 'mended' AND hold_who <> '' AND hold_since_ms > 0"),
        (long long)until);
    BEGIN();
    const uint64_t now = qm_store_now_ms(store);
    GOOD(qm_store_hold(store, &l, now, NULL, &changed, &fault));
    COMMIT();
    cr_expect(changed == 1 && get(slot).hold_until_s == now / 1000, "when it ended is kept");
    cr_expect_eq(home_ask("SELECT hold_until_ms FROM instance WHERE hold_why = 'mended'"), (long long)now);
    cr_expect_eq(home_ask("SELECT count(*) FROM journal WHERE what IN ('hold', 'end of hold') AND subject = 'a'"), 2);
    BEGIN();
    cr_expect_eq(qm_store_hold(store, &l, UINT64_MAX / 2, "x", &changed, &fault), QM_E_REFUSED);
    qm_store_rollback(store);
    qm_slots_close(&l);
}

Test(retire, for_silence)
{
    static const char *const ids[] = {"quiet", "held", "red", "young", "other"};
    const uint32_t hour = 3600;
    struct qm_fleet fleet;
    uint64_t count;
    for (unsigned i = 0; i < QM_COUNT(ids); i++) {
        home_enroll(ids[i], i, i != 4 ? ",\"group\":\"g\"" : "");
        struct qm_ledger l = get(slot_of(ids[i]));
        l.enrolled_s -= 100 * hour;
        l.authentic_ms = qm_store_now_ms(store) - (i == 3 ? 40 : 60) * 3600000ull;
        l.flags = QM_LEDGER_SEEN | QM_LEDGER_STATUS;
        l.status = i == 2 ? QM_UNTRUSTED : QM_TRUSTED;
        l.reason = i == 2 ? QM_PCR_MISMATCH : QM_ALL_GOOD;
        if (i == 1)
            l.hold_until_s = (uint32_t)(qm_store_now_ms(store) / 1000) + hour;
        put(slot_of(ids[i]), &l);
    }
    /* the verifier ran all the time */
    for (unsigned i = 0; i < 80; i++) {
        char sql[256];
        const unsigned long long at = qm_store_now_ms(store) - (80 - i) * 3600000ull;
        snprintf(sql, sizeof sql,
                 "INSERT INTO run(id, kind, start_ms, end_ms, complete, records, generation, record) VALUES('r%u', 'run', "
                 "%llu, %llu, 1, 0, 1, '{}')",
                 i, at, at);
        home_change(sql);
    }
    for (unsigned round = 0; round < 2; round++) {
        BEGIN();
        if (round == 1)
            GOOD(qm_store_config_set(store, "g", "retire_after", "50h", &fault));
        GOOD(qm_fleet_open(&fleet, store, NULL, &fault));
        GOOD(qm_store_retire_silent(store, &fleet, &count, &fault));
        qm_fleet_close(&fleet);
        COMMIT();
        cr_expect_eq(count, round, "round %u: %llu", round, (unsigned long long)count);
    }
    cr_expect_eq(slot_of("quiet"), 0);
    cr_expect(slot_of("held") != 0 && slot_of("red") != 0 && slot_of("young") != 0 && slot_of("other") != 0);
    cr_expect_eq(home_ask("SELECT count(*) FROM retired WHERE why = 'retire_after'"), 1);
}

/* ---- sets by hand ----------------------------------------------------------------------------------------------------- */

static struct qm_set_new set_of(enum qm_set_kind kind, uint32_t mask, unsigned b)
{
    static uint8_t bytes[256][32];
    struct qm_set_new set = {.kind = kind, .mask = mask, .origin = "set", .why = "x"};
    memset(bytes[b], (int)b, 32);
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++)
        set.value[pcr] = bytes[b];
    return set;
}

static qm_err give(struct qm_set_new set, const char *id, const char *group, struct qm_baseline_change *change)
{
    uint64_t no;
    fault = (struct qm_fault){0};
    BEGIN();
    qm_err err = qm_baseline_add(store, &set, id, group, &no, change, &fault);
    if (err == QM_OK)
        COMMIT();
    else
        qm_store_rollback(store);
    return err;
}

static void measures(const char *id, unsigned b, enum qm_status status, enum qm_reason reason)
{
    const struct qm_set_new set = set_of(QM_SET_WHOLE, 0x11, b);
    struct qm_ledger l = get(slot_of(id));
    uint64_t no;
    BEGIN();
    GOOD(qm_values_put(store, 0x11, set.value, &no, &fault));
    l.flags |= QM_LEDGER_STATUS | QM_LEDGER_SEEN | QM_LEDGER_PROVEN | QM_LEDGER_ALERTS;
    l.status = (uint8_t)status;
    l.reason = (uint8_t)reason;
    l.set_a = (uint32_t)no;
    l.authentic_ms = 1000;
    GOOD(qm_store_ledger_put(store, slot_of(id), &l, &fault));
    COMMIT();
}

Test(retire, sets_by_hand)
{
    struct qm_baseline_change change = {0};
    home_enroll("a", 0, line(1, ""));
    home_enroll("b", 1, line(1, ",\"group\":\"g\""));
    home_enroll("c", 2, line(1, ",\"group\":\"g\""));
    for (unsigned i = 0; i < 3; i++) {
        measures((const char *const[]){"a", "b", "c"}[i], 2, QM_UNTRUSTED, QM_PCR_MISMATCH);
        raise(slot_of((const char *const[]){"a", "b", "c"}[i]), QM_ALERT_PCR_MISMATCH);
    }
    cr_expect_eq(give(set_of(QM_SET_WHOLE, 0x1, 2), "a", NULL, &change), QM_E_REFUSED);
    cr_expect_not_null(strstr(fault.text, "PCR 4 is compared"));
    cr_expect_eq(give(set_of(QM_SET_WHOLE, 0x13, 2), "a", NULL, &change), QM_E_REFUSED);
    cr_expect_not_null(strstr(fault.text, "PCR 1 has a value"));
    cr_expect_eq(give(set_of(QM_SET_GROUP, 0x1, 2), NULL, "g", &change), QM_E_REFUSED);
    cr_expect_eq(give(set_of(QM_SET_GROUP, 0x31, 2), NULL, "g", &change), QM_E_REFUSED);
    cr_expect_eq(give(set_of(QM_SET_GROUP, 0x11, 2), NULL, "", &change), QM_E_REFUSED);
    cr_expect_eq(give(set_of(QM_SET_INSTANCE, 0x11, 2), "b", NULL, &change), QM_E_REFUSED, "0 and 4 are the group's");
    cr_expect_eq(change.added, 0);
    GOOD(give(set_of(QM_SET_WHOLE, 0x11, 2), "a", NULL, &change));
    cr_expect(change.added == 1 && change.judged == 1 && change.passing == 1);
    cr_expect(get(slot_of("a")).status == QM_TRUSTED && get(slot_of("b")).status == QM_UNTRUSTED);
    cr_expect_eq(home_ask("SELECT count(*) FROM alert WHERE state = 0"), 2, "its alert is closed");
    change = (struct qm_baseline_change){0};
    GOOD(give(set_of(QM_SET_GROUP, 0x11, 2), NULL, "g", &change));
    cr_expect(change.added == 1 && change.judged == 2 && change.passing == 2);
    cr_expect_eq(home_ask("SELECT count(*) FROM alert WHERE state = 0"), 0);
    GOOD(give(set_of(QM_SET_GROUP, 0x11, 2), NULL, "g", &change));
    cr_expect_eq(change.known, 1);
    change = (struct qm_baseline_change){0};
    BEGIN();
    GOOD(qm_baseline_end(store, (uint64_t)home_ask("SELECT no FROM baseline WHERE kind = 1"), "over", &change, &fault));
    cr_expect_eq(qm_baseline_end(store, 999, "over", &change, &fault), QM_E_REFUSED);
    COMMIT();
    cr_expect(change.ended == 1 && change.judged == 2 && change.passing == 0 && get(slot_of("c")).status == QM_UNTRUSTED);
}

static qm_err count_visit(void *ctx, const struct qm_baseline *b, struct qm_fault *f)
{
    (void)f;
    cr_expect(b->origin != NULL && b->who != NULL && b->mask == 0x11 && b->value != NULL);
    ++*(unsigned *)ctx;
    return QM_OK;
}

static unsigned count_sets(struct qm_baseline_filter f)
{
    unsigned n = 0;
    GOOD(qm_baselines_each(store, &f, count_visit, &n, &fault));
    return n;
}

Test(retire, sets_listed)
{
    struct qm_baseline_change change = {0};
    home_enroll("a", 0, line(1, ""));
    home_enroll("b", 1, line(1, ",\"group\":\"g\""));
    home_change("INSERT INTO run(no, id, kind, start_ms, end_ms, complete, records, generation, record) VALUES(7, 'r-7', "
                "'run', 1, 2, 1, 0, 1, '{}')");
    struct qm_set_new learned = set_of(QM_SET_WHOLE, 0x11, 3);
    learned.origin = "learned";
    learned.run = 7;
    GOOD(give(learned, "a", NULL, &change));
    GOOD(give(learned, "b", NULL, &change));
    GOOD(give(set_of(QM_SET_GROUP, 0x11, 4), NULL, "g", &change));
    cr_expect_eq(count_sets((struct qm_baseline_filter){0}), 5);
    cr_expect_eq(count_sets((struct qm_baseline_filter){.id = "a"}), 2);
    cr_expect_eq(count_sets((struct qm_baseline_filter){.id = "b"}), 3, "and its group's");
    cr_expect_eq(count_sets((struct qm_baseline_filter){.group = "g"}), 1);
    cr_expect_eq(count_sets((struct qm_baseline_filter){.run = "r-7"}), 2);
    cr_expect_eq(count_sets((struct qm_baseline_filter){.run = "r-8"}), 0);
    change = (struct qm_baseline_change){0};
    BEGIN();
    cr_expect_eq(qm_baseline_end_run(store, "r-8", "x", &change, &fault), QM_E_REFUSED);
    GOOD(qm_baseline_end_run(store, "r-7", "the wrong network", &change, &fault));
    COMMIT();
    cr_expect_eq(change.ended, 2);
    cr_expect_eq(count_sets((struct qm_baseline_filter){.run = "r-7"}), 0);
    cr_expect_eq(count_sets((struct qm_baseline_filter){.run = "r-7", .ended = true}), 2);
    cr_expect_eq(count_sets((struct qm_baseline_filter){0}), 3);
    cr_expect_eq(home_ask("SELECT count(*) FROM baseline WHERE ended_why = 'the wrong network'"), 2);
    retire((const char *const[]){"a"}, 1, NULL);
    cr_expect_eq(count_sets((struct qm_baseline_filter){.id = "a"}), 0);
    cr_expect_eq(count_sets((struct qm_baseline_filter){.id = "a", .ended = true}), 2);
}

/* ---- what is forgotten ------------------------------------------------------------------------------------------------- */

static uint64_t forget(void)
{
    uint64_t count;
    home_change("DELETE FROM meta WHERE key = 'forgotten_ms'");
    GOOD(qm_store_forget(store, &count, &fault));
    cr_expect_eq(home_ask("SELECT count(*) FROM pragma_foreign_key_check"), 0);
    return count;
}

/* Of PCR 0, all of whose bytes are b. */
static void put_list(unsigned b)
{
    static const uint8_t list[10 * 100];
    uint8_t value[32];
    bool kept;
    memset(value, (int)b, sizeof value);
    BEGIN();
    GOOD(qm_store_events_put(store, 0, value, (struct qm_span){list, 10 * b}, false, &kept, &fault));
    COMMIT();
}

static long long lists(unsigned b)
{
    char sql[120];
    snprintf(sql, sizeof sql, "SELECT count(*) FROM pcr_events WHERE substr(hex(value), 1, 2) = '%02X'", b);
    return home_ask(sql);
}

#define LONG_AGO "UPDATE retired SET retired_ms = retired_ms - 401 * 86400000 WHERE id "

Test(retire, forgotten_when_history_is)
{
    static const char values[] = "SELECT count(*) FROM pcr_values", slots[] = "SELECT count(*) FROM retired",
                      keys[] = "SELECT count(*) FROM ak", sets[] = "SELECT count(*) FROM baseline";
    home_enroll("own", 0, line(1, ""));
    home_enroll("shares", 1, line(2, ""));
    home_enroll("lives", 1, line(2, ""));
    home_enroll("told", 2, line(3, ""));
    home_enroll("late", 3, line(4, ""));
    home_enroll("last", 4, line(5, ""));
    for (unsigned b = 1; b <= 9; b++)
        put_list(b);
    raise(slot_of("told"), QM_ALERT_UNMEASURED);
    cr_expect_eq(forget(), 0);
    retire((const char *const[]){"own", "shares", "told", "late", "last"}, 5, NULL);
    cr_expect_eq(forget(), 0, "retired just now");
    home_change(LONG_AGO "<> 'late'");
    const uint64_t last = (uint64_t)home_ask("SELECT max(slot) FROM retired");
    const long long bytes = home_ask("SELECT value FROM meta WHERE key = 'events_bytes'");
    cr_expect_eq(forget(), 2, "own and shares; alerts tell of one, and one is the last");
    cr_expect_eq(home_ask(slots), 3);
    cr_expect_eq(home_ask("SELECT count(*) FROM retired WHERE id IN ('own', 'shares')"), 0);
    cr_expect_eq(home_ask(sets), 4, "of the others: lives, told, late, last");
    cr_expect_eq(home_ask("SELECT count(*) FROM ak_history"), 4);
    cr_expect_eq(home_ask(values), 4, "that of own is gone, what lives has, too, stays: %lld", home_ask(values));
    cr_expect_eq(home_ask(keys), 4);
    cr_expect_eq(home_ask("SELECT count(*) FROM events_missing m WHERE NOT EXISTS (SELECT 1 FROM pcr_values v WHERE v.no = m.vals)"), 0);
    cr_expect(lists(1) == 0 && lists(2) == 1 && lists(3) == 1 && lists(9) == 1);
    cr_expect_eq(home_ask("SELECT value FROM meta WHERE key = 'events_bytes'"), bytes - 10);
    /* with the alert goes the rest; a number is never given again */
    home_change("DELETE FROM alert");
    cr_expect_eq(forget(), 1);
    cr_expect_eq(lists(3), 0);
    home_enroll("next", 5, "");
    cr_expect_eq(slot_of("next"), last + 1);
    retire((const char *const[]){"next"}, 1, NULL);
    cr_expect_eq(forget(), 1, "the last of before");
    /* once a day */
    home_change(LONG_AGO "= 'late'");
    uint64_t count;
    GOOD(qm_store_forget(store, &count, &fault));
    cr_expect_eq(count, 0);
    BEGIN();
    GOOD(qm_store_config_set(store, "", "history_keep", "off", &fault));
    COMMIT();
    cr_expect_eq(forget(), 0, "kept for ever");
    BEGIN();
    GOOD(qm_store_config_set(store, "", "history_keep", "10d", &fault));
    COMMIT();
    cr_expect_eq(forget(), 1);
    cr_expect_eq(home_ask(slots), 1);
}

/* The values of a change are told with their lists. */
Test(retire, lists_that_alerts_tell_of_stay)
{
    struct qm_change_item item = {.pcr = 0};
    home_enroll("own", 0, line(1, ""));
    home_enroll("other", 1, line(2, ""));
    home_enroll("last", 2, "");
    put_list(1);
    memset(item.expected, 2, 32);
    memset(item.measured, 1, 32);
    struct qm_alert_new a = {.kind = QM_ALERT_PCR_MISMATCH, .slot = slot_of("other"), .item = &item, .item_count = 1, .at_ms = 5};
    struct qm_alert_raised raised;
    BEGIN();
    GOOD(qm_alert_raise(store, &a, &raised, &fault));
    COMMIT();
    retire((const char *const[]){"own", "last"}, 2, NULL);
    home_change(LONG_AGO "<> ''");
    cr_expect_eq(forget(), 1);
    cr_expect_eq(lists(1), 1);
    cr_expect_eq(home_ask("SELECT count(*) FROM pcr_values"), 1);
}

/* What a machine over the limit differed in stands without an alert's row; blocks of the ledger without a machine are empty. */
Test(retire, forgotten_to_the_last)
{
    enum { MACHINES = 2 * QM_LEDGER_BLOCK };
    const char *ids[MACHINES];
    static char names[MACHINES][16];
    for (unsigned i = 0; i < MACHINES; i++) {
        snprintf(names[i], sizeof names[i], "m%u", i);
        ids[i] = names[i];
        home_enroll(names[i], i % 3, "");
    }
    struct qm_change_item item = {.pcr = 4, .expected = {1}};
    struct qm_alert_new a = {.kind = QM_ALERT_PCR_MISMATCH, .item = &item, .item_count = 1, .at_ms = 5};
    struct qm_alert_raised raised;
    BEGIN();
    for (unsigned i = 0; i < 2; i++)
        for (unsigned k = 0; k <= QM_ALERTS_ALONE_MAX; k++) {
            a.slot = slot_of(names[i]);
            item.measured[0] = (uint8_t)(k + 2);
            GOOD(qm_alert_raise(store, &a, &raised, &fault));
        }
    COMMIT();
    ids[40] = ids[0]; /* m40 goes on, too */
    retire(ids, MACHINES - 1, NULL);
    home_change("DELETE FROM alert WHERE slot = 1");
    const long long changes = home_ask("SELECT count(*) FROM change");
    home_change(LONG_AGO "<> 'm1'");
    cr_expect_eq(forget(), MACHINES - 4, "all but m1, the two that are enrolled, and the last that was taken out");
    cr_expect_eq(home_ask("SELECT count(*) FROM change"), changes - 1);
    cr_expect_eq(home_ask("SELECT count(*) FROM ledger WHERE block = 0"), 0, "of slots 1 to 30");
    cr_expect_eq(home_ask("SELECT count(*) FROM ledger WHERE block > 0"), 2, "slots 41 and 62 are enrolled");
    cr_expect(get(MACHINES).enrolled_s != 0 && get(41).enrolled_s != 0);
    cr_expect_eq(get(5).enrolled_s, 0);
}

/* ---- beacons ---------------------------------------------------------------------------------------------------------- */

Test(retire, beacons)
{
    struct qm_beacon_row row[QM_BEACONS_MAX], made[QM_BEACONS_MAX + 2];
    unsigned count;
    GOOD(qm_beacons_live(store, row, &count, &fault));
    cr_expect_eq(count, 0);
    BEGIN();
    for (unsigned i = 0; i < QM_COUNT(made); i++)
        GOOD(qm_beacon_rotate(store, &made[i], &fault));
    COMMIT();
    cr_expect(memcmp(made[0].beacon.value, made[1].beacon.value, QM_BEACON_SIZE) != 0);
    cr_expect_eq(made[0].until_ms - made[0].since_ms, 3 * 3600000);
    GOOD(qm_beacons_live(store, row, &count, &fault));
    cr_assert_eq(count, QM_BEACONS_MAX);
    for (unsigned i = 0; i < count; i++)
        cr_expect(row[i].beacon.no == made[QM_COUNT(made) - 1 - i].beacon.no &&
                      memcmp(row[i].beacon.value, made[QM_COUNT(made) - 1 - i].beacon.value, QM_BEACON_SIZE) == 0,
                  "newest first");
    home_change("UPDATE beacon SET since_ms = since_ms - 2 * 3600000, until_ms = until_ms - 2 * 3600000 WHERE no < 8");
    home_change("UPDATE beacon SET since_ms = since_ms - 2 * 3600000, until_ms = until_ms - 2 * 3600000 WHERE no < 5");
    GOOD(qm_beacons_live(store, row, &count, &fault));
    cr_expect_eq(count, 6, "those of four hours ago are over: %u", count);
    BEGIN();
    GOOD(qm_store_config_set(store, "", "beacon_life", "1h", &fault));
    COMMIT();
    GOOD(qm_beacons_live(store, row, &count, &fault));
    cr_expect_eq(count, 3, "a shorter life counts for those that are there: %u", count);
    struct qm_beacons all;
    GOOD(qm_beacons_load(store, &all, &fault));
    cr_expect(all.count == 3 && all.beacon[0].no == made[9].beacon.no);
}
