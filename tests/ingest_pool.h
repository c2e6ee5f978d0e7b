/* A pool of workers over the ingest room, and a pretend record format, for tests: a record is a
 * length of four bytes (little-endian, itself included), a number of four bytes and a filling that
 * follows from the number. */
#ifndef QM_INGEST_POOL_H
#define QM_INGEST_POOL_H

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ingest/ingest.h"

enum { POOL_WORKERS_MAX = 8, POOL_SOURCES_MAX = 8192, RECORD_HEAD = 8 };

/* What a worker keeps in qm_source.user. */
enum { USER_BYTES, USER_HASH, USER_ENDS, USER_BROKEN, USER_TOO_BIG, USER_BAD };

struct pool {
    struct qm_worklist *w;
    enum qm_io io;
    unsigned workers;
    bool records;          /* pieces hold pretend records; else bytes of any kind */
    size_t bite;           /* without records: bytes used of a window, 0 all */
    _Atomic uint8_t *seen; /* by record number; may be NULL */
    size_t seen_count;
    _Atomic bool stop;
    size_t stop_after; /* batches; 0: never */

    _Atomic size_t batches, windows, record_count;
    _Atomic uint64_t read_bytes;
    _Atomic int failed;
    pthread_mutex_t lock;
    struct qm_source *source[POOL_SOURCES_MAX];
    size_t source_count;
};

struct pool_worker {
    struct pool *pool;
    struct qm_reader *reader;
};

static inline uint64_t pool_hash(uint64_t h, const uint8_t *p, size_t len)
{
    if (h == 0)
        h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < len; i++)
        h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}

static inline void put_u32(uint8_t *p, uint32_t v)
{
    memcpy(p, &v, 4);
}

static inline uint32_t get_u32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}

/* Writes record no with len bytes in all to p. */
static inline void record_put(uint8_t *p, uint32_t no, uint32_t len)
{
    put_u32(p, len);
    put_u32(p + 4, no);
    for (uint32_t i = RECORD_HEAD; i < len; i++)
        p[i] = (uint8_t)(no * 31 + i * 7 + (i >> 8));
}

static inline bool record_is_good(const uint8_t *p, uint32_t len)
{
    uint32_t no = get_u32(p + 4);
    for (uint32_t i = RECORD_HEAD; i < len; i++)
        if (p[i] != (uint8_t)(no * 31 + i * 7 + (i >> 8)))
            return false;
    return true;
}

/* Length of the whole records at the head of the piece; their number. */
static inline size_t records_find(const struct qm_piece *piece, size_t *count)
{
    size_t at = 0;
    *count = 0;
    while (piece->len - at >= RECORD_HEAD && get_u32(piece->bytes + at) <= piece->len - at) {
        at += get_u32(piece->bytes + at);
        ++*count;
    }
    return at;
}

static inline void records_check(struct pool *p, const struct qm_piece *piece, size_t used)
{
    for (size_t at = 0; at < used;) {
        uint32_t len = get_u32(piece->bytes + at);
        uint32_t no = get_u32(piece->bytes + at + 4);
        if (!record_is_good(piece->bytes + at, len) || no >= p->seen_count)
            atomic_fetch_add(&p->failed, 1);
        else
            atomic_fetch_add(&p->seen[no], 1);
        atomic_fetch_add(&p->record_count, 1);
        at += len;
    }
}

static inline void pool_piece(struct pool *p, struct qm_reader *r, const struct qm_piece *piece,
                              bool window)
{
    uint64_t *user = piece->source->user;
    size_t used = piece->len, count = 0;
    if (p->records)
        used = records_find(piece, &count);
    else if (window && !piece->last && p->bite != 0)
        used = p->bite < piece->len ? p->bite : piece->len;
    if (piece->off != user[USER_BYTES])
        user[USER_BAD]++;
    user[USER_BYTES] += used;
    user[USER_HASH] = pool_hash(user[USER_HASH], piece->bytes, p->records ? 0 : used);
    user[USER_ENDS] += piece->last;
    user[USER_BROKEN] += piece->broken;
    user[USER_TOO_BIG] += piece->too_big;
    if (piece->last) {
        pthread_mutex_lock(&p->lock);
        p->source[p->source_count++] = piece->source;
        pthread_mutex_unlock(&p->lock);
    }
    if (window)
        qm_reader_settle(r, used, count, false);
    if (p->records) /* after the settlement, while others go on in the same stream */
        records_check(p, piece, used);
}

