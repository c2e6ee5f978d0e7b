/* Who this machine is for the home that verifies it: its id, its attestation key and where that is, what it quotes; kept as one
 * JSON object in STATE/identity.json, and said to others in a proposal. */
#ifndef QM_IDENTITY_H
#define QM_IDENTITY_H

#include "tools/collect/tpm_ek.h"

enum { QM_TAGS_MAX = 32, QM_TAG_BYTES_MAX = 256, QM_PATH_MAX = 4096 };
#define QM_PCRS_DEFAULT 0x3ffu /* 0 to 9 */

struct qm_identity {
    size_t id_len;
    uint8_t id[QM_ID_MAX];
    enum qm_hierarchy hierarchy;
    uint32_t handle;         /* persistent; 0: the key is in file */
    char file[QM_PATH_MAX];  /* absolute */
    bool made;               /* by this program: it may be given up for another */
    struct qm_blob ak;       /* TPM2B_PUBLIC */
    struct qm_blob template; /* of a primary key; len 0: not known */
    uint32_t former_handle;  /* of a key of ours that this one replaced, and that has yet to be given up; 0: none */
    struct qm_blob former;   /* that key */
    uint32_t pcrs;           /* of the SHA-256 bank */
    size_t tag_count;
    struct {
        char key[QM_TAG_BYTES_MAX], value[QM_TAG_BYTES_MAX];
    } tag[QM_TAGS_MAX];
    struct qm_tpm_ek ek;
};

/* *there false, and QM_OK: there is none in dir. */
qm_err qm_identity_read(struct qm_identity *i, const char *dir, bool *there, struct qm_fault *fault) QM_MUST_USE;
qm_err qm_identity_write(const struct qm_identity *i, const char *dir, struct qm_fault *fault) QM_MUST_USE;
/* One line to standard output, which is left to be closed. */
qm_err qm_proposal_print(const struct qm_identity *i, struct qm_fault *fault) QM_MUST_USE;

/* Opens the key. QM_E_REFUSED: it is gone, or another one has its handle. */
qm_err qm_identity_key(struct qm_tpm *t, const struct qm_identity *i, struct qm_tpm_key *out,
                       struct qm_fault *fault) QM_MUST_USE;

/* "0-4,7": false if it is no such list, or empty. */
bool qm_pcrs_read(const char *text, uint32_t *mask);
/* Where an id may come from. */
qm_err qm_id_machine(uint8_t id[QM_ID_MAX], size_t *len, struct qm_fault *fault) QM_MUST_USE; /* /etc/machine-id */
qm_err qm_id_smbios(uint8_t id[QM_ID_MAX], size_t *len, struct qm_fault *fault) QM_MUST_USE; /* the system's UUID, lower case */

#endif
