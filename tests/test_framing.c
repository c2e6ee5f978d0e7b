/* Pieces of files -> records: what is one result, what shares one, what is lost, whatever the
 * windows. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/craft.h"
#include "tools/framing.h"

enum { SEEN_MAX = 4000 };

struct seen {
    uint64_t off, len, count;
    bool malformed;
};

/* A source read to its end, and what came of it. */
struct feed {
    struct qm_source source;
    struct seen seen[SEEN_MAX];
    size_t count;
    bool lost, ended;
    size_t batches, taken_back;
};

static void drain(struct feed *f, struct qm_framed *out)
{
    cr_assert(out->count <= QM_VERIFY_BATCH);
    for (size_t i = 0; i < out->count; i++) {
        const struct qm_record *r = &out->record[i];
        cr_assert(f->count < SEEN_MAX);
        cr_assert(r->source.len == strlen(f->source.name) &&
                  memcmp(r->source.p, f->source.name, r->source.len) == 0);
        f->seen[f->count++] = (struct seen){r->off, r->len, r->count, r->evidence.malformed};
    }
    f->batches += out->count != 0;
    f->lost |= out->lost;
    out->count = 0;
    out->lost = false;
}

static struct qm_framed framed;

static void feed_begin(struct feed *f, bool bounded)
{
    memset(f, 0, sizeof *f);
    memset(&framed, 0, sizeof framed);
    f->source.name = bounded ? "spool/a.mpk" : "-";
    f->source.bounded = bounded;
}

/* A file read in one go. */
static void feed_whole(struct feed *f, struct qm_span bytes, bool broken)
{
    feed_begin(f, true);
    struct qm_piece piece = {.source = &f->source,
                             .bytes = craft_exact(bytes).p,
                             .len = bytes.len,
                             .last = true,
                             .broken = broken,
                             .file_bytes = bytes.len};
    size_t at = 0;
    while (!qm_frame_piece(&piece, &at, &framed, &f->ended)) {
        cr_assert_gt(framed.count, 0, "no end in sight");
        drain(f, &framed);
    }
    drain(f, &framed);
}

/* A stream read in windows, as the readers do it: what was not used comes again, longer when
 * nothing was. */
static void feed_lanes(struct feed *f, struct qm_span bytes, size_t window, bool bounded, bool broken,
                       unsigned lanes)
{
    feed_begin(f, bounded);
    size_t from = 0, len = window;
    for (;;) {
        bool last = from + len >= bytes.len;
        if (last)
            len = bytes.len - from;
        uint8_t *copy = malloc(len + 1);
        MUST(copy != NULL);
        if (len != 0)
            memcpy(copy, bytes.p + from, len);
        struct qm_piece piece = {.source = &f->source,
                                 .bytes = copy,
                                 .len = len,
                                 .off = from,
                                 .last = last,
                                 .broken = last && broken,
                                 .file_bytes = bounded ? bytes.len : 0};
        size_t at = 0;
        bool done = qm_frame_piece(&piece, &at, &framed, &f->ended);
        cr_assert(at <= len);
        if (lanes != 0 && !f->ended) {
            size_t count = framed.count, used = at;
            qm_frame_take_back(&piece, &at, &framed, lanes);
            f->taken_back += count - framed.count;
            cr_assert(count - framed.count <= lanes / 4 && (at < used) == (framed.count < count));
            cr_assert(framed.count == count || (framed.count != 0 && framed.count % lanes == 0));
        }
        drain(f, &framed);
        free(copy);
        if (f->ended || (last && done))
            return;
        from += at;
        if (at == 0) {
            cr_assert_lt(len, (size_t)QM_RECORD_MAX + (1 << 20),
                         "something must be used of so long a window");
            len = len * 2 < QM_RECORD_MAX + (1 << 20) ? len * 2 : QM_RECORD_MAX + (1 << 20);
        } else {
            len = window;
        }
    }
}

static void feed_windows(struct feed *f, struct qm_span bytes, size_t window, bool bounded,
                         bool broken)
{
    feed_lanes(f, bytes, window, bounded, broken, 0);
}

static void good(struct craft *c)
{
    static const struct qm_span some = {(const uint8_t *)"xyz", 3};
    craft_record(c, &(struct craft_record){.id = "m", .quote = some, .sig = some});
}

static void bad(struct craft *c)
{
    craft_put(c, "\x81\xa1v\x02", 4);
}

