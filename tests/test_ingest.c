#include <criterion/criterion.h>
#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <sys/resource.h>
#include <time.h>

#include "ingest/worklist.h"
#include "tests/ingest_pool.h"

static char dir[64];
static struct failures failures;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static void make_dir(void)
{
    strcpy(dir, "/tmp/qm-ingest-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
    memset(&failures, 0, sizeof failures);
    pthread_mutex_init(&failures.lock, NULL);
}

static void drop_dir(void)
{
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

TestSuite(ingest, .init = make_dir, .fini = drop_dir, .timeout = 120);

/* One of a few buffers, so that several paths can stand in one expression. */
static const char *at(const char *name)
{
    static char path[8][PATH_MAX];
    static unsigned turn;
    char *p = path[turn++ % 8];
    snprintf(p, PATH_MAX, "%s/%s", dir, name);
    return p;
}

static void put_bytes(const char *name, size_t len)
{
    uint8_t *p = malloc(len + 1);
    for (size_t i = 0; i < len; i++)
        p[i] = (uint8_t)(i * 131 + (i >> 9) + len);
    file_put(at(name), p, len);
    free(p);
}

static uint64_t hash_of(size_t len)
{
    uint64_t h = pool_hash(0, NULL, 0);
    for (size_t i = 0; i < len; i++) {
        uint8_t b = (uint8_t)(i * 131 + (i >> 9) + len);
        h = pool_hash(h, &b, 1);
    }
    return h;
}

static struct pool *pool_new(enum qm_io io, unsigned workers)
{
    struct pool *p = calloc(1, sizeof *p);
    struct qm_fault fault;
    p->io = io;
    p->workers = workers;
    cr_assert_eq(qm_worklist_open(&p->w, note_failure, &failures, &fault), QM_OK);
    return p;
}

static void pool_add(struct pool *p, const char *path)
{
    struct qm_fault fault;
    cr_assert_eq(qm_worklist_add(p->w, path, &fault), QM_OK);
}

static void pool_go(struct pool *p)
{
    cr_assert(pool_run(p));
    cr_assert_eq(p->failed, 0);
}

static void pool_free(struct pool *p)
{
    qm_worklist_close(p->w);
    free(p->seen);
    free(p);
}

/* Came to a clean end with the bytes of put_bytes(len). */
static void expect_bytes(const struct pool *p, const char *path, size_t len)
{
    const struct qm_source *s = pool_find(p, path);
    cr_assert_not_null(s, "%s did not come", path);
    cr_assert_eq(s->user[USER_BYTES], len, "%s: %zu bytes", path, (size_t)s->user[USER_BYTES]);
    cr_assert_eq(s->user[USER_HASH], hash_of(len), "%s: wrong bytes", path);
    cr_assert_eq(s->user[USER_ENDS], 1);
    cr_assert_eq(s->user[USER_BROKEN] + s->user[USER_TOO_BIG] + s->user[USER_BAD], 0);
}

static int chill_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)ftw;
    int fd = type == FTW_F && S_ISREG(st->st_mode) ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        close(fd);
    }
    return 0;
}

/* Out of the page cache, where the file system has one: so that the ring has something to do. */
static void chill(void)
{
    int fd = open(dir, O_RDONLY | O_CLOEXEC);
    syncfs(fd); /* only clean pages can go */
    close(fd);
    nftw(dir, chill_one, 16, FTW_PHYS);
}

/* Every test runs in all of these. */
static const struct {
    enum qm_io io;
    unsigned workers;
    bool cold;
} ways[] = {
    {QM_IO_READ, 1, false},  {QM_IO_READ, 2, false}, {QM_IO_READ, 8, false},
    {QM_IO_URING, 1, false}, {QM_IO_URING, 2, true}, {QM_IO_URING, 8, false},
    {QM_IO_URING, 1, true},
};

#define EACH_WAY(way)                                                                              \
    for (size_t way = 0; way < QM_COUNT(ways); way++)                                              \
        if (ways[way].io == QM_IO_READ || qm_uring_probe(NULL, 0))

Test(ingest, the_ring_is_tested_here)
{
    char reason[256] = "";
    bool fit = qm_uring_probe(reason, sizeof reason);
    if (!fit)
        cr_log_warn("no ring here, the ring reader is not tested: %s", reason);
    cr_assert(fit || reason[0] != '\0');
}

