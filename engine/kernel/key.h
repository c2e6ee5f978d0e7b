/* Keys as the kernels want them: made once, at enrolment, from checked numbers; stored in fleet.db and in the table. */
#ifndef QM_KEY_H
#define QM_KEY_H

#include "engine/kernel/kernel.h"

enum { QM_KEY_BYTES_MAX = 4096 };

/* What identifies a public key, from any of its encodings. */
struct qm_public_numbers {
    bool rsa;
    enum qm_sig_class ec_class; /* QM_SIG_P256 or QM_SIG_P384 where !rsa */
    uint64_t exponent;
    struct qm_span a; /* RSA: modulus; EC: x. Big-endian, leading zeros allowed */
    struct qm_span b; /* EC: y */
};

/* Checks the numbers (RSA: 2048 to 4096 bits, odd, exponent odd and at least 65537; EC: coordinates below the field prime and
 * on the curve) and writes the prepared key to out, which has QM_KEY_BYTES_MAX bytes, 64-byte aligned. QM_E_REFUSED with the
 * reason in the fault. */
qm_err qm_key_make(const struct qm_public_numbers *in, struct qm_key *out, struct qm_fault *fault) QM_MUST_USE;

/* A key again from the numbers of one that was made and is sound, with the constants that the kernels read now. out as above, not in. */
qm_err qm_key_remake(const struct qm_key *in, struct qm_key *out, struct qm_fault *fault) QM_MUST_USE;

/* Does a stored key keep what the kernels rely on: class, sizes, odd modulus of the right length? For a table from disk. */
bool qm_key_sound(const struct qm_key *key, size_t bytes);

#endif
