/* Policies: what they are by default, who may differ, what is refused, and what moves the table. */
#include "tests/homes.h"
#include "tools/store/store_config.h"

TestSuite(config, .init = home_make, .fini = home_end);

static const struct qm_policy *policy(const char *group)
{
    const struct qm_policy *p;
    GOOD(qm_store_policy(store, group, strlen(group), &p, &fault));
    return p;
}

static void set(const char *group, const char *key, const char *value)
{
    BEGIN();
    GOOD(qm_store_config_set(store, group, key, value, &fault));
    COMMIT();
}

static void refused(const char *group, const char *key, const char *value, const char *why)
{
    BEGIN();
    cr_expect_eq(qm_store_config_set(store, group, key, value, &fault), QM_E_REFUSED, "%s=%s", key, value);
    cr_expect_not_null(strstr(fault.text, why), "'%s' does not say '%s'", fault.text, why);
    qm_store_rollback(store);
}

Test(config, durations)
{
    static const struct {
        const char *text;
        uint64_t ms;
        bool good;
    } cases[] = {
        {"90s", 90000, true},
        {"15m", 900000, true},
        {"6h", 21600000, true},
        {"7d", 604800000, true},
        {"2w", 1209600000, true},
        {"90", 90000, true},
        {"0", 0, true},
        {"off", 0, true},
        {"0d", 0, true},
        {"9223372036854775s", 9223372036854775000, true},
        {"9223372036854776s", 0, false},
        {"18446744073709551616", 0, false},
        {"", 0, false},
        {"s", 0, false},
        {"1x", 0, false},
        {"1hh", 0, false},
        {"-1s", 0, false},
        {" 1s", 0, false},
        {"1 s", 0, false},
        {"1.5h", 0, false},
        {"OFF", 0, false},
    };
    for (size_t i = 0; i < QM_COUNT(cases); i++) {
        uint64_t ms = 0;
        bool good = qm_duration_read(cases[i].text, &ms);
        cr_expect(good == cases[i].good && (!good || ms == cases[i].ms), "'%s': %d, %llu", cases[i].text, good,
                  (unsigned long long)ms);
    }
}

Test(config, defaults)
{
    const struct qm_policy *h = policy(""), *g = policy("g");
    cr_expect(h->learn == QM_LEARN_FIRST && h->learn_within_ms == 7 * 86400000ull && h->unmeasured_after_ms == 86400000 &&
              h->lag_after_ms == 6 * 3600000 && h->keep_old_ms == 0 && h->freshness == QM_FRESHNESS_CLOCK &&
              h->retire_after_ms == 0 && h->beacon_period_ms == 3600000 && h->beacon_life_ms == 3 * 3600000 &&
              h->held_keep_ms == 86400000);
    cr_expect(h->class_group == 0 && h->class_ignored == 0, "without a group all are the instance's");
    cr_expect(h->name[0] == '\0' && h->stage_name[8][0] == '\0');
    cr_expect(g->class_group == (0xffffff & ~0x62u) && g->class_ignored == 0);
}

Test(config, who_may_differ)
{
    const struct qm_policy *h = policy(""), *g = policy("g");
    set("", "unmeasured_after", "2d");
    cr_expect_eq(policy("")->unmeasured_after_ms, 2 * 86400000);
    cr_expect_eq(policy("g")->unmeasured_after_ms, 2 * 86400000, "a group has the home's");
    set("g", "unmeasured_after", "1h");
    cr_expect(policy("g")->unmeasured_after_ms == 3600000 && policy("h")->unmeasured_after_ms == 2 * 86400000);
    cr_expect(policy("") == h && policy("g") == g, "a policy's place lasts");
    set("g", "unmeasured_after", NULL);
    cr_expect_eq(policy("g")->unmeasured_after_ms, 2 * 86400000);
    set("", "unmeasured_after", NULL);
    cr_expect_eq(policy("g")->unmeasured_after_ms, 86400000);
    set("g", "learn", "never");
    cr_expect(policy("g")->learn == QM_LEARN_NEVER && policy("")->learn == QM_LEARN_FIRST);
    refused("g", "name", "x", "home's alone");
    refused("g", "beacon_life", "2h", "home's alone");
    set("", "name", "rack 7");
    set("", "stage.8", "kernel line");
    cr_expect(strcmp(policy("g")->name, "rack 7") == 0 && strcmp(policy("g")->stage_name[8], "kernel line") == 0);
    cr_expect_eq(home_ask("SELECT count(*) FROM journal WHERE what LIKE 'config %' AND who <> ''"), 7);
}

