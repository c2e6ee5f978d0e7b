/* The judgment, from above: outcomes by instance, each instance's records in their own order, then what concerns the whole. */
#include "tools/judge/judge.h"

#include <assert.h>
#include <stdlib.h>

#include "tools/judge/judge_inside.h"
#include "tools/store/store_ceremony.h"
#include "tools/store/store_run.h"

enum { SORT_BITS = 11, SORT_MASK = (1 << SORT_BITS) - 1 };

/* Outcomes that name an enrolled instance. */
struct cases {
    struct case_of *item;
    size_t count;
};

/* A result as it will be. */
static void count_result(struct judge *j, const struct qm_result *r)
{
    j->out->by_status[r->status]++;
    j->out->by_reason[r->reason]++;
}

static bool authentic(const struct qm_result *r)
{
    return r->has_clock;
}

/* Sorts by slot, in the order they came where slots are equal: a byte of the slot at a time, the lowest first. Comparing through
 * 100,000 pointers took 12 ms. */
static qm_err sort_by_slot(struct cases *c, uint64_t slots, struct qm_fault *fault)
{
    struct case_of *from = c->item, *to = malloc((c->count + 1) * sizeof *to);
    if (to == NULL)
        return qm_fail(fault, QM_E_NOMEM, 0, "no memory to judge %zu results", c->count);
    for (unsigned shift = 0; shift < 64 && slots >> shift != 0; shift += SORT_BITS) {
        size_t at[1 << SORT_BITS] = {0}, sum = 0;
        for (size_t i = 0; i < c->count; i++)
            at[from[i].slot >> shift & SORT_MASK]++;
        for (unsigned v = 0; v <= SORT_MASK; v++) {
            const size_t n = at[v];
            at[v] = sum;
            sum += n;
        }
        for (size_t i = 0; i < c->count; i++)
            to[at[from[i].slot >> shift & SORT_MASK]++] = from[i];
        struct case_of *swap = from;
        from = to;
        to = swap;
    }
    c->item = from;
    free(to);
    return QM_OK;
}

/* Lines up what names an instance; what does not is a refusal at once. */
static qm_err line_up(struct judge *j, struct qm_outcomes *const *outcomes, unsigned count, struct cases *cases, struct qm_fault *fault)
{
    size_t total = 0;
    uint64_t slots = 0; /* all of them, or-ed */
    bool sorted = true;
    for (unsigned i = 0; i < count; i++)
        total += qm_outcomes_count(outcomes[i]);
    cases->count = 0;
    cases->item = malloc((total + 1) * sizeof *cases->item);
    if (cases->item == NULL)
        return qm_fail(fault, QM_E_NOMEM, 0, "no memory to judge %zu results", total);
    for (unsigned i = 0; i < count; i++) {
        struct qm_outcome_cursor at = {NULL, 0};
        for (struct qm_result *r; (r = qm_outcomes_next(outcomes[i], &at)) != NULL;) {
            if (r->slot != 0) {
                sorted &= cases->count == 0 || cases->item[cases->count - 1].slot <= r->slot;
                cases->item[cases->count++] = (struct case_of){r->slot, r, outcomes[i]};
                slots |= r->slot;
            }
            qm_err err = QM_OK;
            if (!authentic(r))
                err = judge_refused(j, r, fault);
            else if (r->slot == 0 && r->status != QM_DUPLICATE)
                err = judge_unknown(j, r, fault);
            if (err != QM_OK)
                return err;
            if (r->slot == 0)
                count_result(j, r);
        }
    }
    return sorted ? QM_OK : sort_by_slot(cases, slots, fault);
}

/* What a record of this instance proved beyond its signature. */
static unsigned proof_of(const struct qm_result *r)
{
    return (r->proven ? QM_PROOF_VALUES : 0) | (r->log == QM_LOG_REPLAYED ? QM_PROOF_LOG : 0);
}

/* The order of the TPM's clock, seen from where the ledger stands (counts go round at 2^32, so only that is an order). Of copies
 * of one quote the one that proves most comes first, so that a stripped one behind it is a duplicate. */