Test(ingest, slot_and_window_boundaries)
{
    static const size_t sizes[] = {
        0,
        1,
        4095,
        4096,
        4097,
        QM_SLOT_BYTES - 1,
        QM_SLOT_BYTES,
        QM_SLOT_BYTES + 1,
        QM_WINDOW_START - 1,
        QM_WINDOW_START,
        QM_WINDOW_START + 1,
        QM_WHOLE_MAX - 1,
        QM_WHOLE_MAX,
        QM_WHOLE_MAX + 1,
        5 * QM_WINDOW_START,
        QM_WINDOW_CAP,
        QM_WINDOW_CAP + 1,
    };
    char name[64];
    for (size_t i = 0; i < QM_COUNT(sizes); i++) {
        snprintf(name, sizeof name, "%zu.mpk", sizes[i]);
        put_bytes(name, sizes[i]);
    }
    EACH_WAY (way)
        for (size_t bite = 0; bite < 100000; bite = 10 * bite + 9999) {
            if (ways[way].cold)
                chill();
            struct pool *p = pool_new(ways[way].io, ways[way].workers);
            p->bite = bite;
            pool_add(p, dir);
            cr_assert_eq(qm_worklist_files(p->w), QM_COUNT(sizes));
            pool_go(p);
            uint64_t total = 0;
            for (size_t i = 0; i < QM_COUNT(sizes); i++) {
                snprintf(name, sizeof name, "%zu.mpk", sizes[i]);
                expect_bytes(p, at(name), sizes[i]);
                total += sizes[i];
            }
            cr_assert_eq(p->source_count, QM_COUNT(sizes));
            cr_assert_eq(p->read_bytes, total);
            cr_assert_eq(qm_worklist_errors(p->w), 0);
            cr_assert_eq(qm_worklist_done_files(p->w), QM_COUNT(sizes));
            pool_free(p);
        }
}

Test(ingest, many_small_files)
{
    char name[64];
    for (size_t i = 0; i < 700; i++) {
        snprintf(name, sizeof name, "%zu.mpk", i);
        put_bytes(name, i * 97);
    }
    EACH_WAY (way) {
        if (ways[way].cold)
            chill();
        struct pool *p = pool_new(ways[way].io, ways[way].workers);
        pool_add(p, dir);
        pool_go(p);
        for (size_t i = 0; i < 700; i++) {
            snprintf(name, sizeof name, "%zu.mpk", i);
            expect_bytes(p, at(name), i * 97);
        }
        cr_assert_eq(p->source_count, 700);
        pool_free(p);
    }
}

/* A spool may hold anything: only its regular *.mpk files are read. */
Test(ingest, what_is_in_a_directory)
{
    put_bytes("a.mpk", 10);
    put_bytes("other.txt", 10);
    put_bytes("mpk", 10);
    put_bytes("a.mpk.tmp", 10);
    put_bytes(".mpk", 11);
    mkdir(at("sub"), 0700);
    mkdir(at("sub/deeper.mpk"), 0700);
    put_bytes("sub/b.mpk", 20);
    put_bytes("sub/deeper.mpk/c.mpk", 30);
    put_bytes("sub/new\nline \xff\xfe.mpk", 40);
    cr_assert_eq(symlink("a.mpk", at("link.mpk")), 0);
    cr_assert_eq(symlink("nowhere", at("dangling.mpk")), 0);
    cr_assert_eq(symlink("/etc", at("linked-dir")), 0);
    cr_assert_eq(symlink("..", at("sub/up")), 0);
    cr_assert_eq(mkfifo(at("fifo.mpk"), 0600), 0);
    bool device =
        mknod(at("zero.mpk"), S_IFCHR | 0600, 0x105) == 0; /* /dev/zero; needs the right to */
    EACH_WAY (way) {
        struct pool *p = pool_new(ways[way].io, ways[way].workers);
        pool_add(p, dir);
        pool_go(p);
        expect_bytes(p, at("a.mpk"), 10);
        expect_bytes(p, at(".mpk"), 11);
        expect_bytes(p, at("sub/b.mpk"), 20);
        expect_bytes(p, at("sub/deeper.mpk/c.mpk"), 30);
        expect_bytes(p, at("sub/new\nline \xff\xfe.mpk"), 40);
        cr_assert_eq(p->source_count, 5);
        cr_assert_eq(qm_worklist_errors(p->w), 0);
        cr_assert_eq(qm_worklist_others(p->w), 8u + device);
        pool_free(p);
    }
}

