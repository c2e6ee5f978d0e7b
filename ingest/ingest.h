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

/* A file that is read, as the results name it. Lives as long as the worklist. */
struct qm_source {
    const char *name;          /* as given or found, NUL-terminated raw bytes; "-" for standard input */
    bool bounded;              /* a regular file: has an end and a size limit. False: standard input, a FIFO given by name */
    uint64_t user[8];          /* zeroed; for whoever holds a piece of this source (of a window: until it is settled) */
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
