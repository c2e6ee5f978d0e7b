/* Where evidence comes from: files, directories, lists of names, standard input -> filled buffers. Knows nothing of quotes.
 *
 *   worklist   what there is to read; made by the main thread before the workers start, then shared and only taken from
 *   reader     one worker's way of reading it: io_uring or plain reads behind one interface, its own buffers
 *
 * Files of up to a mebibyte come many to a batch, each a piece of its own, read whole. Longer files, FIFOs and standard
 * input are streams: read in windows, shared by the workers that have nothing else to do. A record may straddle two
 * windows, so whoever gets a window says how much of it was whole records (qm_reader_settle); the rest comes again in
 * front of the next window.
 *
 * Every file that could be opened comes as exactly one piece with last set, the empty file too, unless a stream was
 * ended by its taker or the run was stopped. A file that could not be opened has no piece.
 *
 * Failures to open or read never stop the rest: they are counted, and said by the report function of the worklist. */
#ifndef QM_INGEST_H
#define QM_INGEST_H

#include "codec/base.h"
#include "codec/error.h"

struct qm_worklist;
struct qm_reader;

enum qm_source_state {
    QM_SOURCE_UNREAD, /* not opened, or not read to its end: the run was stopped */
    QM_SOURCE_READ,   /* all of it was delivered, or its taker ended it, or it is over QM_FILE_MAX */
    QM_SOURCE_FAILED, /* could not be opened or read (reported and counted) */
};

/* A file that is read, as the results name it. Lives as long as the worklist. */
struct qm_source {
    const char *name;          /* as given or found, NUL-terminated raw bytes; "-" for standard input */
    bool bounded;              /* a regular file: has an end and a size limit. False: standard input, a FIFO given by name */
    uint8_t state;             /* enum qm_source_state; for whoever looks when the readers are closed */
    uint64_t read_bytes;       /* with QM_SOURCE_READ: up to where it was read; ended by its taker: its size when it was opened */
    uint64_t user[9];          /* zeroed; for whoever holds a piece of this source (of a window: until it is settled) */
};

struct qm_piece {
    struct qm_source *source;
    const uint8_t *bytes;
    size_t len;
    uint64_t off; /* of bytes[0] in the source */
    bool last;    /* nothing follows in this source */
    bool broken;  /* with last: it ends here because of an I/O failure (reported and counted), so that an incomplete
                   * record at the end says nothing about the evidence. len may be 0 */
    bool too_big; /* a file over QM_FILE_MAX: bytes is empty, off 0, file_bytes its size */
    uint64_t file_bytes; /* size of the source where known, else 0 */
};

struct qm_batch {
    struct qm_piece *piece; /* the reader's; valid until the next qm_reader_next */
    size_t piece_count;
    bool window; /* one piece, of a stream: must be settled before anything else is asked of the reader */
};

/* Called from any thread, one line at a time, for a file that could not be opened or read, or shrank while it was read. */
typedef void (*qm_ingest_report)(void *ctx, const char *name, int sys, const char *what);

/* report must be thread-safe; it may be NULL (failures are counted all the same). */
qm_err qm_worklist_open(struct qm_worklist **out, qm_ingest_report report, void *ctx, struct qm_fault *fault) QM_MUST_USE;
/* An operand of the command line: a directory (its *.mpk, recursively; symbolic links, FIFOs and devices inside are not
 * followed and not read), a file, a FIFO; "-" is standard input. What cannot be opened is reported and counted. The
 * same file given twice is read twice; standard input can be given once, as operand or as list (else QM_E_USAGE). */
qm_err qm_worklist_add(struct qm_worklist *w, const char *path, struct qm_fault *fault) QM_MUST_USE;
/* NUL-separated names from the file list ("-": standard input). The names may come from others: their last part is not followed
 * if it is a symbolic link, and only regular files are read. */
