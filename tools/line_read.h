/* Files that people and machines hand in: NDJSON line by line, and small ones as a whole. */
#ifndef QM_LINE_READ_H
#define QM_LINE_READ_H

#include <stdio.h>

#include "codec/error.h"

enum { QM_LINE_MAX = 64 * 1024 };

/* Opens what somebody named, for reading. Whoever waits for it may wait for ever, so only what does not keep anybody waiting is taken: a regular
 * file (those of the kernel, which have size 0, are some), /dev/null, and a pipe without a name, as a shell makes for <(...). QM_E_IO, with
 * what it is where it is a FIFO, a socket, a device or a directory. */
qm_err qm_file_open(const char *name, int *fd, struct qm_fault *fault) QM_MUST_USE;

struct qm_lines {
    FILE *in;
    const char *name; /* the caller's */
    uint64_t number;  /* of the line that was read last, from 1 */
};
/* "-" is standard input; else as qm_file_open. */
qm_err qm_lines_open(struct qm_lines *l, const char *name, struct qm_fault *fault) QM_MUST_USE;
/* Is it something whose other end may let us wait: no regular file? */
bool qm_lines_wait(const char *name);
/* As open, with all of it read first, into a file in dir that has no name: whoever writes it slowly keeps nobody waiting any more. QM_E_IO;
 * QM_E_LIMIT: it has more than max bytes. */
qm_err qm_lines_open_read(struct qm_lines *l, const char *name, const char *dir, uint64_t max, struct qm_fault *fault) QM_MUST_USE;
/* The next line that is not blank, without its end, into to, which has QM_LINE_MAX + 1 bytes; *len over QM_LINE_MAX: the line is longer,
 * and what is over was dropped. False: there is none. */
bool qm_lines_next(struct qm_lines *l, char *to, size_t *len);
/* Closes; QM_E_IO where reading had failed. */
qm_err qm_lines_close(struct qm_lines *l, struct qm_fault *fault) QM_MUST_USE;
/* "quotemill COMMAND: FILE: line N: refused: WHY" on standard error, in one line whatever the file is called. */
void qm_lines_complain(const struct qm_lines *l, const char *command, const char *why);

/* A stream of it; "-" is standard input, which is left open by qm_stream_close. */
qm_err qm_stream_open(const char *name, FILE **in, struct qm_fault *fault) QM_MUST_USE;
void qm_stream_close(FILE *in); /* NULL: nothing */

/* All of a file ("-": standard input) in memory that the caller frees; *text is NULL after a failure. QM_E_IO; QM_E_NOMEM; QM_E_LIMIT:
 * longer than max. */
qm_err qm_file_read(const char *name, size_t max, char **text, size_t *len, struct qm_fault *fault) QM_MUST_USE;

#endif
