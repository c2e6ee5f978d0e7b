/* Fuzz target: the event log's walkers, which must agree, and the words and JSON made of its events. The input is
 * taken as a log, and as the data of one event whose type its first byte chooses, so that the
 * decoders are reached without a log around them. */
#include <assert.h>
#include <stdlib.h>

#include "codec/eventtext.h"
#include "tests/json_check.h"
#include "tests/list_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_event(const struct qm_event *e)
{
    static char line[QM_EVENT_LINE_MAX];
    struct qm_out o = qm_out_init(line, sizeof line);
    qm_event_describe(e, &o);
    assert(!o.full);
    for (size_t i = 0; i < o.len; i++)
        assert(line[i] >= 0x20 && line[i] < 0x7f);

    size_t cap = qm_event_json_max(e->data.len);
    char *json = malloc(cap);
    assert(json != NULL);
    o = qm_out_init(json, cap);
    qm_event_json(e, &o);
    assert(!o.full && json_is_value(json, o.len));
    free(json);

    struct qm_measured parts[QM_MEASURED_MAX];
    unsigned count = qm_event_measured(e, parts);
    assert(count <= QM_MEASURED_MAX && (count != 0) == e->extends);
    for (unsigned i = 0; i < count; i++)
        assert(parts[i].bytes.p >= e->data.p && parts[i].bytes.len <= e->data.len &&
               (size_t)(parts[i].bytes.p - e->data.p) <= e->data.len - parts[i].bytes.len);
}

static void check_log(struct qm_span bytes)
{
    struct qm_log log;
    struct qm_event e;
    struct qm_log_starts starts = {0};
    enum qm_log_step step;
    if (!qm_log_open(&log, bytes))
        return;
    assert(log.bank_count >= 1 && log.bank_count <= QM_LOG_BANK_MAX);
    uint32_t count = 0;
    while ((step = qm_log_next(&log, &e)) == QM_LOG_EVENT) {
        assert(e.index == count);
        count++;
        assert(count <= bytes.len / 16); /* bounded work */
        assert(e.pcr < QM_PCR_COUNT || (e.pcr == QM_PCR_NONE && !e.extends));
        for (enum qm_hash h = QM_HASH_SHA1; h < QM_HASH_COUNT; h++)
            assert(e.digest[h] == NULL ||
                   ((e.index == 0 || qm_log_has_bank(&log, h)) && e.digest[h] > bytes.p &&
                    e.digest[h] + qm_hash_size(h) <= bytes.p + bytes.len));
        assert(e.digest[QM_HASH_NONE] == NULL);
        qm_log_starts_fold(&starts, &e);
        check_event(&e);
    }
    const uint8_t *at = log.p;
    assert(at <= log.end && qm_log_next(&log, &e) == step && log.p == at);
    uint8_t value[QM_DIGEST_MAX];
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++)
        qm_log_start(&starts, pcr, value, sizeof value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_log((struct qm_span){data, size});
    list_check((struct qm_span){data, size});
    if (size == 0)
        return 0;
    static const uint32_t bases[] = {0, 0x400, 0x80000000, 0x800000e0};
    struct qm_event e = {.type = bases[data[0] >> 5 & 3] + (data[0] & 0x1f),
                         .data = {data + 1, size - 1}};
    e.extends = e.type != QM_EV_NO_ACTION;
    check_event(&e);
    return 0;
}
