/* Lines of the enrolment ceremony that machines send, and what the operator gives beside them. Lines of machines are hostile: a
 * proposal is believed in nothing before its EK's certificate is checked, and afterwards in id, ak and scheme only. */
#ifndef QM_CEREMONY_READ_H
#define QM_CEREMONY_READ_H

#include "tools/ceremony/answer.h"
#include "tools/ceremony/cert_chain.h"
#include "tools/enrolment.h"

enum { QM_PUBLIC_MAX = 2048 /* bytes of a TPM2B_PUBLIC */, QM_SCHEME_NAME_MAX = 16 };

/* {"v":1,"kind":"proposal","id","ak","scheme","ek","ek_cert":[…]}; everything else in it is skipped. */
struct qm_proposal {
    uint8_t id[QM_ID_MAX];
    size_t id_len;
    uint8_t ak[QM_PUBLIC_MAX]; /* TPM2B_PUBLIC, and likewise ek; not looked into yet */
    size_t ak_len;
    char scheme[QM_SCHEME_NAME_MAX + 1]; /* "": none */
    uint8_t ek[QM_PUBLIC_MAX];
    size_t ek_len; /* 0: none */
    unsigned cert_count;
    struct qm_span cert[QM_CHAIN_MAX]; /* into cert_room, the EK's first */
    size_t cert_used;
    uint8_t cert_room[QM_CHAIN_MAX * QM_CERT_MAX];
};
/* QM_E_REFUSED with the reason. */
qm_err qm_proposal_read(struct qm_json *json, const char *line, size_t len, struct qm_proposal *out, struct qm_fault *fault) QM_MUST_USE;

/* {"v":1,"kind":"answer","challenge","id","proof"} */
struct qm_challenge_answer {
    uint8_t challenge[QM_CHALLENGE_SIZE];
    uint8_t id[QM_ID_MAX];
    size_t id_len;
    uint8_t proof[QM_PROOF_SIZE];
};
qm_err qm_challenge_answer_read(struct qm_json *json, const char *line, size_t len, struct qm_challenge_answer *out,
                                struct qm_fault *fault) QM_MUST_USE;

/* ---- the operator's ------------------------------------------------------------------------------------------------------ */

/* What the machines of this ceremony get: a group's line of defaults, tags over it. */
struct qm_defaults;
/* path NULL: no file, the contract's defaults. group NULL: the file's line without a group. tags: "k=v" each. QM_E_IO; QM_E_USAGE with
 * the reason. */
qm_err qm_defaults_open(struct qm_defaults **out, struct qm_json *json, const char *path, const char *group, const char *const *tags,
                        size_t tag_count, struct qm_fault *fault) QM_MUST_USE;
void qm_defaults_close(struct qm_defaults *d);
/* The line of enrolment that they and a machine's id, key (ak: base64 or PEM) and scheme ("": none) make, for qm_enrolment_read. */
void qm_defaults_merge(const struct qm_defaults *d, struct qm_span id, struct qm_span ak, const char *scheme, struct qm_out *line);

/* Whose EK is whose, as the operator knows it: lines "ID FINGERPRINT", where '#' begins a comment line. */
struct qm_expected_eks;
qm_err qm_expected_open(struct qm_expected_eks **out, const char *path, struct qm_fault *fault) QM_MUST_USE;
void qm_expected_close(struct qm_expected_eks *x);
enum qm_expected {
    QM_EXPECTED_UNKNOWN, /* neither the id nor the EK is listed */
    QM_EXPECTED_SAME,
    QM_EXPECTED_OTHER_EK, /* the id is listed with another EK */
    QM_EXPECTED_OTHER_ID, /* the EK is listed for another id */
};
enum qm_expected qm_expected_find(const struct qm_expected_eks *x, struct qm_span id, const uint8_t ek[QM_EK_FINGERPRINT_SIZE]);

#endif
