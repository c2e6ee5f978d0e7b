#include "tools/retention.h"

#include <stdio.h>

#include "codec/emit.h"
#include "tools/store/store.h"

static const char *const names[QM_KEPT_KINDS] = {
    [QM_TRIM_QUARANTINE] = "quarantine", [QM_TRIM_HELD] = "held", [QM_TRIM_ARCHIVE] = "archive", [QM_TRIM_RESULTS] = "results"};

struct bound {
    uint64_t keep_ms, max_bytes;
};

static struct bound bound_of(enum qm_trim_kind kind, const struct qm_policy *p)
{
    switch (kind) {
    case QM_TRIM_QUARANTINE:
        return (struct bound){p->quarantine_keep_ms, p->quarantine_max_bytes};
    case QM_TRIM_HELD:
        return (struct bound){p->held_keep_ms, p->held_max_bytes};
    case QM_TRIM_ARCHIVE:
        return (struct bound){p->archive_keep_ms, p->archive_max_bytes};
    case QM_TRIM_RESULTS:
        break;
    }
    return (struct bound){p->results_keep_ms, p->results_max_bytes};
}

qm_err qm_retention_plan(struct qm_retention *r, const char *home, const char *archive, const char *run, const struct qm_policy *policy,
                         uint64_t now_ms, struct qm_fault *fault)
{
    qm_err err = QM_OK;
    *r = (struct qm_retention){0};
    for (unsigned i = 0; err == QM_OK && i < QM_KEPT_KINDS; i++) {
        const enum qm_trim_kind kind = (enum qm_trim_kind)i;
        const struct bound b = bound_of(kind, policy);
        char dir[4096 + 64], own[64];
        if (kind == QM_TRIM_ARCHIVE && archive == NULL)
            continue;
        if (kind == QM_TRIM_ARCHIVE)
            err = (size_t)snprintf(dir, sizeof dir, "%s", archive) < sizeof dir
                      ? QM_OK
                      : qm_fail(fault, QM_E_LIMIT, 0, "the path of the archive is too long");
        else
            err = qm_home_file(dir, sizeof dir, home, names[i], fault);
        snprintf(own, sizeof own, "%s%s", run, kind == QM_TRIM_RESULTS ? ".mpk" : "");
        if (err == QM_OK)
            err = qm_trim_plan(&r->trim[i], dir, kind, own, now_ms, b.keep_ms, b.max_bytes, fault);
    }
    return err;
}

void qm_retention_write(const struct qm_retention *r, struct qm_out *out)
{
    struct qm_emit e = qm_emit_init(out, true);
    qm_emit_map(&e);
    for (unsigned i = 0; i < QM_KEPT_KINDS; i++) {
        uint64_t bytes = 0, files = r->trim[i] != NULL ? qm_trim_lost(r->trim[i], &bytes) : 0;
        if (files == 0)
            continue;
        qm_emit_key(&e, names[i]);
        qm_emit_map(&e);
        qm_emit_key(&e, "files");
        qm_emit_u64(&e, files);
        qm_emit_key(&e, "bytes");
        qm_emit_u64(&e, bytes);
        qm_emit_end(&e);
    }
    qm_emit_end(&e);
}

uint64_t qm_retention_lost(const struct qm_retention *r)
{
    uint64_t files = 0, bytes;
    for (unsigned i = 0; i < QM_KEPT_KINDS; i++)
        files += r->trim[i] != NULL ? qm_trim_lost(r->trim[i], &bytes) : 0;
    return files;
}

qm_err qm_retention_apply(struct qm_retention *r, struct qm_fault *fault)
{
    qm_err first = QM_OK;
    for (unsigned i = 0; i < QM_KEPT_KINDS; i++) {
        qm_err err = r->trim[i] != NULL ? qm_trim_apply(r->trim[i], first == QM_OK ? fault : NULL) : QM_OK;
        if (first == QM_OK)
            first = err;
    }
    return first;
}

void qm_retention_close(struct qm_retention *r)
{
    for (unsigned i = 0; i < QM_KEPT_KINDS; i++)
        qm_trim_close(r->trim[i]);
}
