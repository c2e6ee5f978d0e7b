/* Shared by the files that talk to the TPM. */
#ifndef QM_TPM_INSIDE_H
#define QM_TPM_INSIDE_H

#include <tss2/tss2_esys.h>
#include <tss2/tss2_mu.h>

#include "tools/collect/tpm_link.h"

ESYS_CONTEXT *tpm_esys(struct qm_tpm *t);
/* Before a call of ESYS: what is asked of the TPM ("TPM2_Quote"), static text, and when. */
ESYS_CONTEXT *tpm_ask(struct qm_tpm *t, const char *what);
/* After it: QM_OK, or the fault in words, with what to do where that is known. */
qm_err tpm_answer(struct qm_tpm *t, TSS2_RC rc, struct qm_fault *fault) QM_MUST_USE;
/* After it, where a failure is expected or does not matter: what the TPM said. */
TSS2_RC tpm_answered(struct qm_tpm *t);
void tpm_over(struct qm_tpm *t);
ESYS_TR tpm_hierarchy(enum qm_hierarchy h);
/* In a call of ESYS: what proves the password of that hierarchy, or that it has none. */
ESYS_TR tpm_authority(struct qm_tpm *t, enum qm_hierarchy h);
/* The code without the number of the handle, parameter or session that it is about; 0 for what a lower layer said. */
TSS2_RC tpm_code(TSS2_RC rc);

/* Nothing where *object is ESYS_TR_NONE; sets it so. An error is of no use to anybody: what stays is taken back by the resource
 * manager. */
void tpm_flush(struct qm_tpm *t, ESYS_TR *object);

#endif