/* Every way to read it gives the same. */
static void feed_all(struct feed *f, const struct craft *c)
{
    static struct feed other;
    static const size_t windows[] = {64, 1000, 65536, 1 << 20};
    feed_whole(f, craft_span(c), false);
    for (size_t i = 0; i < QM_COUNT(windows); i++) {
        feed_windows(&other, craft_span(c), windows[i], true, false);
        cr_assert_eq(other.count, f->count, "windows of %zu: %zu results, not %zu", windows[i],
                     other.count, f->count);
        cr_assert_eq(memcmp(other.seen, f->seen, f->count * sizeof f->seen[0]), 0, "windows of %zu",
                     windows[i]);
        feed_lanes(&other, craft_span(c), windows[i], true, false, 8);
        cr_assert(other.count == f->count && memcmp(other.seen, f->seen, f->count * sizeof f->seen[0]) == 0,
                  "windows of %zu, lanes", windows[i]);
    }
}

static struct feed f;

Test(framing, batches)
{
    static const size_t counts[] = {1, 61, 62, 63, 64, 65, 126, 127, 128, 129, 1000};
    for (size_t i = 0; i < QM_COUNT(counts); i++) {
        struct craft c = {0};
        for (size_t n = 0; n < counts[i]; n++)
            good(&c);
        feed_all(&f, &c);
        cr_assert_eq(f.count, counts[i]);
        for (size_t n = 0; n < counts[i]; n++)
            cr_assert(!f.seen[n].malformed && f.seen[n].count == 0 &&
                      f.seen[n].len == c.len / counts[i] && f.seen[n].off == n * f.seen[n].len);
    }
    craft_free_all();
}

/* Windows that hold a few records more than a multiple of the lanes; malformed ones stay where they are. */
Test(framing, no_lanes_for_a_few)
{
    for (size_t n = 1; n <= 40; n++)
        for (size_t wrong = 0; wrong < 3; wrong++) {
            struct craft c = {0};
            size_t window = 0;
            for (size_t i = 0; i < 100; i++) {
                if (wrong != 0 && i % (wrong == 1 ? n : 7) == 0)
                    bad(&c);
                else
                    good(&c);
                window = i + 1 == n ? c.len : window;
            }
            static struct feed other;
            feed_whole(&f, craft_span(&c), false);
            feed_lanes(&other, craft_span(&c), window, true, false, 8);
            cr_assert_eq(other.count, f.count);
            cr_assert_eq(memcmp(other.seen, f.seen, f.count * sizeof f.seen[0]), 0, "%zu", n);
            bool few = n > 8 && n % 8 != 0 && n % 8 <= 2;
            cr_assert(wrong != 0 || (other.taken_back != 0) == few, "windows of %zu records", n);
            feed_lanes(&other, craft_span(&c), window, false, false, 8);
            cr_assert_eq(other.taken_back, 0, "a stream waits for nothing");
        }
    craft_free_all();
}

Test(framing, empty_file)
{
    feed_whole(&f, (struct qm_span){(const uint8_t *)"", 0}, false);
    cr_expect_eq(f.count, 0);
    cr_expect_not(f.lost);
}

static void expect_malformed(size_t bad_count, size_t before, size_t after)
{
    struct craft c = {0};
    for (size_t i = 0; i < before; i++)
        good(&c);
    size_t start = c.len;
    for (size_t i = 0; i < bad_count; i++)
        bad(&c);
    for (size_t i = 0; i < after; i++)
        good(&c);
    bool shares = bad_count > QM_MALFORMED_ALONE_MAX;
    size_t alone = shares ? QM_MALFORMED_ALONE_MAX : bad_count;
    feed_all(&f, &c);
    cr_assert_eq(f.count, before + alone + after + shares, "%zu malformed: %zu results", bad_count,
                 f.count);
    for (size_t i = 0; i < alone; i++)
        cr_assert(f.seen[before + i].malformed && f.seen[before + i].count == 0 &&
                  f.seen[before + i].off == start + 4 * i);
    for (size_t i = 0; i < after; i++)
        cr_assert_not(f.seen[before + alone + i].malformed);
    if (shares) {
        const struct seen *s = &f.seen[f.count - 1];
        cr_assert(s->malformed && s->off == start + 4 * alone && s->len == 4 &&
                      s->count == bad_count - alone,
                  "%zu malformed share a result", s->count);
    }
    /* on a stream without bounds everyone has its own */
    feed_windows(&f, craft_span(&c), 65536, false, false);
    cr_assert_eq(f.count, before + bad_count + after);
    for (size_t i = 0; i < f.count; i++)
        cr_assert_eq(f.seen[i].count, 0);
}

