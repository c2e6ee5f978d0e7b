#include "ingest/reader.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum {
    SLOTS_BYTES = 2 * QM_BATCH_FILES * QM_SLOT_BYTES,
    WINDOW_BYTES = QM_WINDOW_CAP + QM_WINDOW_SPARE,
};

static void *map_buffer(size_t len)
{
    void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

qm_err qm_reader_open(struct qm_reader **out, struct qm_worklist *w, enum qm_io io,
                      struct qm_fault *fault)
{
    struct qm_reader *r = calloc(1, sizeof *r);
    if (r == NULL)
        return qm_fail(fault, QM_E_NOMEM, 0, "no memory for a reader");
    r->w = w;
    r->slots = map_buffer(SLOTS_BYTES);
    r->window = map_buffer(WINDOW_BYTES);
    qm_err err = QM_OK;
    if (r->slots == NULL || r->window == NULL)
        err = qm_fail(fault, QM_E_NOMEM, 0, "no memory for a reader's buffers");
    if (err == QM_OK && io == QM_IO_URING)
        err = qm_ring_open(&r->ring, fault);
    if (err == QM_OK)
        err = qm_worklist_new_stream(w, fault);
    if (err != QM_OK) {
        qm_reader_close(r);
        return err;
    }
    for (size_t i = 0; i < 2 * QM_BATCH_FILES; i++)
        r->flight[i / QM_BATCH_FILES].slot[i % QM_BATCH_FILES].bytes = r->slots + i * QM_SLOT_BYTES;
    *out = r;
    return QM_OK;
}

size_t qm_reader_bytes(const struct qm_reader *r)
{
    return sizeof *r + SLOTS_BYTES + WINDOW_BYTES + (r->ring != NULL ? qm_ring_bytes(r->ring) : 0);
}

uint64_t qm_reader_read_bytes(const struct qm_reader *r)
{
    return atomic_load_explicit(&r->read_bytes, memory_order_relaxed);
}

/* n entries taken from the list turned out to be something or nothing. */
static void resolve(struct qm_worklist *w, size_t n)
{
    pthread_mutex_lock(&w->lock);
    w->pending -= (uint32_t)n;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

void qm_reader_close(struct qm_reader *r)
{
    if (r == NULL)
        return;
    if (r->held != NULL)
        qm_reader_settle(r, r->held_len, 0, true);
    bool landed = r->ring == NULL || qm_ring_close(r->ring);
    for (size_t i = 0; i < 2; i++)
        if (r->flight[i].count != 0)
            resolve(r->w, r->flight[i].count); /* stopped: not read, and nobody need wait for it */
    if (r->slots != NULL && landed)
        munmap(r->slots, SLOTS_BYTES);
    if (r->window != NULL)
        munmap(r->window, WINDOW_BYTES);
    free(r);
}

/* ---- small files ---- */

/* Takes a range of the list for a free flight and reads it, or puts it into the air.
 *
 * A ring gains nothing on a hot cache and a lot on a cold one, so a file is first tried with system
 * calls that do not wait for a disk, until a few of a flight had to wait; then everything goes
 * through the ring until a flight has landed as soon as it took off. 30,000 files of 4 to 40 KiB,
 * bench_read, best of 5: hot, one worker 118 k files/s with the ring and 117 k without, one thread
 * that opens, reads and closes 149 k; cold 34 k with the ring, 9.4 k without, that thread 9.5 k;
 * cold with two workers 36 k and 15 k. */
static qm_err flight_load(struct qm_reader *r, unsigned which, struct qm_fault *fault)
{
    struct qm_flight *f = &r->flight[which];
    struct qm_worklist *w = r->w;
    size_t first, cold = 0;
    bool ring = r->ring != NULL && qm_ring_useful(r->ring);
    const struct qm_entry *small[QM_BATCH_FILES];
    bool may[QM_BATCH_FILES];
    size_t smalls = 0, asked = 0;
    f->count = qm_worklist_take(w, QM_BATCH_FILES, &first);
    for (size_t i = 0; i < f->count; i++) {
        f->slot[i].entry = &w->entry[first + i];
        if (!f->slot[i].entry->large)
            small[smalls++] = f->slot[i].entry;
    }
    qm_entries_may_read(w, small, may, smalls);
    for (size_t i = 0; i < f->count; i++) {
        struct qm_slot *slot = &f->slot[i];
        if (slot->entry->large)
            slot->got = QM_FETCH_QUEUE;
        else if (!may[asked++])
            slot->got = QM_FETCH_FAILED;
        else if (ring && (r->cold || cold > QM_BATCH_FILES / 4))
            slot->got = QM_FETCH_COLD;
        else
            slot->got = qm_fetch_small(w, slot->entry, ring, slot->bytes, &slot->len);
        cold += slot->got == QM_FETCH_COLD;
    }
    if (cold == 0)
        return QM_OK;
    qm_err err = qm_ring_start(r->ring, w, f, which, fault);
    /* What has landed before anyone waited was in the cache, and there plain reads are faster. */
    r->cold = !qm_ring_landed(r->ring, which);
    return err;
}

/* The pieces of a flight that has landed; the rest of it goes into the queue or was reported. */
static size_t flight_deliver(struct qm_reader *r, struct qm_flight *f)
{
    struct qm_worklist *w = r->w;
    size_t pieces = 0;
    uint64_t bytes = 0;
    for (size_t i = 0; i < f->count; i++) {
        const struct qm_slot *slot = &f->slot[i];
        if (slot->got == QM_FETCH_FAILED)
            slot->entry->source.state = QM_SOURCE_FAILED;
        if (slot->got != QM_FETCH_WHOLE)
            continue;
        qm_source_read(&slot->entry->source, slot->len);
        f->piece[pieces++] = (struct qm_piece){
            .source = &slot->entry->source,
            .bytes = slot->bytes,
            .len = slot->len,
            .last = true,
            .file_bytes = slot->len,
        };
        bytes += slot->len;
    }
    atomic_fetch_add_explicit(&r->read_bytes, bytes, memory_order_relaxed);
    size_t queued = 0;
    pthread_mutex_lock(&w->lock);
    for (size_t i = 0; i < f->count; i++)
        if (f->slot[i].got == QM_FETCH_QUEUE) {
            qm_queue_push(w, f->slot[i].entry);
            queued++;
        }
    w->pending -= (uint32_t)f->count;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    qm_file_done(w, f->count - queued);
    f->count = 0;
    return pieces;
}

/* True when a flight was delivered, even if nothing in it was a piece. */
static qm_err next_flight(struct qm_reader *r, struct qm_batch *out, bool *any,
                          struct qm_fault *fault)
{
    struct qm_flight *f = &r->flight[r->turn];
    qm_err err = QM_OK;
    if (f->count == 0)
        err = flight_load(r, r->turn, fault);
    *any = f->count != 0;
    if (err != QM_OK || f->count == 0)
        return err;
    if (r->ring != NULL) {
        /* Cold: the next flight takes off before this one is waited for, and is in the air while
         * the caller works. */
        if (r->cold && qm_ring_useful(r->ring))
            err = flight_load(r, !r->turn, fault);
        if (err == QM_OK)
            err = qm_ring_finish(r->ring, r->w, f, r->turn, fault);
        if (err != QM_OK)
            return err;
    }
    *out = (struct qm_batch){.piece = f->piece, .piece_count = flight_deliver(r, f)};
    if (r->flight[!r->turn].count != 0)
        r->turn = !r->turn;
    return QM_OK;
}

/* ---- the queue: files that do not fit a slot ---- */

enum turn { TURN_NOTHING, TURN_AGAIN, TURN_WHOLE, TURN_STREAM };

/* One file of the queue into the window, behind *used bytes. False: it is a stream after all (fd
 * stays open). */
static bool read_whole(struct qm_reader *r, struct qm_entry *e, int fd, const struct stat *st,
                       size_t *used, struct qm_piece *piece)
{
    uint64_t size = (uint64_t)st->st_size;
    bool end = false;
    int sys = 0;
    *piece = (struct qm_piece){
        .source = &e->source, .bytes = r->window + *used, .last = true, .file_bytes = size};
    if (size > QM_FILE_MAX) {
        piece->too_big = true;
        qm_source_read(&e->source, size);
        return true;
    }
    if (size > QM_WHOLE_MAX)
        return false;
    piece->len = qm_read_full(fd, r->window + *used, (size_t)size + 1, 0, &end, &sys);
    if (!end && sys == 0)
        return false; /* it has grown */
    piece->broken = sys != 0 || piece->len < size;
    if (piece->broken)
        qm_worklist_fail(r->w, e->source.name, sys,
                         sys != 0 ? "cannot read on" : "shrank while it was read");
    if (piece->broken)
        e->source.state = QM_SOURCE_FAILED;
    else
        qm_source_read(&e->source, piece->len);
    *used += qm_align_up(piece->len, QM_CACHE_LINE);
    return true;
}

static struct qm_entry *pop(struct qm_worklist *w)
{
    pthread_mutex_lock(&w->lock);
    struct qm_entry *e = qm_queue_pop(w);
    if (e != NULL)
        w->pending++;
    pthread_mutex_unlock(&w->lock);
    return e;
}

/* The entry is for a later turn, or for another worker. */
static void put_back(struct qm_worklist *w, struct qm_entry *e)
{
    pthread_mutex_lock(&w->lock);
    qm_queue_push_front(w, e);
    w->pending--;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

/* Opens e as a stream, held by us. There is always a free one: each of the other readers holds at
 * most one, and there are as many as readers. */
static void begin_stream(struct qm_worklist *w, struct qm_entry *e, int fd, const struct stat *st,
                         struct qm_stream **held)
{
    struct qm_stream *s = NULL;
    pthread_mutex_lock(&w->lock);
    for (size_t i = 0; i < w->stream_count && s == NULL; i++)
        if (!w->stream[i]->open)
            s = w->stream[i];
    assert(s != NULL);
    s->open = s->busy = true;
    w->pending--;
    pthread_mutex_unlock(&w->lock);
    qm_stream_begin(w, s, e, fd, st);
    *held = s;
}

/* Takes files from the queue: whole ones as long as they fit, or one that becomes a stream. */
static enum turn next_queued(struct qm_reader *r, struct qm_batch *out, struct qm_stream **held)
{
    struct qm_worklist *w = r->w;
    size_t pieces = 0, used = 0;
    bool any = false;
    while (pieces < QM_BATCH_FILES && used < QM_WHOLE_MAX) {
        struct qm_entry *e = pop(w);
        if (e == NULL)
            break;
        any = true;
        if (e->large && pieces != 0) {
            put_back(w, e);
            break;
        }
        struct stat st = {0};
        int fd = e->kind == QM_ENTRY_STDIN ? STDIN_FILENO : qm_entry_open(w, e, &st);
        if (fd < 0) {
            e->source.state = QM_SOURCE_FAILED;
            resolve(w, 1);
            qm_file_done(w, 1);
            continue;
        }
        bool fits = !e->large && (pieces == 0 || used + (uint64_t)st.st_size <= QM_WHOLE_MAX);
        if (fits && read_whole(r, e, fd, &st, &used, &r->piece[pieces])) {
            pieces++;
            close(fd);
            resolve(w, 1);
            qm_file_done(w, 1);
        } else if (pieces == 0) {
            begin_stream(w, e, fd, &st, held);
            return TURN_STREAM;
        } else {
            e->large = st.st_size > QM_WHOLE_MAX;
            close(fd);
            put_back(w, e);
            break;
        }
    }
    uint64_t bytes = 0;
    for (size_t i = 0; i < pieces; i++)
        bytes += r->piece[i].len;
    atomic_fetch_add_explicit(&r->read_bytes, bytes, memory_order_relaxed);
    *out = (struct qm_batch){.piece = r->piece, .piece_count = pieces};
    return pieces != 0 ? TURN_WHOLE : any ? TURN_AGAIN : TURN_NOTHING;
}

/* An open stream that nobody holds, now held by us; else NULL. */
static struct qm_stream *idle_stream(struct qm_worklist *w)
{
    struct qm_stream *s = NULL;
    pthread_mutex_lock(&w->lock);
    for (size_t i = 0; i < w->stream_count && s == NULL; i++)
        if (w->stream[i]->open && !w->stream[i]->busy)
            s = w->stream[i];
    if (s != NULL)
        s->busy = true;
    pthread_mutex_unlock(&w->lock);
    return s;
}

/* Waits for work that others may still turn up. False: there will be none. */
static bool wait_for_others(struct qm_worklist *w)
{
    bool hope = false;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += QM_WAIT_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    pthread_mutex_lock(&w->lock);
    bool now = w->queue_head != QM_NO_ENTRY;
    hope = now || w->pending != 0;
    for (size_t i = 0; i < w->stream_count; i++) {
        hope |= w->stream[i]->open;
        now |= w->stream[i]->open && !w->stream[i]->busy;
    }
    if (hope && !now)
        (void)pthread_cond_timedwait(&w->changed, &w->lock, &until);
    pthread_mutex_unlock(&w->lock);
    return hope;
}

/* ---- what comes next ---- */

static void let_go(struct qm_worklist *w, struct qm_stream *s)
{
    pthread_mutex_lock(&w->lock);
    s->busy = false;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

/* A window of an open stream, or files of the queue, or (begun) a window of a stream that is open only. */
static enum turn next_long(struct qm_reader *r, struct qm_batch *out, bool begun, const _Atomic bool *stop)
{
    struct qm_worklist *w = r->w;
    struct qm_stream *s = idle_stream(w);
    enum turn turn = s != NULL ? TURN_STREAM : begun ? TURN_NOTHING : next_queued(r, out, &s);
    if (turn != TURN_STREAM)
        return turn;
    if (!qm_stream_window(r, s, stop)) {
        let_go(w, s);
        return TURN_AGAIN;
    }
    *out = (struct qm_batch){.piece = r->piece, .piece_count = 1, .window = true};
    return TURN_STREAM;
}

qm_err qm_reader_next(struct qm_reader *r, struct qm_batch *out, const _Atomic bool *stop,
                      struct qm_fault *fault)
{
    struct qm_worklist *w = r->w;
    assert(r->held == NULL);
    *out = (struct qm_batch){0};
    while (!qm_stopped(stop)) {
        if (r->long_next) {
            r->long_next = false;
            (void)next_long(r, out, false, stop);
            if (out->piece_count != 0)
                return QM_OK;
        }
        bool any;
        qm_err err = next_flight(r, out, &any, fault);
        r->long_next = any && w->in_turn;
        if (err != QM_OK || out->piece_count != 0)
            return err;
        if (any)
            continue;
        enum turn turn = next_long(r, out, false, stop);
        if (out->piece_count != 0)
            return QM_OK;
        if (turn == TURN_NOTHING && !wait_for_others(w))
            break;
    }
    /* Stopped: whoever gave a window of a begun file back takes the next one, so all of them come to their end. */
    while (qm_stopped(stop) && w->in_turn && next_long(r, out, true, stop) == TURN_AGAIN)
        ;
    return QM_OK;
}
