/* Explained differences: lists of events are made only of what led to a value, the first event that differs is found wherever it
 * stands, and neither a hostile log nor a damaged list gets further than its bounds. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "codec/eventtext.h"
#include "engine/explain.h"
#include "engine/kernel/kernel.h"
#include "engine/table_format.h"
#include "tests/craft.h"

enum { BOTH = 1 << QM_HASH_SHA1 | 1 << QM_HASH_SHA256, EV_IPL = 0x0d };

static uint8_t room[QM_EVENT_LIST_BYTES_MAX];
static char text[QM_EVENT_TEXT_MAX];

/* A log as a row of events: what is compared is known without reading it again. */
struct told {
    uint32_t pcr, type;
    const char *data;
    bool claimed; /* the digest is of something else */
};

static void digest_of(const struct told *t, uint8_t digest[32])
{
    craft_hash(QM_HASH_SHA256, (struct qm_span){(const uint8_t *)t->data, strlen(t->data)}, digest);
    digest[0] ^= t->claimed;
}

static struct qm_span log_of(const struct told *t, size_t count, struct craft_pcrs *pcrs)
{
    struct craft log = {0};
    craft_pcrs_reset(pcrs);
    craft_log_open(&log, BOTH);
    for (size_t i = 0; i < count; i++) {
        uint8_t joined[64];
        size_t at = log.len;
        craft_log_event(&log, BOTH, t[i].pcr, t[i].type, t[i].data, NULL);
        uint8_t *digest = log.p + at + 12 + 2 + 20 + 2;
        digest_of(&t[i], digest);
        if (t[i].type == QM_EV_NO_ACTION)
            continue;
        memcpy(joined, pcrs->value[QM_HASH_SHA256][t[i].pcr], 32);
        memcpy(joined + 32, digest, 32);
        craft_hash(QM_HASH_SHA256, (struct qm_span){joined, 64}, pcrs->value[QM_HASH_SHA256][t[i].pcr]);
    }
    return craft_exact(craft_span(&log));
}

static struct qm_span list_of(struct qm_span log, unsigned pcr, const struct craft_pcrs *pcrs)
{
    size_t len = qm_event_list_collect(log, pcr, pcrs->value[QM_HASH_SHA256][pcr], room, sizeof room);
    return craft_exact((struct qm_span){room, len});
}

static struct qm_event_list list_in(struct qm_span bytes)
{
    struct qm_event_list list;
    cr_assert(qm_event_list_read(bytes, &list));
    return list;
}

static const struct told usual[] = {
    {0, 8, "firmware version 1", false}, {8, EV_IPL, "grub_cmd: set timeout=5", false}, {4, 0x80000003, "boot loader", true},
    {8, EV_IPL, "grub_cmd: linux /boot/vmlinuz", false}, {9, EV_IPL, "vmlinuz", true}, {8, EV_IPL, "grub_cmd: boot", false},
    {4, 4, "separator", false}, {8, EV_IPL, "grub_cmd: boot", false},
};
enum { USUAL = QM_COUNT(usual) };

static bool span_is(struct qm_span s, const char *what)
{
    return qm_span_eq(s, (struct qm_span){(const uint8_t *)what, strlen(what)});
}

TestSuite(explain, .fini = craft_free_all);

Test(explain, lists_hold_what_led_there)
{
    struct craft_pcrs pcrs;
    struct qm_span log = log_of(usual, USUAL, &pcrs);
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++) {
        struct qm_event_list list = list_in(list_of(log, pcr, &pcrs));
        uint32_t n = 0;
        for (size_t i = 0; i < USUAL; i++) {
            uint8_t digest[32];
            struct qm_span words;
            if (usual[i].pcr != pcr)
                continue;
            cr_assert_lt(n, list.count, "PCR %u", pcr);
            struct qm_listed_event e = qm_event_list_at(&list, n++, &words);
            digest_of(&usual[i], digest);
            cr_expect_eq(e.type, usual[i].type);
            cr_expect_arr_eq(e.digest, digest, 32);
            cr_expect_eq(e.proved, !usual[i].claimed, "event %zu", i);
            if (usual[i].type == EV_IPL)
                cr_expect(span_is(words, usual[i].data), "%.*s", (int)words.len, (const char *)words.p);
        }
        cr_expect_eq(n, list.count, "PCR %u", pcr);
        uint8_t other[32];
        memcpy(other, pcrs.value[QM_HASH_SHA256][pcr], 32);
        other[31] ^= 1;
        cr_expect_eq(qm_event_list_collect(log, pcr, other, room, sizeof room), 0, "another value than the log leads to");
    }
}

