#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tests/craft.h"
#include "tools/spool/spool.h"

/* A home with a spool, and what the tests do to it. Contents are texts: nothing here looks into records. */
static char home[512];
static char said[65536]; /* what was reported */
static _Atomic unsigned reports;

static void report(void *ctx, const char *name, int sys, const char *what)
{
    (void)ctx;
    size_t used = strlen(said);
    snprintf(said + used, sizeof said - used, "%s: %s (%d)\n", name, what, sys);
    reports++;
}

static const char *at(const char *rel)
{
    static char path[16][1024];
    static unsigned turn;
    char *p = path[turn++ % 16];
    snprintf(p, sizeof path[0], "%s/%s", home, rel);
    return p;
}

static void put(const char *rel, const char *text)
{
    FILE *f = fopen(at(rel), "w");
    MUST(f != NULL && fputs(text, f) >= 0 && fclose(f) == 0);
}

static bool there(const char *rel)
{
    struct stat st;
    return lstat(at(rel), &st) == 0;
}

/* What is in a file; "(none)" where there is none. */
static const char *text_of(const char *rel)
{
    static char text[4][4096];
    static unsigned turn;
    char *t = text[turn++ % 4];
    FILE *f = fopen(at(rel), "r");
    strcpy(t, "(none)");
    if (f != NULL) {
        t[fread(t, 1, sizeof text[0] - 1, f)] = '\0';
        fclose(f);
    }
    return t;
}

static void make_home(void)
{
    static const char *const parts[] = {"", "spool", "held", "quarantine", "results"};
    snprintf(home, sizeof home, "%s/home", craft_dir());
    for (size_t i = 0; i < QM_COUNT(parts); i++)
        MUST(mkdir(at(parts[i]), 0755) == 0);
    said[0] = '\0';
    reports = 0;
}

TestSuite(spool, .init = make_home, .fini = craft_free_all, .timeout = 120);

/* ---- a run in small ---- */

struct run {
    struct qm_spool *sp;
    struct qm_worklist *w;
    char order[4096]; /* names in the order in which they were read, below the home, each with a blank */
    char text[8192];  /* what was read */
    const char *spoil; /* a file whose name has this in it goes to quarantine */
    size_t stop_after; /* pieces; 0: never */
};

static struct run *run_open(const char *id)
{
    struct run *r = calloc(1, sizeof *r);
    struct qm_fault fault = {0};
    cr_assert_eq(qm_spool_open(&r->sp, home, id, report, NULL, &fault), QM_OK, "%s", fault.text);
    cr_assert_eq(qm_worklist_open(&r->w, report, NULL, &fault), QM_OK);
    return r;
}

static void run_add(struct run *r, const char *rel)
{
    struct qm_fault fault = {0};
    cr_assert_eq(qm_spool_add(r->sp, rel != NULL ? at(rel) : NULL, &fault), QM_OK, "%s", fault.text);
}

static bool knows_all(void *ctx, struct qm_span id)
{
    const char *only = ctx;
    return only == NULL || (id.len == strlen(only) && memcmp(id.p, only, id.len) == 0);
}

static void run_take(struct run *r)
{
    struct qm_fault fault = {0};
    cr_assert_eq(qm_spool_take(r->sp, r->w, knows_all, NULL, &fault), QM_OK, "%s", fault.text);
}

static void run_read(struct run *r)
{
    struct qm_reader *reader;
    struct qm_fault fault = {0};
    _Atomic bool stop = false;
    cr_assert_eq(qm_reader_open(&reader, r->w, QM_IO_READ, &fault), QM_OK);
    for (size_t pieces = 0;;) {
        struct qm_batch b;
        cr_assert_eq(qm_reader_next(reader, &b, &stop, &fault), QM_OK);
        if (b.piece_count == 0)
            break;
        for (size_t i = 0; i < b.piece_count; i++) {
            const struct qm_piece *p = &b.piece[i];
            size_t n = strlen(r->order), t = strlen(r->text);
            if (p->last)
                snprintf(r->order + n, sizeof r->order - n, "%s ", p->source->name + strlen(home) + 1);
            snprintf(r->text + t, sizeof r->text - t, "%.*s", p->len < 100 ? (int)p->len : 100, (const char *)p->bytes);
            if (r->spoil != NULL && strstr(p->source->name, r->spoil) != NULL)
                qm_spool_quarantine(r->sp, p->source->name, "spoilt");
        }
        if (b.window)
            qm_reader_settle(reader, b.piece[0].len, 1, false);
        pieces += b.piece_count;
        if (r->stop_after != 0 && pieces >= r->stop_after)
            stop = true;
    }
    qm_reader_close(reader);
}

