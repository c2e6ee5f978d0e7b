/* The operator's command: what it gets, and that nothing it does holds a run up. Moments as people give them. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "tests/craft.h"
#include "tools/moment_read.h"
#include "tools/on_alert.h"

static char home[512], place[600];
static struct qm_store *store;
static struct qm_fault fault;

static void make_home(void)
{
    bool made;
    snprintf(home, sizeof home, "%s/home", craft_dir());
    MUST(qm_store_create(home, &made, &fault) == QM_OK && qm_store_open(&store, home, true, &fault) == QM_OK);
}

static void end(void)
{
    qm_store_close(store);
    craft_free_all();
}

TestSuite(on_alert, .init = make_home, .fini = end);

/* Alerts of the home as a whole, so that nothing need be enrolled. */
static void raise_some(unsigned count)
{
    MUST(qm_store_begin(store, &fault) == QM_OK);
    for (unsigned i = 0; i < count; i++) {
        struct qm_alert_raised raised;
        const struct qm_alert_new a = {.kind = QM_ALERT_UNMEASURED, .subject = {(const uint8_t *)&i, sizeof i}, .at_ms = 5};
        MUST(qm_alert_raise(store, &a, &raised, &fault) == QM_OK);
    }
    MUST(qm_store_commit(store, &fault) == QM_OK);
}

/* Runs it with `place` standing for %s. */
static qm_err tell(const char *command, uint64_t after_no, uint64_t limit_ms, uint64_t lines_max, uint64_t *told)
{
    char text[2000];
    snprintf(place, sizeof place, "%s/out", craft_dir());
    const char *at = strstr(command, "OUT");
    snprintf(text, sizeof text, "%.*s%s%s", at != NULL ? (int)(at - command) : (int)strlen(command), command, at != NULL ? place : "",
             at != NULL ? at + 3 : "");
    const struct qm_on_alert o = {
        .command = text, .home = home, .after_no = after_no, .limit_ms = limit_ms, .lines_max = lines_max};
    fault = (struct qm_fault){0};
    return qm_on_alert_run(store, &o, told, &fault);
}

static const char *written(void)
{
    static char text[8192];
    FILE *f = fopen(place, "r");
    size_t n = f != NULL ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f != NULL)
        fclose(f);
    text[n] = '\0';
    return text;
}

static unsigned lines(const char *text)
{
    unsigned n = 0;
    for (; *text != '\0'; text++)
        n += *text == '\n';
    return n;
}

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

Test(on_alert, new_alerts_once_as_lines)
{
    uint64_t told;
    raise_some(5);
    cr_assert_eq(tell("cat >OUT", 2, 20000, 100, &told), QM_OK, "%s", fault.text);
    cr_expect_eq(told, 3);
    cr_expect_eq(lines(written()), 3);
    cr_expect_eq(strncmp(written(), "{\"v\":1,\"kind\":\"alert\",\"no\":3,\"alert\":\"unmeasured\",", 50), 0, "%s", written());
    /* nothing new: nothing is started */
    unlink(place);
    cr_assert_eq(tell("cat >OUT", 5, 20000, 100, &told), QM_OK, "%s", fault.text);
    cr_expect_eq(told, 0);
    cr_expect_neq(access(place, F_OK), 0);
    /* more than it is to get */
    cr_assert_eq(tell("cat >OUT", 0, 20000, 2, &told), QM_OK, "%s", fault.text);
    cr_expect_eq(told, 2);
    cr_expect_eq(lines(written()), 3);
    cr_expect_not_null(strstr(written(), "\n{\"v\":1,\"kind\":\"more\",\"left\":3}\n"), "%s", written());
}

Test(on_alert, a_clean_place)
{
    uint64_t told;
    char expected[700];
    raise_some(1);
    MUST(open("/dev/null", O_RDONLY) > 2); /* not closed on exec: it must not reach the command */
    setenv("SECRET", "1", 1);
    MUST(signal(SIGTERM, SIG_IGN) != SIG_ERR);
    cr_assert_eq(tell("{ cat >/dev/null; env; ls /proc/self/fd; grep SigIgn /proc/self/status; } >OUT", 0, 20000, 100, &told), QM_OK, "%s",
                 fault.text);
    const char *text = written();
    cr_expect_null(strstr(text, "SECRET"), "%s", text);
    snprintf(expected, sizeof expected, "QUOTEMILL_HOME=%s\n", home);
    cr_expect_not_null(strstr(text, expected), "%s", text);
    cr_expect_not_null(strstr(text, "LC_ALL=C.UTF-8\n"), "%s", text);
    cr_expect_not_null(strstr(text, "\n0\n1\n2\n3\nSigIgn:\t0000000000000000\n"), "%s", text); /* 3 is ls's own */
}