Test(framing, malformed_share_a_result)
{
    static const size_t counts[] = {0, 1, 999, 1000, 1001, 1002, 1500};
    for (size_t i = 0; i < QM_COUNT(counts); i++) {
        expect_malformed(counts[i], 0, 0);
        expect_malformed(counts[i], 3, 0);
        expect_malformed(counts[i], 0, 200);
    }
    /* the one that all share comes when the batch is full but for its last place */
    for (size_t after = 50; after < 70; after++)
        expect_malformed(1001, 0, after);
    craft_free_all();
}

/* A file of many small records would make results of a thousand times its size: each names the file. */
Test(framing, results_of_a_file_are_bounded)
{
    static char name[8001];
    memset(name, 'n', sizeof name - 1);
    const uint64_t weight = qm_result_weight((struct qm_span){(const uint8_t *)name, sizeof name - 1});
    const size_t alone = (QM_FILE_RESULTS_MAX + weight - 1) / weight;
    struct craft c = {0};
    good(&c);
    const size_t record = c.len;
    for (size_t i = 1; i < alone + 3; i++)
        good(&c);
    for (size_t extra = 0; extra <= 3; extra++)
        for (unsigned bounded = 0; bounded <= 1; bounded++) {
            const struct qm_span bytes = {c.p, (alone + extra) * record};
            struct qm_source source = {.name = name, .bounded = bounded != 0};
            struct qm_piece piece = {.source = &source, .bytes = bytes.p, .len = bytes.len, .last = true, .file_bytes = bytes.len};
            size_t at = 0, count = 0;
            bool ended, done = false;
            struct qm_record last = {0};
            memset(&framed, 0, sizeof framed);
            while (!done) {
                done = qm_frame_piece(&piece, &at, &framed, &ended);
                count += framed.count;
                if (framed.count != 0)
                    last = framed.record[framed.count - 1];
                framed.count = 0;
            }
            const bool over = extra != 0 && bounded != 0;
            cr_expect_eq(count, over ? alone + 1 : alone + extra, "%zu results of %zu records", count, alone + extra);
            cr_expect_eq(last.evidence.malformed, over);
            cr_expect_eq(last.bad_file != NULL, over);
            cr_expect(!over || (last.off == alone * record && last.len == extra * record));
            cr_expect_eq(ended, over);
        }
}

/* What is taken back comes again, and counts once. */
Test(framing, what_is_taken_back_is_not_counted)
{
    struct craft c = {0};
    for (size_t i = 0; i < 1000; i++)
        good(&c);
    feed_lanes(&f, craft_span(&c), 1000, true, false, 8);
    cr_expect_gt(f.taken_back, 0);
    cr_expect_eq(f.source.user[8], 1000);
}

Test(framing, lost)
{
    for (size_t before = 0; before < 130; before += before < 60 || before > 66 ? 13 : 1) {
        struct craft c = {0};
        for (size_t i = 0; i < before; i++)
            good(&c);
        size_t start = c.len;
        craft_fill(&c, 0, 1 << 20);
        good(&c);
        feed_all(&f, &c);
        cr_assert_eq(f.count, before + 1, "%zu results", f.count);
        const struct seen *s = &f.seen[before];
        cr_assert(s->malformed && s->off == start && s->len == c.len - start && s->count == 0);
        cr_assert_not(f.lost, "a file has bounds");
        feed_windows(&f, craft_span(&c), 65536, false, false);
        cr_assert(f.lost && f.count == before + 1 && f.seen[before].off == start);
    }
    craft_free_all();
}

Test(framing, cut_short)
{
    struct craft one = {0}, c = {0};
    good(&one);
    for (size_t cut = 1; cut < one.len; cut++) {
        c.len = 0;
        good(&c);
        craft_put(&c, one.p, cut);
        feed_all(&f, &c);
        cr_assert_eq(f.count, 2);
        cr_assert(f.seen[1].malformed && f.seen[1].off == one.len && f.seen[1].len == cut);
        feed_windows(&f, craft_span(&c), 65536, false, false);
        cr_assert(f.count == 2 && f.lost);
        /* an I/O failure there says nothing about the evidence */
        feed_whole(&f, craft_span(&c), true);
        cr_assert(f.count == 1 && !f.seen[0].malformed);
        feed_windows(&f, craft_span(&c), 64, true, true);
        cr_assert(f.count == 1 && !f.seen[0].malformed && !f.lost);
    }
    /* but what was whole before it counts, garbage too */
    c.len = 0;
    bad(&c);
    craft_fill(&c, 0, 10);
    feed_whole(&f, craft_span(&c), true);
    cr_assert(f.count == 2 && f.seen[0].malformed && f.seen[1].malformed && f.seen[1].off == 4);
    craft_free_all();
}