/* What the difference must be, from the rows of both logs. */
static bool model(const struct told *got, size_t got_count, const struct told *was, size_t was_count, unsigned pcr, size_t *got_at,
                  size_t *was_at)
{
    for (*got_at = *was_at = 0;; (*got_at)++, (*was_at)++) {
        uint8_t a[32], b[32];
        while (*got_at < got_count && (got[*got_at].pcr != pcr || got[*got_at].type == QM_EV_NO_ACTION))
            (*got_at)++;
        while (*was_at < was_count && (was[*was_at].pcr != pcr || was[*was_at].type == QM_EV_NO_ACTION))
            (*was_at)++;
        if (*got_at == got_count || *was_at == was_count)
            return *got_at != got_count || *was_at != was_count;
        digest_of(&got[*got_at], a);
        digest_of(&was[*was_at], b);
        if (memcmp(a, b, 32) != 0)
            return true;
    }
}

static void expect_difference(const struct told *got, size_t got_count, unsigned pcr, const char *name)
{
    struct craft_pcrs pcrs, was_pcrs;
    struct qm_event_diff d;
    size_t got_at, was_at;
    struct qm_span was = log_of(usual, USUAL, &was_pcrs), log = log_of(got, got_count, &pcrs);
    struct qm_span bytes = list_of(was, pcr, &was_pcrs);
    struct qm_event_list list = list_in(bytes);
    bool differs = model(got, got_count, usual, USUAL, pcr, &got_at, &was_at);
    uint8_t digest[32];
    cr_assert_eq(qm_explain(log, pcr, &list, text, &d), differs, "%s", name);
    if (!differs)
        return;
    const struct told *said = got_at < got_count ? &got[got_at] : &usual[was_at];
    cr_expect_eq(d.index, 1 + (got_at < got_count ? got_at : got_count), "%s: index %u", name, d.index);
    cr_expect_eq(d.type, said->type, "%s", name);
    cr_expect_eq(d.proved, !said->claimed, "%s", name);
    if (said->type == EV_IPL)
        cr_expect(span_is(d.text, said->data), "%s: %.*s", name, (int)d.text.len, (const char *)d.text.p);
    cr_assert_eq(d.digest != NULL, got_at < got_count, "%s", name);
    if (d.digest != NULL) {
        digest_of(&got[got_at], digest);
        cr_expect_arr_eq(d.digest, digest, 32, "%s", name);
    }
    cr_assert_eq(d.expected_digest != NULL, was_at < USUAL, "%s", name);
    if (d.expected_digest != NULL) {
        digest_of(&usual[was_at], digest);
        cr_expect_arr_eq(d.expected_digest, digest, 32, "%s", name);
    }
}

Test(explain, each_event_changed_dropped_added_or_moved)
{
    char name[64];
    for (unsigned pcr = 0; pcr < 10; pcr++) {
        expect_difference(usual, USUAL, pcr, "equal");
        for (size_t i = 0; i < USUAL; i++) {
            struct told got[USUAL + 1];
            memcpy(got, usual, sizeof usual);
            got[i].data = "something else";
            snprintf(name, sizeof name, "event %zu changed", i);
            expect_difference(got, USUAL, pcr, name);
            memcpy(got, usual, sizeof usual);
            got[i].claimed = !got[i].claimed;
            snprintf(name, sizeof name, "event %zu: the words stay, the digest does not", i);
            expect_difference(got, USUAL, pcr, name);
            memcpy(got + i, usual + i + 1, (USUAL - i - 1) * sizeof *got);
            snprintf(name, sizeof name, "event %zu dropped", i);
            expect_difference(got, USUAL - 1, pcr, name);
            memcpy(got, usual, sizeof usual);
            memcpy(got + i + 1, usual + i, (USUAL - i) * sizeof *got);
            got[i] = (struct told){pcr, EV_IPL, "one more", false};
            snprintf(name, sizeof name, "one before event %zu", i);
            expect_difference(got, USUAL + 1, pcr, name);
            for (size_t j = 0; j < USUAL; j++) {
                memcpy(got, usual, sizeof usual);
                got[i] = usual[j];
                got[j] = usual[i];
                snprintf(name, sizeof name, "events %zu and %zu swapped", i, j);
                expect_difference(got, USUAL, pcr, name);
            }
            expect_difference(usual, i, pcr, "cut");
        }
        struct told got[USUAL + 1];
        memcpy(got, usual, sizeof usual);
        got[USUAL] = (struct told){pcr, EV_IPL, "at the end", true};
        expect_difference(got, USUAL + 1, pcr, "one at the end");
        got[USUAL].type = QM_EV_NO_ACTION;
        expect_difference(got, USUAL + 1, pcr, "told, not measured");
    }
}

