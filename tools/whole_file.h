/* Files that are whole or what they were before: written beside, synced, renamed. The name beside is FILE.tmp, so that what a killed
 * process left is taken over by the next one; whoever writes it holds a lock on it, and others wait. */
#ifndef QM_WHOLE_FILE_H
#define QM_WHOLE_FILE_H

#include <sys/stat.h>

#include "codec/error.h"

struct qm_whole_file {
    const char *path; /* the caller's */
    char tmp[4096 + 8];
    int fd; /* of tmp, empty at first; -1: none */
};
qm_err qm_whole_open(struct qm_whole_file *w, const char *path, mode_t mode, struct qm_fault *fault) QM_MUST_USE;
/* Syncs file and directory; then path is the new file. */
qm_err qm_whole_finish(struct qm_whole_file *w, struct qm_fault *fault) QM_MUST_USE;
/* Removes what was not finished. */
void qm_whole_close(struct qm_whole_file *w);

#endif