static void run_commit(struct run *r)
{
    struct qm_fault fault = {0};
    cr_assert_eq(qm_spool_commit(r->sp, r->w, &fault), QM_OK, "%s", fault.text);
    cr_assert_eq(qm_spool_synced(r->sp, &fault), QM_OK, "%s", fault.text);
}

static void run_close(struct run *r)
{
    qm_worklist_close(r->w);
    qm_spool_close(r->sp);
    free(r);
}

static char undone_runs[256];
static qm_err committed(void *ctx, const char *run, bool *yes, struct qm_fault *fault)
{
    (void)fault;
    const char *runs = ctx;
    *yes = runs != NULL && strstr(runs, run) != NULL;
    return QM_OK;
}
static void undone(void *ctx, const char *run)
{
    (void)ctx;
    size_t n = strlen(undone_runs);
    snprintf(undone_runs + n, sizeof undone_runs - n, "%s ", run);
}

static void run_recover(struct run *r, const char *runs)
{
    struct qm_fault fault = {0};
    char *copy = runs != NULL ? strdup(runs) : NULL;
    undone_runs[0] = '\0';
    cr_assert_eq(qm_spool_recover(r->sp, &(struct qm_spool_past){committed, undone, copy}, &fault), QM_OK, "%s", fault.text);
    free(copy);
}

/* ---- tests ---- */

Test(spool, takes_reads_and_removes)
{
    mkdir(at("spool/a"), 0755);
    mkdir(at("spool/a/deep"), 0755);
    put("spool/1.mpk", "one");
    put("spool/a/2.mpk", "two");
    put("spool/a/deep/3.mpk", "three");
    put("spool/a/.4.mpk.tmp", "not yet");
    put("spool/note.txt", "other");
    cr_assert_eq(symlink("/etc/passwd", at("spool/link.mpk")), 0);
    struct run *r = run_open("r1");
    run_add(r, NULL);
    run_take(r);
    cr_expect_eq(qm_spool_files(r->sp), 3);
    cr_expect_eq(qm_spool_others(r->sp), 2, "a delivery at work is none of them");
    cr_expect(there("spool/1.mpk"), "it is taken when it is read");
    run_read(r);
    cr_expect(!there("spool/1.mpk") && there("spool/.taken-r1/a/deep/3.mpk"));
    cr_expect(strstr(r->order, "spool/1.mpk ") && strstr(r->order, "spool/a/2.mpk ") && strstr(r->order, "spool/a/deep/3.mpk "));
    cr_expect(strstr(r->text, "one") && strstr(r->text, "two") && strstr(r->text, "three"));
    run_commit(r);
    cr_expect(there("spool/.taken-r1/.done"));
    qm_spool_finish(r->sp);
    cr_expect(!there("spool/.taken-r1"));
    cr_expect(there("spool/a/.4.mpk.tmp") && there("spool/note.txt") && there("spool/link.mpk") && there("spool/a/deep"));
    cr_expect_eq(reports, 0, "%s", said);
    run_close(r);
}

Test(spool, sources_take_turns)
{
    char name[64], label[256] = "";
    mkdir(at("spool/flood"), 0755);
    mkdir(at("spool/small"), 0755);
    for (unsigned i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "spool/flood/%03u.mpk", i);
        put(name, "x");
    }
    put("spool/small/a.mpk", "x");
    put("spool/small/b.mpk", "x");
    put("spool/c.mpk", "x");
    struct run *r = run_open("r1");
    run_add(r, NULL);
    run_take(r);
    run_read(r);
    unsigned place = 0, small = 0;
    for (char *p = strtok(r->order, " "); p != NULL; p = strtok(NULL, " "), place++)
        if (strncmp(p, "spool/flood", 11) != 0 && place < 6)
            small++;
    cr_expect_eq(small, 3, "all small sources are within the first six");
    cr_expect_eq(place, 103);
    const struct qm_source *s = qm_worklist_source(r->w, 0);
    for (size_t i = 0; i < 3; i++) {
        s = qm_worklist_source(r->w, i);
        snprintf(label + strlen(label), sizeof label - strlen(label), "%s|", qm_spool_source(r->sp, s->name));
    }
    char want[3][64];
    snprintf(want[0], 64, "flood (uid %u)|", getuid());
    snprintf(want[1], 64, "small (uid %u)|", getuid());
    snprintf(want[2], 64, ". (uid %u)|", getuid());
    for (size_t i = 0; i < 3; i++)
        cr_expect(strstr(label, want[i]) != NULL, "%s not in %s", want[i], label);
    qm_spool_abandon(r->sp);
    cr_expect(there("spool/flood/007.mpk") && there("spool/small/a.mpk") && there("spool/c.mpk") && !there("spool/.taken-r1"));
    run_close(r);
}

