#include "tools/on_alert.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "tools/alert_words.h"
#include "tools/metrics.h"
#include "tools/options.h"
#include "tools/store/store_backup.h"

/* ---- the command -------------------------------------------------------------------------------------------------- */

struct feeding {
    const struct qm_on_alert *options;
    char *line; /* QM_ALERT_JSON_MAX */
    pid_t pid;
    int fd;          /* its standard input */
    uint64_t end_ms; /* of its time */
    uint64_t told, left;
    bool late, deaf; /* its time is over; it reads no more */
};

static uint64_t monotonic_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void feed(struct feeding *f, const char *p, size_t len)
{
    while (len != 0 && !f->late && !f->deaf) {
        ssize_t n = write(f->fd, p, len);
        if (n > 0) {
            p += n;
            len -= (size_t)n;
            continue;
        }
        if (errno == EPIPE) {
            f->deaf = true;
        } else if (errno == EAGAIN) {
            const uint64_t now = monotonic_ms();
            struct pollfd fd = {.fd = f->fd, .events = POLLOUT};
            f->late = now >= f->end_ms || (poll(&fd, 1, (int)(f->end_ms - now)) == 0);
        } else if (errno != EINTR) {
            f->deaf = true;
        }
    }
}

static qm_err feed_alert(void *ctx, const struct qm_alert_view *a, struct qm_fault *fault)
{
    struct feeding *f = ctx;
    (void)fault;
    if (f->told == f->options->lines_max) {
        f->left++;
        return QM_OK;
    }
    struct qm_out o = qm_out_init(f->line, QM_ALERT_JSON_MAX);
    qm_alert_json(&o, a);
    feed(f, o.p, o.len);
    f->told++;
    return QM_OK;
}

