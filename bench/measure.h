/* What the benchmark programs share: clocks, medians, pinning, and their JSON lines.
 *
 * Times are the thread's own CPU time unless a name says wall: a machine that others use too then
 * costs caches, but not turns. `openssl speed` divides by CPU time as well. */
#ifndef QM_BENCH_MEASURE_H
#define QM_BENCH_MEASURE_H

#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { ROUNDS_MAX = 1000 };

static inline uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline uint64_t cpu_ns(void)
{
    return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

static inline uint64_t wall_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

static inline int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Leaves x as it was. count is at most ROUNDS_MAX, and not zero. */
static inline double median_of(const double *x, size_t count)
{
    double sorted[ROUNDS_MAX];
    for (size_t i = 0; i < count; i++)
        sorted[i] = x[i];
    qsort(sorted, count, sizeof sorted[0], by_value);
    return count % 2 != 0 ? sorted[count / 2] : (sorted[count / 2 - 1] + sorted[count / 2]) / 2;
}

/* One line; ratio_name may be NULL: then there is no yardstick. */
static inline void say(const char *bench, const char *what, const char *unit, const double *runs,
                       size_t count, const char *ratio_name, double ratio)
{
    double median = median_of(runs, count);
    printf("{\"bench\":\"%s\",\"what\":\"%s\",\"value\":%.4f,\"unit\":\"%s\",\"runs\":[", bench,
           what, median, unit);
    for (size_t i = 0; i < count; i++)
        printf("%s%.4f", i != 0 ? "," : "", runs[i]);
    printf("],\"median\":%.4f", median);
    if (ratio_name != NULL)
        printf(",\"ratio_to\":{\"%s\":%.4f}", ratio_name, ratio);
    printf("}\n");
    fflush(stdout);
}

static inline void die(const char *program, const char *what)
{
    fprintf(stderr, "%s: %s\n", program, what);
    exit(3);
}

#endif
