/* SHA-256 extends and messages a second: every kernel that runs here, and OpenSSL, in one run.
 *
 *     bench_sha256 [ROUNDS]      (101)
 *
 * One JSON line for each workload and kernel, on stdout. The kernels take turns, so that a machine
 * which slows down slows all of them, and the time is the thread's own; a figure is the median of
 * the rounds, and so is the ratio to OpenSSL (SHA256_Transform twice for an extend,
 * SHA256_Init/Update/Final for a message), taken round by round. "openssl-oneshot" is SHA256(). Pin
 * it to a core: taskset -c 1 bench_sha256. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "engine/kernel/kernel.h"

enum {
    CHAIN_MAX = 64 * 12,
    MESSAGE_MAX = 128,
    POOL_DIGESTS = 64 * 100,
    ROUND_MAX = 1000,
    KERNEL_MAX = 16,
    WORK_NS = 500 * 1000, /* of one figure */
};

static uint8_t pool[POOL_DIGESTS * 33 + 4096];
static const uint8_t *digest_at[POOL_DIGESTS];

/* What a boot of a server writes to PCR 0 .. 9, and a one-event PCR 14. */
static const uint32_t field_log[] = {6, 8, 3, 1, 8, 10, 1, 14, 15, 14, 1};

struct work {
    const char *name;
    struct qm_chain chain[CHAIN_MAX];
    size_t chain_count;
    struct qm_message message[MESSAGE_MAX];
    uint8_t digest[MESSAGE_MAX][32];
    size_t message_count;
    uint64_t units; /* extends or messages */
};

static void oneshot_extend(struct qm_chain *chains, size_t count, struct qm_lane_use *use)
{
    for (size_t i = 0; i < count; i++) {
        uint8_t block[64];
        memcpy(block, chains[i].value, 32);
        for (uint32_t j = 0; j < chains[i].count; j++) {
            memcpy(block + 32, chains[i].digest[j], 32);
            SHA256(block, 64, block);
        }
        memcpy(chains[i].value, block, 32);
        use->steps += chains[i].count;
        use->filled += chains[i].count;
    }
}

static void oneshot_digest(const struct qm_message *messages, size_t count)
{
    for (size_t i = 0; i < count; i++)
        SHA256(messages[i].p, messages[i].len, messages[i].digest);
}

static const struct qm_hash_kernel oneshot = {
    .name = "openssl-oneshot", .lanes = 1, .extend = oneshot_extend, .digest = oneshot_digest};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *x, size_t count)
{
    qsort(x, count, sizeof *x, by_value);
    return x[count / 2];
}

/* ns a unit. Chains start from where they ended: their bytes do not matter to the time. */
static double run(const struct qm_hash_kernel *k, struct work *w, unsigned times,
                  struct qm_lane_use *use)
{
    uint64_t start = now_ns();
    for (unsigned i = 0; i < times; i++) {
        if (w->chain_count != 0)
            k->extend(w->chain, w->chain_count, use);
        else
            k->digest(w->message, w->message_count);
    }
    return (double)(now_ns() - start) / ((double)w->units * times);
}

static void measure(struct work *w, size_t rounds)
{
    static double ns[KERNEL_MAX][ROUND_MAX], ratio[KERNEL_MAX][ROUND_MAX];
    const struct qm_hash_kernel *kernel[KERNEL_MAX] = {&qm_hash_openssl, &oneshot};
    struct qm_lane_use use[KERNEL_MAX] = {{0, 0}};
    unsigned times[KERNEL_MAX];
    size_t count = 2;
    uint64_t have = qm_cpu_features();
    for (size_t i = 0; i < qm_hash_kernel_count && count < KERNEL_MAX; i++)
        if (qm_hash_kernels[i] != &qm_hash_openssl && (qm_hash_kernels[i]->cpu & ~have) == 0)
            kernel[count++] = qm_hash_kernels[i];
    for (size_t i = 0; i < count; i++) {
        run(kernel[i], w, 3, &use[i]); /* warms up */
        double one = run(kernel[i], w, 3, &use[i]) * (double)w->units;
        times[i] = (unsigned)(WORK_NS / one) + 1;
    }
    for (size_t r = 0; r < rounds; r++)
        for (size_t i = 0; i < count; i++) {
            ns[i][r] = run(kernel[i], w, times[i], &use[i]);
            ratio[i][r] = ns[0][r] / ns[i][r];
        }
    for (size_t i = 0; i < count; i++) {
        double mid = median(ns[i], rounds);
        printf("{\"bench\":\"sha256\",\"work\":\"%s\",\"kernel\":\"%s\",\"unit\":\"%s\","
               "\"per_s\":%.0f,\"ns\":%.2f,\"ns_best\":%.2f,\"vs_openssl\":%.2f",
               w->name, kernel[i]->name, w->chain_count != 0 ? "extend" : "message", 1e9 / mid, mid,
               ns[i][0], median(ratio[i], rounds));
        if (w->chain_count != 0)
            printf(",\"occupancy\":%.3f", (double)use[i].filled / (double)use[i].steps);
        printf("}\n");
    }
    fflush(stdout);
}

static void add_chain(struct work *w, uint32_t extends)
{
    struct qm_chain *c = &w->chain[w->chain_count++];
    memset(c->value, 0, sizeof c->value);
    c->digest = digest_at + w->units % (POOL_DIGESTS - extends);
    c->count = extends;
    w->units += extends;
}

static void equal_chains(struct work *w, const char *name, size_t count, uint32_t extends)
{
    *w = (struct work){.name = name};
    while (w->chain_count < count)
        add_chain(w, extends);
}

static void field_chains(struct work *w, const char *name, size_t records)
{
    *w = (struct work){.name = name};
    for (size_t r = 0; r < records; r++)
        for (size_t i = 0; i < QM_COUNT(field_log); i++)
            add_chain(w, field_log[i]);
}

static void messages(struct work *w, const char *name, size_t count, uint32_t len)
{
    *w = (struct work){.name = name, .message_count = count, .units = count};
    for (size_t i = 0; i < count; i++)
        w->message[i] = (struct qm_message){digest_at[5 * i], len, w->digest[i]};
}

int main(int argc, char **argv)
{
    static struct work w;
    size_t rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 101;
    if (rounds < 1 || rounds > ROUND_MAX) {
        fprintf(stderr, "bench_sha256: from 1 to %d rounds\n", ROUND_MAX);
        return 2;
    }
    for (size_t i = 0; i < sizeof pool; i++)
        pool[i] = (uint8_t)(i * 2654435761u >> 24);
    for (size_t i = 0; i < POOL_DIGESTS; i++)
        digest_at[i] = pool + 33 * i; /* any alignment */
    equal_chains(&w, "chains 64 x 96", 64, 96);
    measure(&w, rounds);
    field_chains(&w, "logs of 64 records", 64);
    measure(&w, rounds);
    field_chains(&w, "logs of 16 records", 16);
    measure(&w, rounds);
    field_chains(&w, "log of 1 record", 1);
    measure(&w, rounds);
    messages(&w, "64 messages of 145", 64, 145);
    measure(&w, rounds);
    messages(&w, "64 messages of 320", 64, 320);
    measure(&w, rounds);
    messages(&w, "64 messages of 36", 64, 36);
    measure(&w, rounds);
    messages(&w, "8 messages of 145", 8, 145);
    measure(&w, rounds);
    messages(&w, "1 message of 145", 1, 145);
    measure(&w, rounds);
    return 0;
}