/* The start of PCR 0 is part of its value: StartupLocality, or an H-CRTM event, decides which list it is, and changes no event. */
Test(explain, where_a_pcr_starts)
{
    static const struct told boot[] = {{0, 8, "version", false}, {0, 4, "separator", false}};
    uint8_t at3[32] = {0}, joined[64];
    struct craft_pcrs pcrs;
    struct qm_event_diff d;
    struct craft log = {0};
    struct qm_span plain = log_of(boot, 2, &pcrs);
    at3[31] = 3;
    for (unsigned i = 0; i < 2; i++) {
        memcpy(joined, at3, 32);
        digest_of(&boot[i], joined + 32);
        craft_hash(QM_HASH_SHA256, (struct qm_span){joined, 64}, at3);
    }
    craft_log_open(&log, BOTH);
    craft_log_event(&log, BOTH, 0, QM_EV_NO_ACTION, "StartupLocality", NULL);
    log.len -= 15 + 4; /* with the NUL, and the locality */
    craft_le(&log, 17, 4);
    craft_put(&log, "StartupLocality\0\3", 17);
    for (unsigned i = 0; i < 2; i++)
        craft_log_event(&log, BOTH, boot[i].pcr, boot[i].type, boot[i].data, NULL);
    struct qm_span located = craft_exact(craft_span(&log));
    cr_expect_eq(qm_event_list_collect(located, 0, pcrs.value[QM_HASH_SHA256][0], room, sizeof room), 0);
    cr_expect_eq(qm_event_list_collect(plain, 0, at3, room, sizeof room), 0);
    size_t len = qm_event_list_collect(located, 0, at3, room, sizeof room);
    cr_assert_neq(len, 0);
    struct qm_event_list list = list_in((struct qm_span){room, len});
    cr_expect_eq(list.count, 2, "what is not measured is not listed");
    cr_expect(!qm_explain(plain, 0, &list, text, &d), "the events agree");

    static const struct told hcrtm[] = {{0, QM_EV_EFI_HCRTM_EVENT, "h-crtm", false}, {0, 4, "separator", false}};
    uint8_t at4[32] = {0};
    plain = log_of(hcrtm, 2, &pcrs);
    cr_expect_eq(qm_event_list_collect(plain, 0, pcrs.value[QM_HASH_SHA256][0], room, sizeof room), 0, "not from zero");
    at4[31] = 4;
    for (unsigned i = 0; i < 2; i++) {
        memcpy(joined, at4, 32);
        digest_of(&hcrtm[i], joined + 32);
        craft_hash(QM_HASH_SHA256, (struct qm_span){joined, 64}, at4);
    }
    cr_expect_neq(qm_event_list_collect(plain, 0, at4, room, sizeof room), 0);
}

Test(explain, no_sha256_no_list)
{
    struct craft_pcrs pcrs, was_pcrs;
    struct craft log = {0};
    struct qm_event_diff d;
    struct qm_event_list list = list_in(list_of(log_of(usual, USUAL, &was_pcrs), 8, &was_pcrs));
    craft_pcrs_reset(&pcrs);
    craft_log_open(&log, 1 << QM_HASH_SHA1);
    craft_log_event(&log, 1 << QM_HASH_SHA1, 8, EV_IPL, "grub_cmd: set timeout=6", &pcrs);
    cr_expect_eq(list_of(craft_span(&log), 8, &pcrs).len, 0);
    cr_expect(!qm_explain(craft_span(&log), 8, &list, text, &d));
    /* announced, but one event lacks it */
    log = (struct craft){0};
    craft_pcrs_reset(&pcrs);
    craft_log_open(&log, BOTH);
    craft_log_event(&log, 1 << QM_HASH_SHA1, 8, EV_IPL, "grub_cmd: set timeout=6", &pcrs);
    cr_expect_eq(list_of(craft_span(&log), 8, &pcrs).len, 0);
    cr_expect(!qm_explain(craft_span(&log), 8, &list, text, &d));
    cr_expect_eq(qm_event_list_collect((struct qm_span){NULL, 0}, 8, pcrs.value[QM_HASH_SHA256][8], room, sizeof room), 0);
    cr_expect(!qm_explain((struct qm_span){NULL, 0}, 8, &list, text, &d));
}

