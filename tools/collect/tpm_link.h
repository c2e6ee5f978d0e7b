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

typedef qm_err (*qm_tpm_job)(struct qm_tpm *t, void *arg, struct qm_fault *fault);

struct qm_tpm_time {
    uint64_t tpm_us; /* waited for the TPM */
    unsigned commands;
};

/* Opens tcti ("device:/dev/tpmrm0", "swtpm:host=…,port=…", a library's name), runs job, closes. timeout_s is for each command
 * of the TPM. After a time-out the job may still be running: what arg points to must stay. spent may be NULL. */
qm_err qm_tpm_do(const char *tcti, unsigned timeout_s, qm_tpm_job job, void *arg, struct qm_tpm_time *spent,
                 struct qm_fault *fault) QM_MUST_USE;
/* A job was left behind: the program must end by _exit. */
bool qm_tpm_abandoned(void);
/* The path of a TCTI that is a device file; NULL: it is none. */
const char *qm_tpm_device(const char *tcti);

#endif