/* Between the walk and the read anything can take a file's place. */
Test(ingest, files_that_change_after_the_walk)
{
    EACH_WAY (way) {
        put_bytes("stays.mpk", 100);
        put_bytes("gone.mpk", 100);
        put_bytes("link.mpk", 100);
        put_bytes("fifo.mpk", 100);
        put_bytes("empty-fifo.mpk", 100);
        put_bytes("dir.mpk", 100);
        mkdir(at("moved"), 0700);
        put_bytes("moved/x.mpk", 100);
        struct pool *p = pool_new(ways[way].io, ways[way].workers);
        pool_add(p, dir);
        cr_assert_eq(qm_worklist_files(p->w), 7);
        remove(at("gone.mpk"));
        remove(at("link.mpk"));
        cr_assert_eq(symlink("/etc/passwd", at("link.mpk")), 0);
        remove(at("empty-fifo.mpk"));
        cr_assert_eq(mkfifo(at("empty-fifo.mpk"), 0600), 0);
        remove(at("fifo.mpk"));
        cr_assert_eq(mkfifo(at("fifo.mpk"), 0600), 0);
        int writer = open(at("fifo.mpk"), O_RDWR | O_CLOEXEC); /* a FIFO with a silent writer */
        cr_assert_geq(writer, 0);
        remove(at("dir.mpk"));
        mkdir(at("dir.mpk"), 0700);
        rename(at("moved"), at("moved-away"));
        cr_assert_eq(symlink("moved-away", at("moved")), 0);
        pool_go(p);
        expect_bytes(p, at("stays.mpk"), 100);
        cr_assert_eq(p->source_count, 1);
        cr_assert_eq(qm_worklist_errors(p->w), 6);
        cr_assert_eq(failures.count, 6);
        failures.count = 0;
        close(writer);
        pool_free(p);
        drop_dir();
        mkdir(dir, 0700);
    }
}

Test(ingest, operands)
{
    put_bytes("plain.bin", 1000);
    put_bytes("big.bin", 3000000);
    mkdir(at("d"), 0700);
    put_bytes("d/x.mpk", 5);
    cr_assert_eq(symlink("plain.bin", at("link")), 0);
    cr_assert_eq(symlink("d", at("dirlink")), 0);
    cr_assert_eq(symlink("nowhere", at("dangling")), 0);
    EACH_WAY (way) {
        struct pool *p = pool_new(ways[way].io, ways[way].workers);
        pool_add(p, at("plain.bin"));
        pool_add(p, at("plain.bin")); /* twice in, twice out */
        pool_add(p, at("big.bin"));
        pool_add(p, at("link"));
        pool_add(p, at("dirlink"));
        pool_add(p, at("d//"));
        pool_add(p, at("dangling"));
        pool_add(p, at("missing"));
        pool_add(p, "/dev/null");
        pool_add(p, "");
        cr_assert_eq(qm_worklist_errors(p->w), 4);
        failures.count = 0;
        pool_go(p);
        cr_assert_eq(p->source_count, 6);
        expect_bytes(p, at("plain.bin"), 1000);
        expect_bytes(p, at("big.bin"), 3000000);
        expect_bytes(p, at("link"), 1000);
        expect_bytes(p, at("dirlink/x.mpk"), 5);
        expect_bytes(p, at("d//x.mpk"), 5);
        pool_free(p);
    }
}

Test(ingest, lists_of_names)
{
    put_bytes("a b\n", 100);
    put_bytes("big", 2000000);
    cr_assert_eq(symlink("big", at("link")), 0);
    cr_assert_eq(mkfifo(at("fifo"), 0600), 0);
    char text[4096 + 8192];
    size_t len = 0;
    const char *names[] = {"a b\n", "big", "link", "fifo", "missing", "big"};
    for (size_t i = 0; i < QM_COUNT(names); i++)
        len += (size_t)snprintf(text + len, sizeof text - len, "%s", at(names[i])) + 1;
    len += (size_t)snprintf(text + len, sizeof text - len, "/dev/zero") + 1;
    text[len++] = '\0'; /* an empty name */
    memset(text + len, 'x', 5000);
    len += 5000;
    text[len++] = '\0'; /* one that is too long */
    len += (size_t)snprintf(text + len, sizeof text - len, "%s",
                            at("a b\n")); /* the last one without its end */
    file_put(at("list"), text, len);
    EACH_WAY (way) {
        struct qm_fault fault;
        struct pool *p = pool_new(ways[way].io, ways[way].workers);
        cr_assert_eq(qm_worklist_add_files0(p->w, at("list"), &fault), QM_OK);
        cr_assert_eq(qm_worklist_files(p->w), 8);
        cr_assert_eq(qm_worklist_errors(p->w), 2);
        cr_assert_eq(qm_worklist_add_files0(p->w, at("no-list"), &fault), QM_OK);
        cr_assert_eq(qm_worklist_errors(p->w), 3);
        pool_go(p);
        cr_assert_eq(p->source_count, 4);
        expect_bytes(p, at("a b\n"), 100);
        expect_bytes(p, at("big"), 2000000);
        cr_assert_eq(qm_worklist_errors(p->w), 7);
        pool_free(p);
    }
}

