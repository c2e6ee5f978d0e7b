/* What is written for Prometheus: numbers and words of ours, whole or not at all. */
#include <sys/stat.h>
#include <unistd.h>

#include "tests/homes.h"
#include "tools/metrics.h"
#include "tools/store/store_config.h"
#include "tools/store/store_ledger.h"

static char text[65536];

TestSuite(metrics, .init = home_make, .fini = home_end);

static void write_to(const char *path)
{
    char own[600];
    GOOD(qm_metrics_write(store, home_path, path, &fault));
    snprintf(own, sizeof own, "%s/metrics/quotemill.prom", home_path);
    FILE *f = fopen(path != NULL ? path : own, "r");
    cr_assert_not_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
}

static void has(const char *line)
{
    char whole[400];
    snprintf(whole, sizeof whole, "\n%s\n", line);
    cr_expect_not_null(strstr(text, whole), "no line %s in\n%s", line, text);
}

static void name_home(const char *name)
{
    BEGIN();
    GOOD(qm_store_config_set(store, "", "name", name, &fault));
    COMMIT();
}

Test(metrics, an_empty_home)
{
    write_to(NULL);
    has("quotemill_instances{home=\"\",status=\"trusted\",reason=\"\"} 0");
    has("quotemill_alerts{home=\"\",alert=\"pcr_mismatch\",state=\"open\"} 0");
    cr_expect_null(strstr(text, "last_run"), "there was none");
    has("quotemill_enrolments_pending{home=\"\"} 0");
}

/* Of challenges only those count that were answered, and can still be confirmed. */
Test(metrics, enrolments_that_wait)
{
    static const char row[] = "INSERT INTO challenge(name, id, state, proof, ek, line, who, made_ms, until_ms) VALUES";
    char sql[600];
    const unsigned long long now = qm_store_now_ms(store);
    snprintf(sql, sizeof sql, "%s(x'01', 'a', 1, x'', x'', '', '', 0, %llu), (x'02', 'b', 1, x'', x'', '', '', 0, %llu),"
                              "(x'03', 'c', 0, x'', x'', '', '', 0, %llu), (x'04', 'd', 2, x'', x'', '', '', 0, %llu)",
             row, now + 3600000, now - 60000, now + 3600000, now + 3600000);
    home_change(sql);
    write_to(NULL);
    has("quotemill_enrolments_pending{home=\"\"} 1");
}

Test(metrics, machines_alerts_and_the_last_run)
{
    struct qm_ledger l;
    name_home("east");
    home_enroll("a", 1, "");
    home_enroll("b", 2, "");
    BEGIN();
    GOOD(qm_store_ledger_get(store, 1, &l, &fault));
    l.flags = QM_LEDGER_STATUS;
    l.status = QM_TRUSTED;
    l.reason = QM_ALL_GOOD;
    l.fresh = QM_FRESH_BEACON;
    l.authentic_ms = qm_store_now_ms(store);
    GOOD(qm_store_ledger_put(store, 1, &l, &fault));
    COMMIT();
    home_change("INSERT INTO change(no, kind, grp, class, key, name, items, first_ms) VALUES(1, 0, 0, 0, x'00', 'n', x'', 1);"
                "INSERT INTO alert(no, kind, slot, change, state, seen, first_ms, last_ms, count) VALUES(1, 4, 1, 1, 0, 0, 1, 1, 1);"
                "INSERT INTO run VALUES(1, 'r', 'run', 1000, 3500, 1, 9, 1, '{\"files\":3,\"records\":9,\"by_status\":{\"trusted\":8,"
                "\"duplicate\":1,\"evil\\\"} 1\":7},\"by_reason\":{\"ok\":8},\"x\\ny\":5,\"bytes\":\"12\"}')");
    write_to(NULL);
    has("quotemill_instances{home=\"east\",status=\"trusted\",reason=\"ok\"} 1");
    has("quotemill_instances{home=\"east\",status=\"new\",reason=\"no_record\"} 1");
    has("quotemill_instances{home=\"east\",status=\"untrusted\",reason=\"\"} 0");
    has("quotemill_trusted{home=\"east\",fresh=\"beacon\"} 1");
    has("quotemill_alerts{home=\"east\",alert=\"replayed\",state=\"open\"} 1");
    has("quotemill_last_run_start_timestamp_seconds{home=\"east\"} 1.000");
    has("quotemill_last_run_end_timestamp_seconds{home=\"east\"} 3.500");
    has("quotemill_last_run_duration_seconds{home=\"east\"} 2.500");
    has("quotemill_last_run_complete{home=\"east\"} 1");
    has("quotemill_last_run_files{home=\"east\"} 3");
    has("quotemill_last_run_results{home=\"east\",status=\"trusted\"} 8");
    has("quotemill_last_run_reasons{home=\"east\",reason=\"ok\"} 8");
    cr_expect_null(strstr(text, "evil"));
    cr_expect_null(strstr(text, "last_run_bytes"), "it is no number");
    cr_expect_null(strstr(text, "} 5\n"));
}

