#include "tools/event_keep.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "codec/cursor.h"

enum { PLACE_BITS = 16, PLACES = 1 << PLACE_BITS, LISTS_MAX = PLACES / 2 };

/* A list once made, or found not to be had (len 0). */
struct kept_list {
    uint8_t value[32];
    uint32_t off, len; /* in bytes */
    uint8_t pcr;
};

/* Who wants it: the values that lack it, or 0. */
struct claim {
    uint64_t values_no;
    uint32_t list;
};

struct qm_event_keep {
    const struct qm_events_missing *missing;
    uint32_t *left;    /* by entry of missing: PCRs not yet taken here */
    uint64_t seed[2];  /* for places: odd factor, offset */
    uint32_t *place;   /* list index + 1; 0: free */
    struct kept_list *list;
    uint32_t list_count;
    struct claim *claim;
    size_t claim_count, claim_max;
    uint8_t *bytes;
    size_t used, cap;
    uint64_t dropped;
};

qm_err qm_event_keep_open(struct qm_event_keep **out, const struct qm_events_missing *missing, size_t bytes, struct qm_fault *fault)
{
    *out = NULL;
    struct qm_event_keep *k = calloc(1, sizeof *k);
    if (k == NULL)
        return qm_fail(fault, QM_E_NOMEM, 0, "no memory to keep events");
    k->missing = missing;
    k->cap = bytes;
    k->claim_max = LISTS_MAX + bytes / 64;
    k->place = calloc(PLACES, sizeof *k->place);
    k->list = malloc(LISTS_MAX * sizeof *k->list);
    k->claim = malloc(k->claim_max * sizeof *k->claim);
    k->bytes = malloc(bytes);
    if (missing != NULL && missing->count != 0)
        k->left = malloc(missing->room * sizeof *k->left);
    bool memory = k->place != NULL && k->list != NULL && k->claim != NULL && k->bytes != NULL &&
                  (k->left != NULL || missing == NULL || missing->count == 0);
    if (!memory || getrandom(k->seed, sizeof k->seed, 0) != (ssize_t)sizeof k->seed) {
        qm_err err = memory ? qm_fail(fault, QM_E_IO, errno, "no random bytes") : qm_fail(fault, QM_E_NOMEM, 0, "no memory to keep events");
        qm_event_keep_close(k);
        return err;
    }
    k->seed[0] |= 1;
    for (uint64_t i = 0; k->left != NULL && i < missing->room; i++)
        k->left[i] = missing->at[i].mask;
    *out = k;
    return QM_OK;
}

void qm_event_keep_close(struct qm_event_keep *k)
{
    if (k == NULL)
        return;
    free(k->left);
    free(k->place);
    free(k->list);
    free(k->claim);
    free(k->bytes);
    free(k);
}

uint64_t qm_event_keep_dropped(const struct qm_event_keep *k)
{
    return k->dropped;
}

/* Where the list of (pcr, value) is, or would be. Values come from machines: the places are drawn, so nobody crowds one. */
static uint32_t *place_of(const struct qm_event_keep *k, unsigned pcr, const uint8_t *value)
{
    uint64_t h = ((qm_load_le64(value) ^ qm_load_le64(value + 8)) + pcr + k->seed[1]) * k->seed[0];
    for (uint64_t i = h >> (64 - PLACE_BITS);; i = (i + 1) % PLACES) {
        if (k->place[i] == 0)
            return &k->place[i];
        const struct kept_list *l = &k->list[k->place[i] - 1];
        if (l->pcr == pcr && memcmp(l->value, value, sizeof l->value) == 0)
            return &k->place[i];
    }
}

