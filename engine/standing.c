#include "engine/standing.h"

static const char *const status_names[QM_STANDS_COUNT] = {"untrusted", "unmeasured", "invalid", "new", "trusted"};
static const char *const silence_names[QM_SILENCE_COUNT] = {"", "refused", "nothing_from_anyone", "nothing_from_it", "held"};

const char *qm_standing_name(enum qm_standing_status s)
{
    return status_names[s];
}

const char *qm_silence_name(enum qm_silence s)
{
    return silence_names[s];
}

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static bool longer_than(uint64_t since_ms, uint64_t now_ms, uint64_t after_ms)
{
    return after_ms != 0 && now_ms > since_ms && now_ms - since_ms > after_ms;
}

/* Of a machine that is silent. Refused records count as arriving while the last one is no older than what silence is measured by. */
static enum qm_silence why_silent(const struct qm_ledger *l, const struct qm_standing_times *t, bool held)
{
    if (held)
        return QM_SILENCE_HELD;
    if (l->refused_count != 0 && !longer_than((uint64_t)l->refused_s * 1000, t->now_ms, t->unmeasured_after_ms))
        return QM_SILENCE_REFUSED;
    return t->fleet_silent ? QM_SILENCE_FLEET : QM_SILENCE_INSTANCE;
}

struct qm_standing qm_standing_of(const struct qm_ledger *l, const struct qm_standing_times *t)
{
    const bool judged = (l->flags & QM_LEDGER_STATUS) != 0;
    const uint64_t hold_until_ms = (uint64_t)l->hold_until_s * 1000;
    struct qm_standing s = {.held = hold_until_ms > t->now_ms};
    s.since_ms = later(later(l->authentic_ms, (uint64_t)l->enrolled_s * 1000), t->gap_end_ms);
    if (!s.held)
        s.since_ms = later(s.since_ms, hold_until_ms);
    const bool silent = longer_than(s.since_ms, t->now_ms, t->unmeasured_after_ms);
    if (silent)
        s.silence = (uint8_t)why_silent(l, t, s.held);
    if (judged && l->status == QM_UNTRUSTED)
        s.status = QM_STANDS_UNTRUSTED;
    else if (silent && !s.held)
        s.status = QM_STANDS_UNMEASURED;
    else if (l->authentic_ms == 0 && l->refused_count != 0)
        s.status = QM_STANDS_INVALID;
    else if (judged && l->status == QM_TRUSTED)
        s.status = QM_STANDS_TRUSTED;
    else
        s.status = QM_STANDS_NEW;
    s.stale = silent && s.status != QM_STANDS_UNMEASURED;
    return s;
}

const char *qm_standing_reason(const struct qm_ledger *l, const struct qm_standing *s)
{
    switch ((enum qm_standing_status)s->status) {
    case QM_STANDS_UNMEASURED:
        return silence_names[s->silence];
    case QM_STANDS_INVALID:
        return qm_reason_name(l->refused_reason);
    case QM_STANDS_NEW:
        return (l->flags & QM_LEDGER_STATUS) != 0 ? qm_reason_name(l->reason) : "no_record";
    default:
        return qm_reason_name(l->reason);
    }
}
