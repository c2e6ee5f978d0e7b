/* The inside of the worklist, for the readers.
 *
 * Filled by one thread; from the first qm_reader_next on, entries and names stand still and the
 * rest is under the lock:
 *
 *   entries   [0 .. next)  taken by some reader        [next .. count)  free to take, in ranges
 *   queue     entries that do not fit a slot, singly linked through entry.next, in the order they
 * were met streams   one for each reader: what is open, and who (busy) holds its window pending
 * entries taken by readers that may still end up in the queue: while it is not 0, nobody goes home
 *
 * A stream's other fields belong to whoever made it busy. */
#ifndef QM_WORKLIST_H
#define QM_WORKLIST_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "ingest/ingest.h"

/* Measured with bench_read, two busy cores with 1 MiB of L2 each, the candidates one after the
 * other. Files of a batch, 30,000 files of 4 to 40 KiB, ring; cold, best of 5, one worker and two:
 * 8 17 and 21 k files/s, 16 29 and 30, 32 34 and 36, 64 31 and 37; hot, median CPU seconds of one
 * worker: 0.27, 0.29, 0.27, 0.30. Longest window, 640 MiB in files of 64 MiB, hot, least CPU
 * seconds of one worker in 7 runs: 128 KiB 0.075, 256 KiB 0.071, 512 KiB 0.062, 1 MiB 0.051 (12
 * GB/s; cold 2.0 GB/s, with two workers 2.5: the disk's limit). */
enum {
    QM_SLOT_BYTES = 64 * 1024, /* a file up to this long is read in one go */
    QM_BATCH_FILES = 32,       /* files of a batch */
    QM_TAKE_MIN = 8,           /* near the end of the list ranges are not made shorter than this */
    /* Longest file that is read whole, and bytes of a batch of such files. */
    QM_WHOLE_MAX = 1024 * 1024,
    QM_WINDOW_MIN = 64 * 1024,
    QM_WINDOW_START = 256 * 1024,                  /* before the first records are known */
    QM_WINDOW_MAX = 1024 * 1024,                   /* of a stream whose records fit */
    QM_WINDOW_RECORDS = 64,                        /* what a window aims at */
    QM_WINDOW_LANES = 8,                           /* and in multiples of so many, if it holds fewer */
    QM_WINDOW_CAP = QM_RECORD_MAX + QM_WINDOW_MAX, /* longest window: a record and then some */
    QM_WALK_DEPTH_MAX = 64,                        /* directories below an operand */
    QM_WAIT_MS = 100,                              /* how long nobody looks at *stop */
};
#define QM_NO_ENTRY UINT32_MAX

enum qm_entry_kind {
    QM_ENTRY_BENEATH, /* found in a directory operand */
    QM_ENTRY_LISTED,  /* from a list of names */
    QM_ENTRY_NAMED,   /* a regular file named by the user, links followed */
    QM_ENTRY_FIFO,    /* a FIFO named by the user */
    QM_ENTRY_STDIN,
};

struct qm_entry {
    struct qm_source source; /* first: what the caller sees */
    uint32_t root;           /* BENEATH: index of the operand's descriptor */
    uint32_t rel;            /* BENEATH: where in the name the path below the operand begins */
    uint32_t next;           /* in the queue */
    uint8_t kind;
    bool large; /* known to be longer than QM_WHOLE_MAX, or without end */
};

struct qm_stream {
    bool open, busy; /* under the worklist's lock; the rest by whoever set busy */
    struct qm_entry *entry;
    int fd;
    bool regular;
    uint64_t off;   /* of carry[0] in the source */
    uint64_t size;  /* at open; 0 where not known */
    size_t target;  /* length of the next window */
    uint8_t *carry; /* QM_WINDOW_CAP bytes; what was not used comes again */
    size_t carry_len;
    bool starved;  /* nothing of the last window was used: the next one must be longer */
    bool at_end;   /* no more bytes will come; what is carried comes again until it is used */
    bool failed;   /* with at_end: because of an I/O failure */
};

struct qm_worklist {
    qm_ingest_report report;
    void *ctx;

    struct qm_entry *entry;
    size_t count, cap;
    struct qm_chunk *chunk; /* names */
    size_t name_bytes;
    int *root;
    size_t root_count, root_cap;
    uint8_t *scratch;  /* directory reading; lists */
    char *pending_dir; /* stack of the walk: directories not yet read, as "path\0depth" */
    size_t pending_dir_len, pending_dir_cap;
    bool stdin_used;
    bool in_turn; /* qm_worklist_in_turn */
    qm_ingest_before before; /* qm_worklist_before_open; NULL: none */
    void *before_ctx;

    _Atomic uint64_t error_count;
    uint64_t other_count;

    pthread_mutex_t lock;
    pthread_cond_t changed; /* the queue grew, a stream was settled, pending sank */
    size_t next;
    _Atomic uint64_t done; /* files whose last bytes were delivered, or that could not be read; for progress */
    /* Regular files that are read in windows now, for progress: how many, their sizes, and how far they are read. */
    _Atomic uint64_t open_files, open_size, open_read;
    uint32_t queue_head, queue_tail;
    uint32_t pending;
    struct qm_stream **stream;
    size_t stream_count, stream_cap;
};

/* Counts and reports a failure. */
void qm_worklist_fail(struct qm_worklist *w, const char *name, int sys, const char *what);
/* Takes up to max entries from the list; they count as pending until qm_worklist_resolve. 0: the
 * list is empty. */
size_t qm_worklist_take(struct qm_worklist *w, size_t max, size_t *first);
/* Under the lock: the queue. */
void qm_queue_push(struct qm_worklist *w, struct qm_entry *e);
void qm_queue_push_front(struct qm_worklist *w, struct qm_entry *e);
struct qm_entry *qm_queue_pop(struct qm_worklist *w);
/* A stream of its own for every reader. */
qm_err qm_worklist_new_stream(struct qm_worklist *w, struct qm_fault *fault) QM_MUST_USE;

#endif
