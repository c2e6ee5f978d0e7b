#include "engine/explain.h"

#include "codec/eventtext.h"
#include "engine/replay.h"

/* ---- an event ---------------------------------------------------------------------------------------------------------- */

static bool part_is_digest(const struct qm_event *e, enum qm_hash hash, struct qm_span part)
{
    uint8_t digest[QM_DIGEST_MAX];
    qm_hash_one(hash, part, digest);
    return memcmp(digest, e->digest[hash], qm_hash_size(hash)) == 0;
}

const char *qm_event_proved_part(const struct qm_event *e)
{
    struct qm_measured parts[QM_MEASURED_MAX];
    unsigned count = qm_event_measured(e, parts);
    for (unsigned i = 0; i < count; i++) {
        unsigned agree = 0, differ = 0;
        for (enum qm_hash h = QM_HASH_SHA256; h < QM_HASH_COUNT; h++)
            if (e->digest[h] != NULL) {
                bool same = part_is_digest(e, h, parts[i].bytes);
                agree += same;
                differ += !same;
            }
        if (agree + differ == 0 && e->digest[QM_HASH_SHA1] != NULL)
            agree = part_is_digest(e, QM_HASH_SHA1, parts[i].bytes);
        if (agree != 0 && differ == 0)
            return parts[i].part;
    }
    return NULL;
}

/* Bytes of the character or escape of qm_out_shown that begins a line: \\, \xNN or \u{N}. */
static size_t shown_step(const char *line, size_t len)
{
    if (line[0] != '\\' || len < 2)
        return 1;
    if (line[1] == 'x')
        return len < 4 ? len : 4;
    if (line[1] != 'u')
        return 2;
    const char *brace = memchr(line, '}', len);
    return brace != NULL ? (size_t)(brace - line) + 1 : 2;
}

/* An event in at most max bytes of printable ASCII; dots end what had to be cut, and no escape is cut in two. */
static size_t words_write(const struct qm_event *e, char *to, size_t max)
{
    static const char dots[] = "...";
    char line[QM_EVENT_LINE_MAX];
    struct qm_out o = qm_out_init(line, sizeof line);
    qm_event_describe(e, &o);
    size_t len = o.len;
    if (len > max) {
        size_t step;
        for (len = 0; (step = shown_step(line + len, o.len - len)) <= max - (sizeof dots - 1) - len; len += step)
            ;
    }
    memcpy(to, line, len);
    if (len == o.len)
        return len;
    memcpy(to + len, dots, sizeof dots - 1);
    return len + sizeof dots - 1;
}

/* The next event that extends the PCR; false at the end of the log, or where it is damaged. */
static bool next_of(struct qm_log *log, unsigned pcr, struct qm_event *e)
{
    while (qm_log_next(log, e) == QM_LOG_EVENT)
        if (e->extends && e->pcr == pcr)
            return true;
    return false;
}

/* ---- lists ------------------------------------------------------------------------------------------------------------- */

enum { HEAD = sizeof(struct qm_event_list_head), ENTRY = sizeof(struct qm_listed_event) };

static bool printable(const uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (p[i] < 0x20 || p[i] > 0x7e)
            return false;
    return true;
}

bool qm_event_list_read(struct qm_span bytes, struct qm_event_list *out)
{
    struct qm_event_list_head head;
    if (bytes.len < HEAD)
        return false;
    memcpy(&head, bytes.p, HEAD);
    if (head.count > QM_EVENT_LIST_MAX || bytes.len - HEAD < (size_t)head.count * ENTRY ||
        bytes.len - HEAD - (size_t)head.count * ENTRY != head.words_len)
        return false;
    *out = (struct qm_event_list){bytes.p + HEAD, bytes.p + HEAD + (size_t)head.count * ENTRY, head.count};
    size_t words_len = 0;
    for (uint32_t i = 0; i < head.count; i++) {
        struct qm_listed_event e;
        memcpy(&e, out->event + (size_t)i * ENTRY, ENTRY);
        if (e.words_len > QM_EVENT_WORDS_MAX || e.proved > 1)
            return false;
        words_len += e.words_len;
    }
    return words_len == head.words_len && printable(out->words, words_len);
}