Test(ingest, a_list_longer_than_the_buffer)
{
    put_bytes("f", 1);
    char *text = malloc(40000 * 32 + 600000);
    size_t len = 0, count = 0;
    for (; count < 20000; count++)
        len += (size_t)sprintf(text + len, "%s", at("f")) + 1;
    memset(text + len, 'y', 500000);
    len += 500000;
    text[len++] = '\0';
    for (; count < 40000; count++)
        len += (size_t)sprintf(text + len, "%s", at("f")) + 1;
    file_put(at("list"), text, len);
    struct qm_fault fault;
    struct pool *p = pool_new(QM_IO_READ, 1);
    cr_assert_eq(qm_worklist_add_files0(p->w, at("list"), &fault), QM_OK);
    cr_assert_eq(qm_worklist_files(p->w), count);
    cr_assert_eq(qm_worklist_errors(p->w), 1);
    pool_free(p);
    free(text);
}

struct feed {
    int fd;
    const char *fifo; /* opened by the feeder instead of fd; may be NULL */
    const char *path;
    size_t piece, pause_us;
};

/* Copies a file to a descriptor in pieces. */
static void *feed(void *arg)
{
    struct feed *f = arg;
    uint8_t *buffer = malloc(f->piece);
    int in = open(f->path, O_RDONLY | O_CLOEXEC);
    if (f->fifo != NULL)
        f->fd = open(f->fifo, O_WRONLY | O_CLOEXEC);
    for (ssize_t n; (n = read(in, buffer, f->piece)) > 0;) {
        for (ssize_t done = 0; done < n;) {
            ssize_t m = write(f->fd, buffer + done, (size_t)(n - done));
            if (m < 0)
                goto out;
            done += m;
        }
        if (f->pause_us != 0)
            usleep((useconds_t)f->pause_us);
    }
out:
    close(in);
    close(f->fd);
    free(buffer);
    return NULL;
}

static void expect_all_once(const struct pool *p)
{
    for (size_t i = 0; i < p->seen_count; i++)
        cr_assert_eq(p->seen[i], 1, "record %zu came %d times", i, p->seen[i]);
}

/* Several workers, one stream: nothing lost, nothing doubled. */
static void share_stream(bool through_stdin, size_t count, uint32_t lo, uint32_t hi, size_t piece,
                         size_t pause_us)
{
    size_t total = records_put(at("stream"), 0, count, lo, hi);
    EACH_WAY (way) {
        struct pool *p = pool_new(ways[way].io, ways[way].workers);
        p->records = true;
        p->seen_count = count;
        p->seen = calloc(count, 1);
        pthread_t feeder;
        int pipe_fd[2];
        struct feed f = {.path = at("stream"), .piece = piece, .pause_us = pause_us};
        if (through_stdin) {
            cr_assert_eq(pipe(pipe_fd), 0);
            dup2(pipe_fd[0], STDIN_FILENO);
            close(pipe_fd[0]);
            f.fd = pipe_fd[1];
            cr_assert_eq(pthread_create(&feeder, NULL, feed, &f), 0);
        }
        pool_add(p, through_stdin ? "-" : f.path);
        pool_go(p);
        if (through_stdin)
            pthread_join(feeder, NULL);
        expect_all_once(p);
        cr_assert_eq(p->record_count, count);
        cr_assert_eq(p->source_count, 1);
        const struct qm_source *s = p->source[0];
        cr_assert_eq(s->user[USER_BYTES], total);
        cr_assert_eq(s->user[USER_BAD] + s->user[USER_BROKEN], 0);
        cr_assert_eq(s->bounded, !through_stdin);
        pool_free(p);
    }
}

