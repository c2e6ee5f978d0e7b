/* What a run tells the outside of the alerts it opened: a command of the operator's, and the
 * system's log. Neither can fail a run. */
#ifndef QM_ON_ALERT_H
#define QM_ON_ALERT_H

#include "tools/store/store_alerts.h"

enum { QM_ON_ALERT_LIMIT_MS = 30 * 1000, QM_ON_ALERT_LINES = 10000, QM_SYSLOG_LINES = 100 };

struct qm_on_alert {
    const char *command; /* for /bin/sh -c */
    const char *home;    /* QUOTEMILL_HOME for it */
    uint64_t after_no;   /* alerts with a higher number are new (qm_alerts_last before the run) */
    uint64_t limit_ms;   /* then it is killed, and whatever it started in its process group */
    uint64_t lines_max;  /* alerts it is given; then one line {"v":1,"kind":"more","left":N} */
};
/* The new alerts as lines of JSON on its standard input, once; nothing is started where there are
 * none. It has PATH, HOME, LC_ALL=C.UTF-8 and QUOTEMILL_HOME in its environment and no descriptor
 * but the standard ones; what it prints goes to our standard error. *told: how many. QM_E_IO, with
 * words: it could not be started, failed, did not read all, or was killed. */
qm_err qm_on_alert_run(struct qm_store *s, const struct qm_on_alert *o, uint64_t *told, struct qm_fault *fault) QM_MUST_USE;

/* A line for each change among the new alerts, QM_SYSLOG_LINES at most and then one that says how
 * many more. */
qm_err qm_alerts_syslog(struct qm_store *s, uint64_t after_no, struct qm_fault *fault) QM_MUST_USE;

/* Both, and the metrics, after a run was recorded and its lock is free again. Complaints go to standard error; nothing comes of them. */
struct qm_tell {
    const char *command;  /* "run", "apply": for messages */
    const char *home;
    const char *on_alert; /* NULL: none */
    bool syslog;
    uint64_t after_no;
    const char *metrics;  /* as qm_metrics_tell takes it */
};
void qm_alerts_tell(struct qm_store *s, const struct qm_tell *t);

#define QM_TELL_OPTIONS(on_alert_, syslog_) \
    {.name = "on-alert", .kind = QM_OPT_TEXT, .to = (on_alert_), .value = "COMMAND", \
     .help = "run by the shell once, where alerts were opened: they are its input, one JSON object a line"}, \
    {.name = "syslog", .kind = QM_OPT_FLAG, .to = (syslog_), .help = "new alerts to the system's log too, a line for each change"}

#endif