/* Words are the event's line, or as much of it as fits with dots behind: cut between characters, never in an escape. Gives
 * whether they were cut. */
static bool expect_cut(uint32_t type, struct qm_span data, size_t max)
{
    uint8_t value[64] = {0};
    struct craft log = {0};
    struct qm_span words;
    craft_log_open(&log, 1 << QM_HASH_SHA256);
    craft_log_event(&log, 1 << QM_HASH_SHA256, 8, type, "", NULL);
    craft_hash(QM_HASH_SHA256, data, value + 32);
    memcpy(log.p + log.len - 36, value + 32, 32);
    log.len -= 4;
    craft_le(&log, data.len, 4);
    craft_put(&log, data.p, data.len);
    craft_hash(QM_HASH_SHA256, (struct qm_span){value, 64}, value);
    if (max == QM_EVENT_WORDS_MAX) {
        size_t len = qm_event_list_collect(craft_span(&log), 8, value, room, sizeof room);
        struct qm_event_list one = list_in((struct qm_span){room, len});
        qm_event_list_at(&one, 0, &words);
    } else {
        struct qm_event_diff d;
        cr_assert(qm_explain(craft_span(&log), 8, &(struct qm_event_list){0}, text, &d));
        words = d.text;
    }
    static char line[QM_EVENT_LINE_MAX];
    struct qm_event e = {.pcr = 8, .type = type, .extends = true, .data = data};
    struct qm_out whole = qm_out_init(line, sizeof line);
    qm_event_describe(&e, &whole);
    const bool cut = whole.len > max;
    if (!cut) {
        cr_assert(qm_span_eq(words, (struct qm_span){(const uint8_t *)line, whole.len}));
        return false;
    }
    cr_assert(words.len <= max && words.len > max - 10, "no more than one escape too short");
    cr_assert(memcmp(words.p, line, words.len - 3) == 0 && memcmp(words.p + words.len - 3, "...", 3) == 0);
    for (size_t at = 0, step; at < words.len; at += step) { /* every escape is whole */
        const char *p = line + at;
        step = p[0] != '\\' ? 1 : p[1] == 'x' ? 4 : p[1] == 'u' ? (size_t)(strchr(p, '}') - p) + 1 : 2;
        cr_assert(at >= words.len - 3 || at + step <= words.len - 3, "%.*s", (int)words.len, (const char *)words.p);
    }
    return true;
}

Test(explain, words_are_bounded)
{
    static const char *const pieces[] = {"a", "\xc3\xa9", "\\", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};
    for (size_t f = 0; f < QM_COUNT(pieces); f++)
        for (size_t lead = 0; lead < 12; lead++) {
            struct craft data = {0};
            unsigned cuts = 0;
            craft_fill(&data, 'z', lead);
            while (data.len < 290) {
                craft_text(&data, pieces[f]);
                cuts += expect_cut(EV_IPL, craft_span(&data), QM_EVENT_WORDS_MAX);
                cr_assert(!expect_cut(EV_IPL, craft_span(&data), QM_EVENT_TEXT_MAX));
            }
            cr_expect_neq(cuts, 0, "%s", pieces[f]);
        }
    /* A variable's name, of characters that nobody sees: a line longer than any text. */
    unsigned cuts = 0;
    for (unsigned lead = 0; lead < 12; lead++)
        for (unsigned name = 1; name < 300; name += 3) {
            struct craft data = {0};
            craft_fill(&data, 7, 16);
            craft_le(&data, lead + name, 8);
            craft_le(&data, 1, 8);
            for (unsigned i = 0; i < lead + name; i++)
                craft_le(&data, i < lead ? 'z' : 1, 2);
            craft_fill(&data, 1, 1);
            expect_cut(0x80000001, craft_span(&data), QM_EVENT_WORDS_MAX);
            cuts += expect_cut(0x80000001, craft_span(&data), QM_EVENT_TEXT_MAX);
        }
    cr_expect_neq(cuts, 0);
}