static int by_clock(const struct qm_result *a, const struct qm_result *b, const struct qm_sequence *from)
{
    const int32_t reset_a = (int32_t)(a->reset - from->reset), reset_b = (int32_t)(b->reset - from->reset);
    if (reset_a != reset_b)
        return reset_a < reset_b ? -1 : 1;
    const int32_t restart_a = (int32_t)(a->restart - from->restart), restart_b = (int32_t)(b->restart - from->restart);
    if (restart_a != restart_b)
        return restart_a < restart_b ? -1 : 1;
    if (a->clock_ms != b->clock_ms)
        return a->clock_ms < b->clock_ms ? -1 : 1;
    int same = memcmp(a->attest, b->attest, sizeof a->attest);
    return same != 0 ? same : (int)proof_of(b) - (int)proof_of(a);
}

static int by_clock_of(const void *a, const void *b, void *from)
{
    const struct case_of *x = a, *y = b;
    if (authentic(x->r) != authentic(y->r))
        return authentic(x->r) ? -1 : 1;
    return authentic(x->r) ? by_clock(x->r, y->r, from) : 0;
}

/* All records that name one instance. */
static qm_err judge_instance(struct judge *j, struct case_of *first, size_t count, struct qm_fault *fault)
{
    struct subject u;
    qm_err err = judge_subject_open(j, &u, first->slot, fault);
    if (err != QM_OK)
        return err;
    if (count > 1)
        qsort_r(first, count, sizeof *first, by_clock_of, &u.ledger.last);
    for (size_t i = 0; err == QM_OK && i < count; i++) {
        if (authentic(first[i].r)) {
            err = judge_record(j, &u, &first[i], fault);
        } else if (!u.gone) {
            qm_ledger_refuse(&u.ledger, first[i].r->reason, first[i].r->checked_ms);
            u.touched = true;
        }
        count_result(j, first[i].r);
    }
    return err == QM_OK ? judge_subject_close(j, &u, fault) : err;
}

static qm_err judge_instances(struct judge *j, const struct cases *cases, struct qm_fault *fault)
{
    qm_err err = QM_OK;
    for (size_t i = 0, n; err == QM_OK && i < cases->count; i += n) {
        for (n = 1; i + n < cases->count && cases->item[i + n].slot == cases->item[i].slot; n++)
            ;
        err = judge_instance(j, &cases->item[i], n, fault);
    }
    return err;
}

/* What time alone does to alerts, to what is remembered of runs, and to challenges that nobody answered. */
static qm_err grow_old(struct qm_store *s, uint64_t *dropped, struct qm_fault *fault)
{
    const struct qm_policy *policy;
    const uint64_t now_ms = qm_store_now_ms(s);
    qm_err err = qm_store_policy(s, "", 0, &policy, fault);
    uint64_t gone;
    if (err == QM_OK)
        err = qm_store_challenges_age(s, &gone, fault);
    if (err == QM_OK)
        err = qm_alerts_age(s, now_ms, policy->history_keep_ms, dropped, fault);
    if (err == QM_OK && policy->history_keep_ms != 0 && now_ms > policy->history_keep_ms)
        err = qm_store_history_drop(s, now_ms - policy->history_keep_ms, dropped, fault);
    return err;
}

qm_err qm_judge(struct qm_store *s, struct qm_outcomes *const *outcomes, unsigned count, const struct qm_judge_options *options,
                struct qm_judgment *out, struct qm_fault *fault)
{
    struct judge j = {.store = s, .options = options, .out = out};
    struct cases cases = {NULL, 0};
    uint64_t last_end = 0;
    *out = (struct qm_judgment){0};
    qm_err err = qm_store_run_next(s, &out->run_no, fault);
    if (err == QM_OK)
        err = qm_store_run_last(s, &last_end, fault);
    if (err == QM_OK)
        err = qm_alerts_last(s, &out->alerts_before, fault);
    if (err == QM_OK)
        err = qm_live_sets_init(&j.sets, fault);
    if (err == QM_OK)
        err = judge_refusals_open(&j.refusals, fault);
    if (err == QM_OK)
        err = qm_store_changed_since(s, options->generation, &j.changed, &j.changed_count, fault);
    out->clock_behind = options->clock_ms < last_end;
    if (err == QM_OK)
        err = line_up(&j, outcomes, count, &cases, fault);
    if (err == QM_OK)
        err = judge_instances(&j, &cases, fault);
    if (err == QM_OK)
        err = judge_refusals_raise(&j, fault);
    if (err == QM_OK)
        err = judge_silent(&j, fault);
    if (err == QM_OK)
        err = grow_old(s, &out->dropped, fault);
    free(cases.item);
    free(j.changed);
    free(j.policy);
    judge_refusals_close(j.refusals);
    qm_live_sets_close(&j.sets);
    return err;
}
