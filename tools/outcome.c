#include "tools/outcome.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>

enum { CHUNK_BYTES = 1 << 20, ALIGN = _Alignof(struct qm_result) };

struct chunk {
    struct chunk *next;
    size_t used;
    _Alignas(struct qm_result) uint8_t bytes[];
};

/* Before every outcome. */
struct head {
    uint32_t size; /* from here to the next head */
    bool dropped;
};
enum { HEAD_ROOM = ALIGN };
_Static_assert(sizeof(struct head) <= HEAD_ROOM, "the head keeps the alignment");

struct qm_outcomes {
    enum qm_outcome_copy copy;
    struct chunk *first, *last;
    size_t count;
    struct qm_result *newest;
};

/* No outcome is longer: a name, an id, 24 stages with both values, texts of an event. */
enum { OUTCOME_MAX = 64 * 1024 };
_Static_assert(sizeof(struct qm_result) + QM_SOURCE_MAX + QM_ID_MAX + QM_STAGE_COUNT * 64 + 2 * QM_DIGEST_MAX + 4096 < OUTCOME_MAX,
               "an outcome fits a chunk");

static qm_err chunk_add(struct qm_outcomes *o, struct qm_fault *fault)
{
    struct chunk *c = malloc(sizeof *c + CHUNK_BYTES);
    if (c == NULL)
        return qm_fail(fault, QM_E_NOMEM, 0, "no memory for what the run found (%zu results so far)", o->count);
    c->next = NULL;
    c->used = 0;
    if (o->last != NULL)
        o->last->next = c;
    else
        o->first = c;
    o->last = c;
    return QM_OK;
}

qm_err qm_outcomes_open(struct qm_outcomes **out, enum qm_outcome_copy copy, struct qm_fault *fault)
{
    struct qm_outcomes *o = calloc(1, sizeof *o);
    *out = NULL;
    if (o == NULL)
        return qm_fail(fault, QM_E_NOMEM, 0, "no memory for what the run finds");
    o->copy = copy;
    qm_err err = chunk_add(o, fault);
    if (err != QM_OK)
        qm_outcomes_close(o);
    else
        *out = o;
    return err;
}

/* Where the next bytes of the outcome under construction go. */
struct place {
    uint8_t *p;
};

static const uint8_t *put(struct place *to, const uint8_t *p, size_t len)
{
    if (p == NULL)
        return NULL;
    uint8_t *at = to->p;
    memcpy(at, p, len);
    to->p += len;
    return at;
}

static struct qm_span put_span(struct place *to, struct qm_span s)
{
    return (struct qm_span){put(to, s.p, s.len), s.len};
}

qm_err qm_outcomes_add(struct qm_outcomes *o, const struct qm_result *r, struct qm_fault *fault)
{
    if (CHUNK_BYTES - o->last->used < OUTCOME_MAX) {
        qm_err err = chunk_add(o, fault);
        if (err != QM_OK)
            return err;
    }
    const unsigned stages = r->status == QM_TRUSTED ? 0 : r->stage_count;
    uint8_t *start = o->last->bytes + o->last->used;
    struct qm_result *c = (struct qm_result *)(void *)(start + HEAD_ROOM);
    struct place to = {(uint8_t *)c + offsetof(struct qm_result, stage) + stages * sizeof(struct qm_stage)};
    memcpy(c, r, offsetof(struct qm_result, stage));
    c->stage_count = (uint8_t)stages;
    for (unsigned i = 0; i < stages; i++) {
        c->stage[i] = r->stage[i];
        c->stage[i].measured = put(&to, r->stage[i].measured, 32);
        if (o->copy == QM_OUTCOME_OWN)
            c->stage[i].expected = put(&to, r->stage[i].expected, 32);
    }
    if (o->copy == QM_OUTCOME_OWN)
        c->source = put_span(&to, (struct qm_span){r->source.p, r->source.len < QM_SOURCE_MAX ? r->source.len : QM_SOURCE_MAX});
    c->id = put_span(&to, r->id);
    c->pcr_digest = put_span(&to, r->pcr_digest);
    if (r->has_event) {
        c->event.digest = put(&to, r->event.digest, 32);
        c->event.expected_digest = put(&to, r->event.expected_digest, 32);
        c->event.text = put_span(&to, (struct qm_span){r->event.text.p, r->event.text.len < 2048 ? r->event.text.len : 2048});
    }
    const size_t size = qm_align_up((size_t)(to.p - start), ALIGN);
    assert(size <= OUTCOME_MAX);
    *(struct head *)(void *)start = (struct head){(uint32_t)size, false};
    o->last->used += size;
    o->count++;
    o->newest = c;
    return QM_OK;
}

struct qm_result *qm_outcomes_restage(struct qm_outcomes *o, struct qm_result *r, const struct qm_stage *stage, unsigned count,
                                      struct qm_fault *fault)
{
    struct qm_result whole; /* r has no room for stages that it did not come with */
    const enum qm_outcome_copy copy = o->copy;
    memcpy(&whole, r, offsetof(struct qm_result, stage));
    memcpy(whole.stage, stage, count * sizeof *stage);
    whole.stage_count = (uint8_t)count;
    o->copy = QM_OUTCOME_OWN;
    qm_err err = qm_outcomes_add(o, &whole, fault);
    o->copy = copy;
    if (err != QM_OK)
        return NULL;
    qm_outcomes_drop(o, r);
    return o->newest;
}

void qm_outcomes_drop(struct qm_outcomes *o, struct qm_result *r)
{
    ((struct head *)(void *)((uint8_t *)r - HEAD_ROOM))->dropped = true;
    o->count--;
}

struct qm_result *qm_outcomes_next(const struct qm_outcomes *o, struct qm_outcome_cursor *c)
{
    struct chunk *chunk = c->chunk != NULL ? c->chunk : o->first;
    for (;;) {
        while (c->at == chunk->used) {
            if (chunk->next == NULL)
                return NULL;
            chunk = chunk->next;
            c->at = 0;
            c->chunk = chunk;
        }
        c->chunk = chunk;
        uint8_t *start = chunk->bytes + c->at;
        const struct head *head = (const struct head *)(const void *)start;
        c->at += head->size;
        if (!head->dropped)
            return (struct qm_result *)(void *)(start + HEAD_ROOM);
    }
}

size_t qm_outcomes_count(const struct qm_outcomes *o)
{
    return o->count;
}

void qm_outcomes_close(struct qm_outcomes *o)
{
    if (o == NULL)
        return;
    for (struct chunk *c = o->first, *next; c != NULL; c = next) {
        next = c->next;
        free(c);
    }
    free(o);
}