qm_err qm_worklist_add_files0(struct qm_worklist *w, const char *list, struct qm_fault *fault) QM_MUST_USE;
/* For a caller that finds its files itself, in an order of its own. A root is a directory (the descriptor is taken over); a file
 * lies below it at name + rel, so that the name shown may have more in front; name must outlive the list. Regular files only, no
 * symbolic link on the way. *idx is what qm_worklist_source takes. */
qm_err qm_worklist_add_root(struct qm_worklist *w, int dir_fd, uint32_t *root, struct qm_fault *fault) QM_MUST_USE;
qm_err qm_worklist_add_at(struct qm_worklist *w, uint32_t root, const char *name, size_t rel, size_t *idx,
                          struct qm_fault *fault) QM_MUST_USE;
/* Called by a reader before it opens files, some at once, maybe twice for a file, from any thread. may[i] is true; made false,
 * source[i] is not to be read, and stays without a word. */
typedef void (*qm_ingest_before)(void *ctx, const struct qm_source *const *source, bool *may, size_t count);
void qm_worklist_before_open(struct qm_worklist *w, qm_ingest_before before, void *ctx);
/* The pointer is good once the last file was added. */
const struct qm_source *qm_worklist_source(const struct qm_worklist *w, size_t idx);
/* Before the first reader is opened: long files take their turn between the short ones instead of coming after all of them, and
 * when the run is stopped the begun ones are read to their end, so that every file was read whole or not at all. */
void qm_worklist_in_turn(struct qm_worklist *w);
uint64_t qm_worklist_files(const struct qm_worklist *w); /* found so far */
uint64_t qm_worklist_errors(const struct qm_worklist *w); /* reported so far */
uint64_t qm_worklist_others(const struct qm_worklist *w); /* names in directories that are no *.mpk file: not read */
uint64_t qm_worklist_done_files(const struct qm_worklist *w); /* read to their end, or given up, so far */
/* The share of the files that is read, 0 to 1, the begun ones by their bytes; 0 where that cannot be known. For a progress line. */
double qm_worklist_share(const struct qm_worklist *w);
size_t qm_worklist_bytes(const struct qm_worklist *w); /* memory held */
void qm_worklist_close(struct qm_worklist *w);

enum qm_io { QM_IO_AUTO, QM_IO_URING, QM_IO_READ };

/* Can this kernel give us a ring with all that the ring reader needs? reason (may be NULL) gets why not. */
bool qm_uring_probe(char *reason, size_t cap);

/* A reader for one worker. io is URING or READ (AUTO is decided once, by the caller, with qm_uring_probe). All memory is taken
 * here. All readers of one worklist are opened after its last operand was added and before any of them is used. */
qm_err qm_reader_open(struct qm_reader **out, struct qm_worklist *w, enum qm_io io, struct qm_fault *fault) QM_MUST_USE;
/* Next batch; piece_count 0 when there is nothing left for this worker. Blocks. A true *stop (polled between batches, and
 * ten times a second while it waits for a silent stream; may be NULL) ends as if nothing were left. QM_E_IO only when
 * the ring itself breaks. */
qm_err qm_reader_next(struct qm_reader *r, struct qm_batch *out, const _Atomic bool *stop, struct qm_fault *fault) QM_MUST_USE;
/* Of the window that came last, the first used bytes were whole records (record_count of them, for the size of the next
 * window); the rest comes again. With used 0 the next window is longer, until it holds more than QM_RECORD_MAX bytes;
 * then something must be used. ended: read no more of this source (its records cannot be told apart any further). The
 * bytes stay valid until the next qm_reader_next, so settle first and verify then: others wait for the settlement. */
void qm_reader_settle(struct qm_reader *r, size_t used, size_t record_count, bool ended);
size_t qm_reader_bytes(const struct qm_reader *r); /* memory held, address space that may be touched */
uint64_t qm_reader_read_bytes(const struct qm_reader *r); /* bytes read so far */
void qm_reader_close(struct qm_reader *r);

#endif
