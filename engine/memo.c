#include "engine/memo.h"

/* A look-up is three steps, so many chains apart, each when what it needs has had time to arrive. */
enum { AHEAD = 8, FETCH_LINES = 8 };

/* Where a chain lies. position counts units since the memo was made, so that what was overwritten is known by it. */
struct place {
    uint64_t print;
    uint64_t position; /* of the start value, its digests behind it; 0: nothing here */
    uint32_t count;    /* digests */
    uint8_t value[32]; /* the end */
};

struct line {
    _Alignas(QM_CACHE_LINE) struct place place;
};
_Static_assert(sizeof(struct line) == QM_CACHE_LINE, "a look-up touches two lines, side by side");

/* A chain whose value is not known yet. */
struct noted {
    uint64_t print;
    const struct qm_chain *chain;
    uint8_t start[32];
};

struct qm_memo {
    uint8_t ring[QM_MEMO_UNITS][32];
    struct line index[QM_MEMO_PLACES];
    uint32_t seen[QM_MEMO_PRINTS];
    struct noted noted[QM_MEMO_WAITING];
    size_t noted_count;
    uint64_t head; /* position of the next unit to be written */
    uint64_t turn_chains, turn_extends, turn_saved;
    unsigned rest; /* turns that it goes on to rest */
};

size_t qm_memo_size(void)
{
    return qm_align_up(sizeof(struct qm_memo), QM_CACHE_LINE);
}

void qm_memo_init(struct qm_memo **out, void *mem)
{
    struct qm_memo *m = mem;
    memset(m, 0, sizeof *m);
    m->head = 2 * QM_MEMO_UNITS; /* position 0 has been overwritten from the start */
    *out = m;
}

bool qm_memo_awake(const struct qm_memo *m)
{
    return m->rest == 0;
}

void qm_memo_account(struct qm_memo *m, size_t count, uint64_t extends)
{
    m->turn_chains += count;
    m->turn_extends += extends;
    if (m->turn_chains < QM_MEMO_TURN)
        return;
    if (m->rest != 0)
        m->rest--;
    else if (m->turn_saved * QM_MEMO_WORTH < m->turn_extends)
        m->rest = QM_MEMO_TURNS_OF_REST;
    m->turn_chains = m->turn_extends = m->turn_saved = 0;
}

static inline uint64_t mix(const uint8_t digest[32])
{
    uint64_t end; /* start values differ here: a locality is their last byte */
    memcpy(&end, digest + 24, sizeof end);
    return (end + 0x9e3779b97f4a7c15u) * 0xd6e8feb86659fd93u;
}

uint64_t qm_memo_print(const struct qm_chain *c)
{
    uint64_t print = mix(c->value);
    for (uint32_t i = 0; i < c->count; i++)
        print += mix(c->digest[i]);
    return print;
}

/* The first of the two places of a print, by the high bits: those of a product are the well mixed ones. */
static struct line *places(struct qm_memo *m, uint64_t print)
{
    return &m->index[print >> 40 & (QM_MEMO_PLACES - 2)];
}

static inline bool may_be(const struct qm_memo *m, const struct place *p, uint64_t print)
{
    return p->print == print && p->position + QM_MEMO_UNITS >= m->head; /* not overwritten since */
}

static inline uint64_t differs_at(const uint8_t *a, const uint8_t *b, size_t at)
{
    uint64_t x, y;
    memcpy(&x, a + at, sizeof x);
    memcpy(&y, b + at, sizeof y);
    return x ^ y;
}

/* memcmp would be a call for every digest. */
static inline bool equal(const uint8_t a[32], const uint8_t b[32])
{
    return (differs_at(a, b, 0) | differs_at(a, b, 8) | differs_at(a, b, 16) | differs_at(a, b, 24)) == 0;
}

/* The whole of it, or it is another chain. */
static bool is_chain(const struct qm_memo *m, const struct place *p, const uint8_t start[32], const struct qm_chain *c)
{
    const uint8_t (*unit)[32] = &m->ring[p->position % QM_MEMO_UNITS];
    if (p->count != c->count || !equal(unit[0], start))
        return false;
    for (uint32_t i = 0; i < c->count; i++)
        if (!equal(unit[1 + i], c->digest[i]))
            return false;
    return true;
}

