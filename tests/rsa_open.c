/* Built once for each kernel; RSA_OPEN_DUAL says which. */
#if defined(RSA_OPEN_DUAL)
#define qm_sig_rsa_ifma512_dual rsa_open_kernel_dual /* the kernel under its own name is in the library too */
#include "engine/kernel/rsa_ifma512_dual.c"
#else
#define qm_sig_rsa_ifma512 rsa_open_kernel
#include "engine/kernel/rsa_ifma512.c"
#endif

#include "tests/rsa_open.h"

_Static_assert((int)RSA_OPEN_LANES == LANES && (int)RSA_OPEN_DIGITS_MAX >= DIGITS_MAX, "as opened");

static struct batch batch;

static unsigned open_digits(enum qm_sig_class sig_class)
{
    return size_of(sig_class)->len;
}

static unsigned open_power(enum qm_sig_class sig_class, struct qm_sig_job *const *jobs,
                        rsa_open_row *out)
{
    v8 limbs[RSA_OPEN_LIMBS_MAX];
    unsigned in_range = recover(&batch, size_of(sig_class), jobs, limbs);
    memcpy(out, limbs, size_of(sig_class)->bits / 64 * sizeof(v8));
    return in_range;
}

static void open_modulus(enum qm_sig_class sig_class, const rsa_open_row *n, const uint64_t *n0inv)
{
    memcpy(batch.n, n, size_of(sig_class)->len * sizeof(v8));
    batch.n0inv = _mm512_loadu_si512(n0inv);
#if !defined(RSA_OPEN_DUAL)
    invert(&batch, size_of(sig_class)->len);
#endif
}

/* The digits are constants in the kernel, hence one call for each. */
#define CASE(digits, call)                                                                         \
    case digits: {                                                                                 \
        const unsigned len = digits;                                                               \
        call;                                                                                      \
    } break;
#if defined(RSA_OPEN_DUAL)
#define FOR_SIZE(call)                                                                             \
    switch (size_of(sig_class)->len) {                                                             \
        CASE(40, call)                                                                             \
        CASE(60, call)                                                                             \
        CASE(80, call)                                                                             \
    }
#else
#define FOR_SIZE(call)                                                                             \
    switch (size_of(sig_class)->len) {                                                             \
        CASE(41, call)                                                                             \
        CASE(61, call)                                                                             \
        CASE(81, call)                                                                             \
    }
#endif

static void open_square(enum qm_sig_class sig_class, const rsa_open_row *a, rsa_open_row *columns)
{
    memcpy(batch.x, a, size_of(sig_class)->len * sizeof(v8));
    FOR_SIZE(square(&batch, batch.x, len))
    memcpy(columns, batch.work.t, 2 * size_of(sig_class)->len * sizeof(v8));
}

static void open_multiply(enum qm_sig_class sig_class, const rsa_open_row *a, const rsa_open_row *y,
                       rsa_open_row *columns)
{
    memcpy(batch.x, a, size_of(sig_class)->len * sizeof(v8));
    memcpy(batch.s, y, size_of(sig_class)->len * sizeof(v8));
    FOR_SIZE(multiply(&batch, batch.x, batch.s, len))
    memcpy(columns, batch.work.t, 2 * size_of(sig_class)->len * sizeof(v8));
}

static void open_reduce(enum qm_sig_class sig_class, rsa_open_row *out)
{
    FOR_SIZE(reduce(&batch, batch.x, len))
    memcpy(out, batch.x, size_of(sig_class)->len * sizeof(v8));
}

static void copy_in(v8 *to, const rsa_open_row *from, unsigned count)
{
    memcpy(to, from, count * sizeof(v8));
}

static void open_unpack(const uint8_t *const p[RSA_OPEN_LANES], size_t bytes, bool big_endian, unsigned len, rsa_open_row *digits)
{
    unpack(batch.x, len, p, bytes, big_endian);
    memcpy(digits, batch.x, len * sizeof(v8));
}

static void open_pack(const rsa_open_row *digits, unsigned len, unsigned count, rsa_open_row *limbs)
{
    v8 out[RSA_OPEN_LIMBS_MAX];
    copy_in(batch.x, digits, len);
    pack(out, count, batch.x);
    memcpy(limbs, out, count * sizeof(v8));
}

static unsigned open_below(const rsa_open_row *a, unsigned len)
{
    copy_in(batch.x, a, len);
    return below(batch.x, batch.n, len);
}

static void open_settle(const rsa_open_row *a, unsigned len, rsa_open_row *out)
{
    copy_in(batch.x, a, len);
    settle(batch.x, batch.n, len);
    memcpy(out, batch.x, len * sizeof(v8));
}

#if !defined(RSA_OPEN_DUAL)
static void open_inverse(unsigned len, rsa_open_row *minus_inv)
{
    memcpy(minus_inv, batch.work.minus_inv, len * sizeof(v8));
}

static void open_shift_up(const rsa_open_row *a, unsigned len, unsigned by, rsa_open_row *out)
{
    copy_in(batch.x, a, len);
    shift_up(batch.x, batch.x, len, by);
    memcpy(out, batch.x, len * sizeof(v8));
}

static void open_halve(const rsa_open_row *a, unsigned len, unsigned by, rsa_open_row *out)
{
    copy_in(batch.x, a, len);
    halve(&batch, batch.base, batch.x, len, by);
    memcpy(out, batch.base, len * sizeof(v8));
}

static void open_quotient(unsigned len, rsa_open_row *low, rsa_open_row *q)
{
    memcpy(low, batch.work.low, len * sizeof(v8));
    memcpy(q, batch.work.q, len * sizeof(v8));
}
#endif

#if defined(RSA_OPEN_DUAL)
const struct rsa_open rsa_open_ifma512_dual = {
    .kernel = &qm_sig_rsa_ifma512_dual,
    .top_bits = 40,
#else
const struct rsa_open rsa_open_ifma512 = {
    .kernel = &qm_sig_rsa_ifma512,
    .top_bits = 16,
    .inverse = open_inverse,
    .quotient = open_quotient,
    .shift_up = open_shift_up,
    .halve = open_halve,
#endif
    .radix = RADIX,
    .digits = open_digits,
    .power = open_power,
    .modulus = open_modulus,
    .square = open_square,
    .multiply = open_multiply,
    .reduce = open_reduce,
    .unpack = open_unpack,
    .pack = open_pack,
    .below = open_below,
    .settle = open_settle,
};
