#include "codec/eventlog.h"

#include "codec/cursor.h"

enum {
    LEGACY_HEAD = 32, /* pcrIndex, eventType, a SHA-1 digest, eventSize (Firmware Profile 10.2.1) */
    AGILE_HEAD = 12,  /* pcrIndex, eventType, digests.count (10.2.2) */
    SPEC_ID_FIXED = 24,
    SHA1_SIZE = 20,
    LOCALITY_HCRTM = 4,
    /* What the launching ACM itself logs (Intel TXT MLE guide, appendix F: EVTYPE_BASE 0x400 plus 1
     * to 255). Types from 0x500 on are what the launched software adds; they alone show no launch.
     */
    TXT_EVENT_FIRST = 0x401,
    TXT_EVENT_LAST = 0x4ff,
    DRTM_PCR_FIRST = 17,
    DRTM_PCR_LAST = 22,
};

/* TCG_EfiSpecIDEvent.signature, 10.4.5.1, and TCG_EfiStartupLocalityEvent.Signature, 10.4.5.3; both
 * with their NUL. */
static const char spec_id[16] = "Spec ID Event03";
static const char startup_locality[16] = "StartupLocality";

/* Where the run of equal 00 or ff bytes begins that ends the bytes; their end if they end
 * otherwise. Found once, from the end: to ask at every event whether only padding is left would be
 * quadratic in a log of zeros. */
static const uint8_t *find_padding(struct qm_span s)
{
    const uint8_t *p = qm_span_end(s);
    if (p[-1] != 0x00 && p[-1] != 0xff)
        return p;
    uint8_t fill = p[-1];
    uint64_t fill8 = fill == 0 ? 0 : UINT64_MAX;
    while (p - s.p >= 8 && qm_load_le64(p - 8) == fill8)
        p -= 8;
    while (p != s.p && p[-1] == fill)
        p--;
    return p;
}

/* TCG_EfiSpecIDEvent behind its signature. It must be used up exactly: what a damaged one announces
 * is not to be believed. */
static bool read_spec_id(struct qm_log *log, struct qm_span data)
{
    struct qm_cur c = qm_cur_init(data.p, data.len);
    qm_cur_take(&c, SPEC_ID_FIXED); /* signature, platformClass, versions, errata, uintnSize */
    uint32_t count = qm_cur_le32(&c);
    if (c.bad || count == 0 || count > QM_LOG_BANK_MAX)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        struct qm_log_bank *bank = &log->bank[i];
        bank->tpm_alg = qm_cur_le16(&c);
        bank->size = qm_cur_le16(&c);
        bank->hash = qm_hash_of_tpm(bank->tpm_alg);
        if (bank->hash != QM_HASH_NONE && bank->size != qm_hash_size(bank->hash))
            return false;
        for (uint32_t j = 0; j < i; j++)
            if (log->bank[j].tpm_alg == bank->tpm_alg)
                return false;
    }
    qm_cur_take(&c, qm_cur_u8(&c)); /* vendorInfo */
    if (!qm_cur_done(&c))
        return false;
    log->format = QM_LOG_AGILE;
    log->bank_count = (uint8_t)count;
    return true;
}

/* The end of an event, which is the same in both formats. False: cut short, or a PCR that may not be: Windows logs what it only
 * wants to tell under pcrIndex ffffffff. */
static inline bool read_data(struct qm_cur *c, struct qm_event *e)
{
    e->data = qm_cur_span(c, qm_cur_le32(c));
    e->extends = e->type != QM_EV_NO_ACTION;
    return !QM_UNLIKELY(c->bad || (e->pcr >= QM_PCR_COUNT && (e->extends || e->pcr != QM_PCR_NONE)));
}

/* TCG_PCClientPCREvent. */
static bool next_legacy(struct qm_log *log, struct qm_event *e)
{
    struct qm_cur c = {log->p, log->end, false};
    if (qm_cur_left(&c) < LEGACY_HEAD)
        return false;
    e->pcr = qm_cur_le32(&c);
    e->type = qm_cur_le32(&c);
    memset(e->digest, 0, sizeof e->digest);
    e->digest[QM_HASH_SHA1] = qm_cur_take(&c, SHA1_SIZE);
    if (!read_data(&c, e))
        return false;
    e->index = log->event_count++;
    log->p = c.p;
    return true;
}

/* The bank of an event's place i that is not the one announced at place i: firmware may leave banks
 * out. */
