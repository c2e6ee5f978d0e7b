/* Opening and reading with ordinary system calls: the whole of the plain reader, and what the ring
 * reader does where a ring gains nothing (a hot cache, long files, whatever is odd). */
#ifndef QM_PLAIN_READER_H
#define QM_PLAIN_READER_H

#include <linux/openat2.h>
#include <sys/stat.h>

#include "ingest/worklist.h"

/* What became of an entry of the list, read into a slot. */
enum qm_fetch {
    QM_FETCH_WHOLE,  /* all of it, its end seen */
    QM_FETCH_COLD,   /* not in the page cache (asked for only by cached_only) */
    QM_FETCH_QUEUE,  /* does not fit, or must be looked at more closely: into the queue */
    QM_FETCH_FAILED, /* reported */
};

/* Below dir_fd, no symbolic link anywhere on the way. -1 with errno. */
int qm_open_beneath(int dir_fd, const char *path, int flags);
/* How an entry is opened, the same for the ring: descriptor and path to start from. */
void qm_entry_how(const struct qm_worklist *w, const struct qm_entry *e, int *dir_fd,
                  const char **path, struct open_how *how);
/* Asks whoever wants to be asked first, about up to QM_BATCH_FILES entries at once. For names from others: not (reported) when it
 * is no regular file now. */
void qm_entries_may_read(struct qm_worklist *w, const struct qm_entry *const *entry, bool *may, size_t count);

/* Reads a file of the list into slot (QM_SLOT_BYTES). cached_only: nothing that would wait for a
 * disk. */
enum qm_fetch qm_fetch_small(struct qm_worklist *w, struct qm_entry *e, bool cached_only,
                             uint8_t *slot, size_t *len);
/* The judgement that both readers share: an open that failed with sys. */
enum qm_fetch qm_fetch_open_failed(struct qm_worklist *w, const struct qm_entry *e, int sys);

/* Opens for the slow path: patient when descriptors are short, and what is no regular file (or no
 * FIFO, for a FIFO) is refused. -1 after a report. */
int qm_entry_open(struct qm_worklist *w, const struct qm_entry *e, struct stat *st);

/* Up to cap bytes from off, going on after interruptions; *end: the end was seen; *sys: errno of a
 * failure, else 0. */
size_t qm_read_full(int fd, uint8_t *to, size_t cap, uint64_t off, bool *end, int *sys);

/* True: reading fd would not block (it has data, an end or an error). timeout_ms -1: waits. */
bool qm_wait_readable(int fd, int timeout_ms);

#endif
