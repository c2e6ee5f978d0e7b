/* qm_log_list_extends against qm_log_next: what the first lists, and where it ends, is what the second's events say. */
#ifndef QM_TEST_LIST_CHECK_H
#define QM_TEST_LIST_CHECK_H

#include <assert.h>
#include <stdlib.h>

#include "codec/eventlog.h"

/* Another log, opened anew, of the same bytes. */
static inline void list_check_one(struct qm_log log, struct qm_log again, size_t room, enum qm_hash hash, uint32_t mask)
{
    struct qm_log_extends x = {.hash = hash, .mask = mask, .digest = malloc(room * sizeof *x.digest), .pcr = malloc(room)};
    assert(x.digest != NULL && x.pcr != NULL);
    const enum qm_log_step end = qm_log_list_extends(&log, &x);
    assert(x.count < room);

    struct qm_event e;
    struct qm_log_starts starts = {0};
    enum qm_log_step step;
    size_t count = 0;
    uint32_t count_of[QM_PCR_COUNT] = {0};
    bool missing = false;
    while ((step = qm_log_next(&again, &e)) == QM_LOG_EVENT) {
        qm_log_starts_fold(&starts, &e);
        missing |= e.extends && e.digest[hash] == NULL;
        if (!e.extends || e.digest[hash] == NULL || (mask >> e.pcr & 1) == 0)
            continue;
        assert(count < x.count && x.digest[count] == e.digest[hash] && x.pcr[count] == e.pcr);
        count_of[e.pcr]++;
        count++;
    }
    assert(step == end && log.p == again.p && log.event_count == again.event_count);
    assert(count == x.count && missing == x.missing);
    assert(memcmp(count_of, x.count_of, sizeof count_of) == 0);
    assert(starts.locality == x.starts.locality && starts.extended == x.starts.extended && starts.hcrtm == x.starts.hcrtm &&
           starts.drtm == x.starts.drtm);
    free(x.pcr);
    free(x.digest);
}

static inline void list_check(struct qm_span bytes)
{
    static const uint32_t masks[] = {(1u << QM_PCR_COUNT) - 1, 0x5a5a5a, 0};
    struct qm_log log;
    if (!qm_log_open(&log, bytes))
        return;
    for (enum qm_hash hash = QM_HASH_SHA1; hash < QM_HASH_COUNT; hash++)
        for (size_t i = 0; i < QM_COUNT(masks); i++)
            list_check_one(log, log, bytes.len / 16 + 2, hash, masks[i]);
}

#endif
