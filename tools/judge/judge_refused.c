/* Refusals by (reason, source): one row of alerts for each, whatever garbage names. Bounded: a sender can make neither rows nor
 * memory. */
#include <stdlib.h>

#include "tools/judge/judge_inside.h"
#include "tools/keyed_hash.h"

enum { ROOM = 4 * QM_REFUSED_ROWS_MAX }; /* sources past the cap share a row */

struct refusals {
    struct qm_hash_key key;
    size_t count;
    struct qm_refusals *slot[ROOM]; /* open addressing by (reason, source) */
};

qm_err judge_refusals_open(struct refusals **out, struct qm_fault *fault)
{
    *out = calloc(1, sizeof **out);
    return *out != NULL ? qm_hash_key_make(&(*out)->key, fault) : qm_fail(fault, QM_E_NOMEM, 0, "no memory for refusals");
}

void judge_refusals_close(struct refusals *f)
{
    if (f == NULL)
        return;
    for (size_t i = 0; i < ROOM; i++)
        if (f->slot[i] != NULL) {
            free((void *)(uintptr_t)f->slot[i]->source);
            free(f->slot[i]);
        }
    free(f);
}

static size_t hash(const struct refusals *f, enum qm_reason reason, const char *source)
{
    uint64_t h = qm_hash_bytes(&f->key, (uint64_t)reason, source, strlen(source));
    return (size_t)(qm_hash_end(&f->key, h) % ROOM);
}

static struct qm_refusals *find(struct refusals *f, enum qm_reason reason, const char *source)
{
    size_t at = hash(f, reason, source);
    while (f->slot[at] != NULL && (f->slot[at]->reason != reason || strcmp(f->slot[at]->source, source) != 0))
        at = (at + 1) % ROOM;
    if (f->slot[at] != NULL)
        return f->slot[at];
    if (f->count >= QM_REFUSED_ROWS_MAX && strcmp(source, QM_REFUSED_OTHERS) != 0)
        return find(f, reason, QM_REFUSED_OTHERS);
    struct qm_refusals *r = calloc(1, sizeof *r);
    char *name = strdup(source);
    if (r == NULL || name == NULL) {
        free(r);
        free(name);
        return NULL;
    }
    r->reason = reason;
    r->source = name;
    f->slot[at] = r;
    f->count++;
    return r;
}

static bool named_already(const struct qm_refusals *f, struct qm_span id)
{
    for (unsigned i = 0; i < f->id_count; i++)
        if (qm_span_eq(f->id[i], id))
            return true;
    return false;
}

qm_err judge_refused(struct judge *j, const struct qm_result *r, struct qm_fault *fault)
{
    const char *source = j->options->source_of(j->options->source_ctx, r->source);
    struct qm_refusals *f = find(j->refusals, r->reason, source);
    if (f == NULL)
        return qm_fail(fault, QM_E_NOMEM, 0, "no memory for refusals");
    f->count += r->count != 0 ? r->count : 1;
    if (r->checked_ms > f->last_ms)
        f->last_ms = r->checked_ms;
    if (r->id.len == 0)
        return QM_OK;
    qm_sketch_add(f->sketch, r->id);
    if (f->id_count < QM_REFUSED_IDS && !named_already(f, r->id))
        f->id[f->id_count++] = r->id;
    return QM_OK;
}

qm_err judge_refusals_raise(struct judge *j, struct qm_fault *fault)
{
    qm_err err = QM_OK;
    for (size_t i = 0; err == QM_OK && i < ROOM; i++) {
        bool opened;
        if (j->refusals->slot[i] == NULL)
            continue;
        err = qm_alert_refused(j->store, j->refusals->slot[i], &opened, fault);
        j->out->opened += err == QM_OK && opened;
        j->out->repeated += err == QM_OK && !opened;
    }
    return err;
}
