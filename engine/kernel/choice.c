/* Which kernels there are, and which one each class gets. */
#include "engine/kernel/kernel.h"

/* Best first: the first that serves a class and runs here gets it. The portable one is last and
 * serves all. But see sig_faster_here. */
const struct qm_sig_kernel *const qm_sig_kernels[] = {
#if defined(__x86_64__)
    &qm_sig_rsa_ifma512, &qm_sig_rsa_ifma512_dual, &qm_sig_p256_ifma512, &qm_sig_p384_ifma512,
#endif
    &qm_sig_openssl,
};
const size_t qm_sig_kernel_count = QM_COUNT(qm_sig_kernels);

/* But see hash_faster_here. */
const struct qm_hash_kernel *const qm_hash_kernels[] = {
#if defined(__x86_64__)
    &qm_hash_avx512sha, &qm_hash_shani, &qm_hash_avx512, &qm_hash_avx2,
#endif
    &qm_hash_openssl,
};
const size_t qm_hash_kernel_count = QM_COUNT(qm_hash_kernels);

const char *qm_sig_class_name(enum qm_sig_class c)
{
    static const char *const names[QM_SIG_CLASS_COUNT] = {
        [QM_SIG_RSA2048] = "rsa2048", [QM_SIG_RSA3072] = "rsa3072", [QM_SIG_RSA4096] = "rsa4096",
        [QM_SIG_RSA_ANY] = "rsa",     [QM_SIG_P256] = "p256",       [QM_SIG_P384] = "p384",
    };
    return (unsigned)c < QM_SIG_CLASS_COUNT ? names[c] : "unknown";
}

/* The next name of a comma separated list; false after the last. *rest NULL: none is left. */
static bool next_name(const char **rest, struct qm_span *name)
{
    if (*rest == NULL)
        return false;
    size_t len = strcspn(*rest, ",");
    *name = (struct qm_span){(const uint8_t *)*rest, len};
    *rest = (*rest)[len] == ',' ? *rest + len + 1 : NULL;
    return true;
}

static bool is_name(struct qm_span name, const char *of)
{
    return name.len == strlen(of) && memcmp(name.p, of, name.len) == 0;
}

static bool in_list(const char *list, const char *of)
{
    struct qm_span name;
    while (next_name(&list, &name))
        if (is_name(name, of))
            return true;
    return false;
}

/* Every kernel of that name must run here, or whoever forced it measures something else than he
 * thinks. */
static qm_err check_name(struct qm_span name, uint64_t have, struct qm_fault *fault)
{
    bool known = false;
    uint64_t need = 0;
    for (size_t i = 0; i < qm_sig_kernel_count; i++)
        if (is_name(name, qm_sig_kernels[i]->name)) {
            known = true;
            need |= qm_sig_kernels[i]->cpu;
        }
    for (size_t i = 0; i < qm_hash_kernel_count; i++)
        if (is_name(name, qm_hash_kernels[i]->name)) {
            known = true;
            need |= qm_hash_kernels[i]->cpu;
        }
    int shown = (int)(name.len < 64 ? name.len : 64);
    if (!known)
        return qm_fail(fault, QM_E_UNFIT, 0, "there is no kernel '%.*s' in this build", shown,
                       (const char *)name.p);
    if ((need & ~have) != 0) {
        char missing[128];
        qm_cpu_names(need & ~have, missing, sizeof missing);
        return qm_fail(fault, QM_E_UNFIT, 0, "kernel '%.*s' needs what this CPU lacks: %s", shown,
                       (const char *)name.p, missing);
    }
    return QM_OK;
}

/* Which is better, 16 lanes or SHA extensions, is a matter of the SHA unit. Intel's takes three
 * cycles for two rounds (Sapphire Rapids: 20.8 million extends a second, against 43.7 in lanes),
 * AMD's takes one, and its 512-bit operations are two of 256 (Zen 4: 41 against 34). A rule, not a
 * measurement at start: the same machine gives the same answer every time. */
static bool hash_faster_here(const struct qm_hash_kernel *k, uint64_t have)
{
#if defined(__x86_64__)
    return (have & QM_CPU_FASTSHA) != 0 && k == &qm_hash_shani;
#else
    (void)k, (void)have;
    return false;
#endif
}

/* Multiplications that cost additions are saved where the multiplier is one. */
static bool sig_faster_here(const struct qm_sig_kernel *k, uint64_t have)
{
#if defined(__x86_64__)
    return (have & QM_CPU_DUALIFMA) != 0 && k == &qm_sig_rsa_ifma512_dual;
#else
    (void)k, (void)have;
    return false;
#endif
}

qm_err qm_kernels_choose(struct qm_kernels *out, const char *forced, struct qm_fault *fault)
{
    return qm_kernels_choose_for(out, qm_cpu_features(), forced, fault);
}

qm_err qm_kernels_choose_for(struct qm_kernels *out, uint64_t have, const char *forced, struct qm_fault *fault)
{
    if (forced != NULL && (forced[0] == '\0' || strcmp(forced, "auto") == 0))
        forced = NULL;
    const char *rest = forced;
    for (struct qm_span name; next_name(&rest, &name);) {
        qm_err err = check_name(name, have, fault);
        if (err != QM_OK)
            return err;
    }
    for (size_t c = 0; c < QM_SIG_CLASS_COUNT; c++) {
        out->sig[c] = &qm_sig_openssl;
        for (size_t i = qm_sig_kernel_count; i-- > 0;) {
            const struct qm_sig_kernel *k = qm_sig_kernels[i];
            if ((k->classes >> c & 1) != 0 && (k->cpu & ~have) == 0 &&
                (forced == NULL || in_list(forced, k->name)) && !sig_faster_here(out->sig[c], have))
                out->sig[c] = k; /* backwards, so that the best has the last word */
        }
    }
    out->sha256 = &qm_hash_openssl;
    for (size_t i = qm_hash_kernel_count; i-- > 0;) {
        const struct qm_hash_kernel *k = qm_hash_kernels[i];
        if ((k->cpu & ~have) == 0 && (forced == NULL || in_list(forced, k->name)) &&
            !hash_faster_here(out->sha256, have))
            out->sha256 = k;
    }
    return QM_OK;
}
