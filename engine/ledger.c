#include "engine/ledger.h"

#include <assert.h>

#include "codec/cursor.h"

/* What a TPM may lose of its clock when power fails, and so by how much the clock of an unsafe start may be behind: the shortest
 * period of writing it, 2^22 ms (Library part 1, 36.3.2). */
#define CLOCK_SLACK_MS (1ull << 22)

uint64_t qm_attest_key(const uint8_t sha256[32])
{
    uint64_t k = qm_load_be64(sha256);
    return k != 0 ? k : 1;
}

/* Mod 2^32, so that a count that overflows goes on. */
static int compare_count(uint32_t a, uint32_t b)
{
    int32_t d = (int32_t)(a - b);
    return d < 0 ? -1 : d > 0;
}

int qm_sequence_compare(const struct qm_sequence *a, const struct qm_sequence *b)
{
    int c = compare_count(a->reset, b->reset);
    if (c == 0)
        c = compare_count(a->restart, b->restart);
    if (c == 0)
        c = a->clock_ms < b->clock_ms ? -1 : a->clock_ms > b->clock_ms;
    return c;
}

static int recent_index(const struct qm_ledger *l, uint64_t attest)
{
    for (int i = 0; i < QM_LEDGER_RECENT; i++)
        if (l->recent[i] == attest)
            return i;
    return -1;
}

static uint8_t recent_proof(const struct qm_ledger *l, int i)
{
    return (uint8_t)(l->recent_proof >> 2 * i & 3);
}

static void set_recent_proof(struct qm_ledger *l, int i, uint8_t proof)
{
    l->recent_proof = (l->recent_proof & ~(3u << 2 * i)) | (uint32_t)proof << 2 * i;
}

/* Newer than last: across resets any clock will do (it is then the state's business), within a reset neither the restart count
 * nor the clock may go back. */
static bool newer(const struct qm_sequence *s, const struct qm_sequence *last)
{
    int reset = compare_count(s->reset, last->reset);
    return reset > 0 || (reset == 0 && compare_count(s->restart, last->restart) >= 0 && s->clock_ms > last->clock_ms);
}

static bool clock_lost(const struct qm_sequence *s, const struct qm_sequence *last, bool safe)
{
    if (compare_count(s->reset, last->reset) <= 0 || s->clock_ms >= last->clock_ms)
        return false;
    return safe || last->clock_ms - s->clock_ms > CLOCK_SLACK_MS;
}

static bool same_boot(const struct qm_ledger *l, const struct qm_sequence *s)
{
    return l->last.reset == s->reset && l->last.restart == s->restart;
}

static bool held_back(const struct qm_ledger *l, const struct qm_sighting *s, uint64_t lag_after_ms)
{
    const uint64_t first_ms = (uint64_t)l->boot_first_s * 1000;
    if (lag_after_ms == 0 || first_ms == 0 || !same_boot(l, &s->at) || s->checked_ms < first_ms)
        return false;
    const uint64_t verifier = s->checked_ms - first_ms;
    const uint64_t tpm = s->at.clock_ms - l->boot_first_clock_ms; /* not negative: the clock moved on within the boot */
    return verifier > tpm && verifier - tpm > lag_after_ms;
}

struct qm_ordering qm_ledger_order(const struct qm_ledger *l, const struct qm_sighting *s, uint64_t lag_after_ms)
{
    struct qm_ordering o = {.order = QM_ORDER_NEWER};
    int i = recent_index(l, s->attest);
    if (i >= 0) {
        o.order = (s->proof & ~recent_proof(l, i)) != 0 ? QM_ORDER_IMPROVES : QM_ORDER_DUPLICATE;
        o.newest = (l->flags & QM_LEDGER_SEEN) != 0 && qm_sequence_compare(&s->at, &l->last) == 0;
        return o;
    }
    if ((l->flags & QM_LEDGER_SEEN) == 0)
        return o;
    if (!newer(&s->at, &l->last)) {
        o.order = QM_ORDER_REPLAYED;
        o.cloned = (l->flags & QM_LEDGER_REFUSED) != 0 && newer(&s->at, &l->refused);
        return o;
    }
    o.boots = s->at.reset - l->last.reset;
    o.tpm_state = clock_lost(&s->at, &l->last, s->safe);
    o.held_back = held_back(l, s, lag_after_ms);
    return o;
}

static void remember(struct qm_ledger *l, const struct qm_sighting *s)
{
    const unsigned i = l->recent_next % QM_LEDGER_RECENT;
    l->recent[i] = s->attest;
    set_recent_proof(l, (int)i, s->proof);
    l->recent_next = (uint8_t)((i + 1) % QM_LEDGER_RECENT);
}

static void move_on(struct qm_ledger *l, const struct qm_sighting *s, const struct qm_ordering *o)
{
    if ((l->flags & QM_LEDGER_SEEN) == 0 || l->boot_first_s == 0 || !same_boot(l, &s->at)) {
        l->boot_first_s = (uint32_t)(s->checked_ms / 1000);
        l->boot_first_clock_ms = s->at.clock_ms;
    }
    l->boots += o->boots;
    l->boots_silent += o->boots > 1 ? o->boots - 1 : 0;
    l->last = s->at;
    l->flags = (uint8_t)((l->flags & ~QM_LEDGER_SAFE) | QM_LEDGER_SEEN | (s->safe ? QM_LEDGER_SAFE : 0));
    l->authentic_ms = s->checked_ms;
}

void qm_ledger_take(struct qm_ledger *l, const struct qm_sighting *s, const struct qm_ordering *o)
{
    int i;
    switch (o->order) {
    case QM_ORDER_NEWER:
        remember(l, s);
        move_on(l, s, o);
        break;
    case QM_ORDER_IMPROVES:
        i = recent_index(l, s->attest);
        assert(i >= 0);
        set_recent_proof(l, i, recent_proof(l, i) | s->proof);
        break;
    case QM_ORDER_REPLAYED:
        if ((l->flags & QM_LEDGER_REFUSED) == 0 || newer(&s->at, &l->refused))
            l->refused = s->at;
        l->flags |= QM_LEDGER_REFUSED;
        break;
    case QM_ORDER_DUPLICATE:
        break;
    }
}

void qm_ledger_refuse(struct qm_ledger *l, enum qm_reason reason, uint64_t checked_ms)
{
    l->refused_count += l->refused_count != UINT32_MAX;
    l->refused_s = (uint32_t)(checked_ms / 1000);
    l->refused_reason = (uint8_t)reason;
}

void qm_ledger_rekey(struct qm_ledger *l, uint32_t ak)
{
    l->ak = ak;
    l->flags &= (uint8_t) ~(QM_LEDGER_SEEN | QM_LEDGER_REFUSED | QM_LEDGER_SAFE);
    l->last = l->refused = (struct qm_sequence){0};
    memset(l->recent, 0, sizeof l->recent);
    l->recent_proof = 0;
    l->recent_next = 0;
    l->boot_first_s = 0;
    l->boot_first_clock_ms = 0;
    l->beacon = 0;
}

void qm_ledger_restart(struct qm_ledger *l, const struct qm_sequence *at)
{
    l->last = *at;
    l->refused = (struct qm_sequence){0};
    l->flags = (uint8_t)((l->flags & ~QM_LEDGER_REFUSED) | QM_LEDGER_SEEN);
    l->boot_first_s = 0;
    l->boot_first_clock_ms = 0;
}