Test(spool, newer_files_are_never_overwritten)
{
    put("spool/a.mpk", "old");
    struct run *r = run_open("r1");
    run_add(r, NULL);
    run_take(r);
    run_read(r);
    put("spool/a.mpk", "new");
    qm_spool_abandon(r->sp);
    cr_expect_str_eq(text_of("spool/a.mpk"), "new");
    cr_expect_str_eq(text_of("spool/a.r1-0.mpk"), "old");
    run_close(r);
    r = run_open("r2");
    run_add(r, NULL);
    run_take(r);
    run_read(r);
    put("spool/a.mpk", "newest");
    run_commit(r);
    qm_spool_finish(r->sp);
    cr_expect_str_eq(text_of("spool/a.mpk"), "newest", "a file that came after the taking is not the one that was recorded");
    cr_expect(!there("spool/a.r1-0.mpk"));
    run_close(r);
}

Test(spool, what_is_not_read_goes_back)
{
    char name[64];
    for (unsigned i = 0; i < 200; i++) {
        snprintf(name, sizeof name, "spool/%03u.mpk", i);
        put(name, "x");
    }
    struct run *r = run_open("r1");
    run_add(r, NULL);
    run_take(r);
    r->stop_after = 1;
    run_read(r);
    run_commit(r);
    qm_spool_finish(r->sp);
    unsigned left = 0, read = 0;
    for (unsigned i = 0; i < 200; i++) {
        snprintf(name, sizeof name, "spool/%03u.mpk", i);
        left += there(name);
        read += strstr(r->order, name) != NULL;
        cr_expect(there(name) != (strstr(r->order, name) != NULL), "%s", name);
    }
    cr_expect(left > 0 && read > 0);
    run_close(r);
}

Test(spool, grown_files_stay)
{
    put("spool/a.mpk", "first");
    put("spool/b.mpk", "first");
    struct run *r = run_open("r1");
    run_add(r, NULL);
    int fd = open(at("spool/a.mpk"), O_WRONLY | O_APPEND);
    run_take(r);
    run_read(r);
    cr_assert_eq(write(fd, "more", 4), 4);
    close(fd);
    run_commit(r);
    qm_spool_finish(r->sp);
    cr_expect_str_eq(text_of("spool/a.mpk"), "firstmore");
    cr_expect(!there("spool/b.mpk") && !there("spool/.taken-r1"));
    cr_expect_eq(reports, 1);
    run_close(r);
}

Test(spool, quarantine_has_a_reason)
{
    put("spool/good.mpk", "good");
    put("spool/b\xff" "ad\n.mpk", "bad");
    struct run *r = run_open("r1");
    run_add(r, NULL);
    run_take(r);
    r->spoil = "ad\n";
    run_read(r);
    run_commit(r);
    qm_spool_finish(r->sp);
    bool second = there("quarantine/r1-0-1.mpk");
    cr_expect_str_eq(text_of(second ? "quarantine/r1-0-1.mpk" : "quarantine/r1-0-0.mpk"), "bad");
    const char *reason = text_of(second ? "quarantine/r1-0-1.mpk.reason" : "quarantine/r1-0-0.mpk.reason");
    cr_expect(strstr(reason, "reason: spoilt\nrun: r1\ntime: 20") != NULL, "%s", reason);
    cr_expect(strstr(reason, "spool/b\\xFFad\\u{A}.mpk\n") != NULL || strstr(reason, "spool/b\\xffad\\u{a}.mpk\n") != NULL, "%s", reason);
    cr_expect(!there("spool/good.mpk"));
    run_close(r);
}

Test(spool, what_must_not_be_a_spool)
{
    struct run *r = run_open("r1");
    struct qm_fault fault;
    mkdir(at("spool/sub"), 0755);
    mkdir(at("../elsewhere"), 0755);
    cr_assert_eq(symlink(at("../elsewhere"), at("../link")), 0);
    static const char *const bad[] = {"", "..", "held", "results", "quarantine", "../link", "../link/", "spool/..", "held/.."};
    for (size_t i = 0; i < QM_COUNT(bad); i++)
        cr_expect_eq(qm_spool_add(r->sp, at(bad[i]), &fault), QM_E_USAGE, "'%s'", bad[i]);
    cr_expect_eq(qm_spool_add(r->sp, "/", &fault), QM_E_USAGE);
    cr_expect_eq(qm_spool_add(r->sp, at("nothing"), &fault), QM_E_IO);
    static const char *const good[] = {"spool/sub", "spool", "../elsewhere", "../elsewhere/"};
    for (size_t i = 0; i < QM_COUNT(good); i++)
        cr_expect_eq(qm_spool_add(r->sp, at(good[i]), &fault), QM_OK, "'%s': %s", good[i], fault.text);
    cr_expect_eq(qm_spool_archive(r->sp, at("spool/sub/archive"), &fault), QM_E_USAGE);
    cr_expect_eq(qm_spool_archive(r->sp, at("archive"), &fault), QM_OK, "%s", fault.text);
    run_close(r);
}

