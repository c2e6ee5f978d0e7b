/* The inner routines of the eight-lane RSA kernel, opened for its test: numbers go in and out as
 * [digit][lane] or [limb][lane]. */
#ifndef QM_TEST_RSA_OPEN_H
#define QM_TEST_RSA_OPEN_H

#include "engine/kernel/kernel.h"

enum { RSA_OPEN_LANES = 8, RSA_OPEN_RADIX = 51, RSA_OPEN_DIGITS_MAX = 81, RSA_OPEN_LIMBS_MAX = 64 };
typedef uint64_t rsa_open_row[RSA_OPEN_LANES];

unsigned rsa_open_digits(enum qm_sig_class sig_class);
/* out = sig^e mod n of eight jobs. Returns the lanes with sig < n. */
unsigned rsa_open_power(enum qm_sig_class sig_class, struct qm_sig_job *const *jobs,
                        rsa_open_row *out);
/* minus_inv = -n^-1 mod B^digits; n0inv as in a key. n stays for rsa_open_reduce. */
void rsa_open_invert(enum qm_sig_class sig_class, const rsa_open_row *n, const uint64_t *n0inv,
                     rsa_open_row *minus_inv);
/* Columns of a^2 or a y, signed. */
void rsa_open_square(enum qm_sig_class sig_class, const rsa_open_row *a, rsa_open_row *columns);
void rsa_open_multiply(enum qm_sig_class sig_class, const rsa_open_row *a, const rsa_open_row *y,
                       rsa_open_row *columns);
/* What the last of those left, reduced. */
void rsa_open_reduce(enum qm_sig_class sig_class, rsa_open_row *out);
/* What that went through: the digits of t mod B^len and the q that it took from them. */
void rsa_open_quotient(unsigned len, rsa_open_row *low, rsa_open_row *q);
/* The small steps, as rsa_ifma512.c tells them. Those with a modulus use the one that rsa_open_invert was last given. */
void rsa_open_unpack(const uint8_t *const p[RSA_OPEN_LANES], size_t bytes, bool big_endian, unsigned len, rsa_open_row *digits);
void rsa_open_pack(const rsa_open_row *digits, unsigned len, unsigned count, rsa_open_row *limbs);
void rsa_open_shift_up(const rsa_open_row *a, unsigned len, unsigned by, rsa_open_row *out);
void rsa_open_halve(const rsa_open_row *a, unsigned len, unsigned by, rsa_open_row *out);
unsigned rsa_open_below(const rsa_open_row *a, unsigned len); /* lanes where a < n */
void rsa_open_settle(const rsa_open_row *a, unsigned len, rsa_open_row *out);

#endif