/* NULL: not known. */
static const struct place *find(struct qm_memo *m, uint64_t print, const uint8_t start[32], const struct qm_chain *c)
{
    const struct line *two = places(m, print);
    for (size_t i = 0; i < 2; i++)
        if (may_be(m, &two[i].place, print) && is_chain(m, &two[i].place, start, c))
            return &two[i].place;
    return NULL;
}

/* Seen for the second time, it waits to be kept. */
static void note(struct qm_memo *m, const struct qm_chain *c, uint64_t print)
{
    uint32_t *seen = &m->seen[print >> 32 & (QM_MEMO_PRINTS - 1)];
    if (*seen != (uint32_t)print) {
        *seen = (uint32_t)print;
        return;
    }
    if (c->count > QM_MEMO_CHAIN_MAX || m->noted_count == QM_MEMO_WAITING)
        return;
    struct noted *n = &m->noted[m->noted_count++];
    n->print = print;
    n->chain = c;
    memcpy(n->start, c->value, sizeof n->start);
}

/* Starts to bring into the cache what the comparison will read first. */
static void fetch(struct qm_memo *m, uint64_t print)
{
    const struct line *two = places(m, print);
    const struct place *p = may_be(m, &two[0].place, print) ? &two[0].place : &two[1].place;
    if (!may_be(m, p, print))
        return;
    const uint8_t *unit = m->ring[p->position % QM_MEMO_UNITS];
    for (uint32_t line = 0; line <= p->count / 2 && line < FETCH_LINES; line++)
        __builtin_prefetch(unit + QM_CACHE_LINE * line);
}

/* The extends that it saved. */
static uint32_t recall_one(struct qm_memo *m, struct qm_chain *c, uint64_t print)
{
    const uint32_t count = c->count;
    if (count == 0)
        return 0;
    const struct place *p = find(m, print, c->value, c);
    if (p == NULL) {
        note(m, c, print);
        return 0;
    }
    memcpy(c->value, p->value, sizeof c->value);
    c->count = 0;
    return count;
}

uint64_t qm_memo_recall(struct qm_memo *m, struct qm_chain *chains, size_t count)
{
    uint64_t print[2 * AHEAD];
    uint64_t saved = 0;
    for (size_t i = 0; i < count + 2 * AHEAD; i++) {
        uint64_t *turn = &print[i % (2 * AHEAD)];
        if (i >= 2 * AHEAD)
            saved += recall_one(m, &chains[i - 2 * AHEAD], *turn);
        if (i < count) {
            *turn = qm_memo_print(&chains[i]);
            __builtin_prefetch(places(m, *turn));
        }
        if (i >= AHEAD && i - AHEAD < count)
            fetch(m, print[(i - AHEAD) % (2 * AHEAD)]);
    }
    m->turn_saved += saved;
    return saved;
}

/* units in a row; what does not fit before the end of the ring begins at its start. */
static uint64_t make_room(struct qm_memo *m, uint64_t units)
{
    uint64_t left = QM_MEMO_UNITS - m->head % QM_MEMO_UNITS;
    if (left < units)
        m->head += left;
    uint64_t position = m->head;
    m->head += units;
    return position;
}

static void keep(struct qm_memo *m, const struct noted *n)
{
    struct line *two = places(m, n->print);
    struct place *p = &two[two[0].place.position > two[1].place.position].place; /* the older one gives way */
    uint64_t position = make_room(m, 1 + (uint64_t)n->chain->count);
    uint8_t (*unit)[32] = &m->ring[position % QM_MEMO_UNITS];
    memcpy(unit[0], n->start, sizeof unit[0]);
    for (uint32_t i = 0; i < n->chain->count; i++)
        memcpy(unit[1 + i], n->chain->digest[i], sizeof unit[0]);
    *p = (struct place){.print = n->print, .position = position, .count = n->chain->count};
    memcpy(p->value, n->chain->value, sizeof p->value);
}

void qm_memo_learn(struct qm_memo *m)
{
    for (size_t i = 0; i < m->noted_count; i++) {
        const struct noted *n = &m->noted[i];
        if (find(m, n->print, n->start, n->chain) == NULL) /* a batch may have brought it several times */
            keep(m, n);
    }
    m->noted_count = 0;
}