Test(spool, a_directory_that_became_a_link_is_not_followed)
{
    mkdir(at("spool/a"), 0755);
    mkdir(at("precious"), 0755);
    put("spool/a/x.mpk", "mine");
    put("precious/x.mpk", "precious");
    struct run *r = run_open("r1");
    run_add(r, NULL);
    run_take(r);
    run_read(r);
    cr_assert_eq(rename(at("spool/a"), at("spool/b")), 0);
    cr_assert_eq(symlink(at("precious"), at("spool/a")), 0);
    qm_spool_abandon(r->sp);
    cr_expect_str_eq(text_of("precious/x.mpk"), "precious");
    cr_expect_str_eq(text_of("spool/x.mpk"), "mine", "its directory is gone: it is in the spool itself");
    run_close(r);
    unlink(at("spool/x.mpk"));
    r = run_open("r2");
    run_add(r, NULL);
    run_take(r);
    cr_expect_eq(qm_spool_files(r->sp), 0);
    run_read(r);
    run_commit(r);
    qm_spool_finish(r->sp);
    cr_expect_str_eq(text_of("precious/x.mpk"), "precious");
    run_close(r);
}

Test(spool, recovery_both_ways)
{
    for (int way = 0; way < 2; way++) {
        mkdir(at("spool/d"), 0755);
        put("spool/a.mpk", "a");
        put("spool/d/bad.mpk", "bad");
        struct run *r = run_open("20260101T000000Z-00000001");
        run_add(r, NULL);
        run_take(r);
        r->spoil = "bad";
        run_read(r);
        run_commit(r);
        run_close(r); /* as if it had been killed */
        put("spool/a.mpk", "newer");
        r = run_open("r2");
        run_add(r, NULL);
        run_recover(r, way == 0 ? NULL : "20260101T000000Z-00000001");
        cr_expect_str_eq(text_of("spool/a.mpk"), "newer");
        cr_expect_eq(there("spool/a.r2-0.mpk"), way == 0);
        cr_expect_eq(there("spool/d/bad.mpk"), way == 0);
        cr_expect_eq(there("quarantine/20260101T000000Z-00000001-0-0.mpk") + there("quarantine/20260101T000000Z-00000001-0-1.mpk"), way);
        cr_expect_str_eq(undone_runs, way == 0 ? "20260101T000000Z-00000001 " : "");
        cr_expect(!there("spool/.taken-20260101T000000Z-00000001"));
        unlink(at("spool/a.r2-0.mpk"));
        unlink(at("spool/d/bad.mpk"));
        run_close(r);
    }
    cr_expect_eq(reports, 0, "%s", said);
}

Test(spool, archive_keeps_what_was_recorded)
{
    struct qm_fault fault = {0};
    mkdir(at("spool/d"), 0755);
    put("spool/a.mpk", "a");
    put("spool/d/b.mpk", "b");
    struct run *r = run_open("r1");
    run_add(r, NULL);
    cr_assert_eq(qm_spool_archive(r->sp, at("archive"), &fault), QM_OK, "%s", fault.text);
    run_take(r);
    run_read(r);
    run_commit(r);
    qm_spool_finish(r->sp);
    cr_expect_str_eq(text_of("archive/r1/a.mpk"), "a");
    cr_expect_str_eq(text_of("archive/r1/d/b.mpk"), "b");
    cr_expect(!there("spool/a.mpk") && !there("spool/.taken-r1"));
    cr_expect_eq(reports, 0, "%s", said);
    run_close(r);
}

static struct qm_span span(const char *text)
{
    return (struct qm_span){(const uint8_t *)text, strlen(text)};
}