static __attribute__((noinline)) unsigned find_bank(const struct qm_log *log, uint16_t tpm_alg)
{
    unsigned b = 0;
    while (b < log->bank_count && log->bank[b].tpm_alg != tpm_alg)
        b++;
    return b;
}

/* TCG_PCR_EVENT2, at the cursor. */
static inline bool read_agile(const struct qm_log *log, struct qm_cur *c, struct qm_event *e)
{
    if (QM_UNLIKELY(qm_cur_left(c) < AGILE_HEAD))
        return false;
    e->pcr = qm_load_le32(c->p);
    e->type = qm_load_le32(c->p + 4);
    uint32_t count = qm_load_le32(c->p + 8);
    c->p += AGILE_HEAD;
    if (QM_UNLIKELY(count > log->bank_count))
        return false;
    memset(e->digest, 0, sizeof e->digest);
    uint32_t seen = 0;
    for (unsigned i = 0; i < count; i++) {
        if (QM_UNLIKELY(qm_cur_left(c) < 2))
            return false;
        uint16_t tpm_alg = qm_load_le16(c->p);
        c->p += 2;
        unsigned b = i; /* nearly every event lists its digests as they were announced */
        if (QM_UNLIKELY(log->bank[b].tpm_alg != tpm_alg) &&
            (b = find_bank(log, tpm_alg)) == log->bank_count)
            return false;
        const struct qm_log_bank *bank = &log->bank[b];
        if (QM_UNLIKELY((seen & 1u << b) != 0 || bank->size > qm_cur_left(c)))
            return false;
        seen |= 1u << b;
        e->digest[bank->hash] = c->p;
        c->p += bank->size;
    }
    e->digest[QM_HASH_NONE] = NULL; /* where algorithms went that we cannot name */
    return read_data(c, e);
}

static inline bool next_agile(struct qm_log *log, struct qm_event *e)
{
    struct qm_cur c = {log->p, log->end, false};
    if (!read_agile(log, &c, e))
        return false;
    e->index = log->event_count++;
    log->p = c.p;
    return true;
}

bool qm_log_open(struct qm_log *log, struct qm_span bytes)
{
    memset(log, 0, sizeof *log);
    if (bytes.len == 0)
        return false;
    log->start = log->p = bytes.p;
    log->end = qm_span_end(bytes);
    log->padding = find_padding(bytes);
    log->format = QM_LOG_LEGACY;
    log->bank_count = 1;
    log->bank[0] = (struct qm_log_bank){QM_TPM_ALG_SHA1, SHA1_SIZE, QM_HASH_SHA1};
    if (log->padding == bytes.p)
        return false; /* nothing but padding: no bytes of a log */
    struct qm_log ahead = *log;
    struct qm_event first;
    if (!next_legacy(&ahead, &first))
        return false;
    if (first.type == QM_EV_NO_ACTION && first.data.len >= sizeof spec_id &&
        memcmp(first.data.p, spec_id, sizeof spec_id) == 0)
        return read_spec_id(log, first.data);
    return true;
}

enum qm_log_step qm_log_next(struct qm_log *log, struct qm_event *event)
{
    if (QM_UNLIKELY(log->p >= log->padding))
        return QM_LOG_END;
    bool whole = QM_LIKELY(log->format == QM_LOG_AGILE && log->event_count != 0)
                     ? next_agile(log, event)
                     : next_legacy(log, event);
    return QM_LIKELY(whole) ? QM_LOG_EVENT : QM_LOG_MALFORMED;
}

static inline void list_event(struct qm_log_extends *x, const struct qm_event *e)
{
    qm_log_starts_fold(&x->starts, e);
    if (!e->extends)
        return;
    const uint8_t *digest = e->digest[x->hash];
    if (QM_UNLIKELY(digest == NULL)) {
        x->missing = true;
        return;
    }
    /* Written always, kept if asked for: no branch on what the log holds. */
    x->digest[x->count] = digest;
    x->pcr[x->count] = (uint8_t)e->pcr;
    uint32_t wanted = x->mask >> e->pcr & 1;
    x->count += wanted;
    x->count_of[e->pcr] += wanted;
}

/* Where things stand in an event that lists a digest of every bank, in the order announced: as nearly all do. */
struct shape {
    uint64_t count_and_first; /* digests.count and the first algorithm: the six bytes at COUNT_AT */
    size_t alg_at[QM_LOG_BANK_MAX];
    size_t digest_at; /* of the bank asked for; 0: it was not announced */
    size_t size_at;   /* eventSize */
};
enum { COUNT_AT = 8 };
#define SIX_BYTES ((1ull << 48) - 1)

