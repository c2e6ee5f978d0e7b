/* The inner routines of the eight-lane RSA kernels, opened for their test: numbers go in and out as
 * [digit][lane] or [limb][lane]. */
#ifndef QM_TEST_RSA_OPEN_H
#define QM_TEST_RSA_OPEN_H

#include "engine/kernel/kernel.h"

enum { RSA_OPEN_LANES = 8, RSA_OPEN_DIGITS_MAX = 81, RSA_OPEN_LIMBS_MAX = 64 };
typedef uint64_t rsa_open_row[RSA_OPEN_LANES];

/* A kernel. Routines that only one of them has are NULL in the other. */
struct rsa_open {
    const struct qm_sig_kernel *kernel;
    unsigned radix;    /* bits of a digit */
    unsigned top_bits; /* of the top digit of the largest factor to try: beyond what the kernel lets them grow to */
    unsigned (*digits)(enum qm_sig_class sig_class);
    /* out = sig^e mod n of eight jobs. Returns the lanes with sig < n. */
    unsigned (*power)(enum qm_sig_class sig_class, struct qm_sig_job *const *jobs, rsa_open_row *out);
    /* n stays for reduce and the small steps; n0inv as in a key. */
    void (*modulus)(enum qm_sig_class sig_class, const rsa_open_row *n, const uint64_t *n0inv);
    /* -n^-1 mod B^digits, which modulus made. */
    void (*inverse)(unsigned len, rsa_open_row *minus_inv);
    /* Columns of a^2 or a y, signed. */
    void (*square)(enum qm_sig_class sig_class, const rsa_open_row *a, rsa_open_row *columns);
    void (*multiply)(enum qm_sig_class sig_class, const rsa_open_row *a, const rsa_open_row *y, rsa_open_row *columns);
    /* What the last of those left, reduced. */
    void (*reduce)(enum qm_sig_class sig_class, rsa_open_row *out);
    /* What that went through: the digits of t mod B^len and the q that it took from them. */
    void (*quotient)(unsigned len, rsa_open_row *low, rsa_open_row *q);
    /* The small steps, as the kernel tells them. */
    void (*unpack)(const uint8_t *const p[RSA_OPEN_LANES], size_t bytes, bool big_endian, unsigned len, rsa_open_row *digits);
    void (*pack)(const rsa_open_row *digits, unsigned len, unsigned count, rsa_open_row *limbs);
    void (*shift_up)(const rsa_open_row *a, unsigned len, unsigned by, rsa_open_row *out);
    void (*halve)(const rsa_open_row *a, unsigned len, unsigned by, rsa_open_row *out);
    unsigned (*below)(const rsa_open_row *a, unsigned len); /* lanes where a < n */
    void (*settle)(const rsa_open_row *a, unsigned len, rsa_open_row *out);
};
extern const struct rsa_open rsa_open_ifma512;
extern const struct rsa_open rsa_open_ifma512_dual;

#endif