Test(ingest, shared_file_small_records)
{
    share_stream(false, 60000, 8, 900, 0, 0);
}

Test(ingest, shared_file_big_records)
{
    share_stream(false, 12, QM_RECORD_MAX - 9, QM_RECORD_MAX, 0, 0);
}

Test(ingest, shared_stdin)
{
    share_stream(true, 3000, 8, 20000, 70000, 0);
}

Test(ingest, shared_stdin_in_drops)
{
    share_stream(true, 60, 8, 300, 1000, 2000);
}

Test(ingest, stdin_big_records)
{
    share_stream(true, 3, QM_RECORD_MAX, QM_RECORD_MAX, 1 << 20, 0);
}

Test(ingest, many_streams_at_once)
{
    char name[64];
    uint32_t first = 0;
    for (size_t i = 0; i < 10; i++) {
        snprintf(name, sizeof name, "%zu.mpk", i);
        records_put(at(name), first, 300 + 100 * i, 8, 20000);
        first += (uint32_t)(300 + 100 * i);
    }
    EACH_WAY (way) {
        struct pool *p = pool_new(ways[way].io, ways[way].workers);
        p->records = true;
        p->seen_count = first;
        p->seen = calloc(first, 1);
        pool_add(p, dir);
        pool_go(p);
        expect_all_once(p);
        pool_free(p);
    }
}

Test(ingest, a_fifo_by_name)
{
    put_bytes("content", 300000);
    cr_assert_eq(mkfifo(at("fifo"), 0600), 0);
    EACH_WAY (way) {
        struct pool *p = pool_new(ways[way].io, ways[way].workers);
        pool_add(p, at("fifo"));
        struct feed f = {.fifo = at("fifo"), .path = at("content"), .piece = 7777};
        pthread_t feeder;
        cr_assert_eq(pthread_create(&feeder, NULL, feed, &f), 0);
        pool_go(p);
        pthread_join(feeder, NULL);
        cr_assert_eq(p->source_count, 1);
        expect_bytes(p, at("fifo"), 300000);
        cr_assert_not(p->source[0]->bounded);
        pool_free(p);
    }
}

Test(ingest, stdin_only_once)
{
    struct qm_fault fault;
    struct pool *p = pool_new(QM_IO_READ, 1);
    pool_add(p, "-");
    cr_assert_eq(qm_worklist_add(p->w, "-", &fault), QM_E_USAGE);
    cr_assert_eq(qm_worklist_add_files0(p->w, "-", &fault), QM_E_USAGE);
    pool_free(p);
}

static void become_stdin(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd != STDIN_FILENO) {
        dup2(fd, STDIN_FILENO);
        close(fd);
    }
}

Test(ingest, stdin_that_is_no_stream)
{
    put_bytes("content", 700001);
    mkdir(at("d"), 0700);
    EACH_WAY (way) {
        become_stdin(at("content"));
        struct pool *p = pool_new(ways[way].io, ways[way].workers);
        pool_add(p, "-");
        pool_go(p);
        expect_bytes(p, "-", 700001);
        pool_free(p);

        /* Closed, and a directory: failures of the environment, said and counted. */
        for (int is_dir = 0; is_dir < 2; is_dir++) {
            if (is_dir)
                become_stdin(at("d"));
            else
                close(STDIN_FILENO);
            p = pool_new(QM_IO_READ, 1);
            struct qm_reader *r;
            struct qm_batch batch;
            struct qm_fault fault;
            pool_add(p, "-");
            cr_assert_eq(qm_reader_open(&r, p->w, QM_IO_READ, &fault), QM_OK);
            cr_assert_eq(qm_reader_next(r, &batch, NULL, &fault), QM_OK);
            cr_assert_eq(batch.piece_count, 1);
            cr_assert(batch.piece[0].broken && batch.piece[0].last);
            cr_assert_eq(batch.piece[0].len, 0);
            cr_assert_eq(qm_worklist_errors(p->w), 1);
            cr_assert_eq(failures.last_sys, is_dir ? EISDIR : EBADF, "%d: %d", is_dir,
                         failures.last_sys);
            qm_reader_settle(r, 0, 0, false);
            cr_assert_eq(qm_reader_next(r, &batch, NULL, &fault), QM_OK);
            cr_assert_eq(batch.piece_count, 0);
            qm_reader_close(r);
            pool_free(p);
        }
        become_stdin("/dev/null");
    }
}

