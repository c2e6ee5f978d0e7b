/* The instance whose records are judged: what the home knows of it. */
#include <stdlib.h>

#include "tools/judge/judge_inside.h"
#include "tools/store/store_run.h"

static int compare_slots(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static bool is_changed(const struct judge *j, uint64_t slot)
{
    return j->changed_count != 0 && bsearch(&slot, j->changed, j->changed_count, sizeof slot, compare_slots) != NULL;
}

qm_err judge_subject_row(struct judge *j, struct subject *u, struct qm_fault *fault)
{
    bool found;
    if (u->row_read)
        return QM_OK;
    qm_err err = qm_store_instance(j->store, u->slot, &u->row, &found, fault);
    u->row_read = err == QM_OK;
    u->gone = err == QM_OK && !found;
    return err;
}

qm_err judge_policy(struct judge *j, uint32_t group, const struct qm_policy **out, struct qm_fault *fault)
{
    if (group >= j->policy_count) {
        const size_t count = (size_t)group + 64;
        const struct qm_policy **more = realloc(j->policy, count * sizeof *more);
        if (more == NULL)
            return qm_fail(fault, QM_E_NOMEM, 0, "no memory for the policies of group %u", group);
        memset(more + j->policy_count, 0, (count - j->policy_count) * sizeof *more);
        j->policy = more;
        j->policy_count = count;
    }
    qm_err err = QM_OK;
    if (j->policy[group] == NULL) {
        char name[QM_GROUP_MAX + 1] = "";
        if (group != 0)
            err = qm_store_group_name(j->store, group, name, fault);
        if (err == QM_OK)
            err = qm_store_policy(j->store, name, strlen(name), &j->policy[group], fault);
    }
    *out = j->policy[group];
    return err;
}

qm_err judge_subject_open(struct judge *j, struct subject *u, uint64_t slot, struct qm_fault *fault)
{
    *u = (struct subject){.slot = slot, .decided = is_changed(j, slot)};
    qm_err err = qm_store_ledger_get(j->store, slot, &u->ledger, fault);
    /* Its first records, or somebody decided something: then the row is needed. A retired instance has an empty entry. */
    if (err == QM_OK && (u->decided || u->ledger.ak == 0))
        err = judge_subject_row(j, u, fault);
    if (err == QM_OK && u->row_read && !u->gone) {
        u->ledger.ak = u->row.ak; /* enroll begins the sequence anew when it replaces a key */
        u->ledger.group = u->row.group_no;
        if (u->decided)
            err = qm_store_rekeyed_since(j->store, slot, j->options->generation, &u->rekeyed, fault);
    }
    return err == QM_OK ? judge_policy(j, u->ledger.group, &u->policy, fault) : err;
}

qm_err judge_subject_close(struct judge *j, struct subject *u, struct qm_fault *fault)
{
    return u->touched && !u->gone ? qm_store_ledger_put(j->store, u->slot, &u->ledger, fault) : QM_OK;
}
