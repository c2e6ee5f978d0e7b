#include "engine/replay.h"

#include <assert.h>

static size_t events_of(size_t log_bytes)
{
    return log_bytes / QM_EVENT_SHA256_MIN + 1;
}

size_t qm_replay_size(size_t log_bytes, size_t log_count)
{
    size_t events = events_of(log_bytes);
    size_t chains = log_count * QM_PCR_COUNT;
    return qm_align_up(2 * events * sizeof(uint8_t *), QM_CACHE_LINE) + qm_align_up(chains * sizeof(struct qm_chain), QM_CACHE_LINE) +
           qm_align_up(events, QM_CACHE_LINE);
}

void qm_replay_init(struct qm_replay *r, void *mem, size_t log_bytes, size_t log_count, struct qm_memo *memo, struct qm_lane_use *use)
{
    uint8_t *p = mem;
    memset(r, 0, sizeof *r);
    r->event_max = events_of(log_bytes);
    r->chain_max = log_count * QM_PCR_COUNT;
    r->memo = memo;
    r->use = use;
    r->digest = (const uint8_t **)(void *)p;
    r->grouped = r->digest + r->event_max;
    p += qm_align_up(2 * r->event_max * sizeof(uint8_t *), QM_CACHE_LINE);
    r->chain = (struct qm_chain *)(void *)p;
    p += qm_align_up(r->chain_max * sizeof(struct qm_chain), QM_CACHE_LINE);
    r->pcr = p;
}

void qm_replay_reset(struct qm_replay *r)
{
    r->event_count = 0;
    r->chain_count = 0;
    r->run_from = 0;
}

bool qm_replay_fits(const struct qm_replay *r, size_t log_bytes)
{
    return events_of(log_bytes) <= r->event_max - r->event_count && QM_PCR_COUNT <= r->chain_max - r->chain_count;
}

/* Turns the events from..event_count into chains: counted by PCR, then scattered. */
static void line_up(struct qm_replay *r, size_t from, const struct qm_log_extends *x, struct qm_replayed *out)
{
    const uint8_t **place[QM_PCR_COUNT];
    const uint8_t **next = r->grouped + from;
    *out = (struct qm_replayed){x->mask, r->chain_count};
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++) {
        if ((x->mask >> pcr & 1) == 0)
            continue;
        struct qm_chain *c = &r->chain[r->chain_count++];
        qm_log_start(&x->starts, pcr, c->value, sizeof c->value);
        c->digest = next;
        c->count = x->count_of[pcr];
        place[pcr] = next;
        next += x->count_of[pcr];
    }
    for (size_t i = from; i < r->event_count; i++)
        *place[r->pcr[i]]++ = r->digest[i];
}

enum qm_log_state qm_replay_add(struct qm_replay *r, struct qm_span log_bytes, uint32_t mask, struct qm_replayed *out)
{
    struct qm_log log;
    if (log_bytes.p == NULL)
        return QM_LOG_ABSENT;
    assert(qm_replay_fits(r, log_bytes.len));
    if (!qm_log_open(&log, log_bytes))
        return QM_LOG_IS_MALFORMED;
    const size_t from = r->event_count;
    struct qm_log_extends x = {.hash = QM_HASH_SHA256, .mask = mask, .digest = r->digest + from, .pcr = r->pcr + from};
    if (qm_log_list_extends(&log, &x) == QM_LOG_MALFORMED)
        return QM_LOG_IS_MALFORMED;
    if (x.missing || !qm_log_has_bank(&log, QM_HASH_SHA256))
        return QM_LOG_UNREPLAYABLE;
    r->event_count += x.count;
    line_up(r, from, &x, out);
    return QM_LOG_REPLAYED;
}

void qm_replay_run(struct qm_replay *r, const struct qm_hash_kernel *kernel)
{
    struct qm_chain *chains = r->chain + r->run_from;
    const size_t count = r->chain_count - r->run_from;
    const bool recalls = r->memo != NULL && qm_memo_awake(r->memo);
    if (recalls)
        r->remembered += qm_memo_recall(r->memo, chains, count);
    kernel->extend(chains, count, r->use);
    if (recalls)
        qm_memo_learn(r->memo);
    if (r->memo != NULL)
        qm_memo_account(r->memo, count, r->event_count);
    r->extends += r->event_count;
    r->run_from = r->chain_count;
    r->event_count = 0;
}

const uint8_t *qm_replay_value(const struct qm_replay *r, const struct qm_replayed *out, unsigned pcr)
{
    assert((out->mask >> pcr & 1) != 0);
    return r->chain[out->first_chain + (size_t)__builtin_popcount(out->mask & ((1u << pcr) - 1))].value;
}

bool qm_replay_bank(struct qm_span log_bytes, enum qm_hash hash, uint32_t mask, uint8_t value[QM_PCR_COUNT][QM_DIGEST_MAX])
{
    struct qm_log log;
    struct qm_event e;
    struct qm_log_starts starts = {0};
    enum qm_log_step step;
    /* Start values are known only at the end: a locality or a launch may be told late. So the starts first, then the extends. */
    if (log_bytes.p == NULL || !qm_log_open(&log, log_bytes) || !qm_log_has_bank(&log, hash))
        return false;
    while ((step = qm_log_next(&log, &e)) == QM_LOG_EVENT)
        qm_log_starts_fold(&starts, &e);
    if (step == QM_LOG_MALFORMED)
        return false;
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++)
        qm_log_start(&starts, pcr, value[pcr], qm_hash_size(hash));
    if (!qm_log_open(&log, log_bytes))
        return false;
    while (qm_log_next(&log, &e) == QM_LOG_EVENT) {
        if (!e.extends || (mask >> e.pcr & 1) == 0)
            continue;
        if (e.digest[hash] == NULL)
            return false;
        qm_hash_extend(hash, value[e.pcr], e.digest[hash]);
    }
    return true;
}
