/* The inside of a reader.
 *
 *   small files    flight[2]: up to QM_BATCH_FILES slots each. One flight is with the caller while
 * the other is in the air (ring, cold cache); with a hot cache, or without a ring, the same one is
 * used again and again, so that it stays in the core's cache. the rest       window: several whole
 * files of the queue packed one behind the other, or one window of a stream. */
#ifndef QM_READER_H
#define QM_READER_H

#include "ingest/plain_reader.h"
#include "ingest/worklist.h"

struct qm_slot {
    struct qm_entry *entry;
    uint8_t *bytes; /* QM_SLOT_BYTES */
    size_t len;
    enum qm_fetch got;
};

struct qm_flight {
    struct qm_slot slot[QM_BATCH_FILES];
    size_t count; /* slots in use; 0: the flight is free */
    struct qm_piece piece[QM_BATCH_FILES];
};

struct qm_ring;

enum { QM_WINDOW_SPARE = 4096 };

struct qm_reader {
    struct qm_worklist *w;
    struct qm_ring *ring; /* NULL: plain reads */
    bool cold;            /* the last files had to wait for the disk */
    bool long_next;       /* in turn: a long file is due */
    struct qm_flight flight[2];
    unsigned turn; /* the flight that is delivered next */
    uint8_t *slots;
    uint8_t
        *window; /* QM_WINDOW_CAP + QM_WINDOW_SPARE, to see the end of a file that just fills it */
    struct qm_piece piece[QM_BATCH_FILES]; /* of the window */
    struct qm_stream *held;                /* the stream whose window is with the caller */
    size_t held_len;
    bool held_last;
    _Atomic uint64_t read_bytes;
};

/* ---- ring_reader.c ---- */
/* QM_E_UNFIT: this kernel, or what we are allowed here, has no ring for us. */
qm_err qm_ring_open(struct qm_ring **out, struct qm_fault *fault) QM_MUST_USE;
/* Puts slots of the flight (0 or 1) into the air: those with got == QM_FETCH_COLD. */
qm_err qm_ring_start(struct qm_ring *ring, struct qm_worklist *w, struct qm_flight *flight,
                     unsigned which, struct qm_fault *fault) QM_MUST_USE;
/* True: nothing of the flight is in the air. */
bool qm_ring_landed(struct qm_ring *ring, unsigned which);
/* Waits until the flight has landed and judges what it brought. */
qm_err qm_ring_finish(struct qm_ring *ring, struct qm_worklist *w, struct qm_flight *flight,
                      unsigned which, struct qm_fault *fault) QM_MUST_USE;
/* False: reading through the ring does not work on this file system. */
bool qm_ring_useful(const struct qm_ring *ring);
size_t qm_ring_bytes(const struct qm_ring *ring);
/* The memory of flights must stay when this says false: the kernel may still write to it. */
bool qm_ring_close(struct qm_ring *ring);

/* ---- stream.c ---- */
/* Begins to read e through s, which the caller holds (busy). Takes fd over. */
void qm_stream_begin(struct qm_worklist *w, struct qm_stream *s, struct qm_entry *e, int fd, const struct stat *st);
/* Fills the reader's window from s, which the caller holds. False: stopped while nothing came. */
bool qm_stream_window(struct qm_reader *r, struct qm_stream *s, const _Atomic bool *stop);

static inline void qm_source_read(struct qm_source *s, uint64_t read_bytes)
{
    s->state = QM_SOURCE_READ;
    s->read_bytes = read_bytes;
}

static inline void qm_file_done(struct qm_worklist *w, size_t n)
{
    atomic_fetch_add_explicit(&w->done, n, memory_order_relaxed);
}

static inline bool qm_stopped(const _Atomic bool *stop)
{
    return stop != NULL && atomic_load_explicit(stop, memory_order_relaxed);
}

#endif