static inline void *pool_work(void *arg)
{
    struct pool_worker *me = arg;
    struct pool *p = me->pool;
    struct qm_fault fault;
    for (;;) {
        struct qm_batch batch;
        if (qm_reader_next(me->reader, &batch, &p->stop, &fault) != QM_OK) {
            atomic_fetch_add(&p->failed, 1);
            break;
        }
        if (batch.piece_count == 0)
            break;
        if (batch.window && batch.piece_count != 1)
            atomic_fetch_add(&p->failed, 1);
        atomic_fetch_add(&p->windows, batch.window);
        for (size_t i = 0; i < batch.piece_count; i++)
            pool_piece(p, me->reader, &batch.piece[i], batch.window);
        if (atomic_fetch_add(&p->batches, 1) + 1 == p->stop_after)
            atomic_store(&p->stop, true);
    }
    return NULL;
}

/* Reads the whole worklist. False when a reader cannot be had. */
static inline bool pool_run(struct pool *p)
{
    struct pool_worker worker[POOL_WORKERS_MAX];
    pthread_t thread[POOL_WORKERS_MAX];
    struct qm_fault fault;
    pthread_mutex_init(&p->lock, NULL);
    for (unsigned i = 0; i < p->workers; i++) {
        worker[i].pool = p;
        if (qm_reader_open(&worker[i].reader, p->w, p->io, &fault) != QM_OK) {
            fprintf(stderr, "%s\n", fault.text);
            return false;
        }
    }
    for (unsigned i = 0; i < p->workers; i++)
        if (pthread_create(&thread[i], NULL, pool_work, &worker[i]) != 0)
            abort();
    for (unsigned i = 0; i < p->workers; i++)
        pthread_join(thread[i], NULL);
    for (unsigned i = 0; i < p->workers; i++) {
        atomic_fetch_add(&p->read_bytes, qm_reader_read_bytes(worker[i].reader));
        qm_reader_close(worker[i].reader);
    }
    pthread_mutex_destroy(&p->lock);
    return true;
}

/* The source of that name that came to its end; NULL if none did. */
static inline struct qm_source *pool_find(const struct pool *p, const char *name)
{
    for (size_t i = 0; i < p->source_count; i++)
        if (strcmp(p->source[i]->name, name) == 0)
            return p->source[i];
    return NULL;
}

/* ---- files ---- */

struct failures {
    _Atomic size_t count;
    char last_name[512];
    char last_what[128];
    int last_sys;
    pthread_mutex_t lock;
};

static inline void note_failure(void *ctx, const char *name, int sys, const char *what)
{
    struct failures *f = ctx;
    pthread_mutex_lock(&f->lock);
    snprintf(f->last_name, sizeof f->last_name, "%s", name);
    snprintf(f->last_what, sizeof f->last_what, "%s", what);
    f->last_sys = sys;
    pthread_mutex_unlock(&f->lock);
    atomic_fetch_add(&f->count, 1);
}

static inline void file_put(const char *path, const void *bytes, size_t len)
{
    FILE *f = fopen(path, "wb");
    if (f == NULL || fwrite(bytes, 1, len, f) != len || fclose(f) != 0) {
        perror(path);
        abort();
    }
}

/* count records, numbered from first, of lengths between lo and hi; gives the bytes written. */
static inline size_t records_put(const char *path, uint32_t first, size_t count, uint32_t lo,
                                 uint32_t hi)
{
    FILE *f = fopen(path, "wb");
    uint8_t *one = malloc(hi);
    uint32_t state = first * 2654435761u + 12345;
    size_t total = 0;
    if (f == NULL || one == NULL)
        abort();
    for (size_t i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u;
        uint32_t len = lo + (hi > lo ? (state >> 8) % (hi - lo + 1) : 0);
        record_put(one, first + (uint32_t)i, len);
        if (fwrite(one, 1, len, f) != len)
            abort();
        total += len;
    }
    free(one);
    if (fclose(f) != 0)
        abort();
    return total;
}

#endif
