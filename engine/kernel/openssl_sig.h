/* Between openssl_rsa.c and openssl_ecdsa.c, which are one kernel, qm_sig_openssl. The parts hold
 * what BN and EC want prepared; they lie in the kernel's scratch and point to OpenSSL's own
 * objects, made in init and freed in close. */
#ifndef QM_OPENSSL_SIG_H
#define QM_OPENSSL_SIG_H

#include <openssl/bn.h>
#include <openssl/ec.h>

#include "engine/kernel/kernel.h"

enum { QM_OPENSSL_BATCH = 32 }; /* ECDSA signatures that share an inversion */

struct qm_openssl_curve {
    EC_GROUP *group;
    EC_POINT *public_key;
    EC_POINT *point;
    BIGNUM *order; /* a copy of the group's */
};

struct qm_openssl_ecdsa {
    struct qm_openssl_curve p256;
    struct qm_openssl_curve p384;
    BN_CTX *ctx;
    BIGNUM *r, *e, *inverse, *u1, *u2, *x, *y, *one;
    BIGNUM *s[QM_OPENSSL_BATCH];
    BIGNUM *prefix[QM_OPENSSL_BATCH];
};

/* False: OpenSSL has no memory or lacks a curve. Close it in either case. */
bool qm_openssl_ecdsa_init(struct qm_openssl_ecdsa *part);
void qm_openssl_ecdsa_close(struct qm_openssl_ecdsa *part);
/* As verify of struct qm_sig_kernel: jobs of one curve. */
void qm_openssl_ecdsa_verify(struct qm_openssl_ecdsa *part, struct qm_sig_job *const *jobs,
                             size_t count);

#endif