Test(metrics, whole_or_not_at_all)
{
    struct stat st;
    char path[600], folder[600];
    snprintf(path, sizeof path, "%s.prom", home_path);
    write_to(path);
    MUST(stat(path, &st) == 0);
    cr_expect_eq(st.st_mode & 0777, 0644, "another user collects it");
    snprintf(folder, sizeof folder, "%s.nowhere/x.prom", home_path);
    cr_expect_eq(qm_metrics_write(store, home_path, folder, &fault), QM_E_IO);
    /* a store that cannot be read leaves the old file, and no other */
    home_enroll("a", 1, "");
    home_change("UPDATE ledger SET entries = x'00'");
    cr_expect_eq(qm_metrics_write(store, home_path, path, &fault), QM_E_FORMAT);
    struct stat now;
    MUST(stat(path, &now) == 0);
    cr_expect_eq(now.st_ino, st.st_ino);
    snprintf(folder, sizeof folder, "%s.prom.tmp", home_path);
    cr_expect_neq(access(folder, F_OK), 0);
}

Test(metrics, go_where_the_policy_says)
{
    struct stat st;
    char path[100], own[600];
    snprintf(path, sizeof path, "%s/x.prom", craft_dir());
    snprintf(own, sizeof own, "%s/metrics", home_path);
    BEGIN();
    GOOD(qm_store_config_set(store, "", "metrics", "none", &fault));
    COMMIT();
    qm_metrics_tell(store, "run", home_path, NULL);
    cr_expect_neq(stat(own, &st), 0);
    BEGIN();
    GOOD(qm_store_config_set(store, "", "metrics", path, &fault));
    COMMIT();
    qm_metrics_tell(store, "run", home_path, NULL);
    cr_expect_eq(stat(path, &st), 0);
    cr_expect_neq(stat(own, &st), 0);
    BEGIN();
    GOOD(qm_store_config_set(store, "", "metrics", "", &fault));
    COMMIT();
    qm_metrics_tell(store, "run", home_path, NULL);
    cr_expect_eq(stat(own, &st), 0);
}

Test(metrics, go_where_the_command_line_says)
{
    struct stat st;
    char path[100], given[100];
    snprintf(path, sizeof path, "%s/policy.prom", craft_dir());
    snprintf(given, sizeof given, "%s/given.prom", craft_dir());
    BEGIN();
    GOOD(qm_store_config_set(store, "", "metrics", path, &fault));
    COMMIT();
    qm_metrics_tell(store, "run", home_path, "none");
    cr_expect_neq(stat(path, &st), 0);
    qm_metrics_tell(store, "run", home_path, given);
    cr_expect_eq(stat(given, &st), 0);
    cr_expect_neq(stat(path, &st), 0);
}
