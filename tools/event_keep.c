#include "tools/event_keep.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "codec/cursor.h"

enum { PLACE_BITS = 16, PLACES = 1 << PLACE_BITS, LISTS_MAX = PLACES / 2 };

/* A value that was seen, and its list once that was made. */
struct kept_list {
    uint8_t value[32];
    uint32_t off, len; /* in bytes; len 0: no list */
    uint8_t pcr;
    bool tried;  /* to make it: without one it is not to be had */
    bool lacked; /* by some values */
    bool kept;   /* in the store */
};

/* Values that lack a list. Those of one record follow each other. */
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
    uint64_t seen, made; /* records, lists */
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
    k->claim_max = missing != NULL ? missing->count * QM_PCR_COUNT : 0;
    k->place = calloc(PLACES, sizeof *k->place);
    k->list = malloc(LISTS_MAX * sizeof *k->list);
    k->claim = malloc((k->claim_max + 1) * sizeof *k->claim);
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

/* The list of a PCR's events, made if it is to be. NULL: not now. */
static struct kept_list *list_of(struct qm_event_keep *k, struct qm_span log, unsigned pcr, const uint8_t *value)
{
    uint32_t *place = place_of(k, pcr, value);
    const bool seen = *place != 0;
    if (!seen && k->list_count == LISTS_MAX) {
        k->dropped++;
        return NULL;
    }
    if (!seen) {
        struct kept_list *made = &k->list[k->list_count];
        *made = (struct kept_list){.pcr = (uint8_t)pcr};
        memcpy(made->value, value, sizeof made->value);
        *place = ++k->list_count;
    }
    struct kept_list *l = &k->list[*place - 1];
    if (l->tried)
        return l;
    const uint64_t lists = QM_EVENT_KEEP_LISTS + k->seen / QM_EVENT_KEEP_RECORDS;
    if ((!seen && (k->used > k->cap / 2 || k->made >= lists / 2)) || k->cap - k->used < QM_EVENT_LIST_BYTES_MAX || k->made >= lists) {
        k->dropped++;
        return NULL;
    }
    l->tried = true;
    k->made++;
    l->off = (uint32_t)k->used;
    l->len = (uint32_t)qm_event_list_collect(log, pcr, value, k->bytes + k->used, k->cap - k->used);
    k->used += l->len;
    return l;
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
        if ((*left >> s->pcr & 1) == 0 || s->measured == NULL)
            continue;
        struct kept_list *l = list_of(k, record->evidence.log, s->pcr, s->measured);
        if (l == NULL)
            continue;
        *left &= ~(1u << s->pcr); /* each PCR of each values once: there is room for the claims */
        l->lacked = true;
        if (l->len != 0)
            k->claim[k->claim_count++] = (struct claim){values_no, (uint32_t)(l - k->list)};
    }
}

/* Every stage that has no expected value, or another one. */
static void take_different(struct qm_event_keep *k, const struct qm_record *record, const struct qm_result *r)
{
    for (unsigned i = 0; i < r->stage_count; i++) {
        const struct qm_stage *s = &r->stage[i];
        if (s->measured != NULL && (s->expected == NULL || memcmp(s->measured, s->expected, 32) != 0))
            list_of(k, record->evidence.log, s->pcr, s->measured);
    }
}

void qm_event_keep_take(struct qm_event_keep *k, const struct qm_record *record, const struct qm_result *r)
{
    k->seen++;
    if (r->log != QM_LOG_REPLAYED || !r->proven)
        return;
    if (r->reason == QM_ALL_GOOD) {
        take_lacking(k, record, r, r->set_a);
        take_lacking(k, record, r, r->set_b);
    } else if (r->reason == QM_PCR_MISMATCH || r->reason == QM_NO_BASELINE) {
        take_different(k, record, r);
    }
}

static qm_err store_claims(struct qm_event_keep *k, struct qm_store *s, struct qm_fault *fault)
{
    qm_err err = QM_OK;
    for (size_t i = 0; err == QM_OK && i < k->claim_count;) {
        const uint64_t values_no = k->claim[i].values_no;
        uint32_t found = 0;
        for (; i < k->claim_count && k->claim[i].values_no == values_no; i++) {
            const struct kept_list *l = &k->list[k->claim[i].list];
            found |= (uint32_t)l->kept << l->pcr;
        }
        err = found != 0 ? qm_store_events_found(s, values_no, found, fault) : QM_OK;
    }
    return err;
}

qm_err qm_event_keep_store(struct qm_event_keep *k, struct qm_store *s, struct qm_fault *fault)
{
    qm_err err = QM_OK;
    for (uint32_t i = 0; err == QM_OK && i < k->list_count; i++) {
        struct kept_list *l = &k->list[i];
        if (l->len != 0)
            err = qm_store_events_put(s, l->pcr, l->value, (struct qm_span){k->bytes + l->off, l->len}, l->lacked, &l->kept, fault);
    }
    return err == QM_OK ? store_claims(k, s, fault) : err;
}
