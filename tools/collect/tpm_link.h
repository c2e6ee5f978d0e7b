/* The way to the TPM: tpm2-tss' ESYS over whatever TCTI the loader finds, with an end to waiting.
 *
 * TCTIs wait in read() for as long as the TPM takes, and those of tpm2-tss 3 ignore a time-out that they are given. So all that
 * talks to the TPM is a job that runs in a thread of its own, while the caller's thread looks at the clock. A command that is
 * not answered in time is an error like any other for the caller; the thread is left where it waits, and the program ends soon.
 * A resource manager (/dev/tpmrm0) then takes back what the job had loaded. */
#ifndef QM_TPM_LINK_H
#define QM_TPM_LINK_H

#include "codec/error.h"

struct qm_tpm;

enum qm_hierarchy { QM_ENDORSEMENT, QM_OWNER, QM_HIERARCHY_COUNT };

/* The way to a TPM. The passwords count for hierarchies that have one; they are proved in an HMAC session, so none crosses the bus. Unsalted: who
 * records the bus can try passwords against it, so they are to be long. */
enum { QM_AUTH_MAX = 64 };
struct qm_tpm_way {
    const char *tcti; /* "device:/dev/tpmrm0", "swtpm:host=…,port=…", a library's name */
    unsigned timeout_s; /* for each command of the TPM */
    struct qm_tpm_auth {
        uint8_t p[QM_AUTH_MAX]; /* first: else gcc 12 takes a wipe of all for one of len, under sanitizers */
        size_t len; /* 0: none is known */
    } auth[QM_HIERARCHY_COUNT]; /* the caller's to wipe; what is made of them here is wiped here */
};

typedef qm_err (*qm_tpm_job)(struct qm_tpm *t, void *arg, struct qm_fault *fault);

struct qm_tpm_time {
    uint64_t tpm_us; /* waited for the TPM */
    unsigned commands;
};

/* Opens the way, runs job, closes. After a time-out the job may still be running: what arg and tcti point to must stay. spent may be NULL. */
qm_err qm_tpm_do(const struct qm_tpm_way *way, qm_tpm_job job, void *arg, struct qm_tpm_time *spent,
                 struct qm_fault *fault) QM_MUST_USE;
/* A job was left behind: the program must end by _exit. */
bool qm_tpm_abandoned(void);
/* The path of a TCTI that is a device file; NULL: it is none. */
const char *qm_tpm_device(const char *tcti);

#endif