Test(config, what_is_refused)
{
    refused("", "colour", "red", "no policy");
    refused("", "stage.24", "x", "no policy");
    refused("", "learn", "second", "first or never");
    refused("", "freshness", "nonce", "clock or beacon");
    refused("", "keep_old", "soon", "a time");
    refused("", "held_max", "1P", "a size");
    refused("", "instance_pcrs", "24", "PCRs");
    refused("", "instance_pcrs", "3-1", "PCRs");
    refused("", "instance_pcrs", "1,,2", "PCRs");
    refused("", "instance_pcrs", "1,", "PCRs");
    refused("", "instance_pcrs", "1-2-3", "PCRs");
    refused("", "name", "a\nb", "control");
    refused("g", "metrics", "none", "home's alone");
    refused("", "metrics", "somewhere", "begins with /");
    set("", "metrics", "none");
    set("", "metrics", "/var/lib/node/quotemill.prom");
    set("", "metrics", "");
    refused("", "beacon_period", "off", "beacon_period");
    refused("", "beacon_life", "30m", "at least beacon_period");
    refused("", "beacon_life", "8h", "at most 7 times");
    set("", "beacon_life", "7h");
    refused("", "beacon_period", "59m", "at most 7 times");
    refused("", "beacon_period", "8h", "at least");
    cr_expect_eq(policy("")->beacon_life_ms, 7 * 3600000, "what was refused and undone is not there");
    cr_expect_eq(policy("")->beacon_period_ms, 3600000);
}

Test(config, classes)
{
    set("g", "instance_pcrs", "0,2-4,7");
    cr_expect_eq(policy("g")->class_group, 0xffffff & ~0x9du);
    set("g", "ignored_pcrs", "7-9");
    cr_expect(policy("g")->class_group == (0xffffff & ~0x39du) && policy("g")->class_ignored == 0x380);
    set("g", "instance_pcrs", "none");
    cr_expect_eq(policy("g")->class_group, 0xffffff & ~0x380u);
    cr_expect_eq(policy("")->class_group, 0);
}

Test(config, classes_reach_the_table)
{
    home_enroll("a", 0, ",\"group\":\"g\"");
    home_enroll("b", 1, "");
    home_publish();
    struct qm_table *t = home_table();
    cr_expect(home_find(t, "a").profile->baselined == 0x3ff && !home_find(t, "a").require_beacon);
    const uint64_t before = home_find(t, "a").generation;
    qm_table_close(t);
    set("g", "unmeasured_after", "1h");
    cr_expect_not(home_publish(), "a policy that the table does not have moves nothing");
    set("g", "ignored_pcrs", "5,6");
    set("g", "freshness", "beacon");
    cr_expect(home_publish());
    t = home_table();
    cr_expect(home_find(t, "a").profile->baselined == 0x39f && home_find(t, "a").require_beacon);
    cr_expect_gt(home_find(t, "a").generation, before);
    cr_expect(home_find(t, "b").profile->baselined == 0x3ff && !home_find(t, "b").require_beacon);
    qm_table_close(t);
    set("", "freshness", "beacon");
    cr_expect(home_publish());
    t = home_table();
    cr_expect(home_find(t, "b").require_beacon, "the home's policy is for those without a group too");
    qm_table_close(t);
}

Test(config, something_is_left_to_compare)
{
    home_enroll("a", 0, ",\"group\":\"g\",\"baselined\":[5,6]");
    refused("g", "ignored_pcrs", "5,6", "'a' would have no PCR left");
    refused("", "ignored_pcrs", "4-7", "'a' would have no PCR left");
    set("g", "ignored_pcrs", "5");
    set("", "ignored_pcrs", "4-7"); /* g has its own word */
    cr_expect_eq(home_try_enroll("b", 1, ",\"group\":\"h\",\"baselined\":[5,6]"), QM_E_REFUSED);
    cr_expect_not_null(strstr(fault.text, "ignores every PCR"));
    home_enroll("b", 1, ",\"group\":\"h\",\"baselined\":[5,6,9]");
    refused("g", "ignored_pcrs", NULL, "'a' would have no PCR left");
}

static void count_visit(void *ctx, const char *key, const char *value, const char *from, const char *help)
{
    unsigned *n = ctx;
    cr_expect(key[0] != '\0' && help[0] != '\0' && value != NULL);
    if (strcmp(key, "keep_old") == 0) {
        cr_expect(strcmp(value, "1d") == 0 && strcmp(from, "home") == 0);
        *n += 100;
    }
    if (strcmp(key, "learn") == 0) {
        cr_expect(strcmp(value, "never") == 0 && strcmp(from, "group") == 0);
        *n += 100;
    }
    if (strcmp(key, "stage.4") == 0)
        cr_expect(strcmp(value, "boot manager code") == 0 && strcmp(from, "default") == 0);
    ++*n;
}

Test(config, listed)
{
    unsigned n = 0;
    set("", "keep_old", "1d");
    set("g", "learn", "never");
    GOOD(qm_store_config_each(store, "g", count_visit, &n, &fault));
    cr_expect_eq(n, 209, "%u", n);
}

/* What another process sets is seen by the next transaction. */
Test(config, another_process)
{
    struct qm_store *other;
    cr_expect_eq(policy("g")->keep_old_ms, 0);
    GOOD(qm_store_open(&other, home_path, true, &fault));
    GOOD(qm_store_begin(other, &fault));
    GOOD(qm_store_config_set(other, "g", "keep_old", "3d", &fault));
    GOOD(qm_store_commit(other, &fault));
    qm_store_close(other);
    BEGIN();
    cr_expect_eq(policy("g")->keep_old_ms, 3 * 86400000);
    COMMIT();
}