struct qm_listed_event qm_event_list_at(const struct qm_event_list *list, uint32_t i, struct qm_span *words)
{
    struct qm_listed_event e;
    const uint8_t *at = list->words;
    for (uint32_t j = 0; j < i; j++)
        at += list->event[(size_t)j * ENTRY + offsetof(struct qm_listed_event, words_len)];
    memcpy(&e, list->event + (size_t)i * ENTRY, ENTRY);
    *words = (struct qm_span){at, e.words_len};
    return e;
}

size_t qm_event_list_collect(struct qm_span log_bytes, unsigned pcr, const uint8_t value[32], void *room, size_t cap)
{
    struct qm_log log;
    struct qm_event e;
    struct qm_event_list_head head = {0};
    uint8_t replayed[QM_PCR_COUNT][QM_DIGEST_MAX];
    if (log_bytes.p == NULL || !qm_log_open(&log, log_bytes))
        return 0;
    while (next_of(&log, pcr, &e))
        head.count++; /* counted before anything is hashed: a log of nothing but events of one PCR costs a walk */
    if (head.count > QM_EVENT_LIST_MAX || cap < HEAD + (size_t)head.count * ENTRY ||
        !qm_replay_bank(log_bytes, QM_HASH_SHA256, 1u << pcr, replayed) || memcmp(replayed[pcr], value, 32) != 0 ||
        !qm_log_open(&log, log_bytes))
        return 0;
    uint8_t *entry = (uint8_t *)room + HEAD;
    uint8_t *words = entry + (size_t)head.count * ENTRY;
    size_t left = cap - HEAD - (size_t)head.count * ENTRY;
    for (; next_of(&log, pcr, &e); entry += ENTRY) {
        char text[QM_EVENT_WORDS_MAX];
        struct qm_listed_event listed = {.type = e.type, .proved = qm_event_proved_part(&e) != NULL};
        listed.words_len = (uint8_t)words_write(&e, text, sizeof text);
        if (listed.words_len > left)
            return 0;
        memcpy(listed.digest, e.digest[QM_HASH_SHA256], sizeof listed.digest);
        memcpy(entry, &listed, ENTRY);
        memcpy(words, text, listed.words_len);
        words += listed.words_len;
        left -= listed.words_len;
        head.words_len += listed.words_len;
    }
    memcpy(room, &head, HEAD);
    return HEAD + (size_t)head.count * ENTRY + head.words_len;
}

/* ---- the difference ---------------------------------------------------------------------------------------------------- */

static const uint8_t *digest_at(const struct qm_event_list *list, uint32_t i)
{
    return list->event + (size_t)i * ENTRY + offsetof(struct qm_listed_event, digest);
}

/* The received log has no event where the list has its event i. */
static void explain_missing(const struct qm_event_list *list, uint32_t i, const struct qm_log *log, struct qm_event_diff *out)
{
    struct qm_listed_event e = qm_event_list_at(list, i, &out->text);
    out->index = log->event_count;
    out->type = e.type;
    out->digest = NULL;
    out->expected_digest = digest_at(list, i);
    out->proved = e.proved != 0;
}

bool qm_explain(struct qm_span log_bytes, unsigned pcr, const struct qm_event_list *expected, char text[QM_EVENT_TEXT_MAX],
                struct qm_event_diff *out)
{
    struct qm_log log;
    struct qm_event e;
    uint32_t i = 0;
    if (log_bytes.p == NULL || !qm_log_open(&log, log_bytes))
        return false;
    for (; next_of(&log, pcr, &e); i++) {
        const uint8_t *digest = e.digest[QM_HASH_SHA256];
        if (digest == NULL)
            return false;
        if (i < expected->count && memcmp(digest, digest_at(expected, i), 32) == 0)
            continue;
        out->index = e.index;
        out->type = e.type;
        out->digest = digest;
        out->expected_digest = i < expected->count ? digest_at(expected, i) : NULL;
        out->text = (struct qm_span){(const uint8_t *)text, words_write(&e, text, QM_EVENT_TEXT_MAX)};
        out->proved = qm_event_proved_part(&e) != NULL;
        return true;
    }
    if (i >= expected->count || qm_log_next(&log, &e) != QM_LOG_END)
        return false;
    explain_missing(expected, i, &log, out);
    return true;
}