Test(explain, as_many_events_as_a_list_holds)
{
    static struct told many[QM_EVENT_LIST_MAX + 1];
    struct craft_pcrs pcrs;
    for (size_t i = 0; i <= QM_EVENT_LIST_MAX; i++)
        many[i] = (struct told){8, EV_IPL, "grub_cmd: insmod", false};
    for (size_t count = QM_EVENT_LIST_MAX - 1; count <= QM_EVENT_LIST_MAX + 1; count++) {
        struct qm_span list = list_of(log_of(many, count, &pcrs), 8, &pcrs);
        cr_expect_eq(list.len != 0, count <= QM_EVENT_LIST_MAX);
        if (list.len != 0)
            cr_expect_eq(list_in(list).count, count);
    }
    /* too many elsewhere are no matter */
    many[QM_EVENT_LIST_MAX].pcr = 9;
    cr_expect_neq(list_of(log_of(many, QM_EVENT_LIST_MAX + 1, &pcrs), 8, &pcrs).len, 0);
    /* nor is a longer log a reason not to find the difference */
    struct told one = {8, EV_IPL, "grub_cmd: insmod", false};
    struct qm_event_diff d;
    struct qm_event_list list = list_in(list_of(log_of(&one, 1, &pcrs), 8, &pcrs));
    cr_expect(qm_explain(log_of(many, QM_EVENT_LIST_MAX + 1, &pcrs), 8, &list, text, &d));
    cr_expect_eq(d.index, 2);
}

Test(explain, room_for_a_list)
{
    struct craft_pcrs pcrs;
    struct qm_span log = log_of(usual, USUAL, &pcrs), list = list_of(log, 8, &pcrs);
    const uint8_t *value = pcrs.value[QM_HASH_SHA256][8];
    for (size_t cap = 0; cap < list.len; cap++) {
        uint8_t *exact = malloc(cap + 1);
        MUST(exact != NULL);
        exact[cap] = 0xa5;
        cr_expect_eq(qm_event_list_collect(log, 8, value, exact, cap), 0, "%zu", cap);
        cr_expect_eq(exact[cap], 0xa5);
        free(exact);
    }
    cr_expect_eq(qm_event_list_collect(log, 8, value, room, list.len), list.len);
}

Test(explain, logs_cut_anywhere)
{
    struct craft_pcrs pcrs, was_pcrs;
    struct qm_event_diff d;
    struct told got[USUAL];
    memcpy(got, usual, sizeof usual);
    got[5].data = "grub_cmd: reboot";
    struct qm_event_list list = list_in(list_of(log_of(usual, USUAL, &was_pcrs), 8, &was_pcrs));
    struct qm_span log = log_of(got, USUAL, &pcrs);
    for (size_t len = 0; len < log.len; len++) {
        struct qm_span cut = craft_exact((struct qm_span){log.p, len});
        cr_expect_eq(qm_event_list_collect(cut, 8, pcrs.value[QM_HASH_SHA256][8], room, sizeof room), 0, "%zu", len);
        if (qm_explain(cut, 8, &list, text, &d))
            cr_expect(d.digest == NULL || (d.digest >= cut.p && d.digest + 32 <= cut.p + len));
    }
    cr_expect(qm_explain(log, 8, &list, text, &d));
}

/* A list whose bytes are damaged is refused, or read within its bounds. */
Test(explain, damaged_lists)
{
    struct craft_pcrs pcrs;
    struct qm_event_list list;
    struct qm_event_diff d;
    struct qm_span log = log_of(usual, USUAL, &pcrs), good = list_of(log, 8, &pcrs), words;
    for (size_t len = 0; len < good.len; len++)
        cr_expect(!qm_event_list_read(craft_exact((struct qm_span){good.p, len}), &list), "%zu bytes", len);
    struct craft longer = {0};
    craft_put(&longer, good.p, good.len);
    craft_text(&longer, "a");
    cr_expect(!qm_event_list_read(craft_span(&longer), &list));
    uint8_t *p = malloc(good.len);
    MUST(p != NULL);
    unsigned refused = 0;
    for (size_t at = 0; at < good.len; at++)
        for (unsigned bit = 0; bit < 8; bit++) {
            memcpy(p, good.p, good.len);
            p[at] ^= (uint8_t)(1 << bit);
            if (!qm_event_list_read((struct qm_span){p, good.len}, &list)) {
                refused++;
                continue;
            }
            for (uint32_t i = 0; i < list.count; i++) {
                qm_event_list_at(&list, i, &words);
                cr_assert(words.p >= p && words.p + words.len <= p + good.len);
            }
            (void)qm_explain(log, 8, &list, text, &d);
        }
    free(p);
    cr_expect_gt(refused, 8 * 8, "both lengths, each event's, and words that cannot be shown");
}

/* ---- in the table ------------------------------------------------------------------------------------------------------ */