static void over(struct craft *c, size_t len)
{
    size_t start = c->len;
    craft_put(c, "\x81\xa1x", 3);
    craft_raw(c, 0xc6, len - 8, 4);
    craft_fill(c, 'x', len - 8);
    MUST(c->len - start == len);
}

Test(framing, over_the_cap)
{
    static const size_t windows[] = {65536, 1 << 20, 3000017};
    static const size_t lengths[] = {QM_RECORD_MAX, QM_RECORD_MAX + 1, QM_RECORD_MAX + 100000,
                                     3 * QM_RECORD_MAX};
    for (size_t i = 0; i < QM_COUNT(lengths); i++) {
        struct craft c = {0};
        good(&c);
        size_t start = c.len;
        over(&c, lengths[i]);
        size_t end = c.len;
        good(&c);
        good(&c);
        for (size_t w = 0; w < QM_COUNT(windows); w++) {
            for (unsigned bounded = 0; bounded < 2; bounded++) {
                feed_windows(&f, craft_span(&c), windows[w], bounded != 0, false);
                cr_assert_eq(f.count, 4, "%zu results of a record of %zu bytes", f.count,
                             lengths[i]);
                cr_assert(f.seen[1].malformed && f.seen[1].off == start &&
                          f.seen[1].len == lengths[i]);
                cr_assert(!f.seen[2].malformed && f.seen[2].off == end && !f.seen[3].malformed &&
                          !f.lost);
            }
            /* cut inside */
            feed_windows(&f, (struct qm_span){c.p, end - 1}, windows[w], true, false);
            cr_assert_eq(f.count, 2);
            cr_assert(f.seen[1].malformed && f.seen[1].off == start &&
                      f.seen[1].len == lengths[i] - 1);
            feed_windows(&f, (struct qm_span){c.p, end - 1}, windows[w], false, false);
            cr_assert(f.count == 2 && f.lost);
            feed_windows(&f, (struct qm_span){c.p, end - 1}, windows[w], true, true);
            cr_assert_eq(f.count, 1, "broken: no verdict on what is not whole");
        }
    }
    craft_free_all();
}

Test(framing, over_the_cap_made_of_many_values)
{
    struct craft c = {0};
    good(&c);
    size_t start = c.len;
    craft_put(&c, "\x81\xa1x", 3);
    craft_raw(&c, 0xdd, QM_RECORD_MAX, 4);
    for (size_t i = 0; i < QM_RECORD_MAX / 4; i++)
        craft_put(&c,
                  "\xa3"
                  "abc"
                  "\x01\x02\x03",
                  7);
    size_t end = c.len;
    good(&c);
    feed_windows(&f, craft_span(&c), 1 << 20, true, false);
    cr_assert_eq(f.count, 3);
    cr_assert(f.seen[1].malformed && f.seen[1].off == start && f.seen[1].len == end - start &&
              !f.seen[2].malformed);
    /* and lost inside: a byte that msgpack does not know */
    c.p[end - 5] = 0xc1;
    c.p[end - 7] = 0xc1;
    feed_windows(&f, craft_span(&c), 1 << 20, true, false);
    cr_assert_eq(f.count, 2);
    cr_assert(f.seen[1].malformed && f.seen[1].off == start && f.seen[1].len == c.len - start);
    craft_free_all();
}

Test(framing, too_big_a_file)
{
    feed_begin(&f, true);
    struct qm_piece piece = {
        .source = &f.source, .last = true, .too_big = true, .file_bytes = QM_FILE_MAX + 1};
    size_t at = 0;
    bool ended;
    framed.count = QM_VERIFY_BATCH - 1; /* no room */
    cr_assert_not(qm_frame_piece(&piece, &at, &framed, &ended));
    framed.count = 0;
    cr_assert(qm_frame_piece(&piece, &at, &framed, &ended));
    cr_assert(ended && framed.count == 1);
    cr_assert(framed.record[0].evidence.malformed && framed.record[0].off == 0 &&
              framed.record[0].len == QM_FILE_MAX + 1);
}
