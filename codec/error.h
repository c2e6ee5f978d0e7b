/* The one error type: what the environment or a caller did to us. Bad evidence is never an error (it is a verdict), and our
 * own bugs are assertions.
 *
 * A function that can fail returns qm_err and, where a person must be told more, fills a qm_fault given by the caller. */
#ifndef QM_ERROR_H
#define QM_ERROR_H

#include "codec/base.h"

typedef enum {
    QM_OK = 0,
    QM_E_USAGE,    /* the command line is wrong */
    QM_E_IO,       /* reading, writing, opening; errno kept in the fault */
    QM_E_NOMEM,    /* memory refused */
    QM_E_FORMAT,   /* a file of ours is damaged, truncated, of another version or foreign */
    QM_E_STORE,    /* SQLite said no */
    QM_E_CRYPTO,   /* the cryptographic library failed, not the signature */
    QM_E_SELFTEST, /* a kernel gives wrong answers */
    QM_E_UNFIT,    /* a forced kernel or reader cannot run here */
    QM_E_REFUSED,  /* input that is understood and not taken: an enrolment line, a home that is another's */
    QM_E_CLOSED,   /* the reader of our output went away (EPIPE) */
    QM_E_LIMIT,    /* more than a cap allows */
    QM_E_BUSY,     /* another holds what we need */
} qm_err;

struct qm_fault {
    qm_err err;
    int sys;        /* errno, or 0 */
    char text[480]; /* one line for a person; no newline; bytes of foreign origin escaped */
};

/* Exit codes of the program (contract, section 6). */
enum {
    QM_EXIT_OK = 0,
    QM_EXIT_FOUND = 1,
    QM_EXIT_USAGE = 2,
    QM_EXIT_ENVIRONMENT = 3,
    QM_EXIT_SELFTEST = 4,
    QM_EXIT_BUSY = 75,
};

/* A constant text for err, for example "input or output failed". */
const char *qm_err_text(qm_err err);
/* The exit code a command ends with when err stopped it. */
int qm_err_exit(qm_err err);
/* Fills fault (may be NULL) and returns err, so that a failure is one statement. sys 0: no errno text is added. */
qm_err qm_fail(struct qm_fault *fault, qm_err err, int sys, const char *format, ...) QM_PRINTF(4, 5);

#endif