/* A file of 23 bytes a record may name the same unknown id a hundred million times. */
Test(spool, one_id_cannot_have_files_written_without_end)
{
    struct run *r = run_open("r1");
    uint64_t bytes;
    char text[32];
    run_add(r, NULL);
    run_take(r);
    for (unsigned i = 0; i < QM_HELD_AGAIN_MAX + 3; i++) {
        snprintf(text, sizeof text, "%u", i);
        qm_spool_hold(r->sp, span("one"), span(text));
    }
    qm_spool_hold(r->sp, span("other"), span("of another"));
    cr_expect_eq(qm_spool_held(r->sp), 2);
    cr_expect_eq(qm_spool_not_held(r->sp, &bytes), 2);
    run_read(r);
    run_commit(r);
    qm_spool_finish(r->sp);
    run_close(r);
    snprintf(text, sizeof text, "%u", QM_HELD_AGAIN_MAX);
    cr_expect_str_eq(text_of("held/b25l.mpk"), text);
    cr_expect_str_eq(text_of("held/b3RoZXI.mpk"), "of another");
    cr_expect_eq(reports, 0, "%s", said);
}

Test(spool, held_evidence_waits_for_its_id)
{
    struct qm_fault fault = {0};
    struct run *r = run_open("r1");
    run_add(r, NULL);
    run_take(r);
    qm_spool_hold(r->sp, span("host/\xc3\xa4 1"), span("old evidence"));
    qm_spool_hold(r->sp, span("host/\xc3\xa4 1"), span("evidence"));
    qm_spool_hold(r->sp, span("other"), span("of another"));
    cr_expect_eq(qm_spool_held(r->sp), 2);
    run_read(r);
    run_commit(r);
    qm_spool_finish(r->sp);
    run_close(r);
    r = run_open("r2");
    run_add(r, NULL);
    char id[] = "host/\xc3\xa4 1";
    cr_assert_eq(qm_spool_take(r->sp, r->w, knows_all, id, &fault), QM_OK);
    cr_expect_eq(qm_spool_files(r->sp), 1);
    run_read(r);
    cr_expect_str_eq(r->text, "evidence");
    cr_expect_eq(strncmp(qm_spool_source(r->sp, qm_worklist_source(r->w, 0)->name), ". (uid ", 7), 0);
    qm_spool_abandon(r->sp);
    run_close(r);
    r = run_open("r3");
    run_add(r, NULL);
    cr_assert_eq(qm_spool_take(r->sp, r->w, knows_all, id, &fault), QM_OK);
    run_read(r);
    cr_expect_str_eq(r->text, "evidence");
    run_commit(r);
    qm_spool_finish(r->sp);
    run_close(r);
    r = run_open("r4");
    run_add(r, NULL);
    cr_assert_eq(qm_spool_take(r->sp, r->w, knows_all, NULL, &fault), QM_OK);
    run_read(r);
    cr_expect_str_eq(r->text, "of another");
    run_close(r);
    cr_expect_eq(reports, 0, "%s", said);
}

Test(spool, long_files_are_read_to_their_end_when_stopped)
{
    char name[64], *big = malloc(4u << 20);
    mkdir(at("spool/a"), 0755);
    for (unsigned i = 0; i < 200; i++) {
        snprintf(name, sizeof name, "spool/a/%03u.mpk", i);
        put(name, "x");
    }
    memset(big, 'b', 4u << 20);
    big[(4u << 20) - 1] = '\0';
    put("spool/big.mpk", big);
    struct run *r = run_open("r1");
    run_add(r, NULL);
    run_take(r);
    r->stop_after = 34; /* the first batch of short ones, and the first windows of the long one */
    run_read(r);
    cr_expect(strstr(r->order, "spool/big.mpk") != NULL, "it had its turn before the short ones were all read");
    run_commit(r);
    qm_spool_finish(r->sp);
    cr_expect(!there("spool/big.mpk"), "it was read whole");
    unsigned left = 0;
    for (unsigned i = 0; i < 200; i++) {
        snprintf(name, sizeof name, "spool/a/%03u.mpk", i);
        left += there(name);
    }
    cr_expect(left >= 100, "%u left", left);
    cr_expect_eq(reports, 0, "%s", said);
    run_close(r);
    free(big);
}

/* Pages of a file that are in the page cache. */
static size_t cached_pages(const char *rel)
{
    unsigned char in[1024];
    struct stat st;
    size_t count = 0;
    int fd = open(at(rel), O_RDONLY | O_CLOEXEC);
    MUST(fd >= 0 && fstat(fd, &st) == 0);
    const size_t pages = ((size_t)st.st_size + 4095) / 4096;
    void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    MUST(map != MAP_FAILED && pages <= sizeof in && mincore(map, (size_t)st.st_size, in) == 0);
    for (size_t i = 0; i < pages; i++)
        count += in[i] & 1;
    munmap(map, (size_t)st.st_size);
    close(fd);
    return count;
}

