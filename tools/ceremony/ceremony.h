/* The enrolment ceremony (the modes of enroll beside plain files): proposals in and challenges out, answers in, what waits for a person,
 * and keys by their certificates. */
#ifndef QM_CEREMONY_H
#define QM_CEREMONY_H

#include "tools/ceremony/ceremony_read.h"
#include "tools/options.h"
#include "tools/store/store_ceremony.h"

enum qm_ceremony_mode { QM_CEREMONY_NONE, QM_CEREMONY_CHALLENGE, QM_CEREMONY_ANSWER, QM_CEREMONY_CONFIRM, QM_CEREMONY_REJECT, QM_CEREMONY_PENDING,
                        QM_CEREMONY_AK_CERT };

enum { QM_CEREMONY_LIST_MAX = 64 /* values of one option */ };

/* As the command line has it. */
struct qm_ceremony_ask {
    enum qm_ceremony_mode mode;
    const char *home, *group, *defaults, *expect_ek, *ek, *reason;
    uint64_t expires_ms; /* 0: the usual */
    struct qm_option_list ca, crl, tags;
    bool json, replace_key, allow_weaker;
    char **operands;
    int operand_count;
};

/* Gives the exit code of the program. */
int qm_ceremony(const struct qm_ceremony_ask *ask);

/* ---- shared by the ceremony's files --------------------------------------------------------------------------------------- */

enum {
    QM_CEREMONY_BATCH = 256, /* lines in one transaction */
    QM_BATCH_ROOM = QM_CEREMONY_BATCH * 4096,
    QM_GATHER_ROOM = 4 * 1024 * 1024,
};

/* A line that was read, and waits for its transaction: no one is waited for while the store is locked. */
struct qm_gathered {
    const char *file;
    uint64_t number;
    size_t at, len; /* in the text of all of them */
};

struct qm_ceremony {
    const struct qm_ceremony_ask *ask;
    struct qm_store *store;
    struct qm_json *json;
    struct qm_trust *trust;           /* NULL: no CA was given */
    struct qm_expected_eks *expected; /* NULL: no list was given */
    struct qm_defaults *defaults;
    struct qm_enrolment *enrolment; /* of the line in hand */
    struct qm_proposal *proposal;
    char *text;            /* QM_GATHER_ROOM, of the lines gathered */
    size_t text_len;
    struct qm_gathered gathered[QM_CEREMONY_BATCH];
    unsigned gathered_count;
    char *merged;          /* QM_LINE_MAX, as it will be enrolled */
    struct qm_out out;     /* of QM_BATCH_ROOM: what is said once its transaction stands */
    bool committed;        /* something was */
    uint64_t lines, challenges, enrolled[QM_ENROLLED_COUNT], pending, rejected, refused; /* enrolled: by enum qm_enrolled */
};

/* Takes the enrolment in hand, proven so. */
qm_err qm_ceremony_enroll(struct qm_ceremony *c, struct qm_span line, const struct qm_proven *proven, struct qm_fault *fault) QM_MUST_USE;
/* The line that the defaults and a machine's own make, read into c->enrolment. QM_E_REFUSED. */
qm_err qm_ceremony_merge(struct qm_ceremony *c, struct qm_span id, struct qm_span ak, const char *scheme, struct qm_span *line,
                         struct qm_fault *fault) QM_MUST_USE;
/* What says that the EK is the id's. *bound NULL: nothing. QM_E_REFUSED: the list says that it is not. names: NULL: no certificate. */
qm_err qm_ceremony_bind(const struct qm_ceremony *c, struct qm_span id, const uint8_t ek[QM_EK_FINGERPRINT_SIZE],
                        const struct qm_cert_names *names, const char **bound, struct qm_fault *fault) QM_MUST_USE;
/* A line of a proposal, inside a transaction: its challenge into the store and, for standard output, into c->out. */
qm_err qm_ceremony_propose(struct qm_ceremony *c, const char *text, size_t len, struct qm_fault *fault) QM_MUST_USE;

#endif