/* A reader of one operand, by hand. */
struct single {
    struct pool *p;
    struct qm_reader *r;
    struct qm_batch batch;
};

static void single_open(struct single *s, enum qm_io io, const char *path)
{
    struct qm_fault fault;
    s->p = pool_new(io, 1);
    pool_add(s->p, path);
    cr_assert_eq(qm_reader_open(&s->r, s->p->w, io, &fault), QM_OK);
}

static const struct qm_piece *single_next(struct single *s)
{
    struct qm_fault fault;
    cr_assert_eq(qm_reader_next(s->r, &s->batch, NULL, &fault), QM_OK);
    cr_assert_leq(s->batch.piece_count, 1);
    return s->batch.piece_count == 0 ? NULL : &s->batch.piece[0];
}

static void single_close(struct single *s)
{
    qm_reader_close(s->r);
    pool_free(s->p);
}

Test(ingest, a_file_that_shrinks)
{
    EACH_WAY (way) {
        put_bytes("f", 3000000);
        struct single s;
        single_open(&s, ways[way].io, at("f"));
        const struct qm_piece *piece = single_next(&s);
        cr_assert(s.batch.window);
        cr_assert_eq(piece->len, QM_WINDOW_START);
        cr_assert_eq(piece->file_bytes, 3000000);
        cr_assert_not(piece->last);
        cr_assert_eq(truncate(at("f"), 400000), 0);
        qm_reader_settle(s.r, piece->len - 1, 1, false);
        size_t got = QM_WINDOW_START - 1;
        while ((piece = single_next(&s)) != NULL) {
            cr_assert_eq(piece->off, got);
            got += piece->len;
            cr_assert_eq(piece->last, piece->broken);
            qm_reader_settle(s.r, piece->len, 1, false);
        }
        cr_assert_eq(got, 400000);
        cr_assert_eq(qm_worklist_errors(s.p->w), 1);
        cr_assert_str_eq(failures.last_what, "shrank while it was read");
        single_close(&s);
    }
}

Test(ingest, a_file_that_grows)
{
    EACH_WAY (way) {
        put_bytes("f", 3000000);
        struct single s;
        single_open(&s, ways[way].io, at("f"));
        const struct qm_piece *piece = single_next(&s);
        size_t got = 0;
        cr_assert_eq(truncate(at("f"), 3500000), 0);
        for (; piece != NULL; piece = single_next(&s)) {
            got += piece->len;
            cr_assert_not(piece->broken);
            qm_reader_settle(s.r, piece->len, 1, false);
        }
        cr_assert_eq(got, 3500000);
        cr_assert_eq(qm_worklist_errors(s.p->w), 0);
        single_close(&s);
    }
}

/* An I/O failure must not look like the end of the evidence. /proc/self/mem is a regular file that
 * fails to read. */
Test(ingest, a_read_that_fails)
{
    EACH_WAY (way) {
        struct single s;
        single_open(&s, ways[way].io, "/proc/self/mem");
        const struct qm_piece *piece = single_next(&s);
        cr_assert_not_null(piece);
        cr_assert(piece->broken && piece->last);
        cr_assert_eq(piece->len, 0);
        cr_assert_eq(failures.last_sys, EIO);
        cr_assert_null(single_next(&s));
        cr_assert_eq(qm_worklist_errors(s.p->w), 1);
        single_close(&s);
    }
}

/* Files whose size says nothing are read to their end. */
Test(ingest, a_file_without_a_size)
{
    EACH_WAY (way) {
        struct single s;
        single_open(&s, ways[way].io, "/proc/cpuinfo");
        const struct qm_piece *piece = single_next(&s);
        cr_assert_not_null(piece);
        cr_assert_gt(piece->len, 0);
        cr_assert_not(piece->broken);
        if (s.batch.window)
            qm_reader_settle(s.r, piece->len, 1, true);
        cr_assert_null(single_next(&s));
        single_close(&s);
    }
}