/* Two mebibytes that are on the disk. */
static void put_long(const char *rel, int byte)
{
    static char bytes[1 << 21];
    memset(bytes, byte, sizeof bytes);
    int fd = open(at(rel), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    MUST(fd >= 0 && write(fd, bytes, sizeof bytes) == (ssize_t)sizeof bytes && fsync(fd) == 0);
    close(fd);
}

/* The page cache lets go of a long file before it is removed; not of a short one; and when the run comes to nothing, all is back. */
Test(spool, long_files_leave_the_page_cache)
{
    put_long("control", 'c');
    int fd = open(at("control"), O_RDONLY | O_CLOEXEC);
    MUST(fd >= 0 && posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0);
    close(fd);
    const bool lets_go = cached_pages("control") == 0;
    if (!lets_go)
        fputs("test_spool: this file system keeps its pages: only that nothing is lost was tested\n", stderr);
    put_long("spool/long.mpk", 'l');
    put("spool/short.mpk", "s");
    struct run *r = run_open("20261127T000000Z-00000001");
    run_add(r, NULL);
    run_take(r);
    run_read(r);
    run_commit(r);
    size_t left = 1;
    for (unsigned i = 0; i < 1000 && lets_go && (left = cached_pages("spool/.taken-20261127T000000Z-00000001/long.mpk")) != 0; i++)
        nanosleep(&(struct timespec){.tv_nsec = 10 * 1000 * 1000}, NULL);
    cr_expect(!lets_go || left == 0, "%zu pages are still there", left);
    cr_expect_eq(cached_pages("spool/.taken-20261127T000000Z-00000001/short.mpk"), 1);
    qm_spool_abandon(r->sp);
    run_close(r);
    struct stat st;
    cr_expect(stat(at("spool/long.mpk"), &st) == 0 && st.st_size == 1 << 21);
    cr_expect_eq(strspn(text_of("spool/long.mpk"), "l"), 4095);
    cr_expect_str_eq(text_of("spool/short.mpk"), "s");
    cr_expect_str_eq(said, "");
}

Test(spool, what_is_not_ours_is_left_alone)
{
    /* A directory that only looks like one of ours, and one that another process works in. */
    mkdir(at("spool/.taken-20260101T000000Z-0000000a"), 0755);
    put("spool/.taken-20260101T000000Z-0000000a/x.mpk", "x");
    mkdir(at("spool/.taken-../../etc"), 0700);
    struct run *other = run_open("20260101T000000Z-0000000b");
    put("spool/y.mpk", "y");
    run_add(other, NULL);
    run_take(other);
    run_read(other);
    struct run *r = run_open("r2");
    run_add(r, NULL);
    run_recover(r, NULL);
    cr_expect(there("spool/.taken-20260101T000000Z-0000000a/x.mpk"));
    cr_expect(there("spool/.taken-20260101T000000Z-0000000b/y.mpk"));
    cr_expect(strstr(said, "is no directory of ours") != NULL && strstr(said, "is in use by another run") != NULL, "%s", said);
    run_take(r);
    cr_expect_eq(qm_spool_files(r->sp), 0, "nothing is taken from such a directory");
    run_close(r);
    qm_spool_abandon(other->sp);
    cr_expect(there("spool/y.mpk"));
    run_close(other);
}

Test(spool, what_is_replaced_while_it_waits)
{
    put("spool/fifo.mpk", "x");
    put("spool/link.mpk", "x");
    put("spool/gone.mpk", "x");
    put("spool/good.mpk", "good");
    put("precious", "precious");
    struct run *r = run_open("r1");
    run_add(r, NULL);
    run_take(r);
    unlink(at("spool/fifo.mpk"));
    unlink(at("spool/link.mpk"));
    unlink(at("spool/gone.mpk"));
    cr_assert_eq(mkfifo(at("spool/fifo.mpk"), 0600), 0);
    cr_assert_eq(symlink(at("precious"), at("spool/link.mpk")), 0);
    run_read(r);
    cr_expect_str_eq(r->text, "good");
    cr_expect_eq(qm_spool_others(r->sp), 2);
    run_commit(r);
    qm_spool_finish(r->sp);
    cr_expect(there("spool/fifo.mpk") && there("spool/link.mpk") && !there("spool/good.mpk"));
    cr_expect_str_eq(text_of("precious"), "precious");
    cr_expect_eq(reports, 0, "%s", said);
    run_close(r);
}

Test(spool, more_directories_than_descriptors)
{
    char name[64];
    for (unsigned i = 0; i < 300; i++) {
        snprintf(name, sizeof name, "spool/%03u", i);
        mkdir(at(name), 0755);
        snprintf(name, sizeof name, "spool/%03u/x.mpk", i);
        put(name, "x");
    }
    struct run *r = run_open("r1");
    run_add(r, NULL);
    run_take(r);
    run_read(r);
    cr_expect_eq(strlen(r->text), 300);
    run_commit(r);
    qm_spool_finish(r->sp);
    cr_expect(!there("spool/007/x.mpk") && !there("spool/299/x.mpk") && there("spool/299") && !there("spool/.taken-r1"));
    cr_expect_eq(reports, 0, "%s", said);
    run_close(r);
}

/* Directories whose descriptors are not kept are opened anew when their files' turn comes: not through a link. */
Test(spool, a_link_above_a_directory_is_not_followed)
{
    char name[64];
    mkdir(at("spool/d"), 0755);
    mkdir(at("precious"), 0755);
    for (unsigned i = 0; i < 300; i++) {
        snprintf(name, sizeof name, "spool/d/%03u", i);
        mkdir(at(name), 0755);
        snprintf(name, sizeof name, "spool/d/%03u/x.mpk", i);
        put(name, "x");
        snprintf(name, sizeof name, "precious/%03u", i);
        mkdir(at(name), 0755);
        snprintf(name, sizeof name, "precious/%03u/x.mpk", i);
        put(name, "P");
    }
    struct run *r = run_open("r1");
    run_add(r, NULL);
    run_take(r);
    cr_expect_eq(qm_spool_files(r->sp), 300);
    cr_assert_eq(rename(at("spool/d"), at("spool/e")), 0);
    cr_assert_eq(symlink(at("precious"), at("spool/d")), 0);
    run_read(r);
    cr_expect_null(strchr(r->text, 'P'));
    cr_expect_lt(strlen(r->text), 300);
    run_commit(r);
    qm_spool_finish(r->sp);
    for (unsigned i = 0; i < 300; i++) {
        snprintf(name, sizeof name, "precious/%03u/x.mpk", i);
        cr_expect_str_eq(text_of(name), "P");
    }
    run_close(r);
}

Test(spool, a_name_too_long_to_grow)
{
    char name[300] = "spool/";
    memset(name + 6, 'n', 251);
    strcpy(name + 257, ".mpk");
    put(name, "old");
    struct run *r = run_open("r1");
    run_add(r, NULL);
    run_take(r);
    run_read(r);
    put(name, "new");
    qm_spool_abandon(r->sp);
    cr_expect_str_eq(text_of(name), "new");
    name[6 + 180] = '\0';
    strcat(name, ".r1-0.mpk");
    cr_expect_str_eq(text_of(name), "old");
    cr_expect_eq(reports, 0, "%s", said);
    run_close(r);
}

/* ---- bounded directories ---- */

static void trim(const char *rel, enum qm_trim_kind kind, uint64_t now_ms, uint64_t keep_ms, uint64_t max_bytes, uint64_t want_files,
                 uint64_t want_bytes)
{
    struct qm_trim *t;
    struct qm_fault fault = {0};
    uint64_t bytes;
    cr_assert_eq(qm_trim_plan(&t, at(rel), kind, NULL, now_ms, keep_ms, max_bytes, &fault), QM_OK, "%s", fault.text);
    cr_expect_eq(qm_trim_lost(t, &bytes), want_files, "%zu files", (size_t)qm_trim_lost(t, &bytes));
    cr_expect_eq(bytes, want_bytes, "%zu bytes", (size_t)bytes);
    cr_expect_eq(qm_trim_apply(t, &fault), QM_OK, "%s", fault.text);
    qm_trim_close(t);
}

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

Test(trim, by_age_and_size, .init = make_home, .fini = craft_free_all)
{
    put("quarantine/a.mpk", "12345");
    put("quarantine/a.mpk.reason", "why");
    usleep(20 * 1000);
    put("quarantine/b.mpk", "12345");
    put("quarantine/b.mpk.reason", "why");
    usleep(20 * 1000);
    put("quarantine/c.mpk", "12345");
    /* What a sender says of a file's time has no say. */
    struct timespec old[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    utimensat(AT_FDCWD, at("quarantine/c.mpk"), old, 0);
    trim("quarantine", QM_TRIM_QUARANTINE, now_ms(), 1000 * 1000, 15, 0, 0);
    trim("quarantine", QM_TRIM_QUARANTINE, now_ms(), 0, 14, 1, 5);
    cr_expect(!there("quarantine/a.mpk") && !there("quarantine/a.mpk.reason") && there("quarantine/b.mpk.reason"));
    trim("quarantine", QM_TRIM_QUARANTINE, now_ms() + 2000 * 1000, 1000 * 1000, 0, 2, 10);
    cr_expect(!there("quarantine/b.mpk") && !there("quarantine/b.mpk.reason") && !there("quarantine/c.mpk"));
    trim("nothing", QM_TRIM_RESULTS, now_ms(), 1, 1, 0, 0);
}

Test(trim, held_by_when_it_was_written, .init = make_home, .fini = craft_free_all)
{
    put("held/YQ.mpk", "12345");
    put("held/Yg.mpk", "12345");
    struct timespec old[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    utimensat(AT_FDCWD, at("held/YQ.mpk"), old, 0);
    mkdir(at("held/.new-x"), 0700);
    trim("held", QM_TRIM_HELD, now_ms(), 1000 * 1000, 0, 1, 5);
    cr_expect(!there("held/YQ.mpk") && there("held/Yg.mpk") && there("held/.new-x"));
}

Test(trim, archive_by_run, .init = make_home, .fini = craft_free_all)
{
    mkdir(at("archive"), 0755);
    mkdir(at("archive/r1"), 0755);
    mkdir(at("archive/r1/deep"), 0755);
    put("archive/r1/a.mpk", "123");
    put("archive/r1/deep/b.mpk", "45");
    usleep(20 * 1000);
    mkdir(at("archive/r2"), 0755);
    put("archive/r2/c.mpk", "1234567");
    trim("archive", QM_TRIM_ARCHIVE, now_ms(), 0, 7, 2, 5);
    cr_expect(!there("archive/r1") && there("archive/r2/c.mpk"));
    struct qm_trim *t;
    struct qm_fault fault;
    uint64_t bytes;
    cr_assert_eq(qm_trim_plan(&t, at("archive"), QM_TRIM_ARCHIVE, "r2", now_ms(), 0, 1, &fault), QM_OK);
    cr_expect_eq(qm_trim_lost(t, &bytes), 0, "the run at hand stays");
    qm_trim_close(t);
}

/* Names that appear in a directory, in turn, in one text: +NAME was made, >NAME was renamed into being. */
static void names_that_appeared(int watch, char *text, size_t cap)
{
    _Alignas(struct inotify_event) char room[8192];
    const ssize_t n = read(watch, room, sizeof room);
    size_t used = 0;
    text[0] = '\0';
    for (ssize_t at = 0; at < n;) {
        const struct inotify_event *e = (const void *)(room + at);
        const int len = snprintf(text + used, cap - used, "%c%s ", (e->mask & IN_CREATE) != 0 ? '+' : '>', e->name);
        used += len > 0 && (size_t)len < cap - used ? (size_t)len : 0;
        at += (ssize_t)(sizeof *e + e->len);
    }
}

Test(spool, a_record_is_delivered_whole)
{
    char name[QM_SPOOL_NAME_MAX], path[512], seen[1024], expected[1024];
    struct qm_fault fault = {0};
    const int watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    MUST(watch >= 0 && inotify_add_watch(watch, at("spool"), IN_CREATE | IN_MOVED_TO) >= 0);
    cr_assert_eq(qm_spool_deliver(at("spool"), span("b"), span("record"), name, &fault), QM_OK, "%s", fault.text);
    names_that_appeared(watch, seen, sizeof seen);
    snprintf(expected, sizeof expected, "+.%s.tmp >%s ", name, name);
    cr_expect_str_eq(seen, expected);
    close(watch);
    snprintf(path, sizeof path, "spool/%s", name);
    unlink(at(path));
    cr_assert_eq(qm_spool_deliver(at("spool"), span("../a b"), span("record"), name, &fault), QM_OK, "%s", fault.text);
    cr_expect_eq(strncmp(name, "_._a_b-", 7), 0, "%s", name);
    snprintf(path, sizeof path, "spool/%s", name);
    cr_expect_str_eq(text_of(path), "record");
    char id[QM_ID_MAX];
    memset(id, 'i', sizeof id);
    cr_expect_eq(qm_spool_deliver(at("spool"), (struct qm_span){(uint8_t *)id, sizeof id}, span("x"), name, &fault), QM_OK);
    cr_expect(strlen(name) < 128);
    cr_expect_eq(qm_spool_deliver(at("nothing"), span("a"), span("record"), name, &fault), QM_E_IO);
    struct run *r = run_open("r1");
    run_add(r, NULL);
    run_take(r);
    cr_expect_eq(qm_spool_files(r->sp), 2);
    cr_expect_eq(qm_spool_others(r->sp), 0);
    run_close(r);
}