/* In the child: only what is safe between fork and exec. Never comes back. */
static void become(const struct qm_on_alert *o, int in, char *const env[])
{
    char *const argv[] = {(char *)(uintptr_t) "sh", (char *)(uintptr_t) "-c", (char *)(uintptr_t)o->command, NULL};
    sigset_t none;
    sigemptyset(&none);
    setpgid(0, 0);
    for (int sig = 1; sig < NSIG; sig++)
        signal(sig, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (dup2(in, 0) < 0 || dup2(2, 1) < 0 || close_range(3, ~0u, 0) != 0)
        _exit(126);
    execve("/bin/sh", argv, env);
    _exit(127);
}

static qm_err start(struct feeding *f, struct qm_fault *fault)
{
    char home[4096 + 16], own[4096 + 16];
    const char *user_home = getenv("HOME");
    int ends[2];
    if (snprintf(home, sizeof home, "QUOTEMILL_HOME=%s", f->options->home) >= (int)sizeof home ||
        snprintf(own, sizeof own, "HOME=%s", user_home != NULL ? user_home : "/") >= (int)sizeof own)
        return qm_fail(fault, QM_E_LIMIT, 0, "--on-alert: the path of the home is too long");
    char *const env[] = {(char *)(uintptr_t) "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                         (char *)(uintptr_t) "LC_ALL=C.UTF-8", home, own, NULL};
    if (pipe2(ends, O_CLOEXEC) != 0)
        return qm_fail(fault, QM_E_IO, errno, "--on-alert: no pipe");
    f->pid = fork();
    if (f->pid == 0)
        become(f->options, ends[0], env);
    close(ends[0]);
    f->fd = ends[1];
    if (f->pid < 0)
        return qm_fail(fault, QM_E_IO, errno, "--on-alert: cannot start the command");
    setpgid(f->pid, f->pid); /* whichever of us comes first; the other fails and need not care */
    fcntl(f->fd, F_SETFL, O_NONBLOCK);
    return QM_OK;
}

/* Waits for its end, at most to its time's; then it and its group are killed. */
static int end(struct feeding *f)
{
    const struct timespec nap = {.tv_nsec = 5 * 1000 * 1000};
    int status = 0;
    while (!f->late && waitpid(f->pid, &status, WNOHANG) == 0) {
        f->late = monotonic_ms() >= f->end_ms;
        if (!f->late)
            nanosleep(&nap, NULL);
    }
    kill(-f->pid, SIGKILL); /* what it left behind, too */
    if (f->late)
        while (waitpid(f->pid, &status, 0) < 0 && errno == EINTR)
            ;
    return status;
}

static qm_err judge_end(const struct feeding *f, int status, struct qm_fault *fault)
{
    if (f->late)
        return qm_fail(fault, QM_E_IO, 0, "--on-alert: the command was killed after %llu s",
                       (unsigned long long)f->options->limit_ms / 1000);
    if (WIFSIGNALED(status))
        return qm_fail(fault, QM_E_IO, 0, "--on-alert: the command died of signal %d", WTERMSIG(status));
    if (WEXITSTATUS(status) != 0)
        return qm_fail(fault, QM_E_IO, 0, "--on-alert: the command ended with %d", WEXITSTATUS(status));
    return f->deaf ? qm_fail(fault, QM_E_IO, 0, "--on-alert: the command did not read all that it was given") : QM_OK;
}

static qm_err run(struct qm_store *s, struct feeding *f, struct qm_fault *fault)
{
    const struct qm_alert_filter filter = {.pcr = -1, .after_no = f->options->after_no};
    const struct sigaction ignore = {.sa_handler = SIG_IGN};
    struct sigaction before;
    qm_err err = start(f, fault);
    if (err != QM_OK)
        return err;
    sigaction(SIGPIPE, &ignore, &before);
    err = qm_alerts_each(s, &filter, feed_alert, f, fault);
    if (f->left != 0) {
        char more[80];
        int n = snprintf(more, sizeof more, "{\"v\":1,\"kind\":\"more\",\"left\":%llu}\n", (unsigned long long)f->left);
        feed(f, more, (size_t)n);
    }
    close(f->fd);
    f->fd = -1;
    sigaction(SIGPIPE, &before, NULL);
    const int status = end(f);
    return err == QM_OK ? judge_end(f, status, fault) : err;
}

qm_err qm_on_alert_run(struct qm_store *s, const struct qm_on_alert *o, uint64_t *told, struct qm_fault *fault)
{
    struct feeding f = {.options = o, .fd = -1, .end_ms = monotonic_ms() + o->limit_ms};
    uint64_t last;
    *told = 0;
    qm_err err = qm_alerts_last(s, &last, fault);
    if (err != QM_OK || last <= o->after_no)
        return err;
    f.line = malloc(QM_ALERT_JSON_MAX);
    err = f.line != NULL ? run(s, &f, fault) : qm_fail(fault, QM_E_NOMEM, 0, "--on-alert: no memory");
    if (f.fd >= 0)
        close(f.fd);
    free(f.line);
    *told = f.told;
    return err;
}

/* ---- the system's log --------------------------------------------------------------------------------------------- */

struct logging {
    uint64_t lines, more;
};

static qm_err log_cohort(void *ctx, const struct qm_cohort *c, struct qm_fault *fault)
{
    struct logging *l = ctx;
    char line[1024];
    (void)fault;
    if (l->lines == QM_SYSLOG_LINES) {
        l->more++;
        return QM_OK;
    }
    l->lines++;
    struct qm_out o = qm_out_init(line, sizeof line - 1);
    qm_cohort_words(&o, c);
    line[o.len] = '\0';
    syslog(qm_alert_severity(c->one.kind) >= QM_SEVERITY_HIGH ? LOG_ALERT : LOG_WARNING, "%s", line);
    return QM_OK;
}

qm_err qm_alerts_syslog(struct qm_store *s, uint64_t after_no, struct qm_fault *fault)
{
    const struct qm_alert_filter filter = {.pcr = -1, .after_no = after_no};
    struct logging l = {0};
    uint64_t last;
    qm_err err = qm_alerts_last(s, &last, fault);
    if (err != QM_OK || last <= after_no)
        return err;
    openlog("quotemill", LOG_PID | LOG_NDELAY, LOG_DAEMON);
    err = qm_cohorts_each(s, &filter, log_cohort, &l, fault);
    if (l.more != 0)
        syslog(LOG_WARNING, "alerts of %llu more changes; see quotemill alerts list", (unsigned long long)l.more);
    closelog();
    return err;
}

/* ---- both ---------------------------------------------------------------------------------------------------------- */

void qm_alerts_tell(struct qm_store *s, const struct qm_tell *t)
{
    const struct qm_on_alert o = {.command = t->on_alert,
                                  .home = t->home,
                                  .after_no = t->after_no,
                                  .limit_ms = QM_ON_ALERT_LIMIT_MS,
                                  .lines_max = QM_ON_ALERT_LINES};
    struct qm_fault fault = {0};
    uint64_t told;
    qm_restored_tell(s, t->command);
    qm_metrics_tell(s, t->command, t->home, t->metrics);
    if (t->syslog && qm_alerts_syslog(s, t->after_no, &fault) != QM_OK)
        qm_complain(t->command, &fault);
    if (t->on_alert != NULL && qm_on_alert_run(s, &o, &told, &fault) != QM_OK)
        qm_complain(t->command, &fault);
}