Test(ingest, file_size_limit)
{
    static const struct {
        long long over;
        bool too_big;
    } cases[] = {{-1, false}, {0, false}, {1, true}};
    EACH_WAY (way)
        for (size_t i = 0; i < QM_COUNT(cases); i++) {
            file_put(at("f"), "", 0);
            cr_assert_eq(truncate(at("f"), (off_t)((long long)QM_FILE_MAX + cases[i].over)), 0);
            struct single s;
            single_open(&s, ways[way].io, at("f"));
            const struct qm_piece *piece = single_next(&s);
            cr_assert_eq(piece->too_big, cases[i].too_big);
            cr_assert_eq(piece->last, cases[i].too_big);
            cr_assert_eq(piece->file_bytes, QM_FILE_MAX + (unsigned long long)cases[i].over);
            cr_assert_not(piece->broken);
            if (s.batch.window)
                qm_reader_settle(s.r, 0, 0, true);
            else
                cr_assert_eq(piece->len, 0);
            cr_assert_null(single_next(&s));
            cr_assert_eq(qm_worklist_errors(s.p->w), 0);
            single_close(&s);
        }
}

Test(ingest, grows_past_the_limit)
{
    for (uint64_t over = 0; over < 2; over++) {
        file_put(at("f"), "", 0);
        cr_assert_eq(truncate(at("f"), QM_WHOLE_MAX + 1), 0);
        struct single s;
        single_open(&s, QM_IO_READ, at("f"));
        const struct qm_piece *piece = single_next(&s);
        qm_reader_settle(s.r, piece->len, 0, false);
        cr_assert_eq(truncate(at("f"), (off_t)(QM_FILE_MAX + over)), 0);
        s.p->w->stream[0]->off = QM_FILE_MAX - 10; /* as if all up to here had been read */
        piece = single_next(&s);
        cr_assert_eq(piece->len, 10 + over);
        cr_assert(piece->last);
        cr_assert_eq(piece->broken, over);
        cr_assert_eq(qm_worklist_errors(s.p->w), over);
        if (over)
            cr_assert_eq(failures.last_sys, EFBIG);
        qm_reader_settle(s.r, piece->len, 0, false);
        cr_assert_null(single_next(&s));
        single_close(&s);
    }
}

/* A taker that finds no end of a record gets more each time, to more than the longest record. */
Test(ingest, windows_grow_while_nothing_is_used)
{
    put_bytes("f", 3 * QM_WINDOW_CAP);
    EACH_WAY (way) {
        struct single s;
        single_open(&s, ways[way].io, at("f"));
        size_t before = 0;
        const struct qm_piece *piece = single_next(&s);
        while (piece->len <= QM_RECORD_MAX) {
            cr_assert_gt(piece->len, before);
            cr_assert_eq(piece->off, 0);
            before = piece->len;
            qm_reader_settle(s.r, 0, 0, false);
            piece = single_next(&s);
        }
        cr_assert_geq(piece->len, QM_RECORD_MAX + 1);
        /* One byte used keeps it going: what is left comes again, then filled up; nothing used of the longest is the end of it. */
        size_t longest = piece->len;
        qm_reader_settle(s.r, 1, 1, false);
        piece = single_next(&s);
        cr_assert_eq(piece->off, 1);
        cr_assert_eq(piece->len, longest - 1);
        qm_reader_settle(s.r, 0, 0, false);
        piece = single_next(&s);
        cr_assert_eq(piece->off, 1);
        cr_assert_eq(piece->len, QM_WINDOW_CAP);
        qm_reader_settle(s.r, 0, 0, false);
        cr_assert_null(single_next(&s));
        cr_assert_eq(qm_worklist_errors(s.p->w), 1);
        single_close(&s);
    }
}

Test(ingest, windows_learn_the_size_of_records)
{
    put_bytes("f", 40000000);
    struct single s;
    single_open(&s, QM_IO_READ, at("f"));
    static const struct {
        size_t records, next;
    } steps[] = {{1000000, QM_WINDOW_MIN},
                 {8, 8 * QM_WINDOW_MIN + 4096}, /* and half a record */
                 {0, 8 * QM_WINDOW_MIN + 4096},
                 {1, QM_WINDOW_MAX}};
    const struct qm_piece *piece = single_next(&s);
    cr_assert_eq(piece->len, QM_WINDOW_START);
    for (size_t i = 0; i < QM_COUNT(steps); i++) {
        qm_reader_settle(s.r, piece->len, steps[i].records, false);
        piece = single_next(&s);
        cr_assert_eq(piece->len, steps[i].next);
    }
    qm_reader_settle(s.r, piece->len, 1, true);
    cr_assert_null(single_next(&s));
    single_close(&s);
}

