/* What this CPU and this operating system let us use, by CPUID and XGETBV (Intel SDM volume 1, 13.3
 * and 14.3): a feature counts when the processor has it and the operating system saves the
 * registers it needs. Elsewhere than on x86-64: nothing. */
#include "engine/kernel/kernel.h"

static const struct {
    uint64_t bit;
    const char *name;
} names[] = {
    {QM_CPU_SHA, "sha"},         {QM_CPU_AVX2, "avx2"},
    {QM_CPU_AVX512, "avx512"},   {QM_CPU_IFMA512, "avx512ifma"},
    {QM_CPU_VBMI, "avx512vbmi"}, {QM_CPU_AVXIFMA, "avxifma"},
    {QM_CPU_BMI2ADX, "bmi2adx"}, {QM_CPU_FASTSHA, "fastsha"},
    {QM_CPU_DUALIFMA, "dualifma"},
};

#if defined(__x86_64__)
#include <cpuid.h>

/* XCR0 (SDM volume 1, 13.3): SSE and AVX state; opmask, ZMM_Hi256 and Hi16_ZMM. */
enum { XCR0_AVX = 0x06, XCR0_AVX512 = 0xe0 };

struct leaf {
    unsigned a, b, c, d;
};

static struct leaf cpuid(unsigned leaf, unsigned subleaf)
{
    struct leaf l = {0};
    if (!__get_cpuid_count(leaf, subleaf, &l.a, &l.b, &l.c, &l.d))
        return (struct leaf){0};
    return l;
}

static uint64_t xcr0(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

static bool has(unsigned reg, unsigned bit)
{
    return (reg >> bit & 1) != 0;
}

static bool is_vendor(const char name[static 12])
{
    struct leaf l = cpuid(0, 0);
    char vendor[12];
    memcpy(vendor, &l.b, 4);
    memcpy(vendor + 4, &l.d, 4);
    memcpy(vendor + 8, &l.c, 4);
    return memcmp(vendor, name, 12) == 0;
}

/* AMD, and Hygon, which builds its cores. */
static bool is_amd(void)
{
    return is_vendor("AuthenticAMD") || is_vendor("HygonGenuine");
}

/* Does a core start two 512-bit IFMA in a cycle? CPUID does not tell, so by family and model (SDM volume 2, CPUID, figure 3-6), what
 * is not known for certain as no. Intel: servers from Sapphire Rapids on; client cores have one. AMD: Zen 5 but for the mobile parts
 * with datapaths of 256 bits; Zen 4 splits each in two. */
static bool has_two_ifma(void)
{
    const unsigned a = cpuid(1, 0).a, base = a >> 8 & 0xf;
    const unsigned family = base == 0xf ? base + (a >> 20 & 0xff) : base;
    const unsigned model = (a >> 4 & 0xf) | (a >> 12 & 0xf0);
    if (is_vendor("GenuineIntel"))
        return (family == 6 && (model == 0x8f || model == 0xcf ||    /* Sapphire Rapids, Emerald Rapids */
                                model == 0xad || model == 0xae)) || /* Granite Rapids */
               family == 19;                                         /* Diamond Rapids */
    return is_vendor("AuthenticAMD") && family == 26 && (model & 0xf0) != 0x20 && (model & 0xf0) != 0x60; /* Strix, Krackan Point */
}

uint64_t qm_cpu_features(void)
{
    struct leaf l1 = cpuid(1, 0);
    struct leaf l7 = cpuid(7, 0);
    struct leaf l71 = l7.a >= 1 ? cpuid(7, 1) : (struct leaf){0}; /* EAX of 7.0: highest subleaf */
    uint64_t saved = has(l1.c, 27) ? xcr0() : 0;                  /* OSXSAVE */
    bool avx = (saved & XCR0_AVX) == XCR0_AVX && has(l1.c, 28);
    bool avx2 = avx && has(l7.b, 5);
    /* F, DQ, BW, VL */
    bool avx512 = avx2 && (saved & XCR0_AVX512) == XCR0_AVX512 && has(l7.b, 16) && has(l7.b, 17) &&
                  has(l7.b, 30) && has(l7.b, 31);
    uint64_t f = 0;
    if (has(l7.b, 29) && has(l1.c, 9) && has(l1.c, 19)) /* SHA, SSSE3, SSE4.1 */
        f |= QM_CPU_SHA;
    if (avx2)
        f |= QM_CPU_AVX2;
    if (avx512)
        f |= QM_CPU_AVX512;
    if (avx512 && has(l7.b, 21))
        f |= QM_CPU_IFMA512;
    if (avx512 && has(l7.c, 1))
        f |= QM_CPU_VBMI;
    if (avx2 && has(l71.a, 23))
        f |= QM_CPU_AVXIFMA;
    if (has(l7.b, 8) && has(l7.b, 19)) /* BMI2, ADX */
        f |= QM_CPU_BMI2ADX;
    if ((f & QM_CPU_SHA) != 0 && is_amd())
        f |= QM_CPU_FASTSHA;
    if ((f & QM_CPU_IFMA512) != 0 && has_two_ifma())
        f |= QM_CPU_DUALIFMA;
    return f;
}
#else
uint64_t qm_cpu_features(void)
{
    return 0;
}
#endif

void qm_cpu_names(uint64_t features, char *text, size_t cap)
{
    size_t len = 0;
    if (cap == 0)
        return;
    for (size_t i = 0; i < QM_COUNT(names); i++) {
        size_t n = strlen(names[i].name);
        bool space = len != 0;
        if ((features & names[i].bit) == 0 || n + space + 1 > cap - len)
            continue;
        if (space)
            text[len++] = ' ';
        memcpy(text + len, names[i].name, n);
        len += n;
    }
    text[len] = '\0';
}