/* The list of a PCR's events, made if it is not there yet. NULL: no room for more. *made: it is new. */
static const struct kept_list *list_of(struct qm_event_keep *k, struct qm_span log, unsigned pcr, const uint8_t *value, bool *made)
{
    uint32_t *place = place_of(k, pcr, value);
    *made = *place == 0;
    if (!*made)
        return &k->list[*place - 1];
    if (k->list_count == LISTS_MAX || k->cap - k->used < QM_EVENT_LIST_BYTES_MAX) {
        k->dropped++;
        return NULL;
    }
    struct kept_list *l = &k->list[k->list_count];
    *l = (struct kept_list){.off = (uint32_t)k->used, .pcr = (uint8_t)pcr};
    memcpy(l->value, value, sizeof l->value);
    l->len = (uint32_t)qm_event_list_collect(log, pcr, value, k->bytes + k->used, k->cap - k->used);
    k->used += l->len;
    *place = ++k->list_count;
    return l;
}

static void claim(struct qm_event_keep *k, const struct kept_list *l, uint64_t values_no)
{
    if (l->len != 0 && k->claim_count != k->claim_max)
        k->claim[k->claim_count++] = (struct claim){values_no, (uint32_t)(l - k->list)};
}

/* PCRs of a record whose events are behind these values, as far as the values lack them. */
static void take_lacking(struct qm_event_keep *k, const struct qm_record *record, const struct qm_result *r, uint64_t values_no)
{
    const struct qm_values_missing *v = k->left != NULL ? qm_events_missing_find(k->missing, values_no) : NULL;
    if (v == NULL)
        return;
    uint32_t *left = &k->left[v - k->missing->at];
    for (unsigned i = 0; *left != 0 && i < r->stage_count; i++) {
        const struct qm_stage *s = &r->stage[i];
        bool made;
        if ((*left >> s->pcr & 1) == 0 || s->measured == NULL)
            continue;
        const struct kept_list *l = list_of(k, record->evidence.log, s->pcr, s->measured, &made);
        if (l == NULL)
            return;
        *left &= ~(1u << s->pcr);
        claim(k, l, values_no);
    }
}

/* Every stage that has no expected value, or another one. */
static void take_different(struct qm_event_keep *k, const struct qm_record *record, const struct qm_result *r)
{
    for (unsigned i = 0; i < r->stage_count; i++) {
        const struct qm_stage *s = &r->stage[i];
        bool made;
        if (s->measured == NULL || (s->expected != NULL && memcmp(s->measured, s->expected, 32) == 0))
            continue;
        const struct kept_list *l = list_of(k, record->evidence.log, s->pcr, s->measured, &made);
        if (l == NULL)
            return;
        if (made)
            claim(k, l, 0);
    }
}

void qm_event_keep_take(struct qm_event_keep *k, const struct qm_record *record, const struct qm_result *r)
{
    if (r->log != QM_LOG_REPLAYED || !r->proven)
        return;
    if (r->reason == QM_ALL_GOOD) {
        take_lacking(k, record, r, r->set_a);
        take_lacking(k, record, r, r->set_b);
    } else if (r->reason == QM_PCR_MISMATCH || r->reason == QM_NO_BASELINE) {
        take_different(k, record, r);
    }
}

qm_err qm_event_keep_each(const struct qm_event_keep *k, qm_kept_visit visit, void *ctx, struct qm_fault *fault)
{
    qm_err err = QM_OK;
    for (size_t i = 0; err == QM_OK && i < k->claim_count; i++) {
        const struct kept_list *l = &k->list[k->claim[i].list];
        const struct qm_kept_events kept = {k->claim[i].values_no, l->pcr, l->value, {k->bytes + l->off, l->len}};
        err = visit(ctx, &kept, fault);
    }
    return err;
}

static qm_err put_kept(void *ctx, const struct qm_kept_events *kept, struct qm_fault *fault)
{
    return qm_store_events_put(ctx, kept->pcr, kept->value, kept->list, kept->values_no, fault);
}

qm_err qm_event_keep_store(const struct qm_event_keep *k, struct qm_store *s, struct qm_fault *fault)
{
    return qm_event_keep_each(k, put_kept, s, fault);
}