static void value_no(size_t i, uint8_t value[32])
{
    craft_hash(QM_HASH_SHA256, (struct qm_span){(const uint8_t *)&i, sizeof i}, value);
}

/* A table with the usual list of PCR 8 behind count values of PCRs 0 to 23 in turn. */
static struct qm_table *table_with(const char *path, size_t count, struct qm_span list)
{
    static const uint8_t home[QM_HOME_ID_SIZE] = {1};
    struct qm_fault fault = {0};
    struct qm_table_builder *b;
    struct qm_table *t;
    cr_assert_eq(qm_table_builder_open(&b, path, &fault), QM_OK, "%s", fault.text);
    for (size_t i = 0; i < count; i++) {
        uint8_t value[32];
        value_no(i, value);
        cr_assert_eq(qm_table_builder_add_events(b, (unsigned)(i % QM_PCR_COUNT), value, list, &fault), QM_OK, "%s", fault.text);
    }
    cr_assert_eq(qm_table_builder_publish(b, home, 5, &fault), QM_OK, "%s", fault.text);
    qm_table_builder_close(b);
    cr_assert_eq(qm_table_open(&t, path, &fault), QM_OK, "%s", fault.text);
    return t;
}

Test(explain, the_table_finds_them)
{
    static const size_t counts[] = {0, 1, 2, 7, 8, 9, 1000, 100000};
    struct craft_pcrs pcrs;
    struct qm_fault fault = {0};
    struct qm_span log = log_of(usual, USUAL, &pcrs), list = list_of(log, 8, &pcrs);
    char path[512];
    snprintf(path, sizeof path, "%s/fleet.tbl", craft_dir());
    for (size_t c = 0; c < QM_COUNT(counts); c++) {
        struct qm_table *t = table_with(path, counts[c], list);
        for (size_t i = 0; i < counts[c] + 20; i++)
            for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr += i < 100 ? 1 : 5) {
                struct qm_event_list out;
                uint8_t value[32];
                bool found;
                value_no(i, value);
                cr_assert_eq(qm_table_events(t, pcr, value, &out, &found, &fault), QM_OK, "%s", fault.text);
                cr_assert_eq(found, i < counts[c] && pcr == i % QM_PCR_COUNT, "%zu of %zu, PCR %u", i, counts[c], pcr);
                if (found)
                    cr_assert_eq(out.count, list_in(list).count);
            }
        cr_expect_lt(qm_table_bytes(t), 8192 + 4 * 48 * (counts[c] + 8) + list.len, "a list of the same content stands once");
        qm_table_close(t);
    }
}

/* Whatever the section of lists says, under checksums that fit, is bounds-checked. */
Test(explain, the_table_does_not_trust_itself)
{
    struct craft_pcrs pcrs;
    struct qm_span log = log_of(usual, USUAL, &pcrs), list = list_of(log, 8, &pcrs);
    char path[512];
    snprintf(path, sizeof path, "%s/fleet.tbl", craft_dir());
    qm_table_close(table_with(path, 3, list));
    FILE *f = fopen(path, "rb");
    static uint8_t good[64 * 1024], image[sizeof good];
    MUST(f != NULL);
    const size_t len = fread(good, 1, sizeof good, f);
    fclose(f);
    struct table_header h;
    memcpy(&h, good, sizeof h);
    cr_assert_eq(h.block_count, 1);
    unsigned refused = 0, answered = 0;
    for (size_t at = h.events_off; at < h.block_off; at++)
        for (unsigned v = 0; v < 3; v++) {
            memcpy(image, good, len);
            image[at] = v == 0 ? 0xff : v == 1 ? 0x7f : (uint8_t)(image[at] + 1);
            uint64_t check = table_block_check(image, 0, h.block_off, h.seed);
            memcpy(image + h.block_off, &check, sizeof check);
            h.check = table_header_check(&h, image + h.block_off);
            memcpy(image, &h, sizeof h);
            f = fopen(path, "wb");
            MUST(f != NULL && fwrite(image, 1, len, f) == len && fclose(f) == 0);
            struct qm_table *t;
            cr_assert_eq(qm_table_open(&t, path, NULL), QM_OK);
            for (size_t i = 0; i < 3; i++) {
                struct qm_event_list out;
                uint8_t value[32];
                bool found;
                value_no(i, value);
                if (qm_table_events(t, (unsigned)i, value, &out, &found, NULL) != QM_OK)
                    refused++;
                else
                    answered++;
            }
            qm_table_close(t);
        }
    cr_expect_gt(refused, 3 * 8);
    cr_expect_gt(answered, 0);
}
