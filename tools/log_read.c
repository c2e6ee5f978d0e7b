#include "tools/log_read.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "codec/text.h"
#include "engine/kernel/kernel.h"
#include "tools/line_read.h"

_Static_assert(QM_LOG_MAX == 4 * 1024 * 1024, "a message below names the limit");

/* The start values may stand anywhere before the first extend, and what tells of a D-RTM launch
 * comes after it. */
static void fold_events(struct qm_log_view *v)
{
    struct qm_log log = v->log;
    struct qm_event e;
    enum qm_log_step step;
    v->unreplayable = !qm_log_has_bank(&log, QM_HASH_SHA256);
    while ((step = qm_log_next(&log, &e)) == QM_LOG_EVENT) {
        qm_log_starts_fold(&v->starts, &e);
        v->event_count++;
        v->data_max = e.data.len > v->data_max ? e.data.len : v->data_max;
        v->unreplayable |= e.extends && e.digest[QM_HASH_SHA256] == NULL;
    }
    v->malformed = step == QM_LOG_MALFORMED;
    v->malformed_at = (size_t)(log.p - log.start);
}

static void replay_event(struct qm_log_view *v, const struct qm_event *e)
{
    for (enum qm_hash h = QM_HASH_SHA1; h < QM_HASH_COUNT; h++) {
        if (!qm_log_has_bank(&v->log, h))
            continue;
        v->shown[h] |= 1u << e->pcr;
        if (e->digest[h] != NULL)
            qm_hash_extend(h, v->value[h][e->pcr], e->digest[h]);
        else
            v->lacking[h] |= 1u << e->pcr;
    }
}

void qm_log_view_init(struct qm_log_view *v, struct qm_span bytes)
{
    memset(v, 0, sizeof *v);
    v->opened = qm_log_open(&v->log, bytes);
    v->malformed = !v->opened;
    if (!v->opened)
        return;
    fold_events(v);
    if (v->malformed)
        return; /* values of half a log would only mislead */
    for (enum qm_hash h = QM_HASH_SHA1; h < QM_HASH_COUNT; h++) {
        for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++)
            qm_log_start(&v->starts, pcr, v->value[h][pcr], qm_hash_size(h));
        v->shown[h] = v->starts.hcrtm || v->starts.locality != 0;
    }
    struct qm_log log = v->log;
    struct qm_event e;
    while (qm_log_next(&log, &e) == QM_LOG_EVENT)
        if (e.extends)
            replay_event(v, &e);
    for (enum qm_hash h = QM_HASH_SHA1; h < QM_HASH_COUNT; h++)
        v->shown[h] &= ~v->lacking[h];
}

const char *qm_log_view_status(const struct qm_log_view *v)
{
    return v->malformed ? "malformed" : v->unreplayable ? "unreplayable" : "ok";
}

/* The failure, with the path in it as it may be shown. */
static qm_err fail(struct qm_fault *fault, qm_err err, int sys, const char *what, const char *path)
{
    char shown[256];
    struct qm_out o = qm_out_init(shown, sizeof shown - 1);
    qm_out_shown(&o, (struct qm_span){(const uint8_t *)path, strlen(path)});
    shown[o.len] = '\0';
    return qm_fail(fault, err, sys, "'%s' %s", shown, what);
}

qm_err qm_log_file_read(const char *path, uint8_t **bytes, size_t *len, struct qm_fault *fault)
{
    bool is_stdin = strcmp(path, "-") == 0;
    int fd = STDIN_FILENO;
    qm_err err = is_stdin ? QM_OK : qm_file_open(path, &fd, fault);
    if (err != QM_OK)
        return err;
    uint8_t *buffer = malloc(QM_LOG_MAX + 1);
    size_t used = 0;
    ssize_t n = -1;
    while (buffer != NULL && used <= QM_LOG_MAX) {
        n = read(fd, buffer + used, QM_LOG_MAX + 1 - used);
        if (n == 0 || (n < 0 && errno != EINTR))
            break;
        used += n > 0 ? (size_t)n : 0;
    }
    int sys = n < 0 ? errno : 0;
    if (!is_stdin)
        close(fd);
    *bytes = buffer;
    *len = used;
    if (buffer != NULL && sys == 0 && used <= QM_LOG_MAX)
        return QM_OK;
    free(buffer);
    *bytes = NULL;
    if (buffer == NULL)
        return fail(fault, QM_E_NOMEM, 0, "does not fit into memory", path);
    if (sys != 0)
        return fail(fault, QM_E_IO, sys, "cannot be read", path);
    return fail(fault, QM_E_LIMIT, 0, "is longer than 4 MiB, the most that a log may have", path);
}