static void *stop_soon(void *arg)
{
    usleep(200000);
    atomic_store((_Atomic bool *)arg, true);
    return NULL;
}

Test(ingest, stop_ends_a_silent_stdin)
{
    EACH_WAY (way) {
        int pipe_fd[2];
        cr_assert_eq(pipe(pipe_fd), 0);
        dup2(pipe_fd[0], STDIN_FILENO);
        close(pipe_fd[0]);
        struct pool *p = pool_new(ways[way].io, ways[way].workers);
        pool_add(p, "-");
        pthread_t stopper;
        struct timespec a, b;
        clock_gettime(CLOCK_MONOTONIC, &a);
        cr_assert_eq(pthread_create(&stopper, NULL, stop_soon, &p->stop), 0);
        pool_go(p);
        clock_gettime(CLOCK_MONOTONIC, &b);
        cr_assert_lt(b.tv_sec - a.tv_sec, 20, "it has waited for more"); /* without end, if it were not stopped */
        pthread_join(stopper, NULL);
        cr_assert_eq(p->batches, 0);
        close(pipe_fd[1]);
        pool_free(p);
    }
}

Test(ingest, stop_in_the_middle)
{
    char name[64];
    for (size_t i = 0; i < 500; i++) {
        snprintf(name, sizeof name, "%zu.mpk", i);
        put_bytes(name, i * 300);
    }
    EACH_WAY (way) {
        if (ways[way].cold)
            chill();
        struct pool *p = pool_new(ways[way].io, ways[way].workers);
        p->stop_after = 2;
        pool_add(p, dir);
        pool_go(p);
        cr_assert_lt(p->source_count, 500);
        pool_free(p);
    }
}

Test(ingest, too_deep)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s", dir);
    for (int i = 0; i < QM_WALK_DEPTH_MAX + 2; i++) {
        strcat(path, "/d");
        mkdir(path, 0700);
        char file[PATH_MAX + 8];
        snprintf(file, sizeof file, "%s/f.mpk", path);
        file_put(file, "x", 1);
    }
    struct pool *p = pool_new(QM_IO_READ, 1);
    pool_add(p, dir);
    cr_assert_eq(qm_worklist_files(p->w), QM_WALK_DEPTH_MAX);
    cr_assert_eq(qm_worklist_errors(p->w), 1);
    pool_free(p);
}

Test(ingest, out_of_descriptors)
{
    put_bytes("a.mpk", 10);
    put_bytes("b.mpk", 10);
    struct rlimit old, none;
    getrlimit(RLIMIT_NOFILE, &old);
    EACH_WAY (way) {
        struct single s;
        single_open(&s, ways[way].io, dir);
        /* Descriptors below the limit stay; there are no more. */
        none = old;
        none.rlim_cur = 3;
        setrlimit(RLIMIT_NOFILE, &none);
        struct qm_fault fault;
        size_t pieces = 0;
        do {
            cr_assert_eq(qm_reader_next(s.r, &s.batch, NULL, &fault), QM_OK);
            pieces += s.batch.piece_count;
        } while (s.batch.piece_count != 0);
        setrlimit(RLIMIT_NOFILE, &old);
        cr_assert_eq(pieces + qm_worklist_errors(s.p->w), 2);
        single_close(&s);
    }
}

/* What the list and the readers hold is known, and does not grow while they read. */
Test(ingest, memory_is_accounted)
{
    char name[64];
    for (size_t i = 0; i < 2000; i++) {
        snprintf(name, sizeof name, "a-longer-name-%zu.mpk", i);
        file_put(at(name), "x", 1);
    }
    struct single s;
    single_open(&s, QM_IO_READ, dir);
    size_t list = qm_worklist_bytes(s.p->w), reader = qm_reader_bytes(s.r);
    cr_assert_gt(list, 2000 * (sizeof(struct qm_entry) + 20));
    cr_assert_gt(reader, QM_WINDOW_CAP + 2 * QM_BATCH_FILES * QM_SLOT_BYTES);
    struct qm_fault fault;
    do
        cr_assert_eq(qm_reader_next(s.r, &s.batch, NULL, &fault), QM_OK);
    while (s.batch.piece_count != 0);
    cr_assert_eq(qm_worklist_bytes(s.p->w), list);
    cr_assert_eq(qm_reader_bytes(s.r), reader);
    single_close(&s);
}