/* As /proc has it; Z where there is no such process. */
static char state_of(pid_t process)
{
    char stat[64], line[256] = "";
    snprintf(stat, sizeof stat, "/proc/%d/stat", (int)process);
    FILE *f = fopen(stat, "r");
    const char *p = f != NULL && fgets(line, sizeof line, f) != NULL ? strrchr(line, ')') : NULL;
    if (f != NULL)
        fclose(f);
    return p != NULL ? p[2] : 'Z';
}

Test(on_alert, whatever_it_does)
{
    uint64_t told;
    raise_some(3);
    cr_expect_eq(tell("cat >/dev/null; exit 7", 0, 20000, 100, &told), QM_E_IO);
    cr_expect_str_eq(fault.text, "--on-alert: the command ended with 7");
    cr_expect_eq(tell("kill -9 $$", 0, 20000, 100, &told), QM_E_IO);
    cr_expect_str_eq(fault.text, "--on-alert: the command died of signal 9");
    cr_expect_eq(tell("no-such-command-at-all 2>/dev/null", 0, 20000, 100, &told), QM_E_IO);
    cr_expect_str_eq(fault.text, "--on-alert: the command ended with 127");
    /* it does not end; where it has not even begun when its time is over, it gets more */
    pid_t left = 0;
    for (uint64_t limit_ms = 300; left == 0 && limit_ms < 60000; limit_ms *= 4) {
        uint64_t start = now();
        cr_expect_eq(tell("trap '' TERM; sleep 1000 & echo $! >OUT; wait", 0, limit_ms, 100, &told), QM_E_IO);
        cr_expect_not_null(strstr(fault.text, "was killed"));
        cr_expect_lt(now() - start, 300000);
        left = (pid_t)strtol(written(), NULL, 10);
    }
    MUST(left > 1);
    /* killed with it; where nobody reaps orphans it stays as a zombie, which is no process any more */
    char state = state_of(left);
    for (int i = 0; i < 6000 && state != 'Z'; i++) {
        usleep(10000);
        state = state_of(left);
    }
    cr_expect_eq(state, 'Z', "what it had started goes on");
}

Test(on_alert, it_does_not_read)
{
    uint64_t told;
    raise_some(2000); /* more than a pipe holds */
    cr_expect_eq(tell("exec <&-; sleep 0.1", 0, 20000, 10000, &told), QM_E_IO);
    cr_expect_str_eq(fault.text, "--on-alert: the command did not read all that it was given");
    uint64_t start = now();
    cr_expect_eq(tell("sleep 1000", 0, 300, 10000, &told), QM_E_IO);
    cr_expect_not_null(strstr(fault.text, "was killed"));
    cr_expect_lt(now() - start, 300000);
}

Test(on_alert, moments)
{
    static const struct {
        const char *text;
        uint64_t ms;
    } good[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"1970-01-02", 86400000},
        {"2026-11-27T06:41:30Z", 1795761690000},
        {"2026-11-27 06:41:30.25z", 1795761690250},
        {"2026-11-27t08:41:30+02:00", 1795761690000},
        {"2026-11-26T22:11:30.5-08:30", 1795761690500},
        {"2024-02-29", 1709164800000},
        {"2000-03-01", 951868800000},
        {"6h", 1000000000000 + 6 * 3600000},
        {"90s", 1000000000000 + 90000},
    };
    static const char *const bad[] = {"",           "now",        "2026-13-01", "2026-02-29", "2026-11-31", "2026-1-1",
                                      "2100-02-29", "1969-12-31", "2026-11-27T06:41", "2026-11-27T06:41:30", "2026-11-27T25:00:00Z",
                                      "2026-11-27T06:41:30+2:00", "2026-11-27T06:41:30Z ", "6 hours", "-6h", "1970-01-01T00:00:00+01:00"};
    uint64_t ms;
    for (size_t i = 0; i < QM_COUNT(good); i++) {
        cr_expect(qm_moment_read(good[i].text, 1000000000000, true, &ms), "%s", good[i].text);
        cr_expect_eq(ms, good[i].ms, "%s: %llu", good[i].text, (unsigned long long)ms);
    }
    for (size_t i = 0; i < QM_COUNT(bad); i++)
        cr_expect(!qm_moment_read(bad[i], 1000000000000, true, &ms), "%s", bad[i]);
    cr_expect(qm_moment_read("1h", 1000000000000, false, &ms));
    cr_expect_eq(ms, 1000000000000 - 3600000);
}