static struct shape usual_shape(const struct qm_log *log, enum qm_hash hash)
{
    struct shape s = {.count_and_first = log->bank_count | (uint64_t)log->bank[0].tpm_alg << 32};
    size_t at = AGILE_HEAD;
    for (unsigned b = 0; b < log->bank_count; b++) {
        s.alg_at[b] = at;
        if (log->bank[b].hash == hash)
            s.digest_at = at + 2;
        at += 2u + log->bank[b].size;
    }
    s.size_at = at;
    return s;
}

static inline bool has_shape(const struct shape *s, const struct qm_log *log, const uint8_t *event)
{
    bool has = (qm_load_le64(event + COUNT_AT) & SIX_BYTES) == s->count_and_first;
    for (unsigned b = 1; b < log->bank_count; b++)
        has &= qm_load_le16(event + s->alg_at[b]) == log->bank[b].tpm_alg;
    return has;
}

enum qm_log_step qm_log_list_extends(struct qm_log *log, struct qm_log_extends *x)
{
    struct qm_event e;
    while (log->event_count == 0 || log->format != QM_LOG_AGILE) {
        enum qm_log_step step = qm_log_next(log, &e);
        if (step != QM_LOG_EVENT)
            return step;
        list_event(x, &e);
    }
    /* Events of the usual shape and of types that tell no start go a short way. The long one says the same of them. */
    const struct shape shape = usual_shape(log, x->hash);
    const uint8_t **digest = x->digest;
    uint8_t *pcrs = x->pcr;
    const uint32_t mask = x->mask;
    size_t count = x->count; /* here, for a byte written to pcrs might be any */
    uint32_t events = log->event_count;
    struct qm_cur c = {log->p, log->end, false};
    bool whole = true;
    while (c.p < log->padding) {
        const uint8_t *event = c.p;
        const size_t left = qm_cur_left(&c);
        if (QM_LIKELY(left >= shape.size_at + 4 && shape.digest_at != 0 && has_shape(&shape, log, event))) {
            const uint32_t pcr = qm_load_le32(event), type = qm_load_le32(event + 4), size = qm_load_le32(event + shape.size_at);
            if (QM_LIKELY(pcr < QM_PCR_COUNT && size <= left - shape.size_at - 4 && qm_log_type_is_plain(type))) {
                const uint32_t wanted = mask >> pcr & 1;
                digest[count] = event + shape.digest_at; /* as list_event */
                pcrs[count] = (uint8_t)pcr;
                count += wanted;
                x->count_of[pcr] += wanted;
                x->starts.extended = true;
                events++;
                c.p = event + shape.size_at + 4 + size;
                continue;
            }
        }
        whole = read_agile(log, &c, &e);
        if (!whole) {
            c.p = event;
            break;
        }
        events++;
        x->count = count;
        list_event(x, &e);
        count = x->count;
    }
    x->count = count;
    log->event_count = events;
    log->p = c.p;
    return whole ? QM_LOG_END : QM_LOG_MALFORMED;
}

bool qm_log_has_bank(const struct qm_log *log, enum qm_hash hash)
{
    for (unsigned b = 0; b < log->bank_count; b++)
        if (log->bank[b].hash == hash)
            return hash != QM_HASH_NONE;
    return false;
}

void qm_log_starts_fold_rare(struct qm_log_starts *s, const struct qm_event *e)
{
    if (e->extends) {
        s->extended = true;
        s->hcrtm |= e->type == QM_EV_EFI_HCRTM_EVENT && e->pcr == 0;
        s->drtm |= e->pcr >= DRTM_PCR_FIRST && e->pcr <= DRTM_PCR_LAST &&
                   e->type >= TXT_EVENT_FIRST && e->type <= TXT_EVENT_LAST;
        return;
    }
    if (!s->extended && e->pcr == 0 && e->data.len == sizeof startup_locality + 1 &&
        memcmp(e->data.p, startup_locality, sizeof startup_locality) == 0)
        s->locality = e->data.p[sizeof startup_locality];
}

void qm_log_start(const struct qm_log_starts *s, unsigned pcr, uint8_t *value, size_t size)
{
    bool ones = pcr >= DRTM_PCR_FIRST && pcr <= DRTM_PCR_LAST && !s->drtm;
    memset(value, ones ? 0xff : 0, size);
    if (pcr == 0 && size != 0)
        value[size - 1] = s->hcrtm ? LOCALITY_HCRTM : s->locality;
}
