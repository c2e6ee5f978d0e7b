/* What a doctor finds: one line each, as words for a person or as an object of JSON. */
#ifndef QM_FINDING_H
#define QM_FINDING_H

#include "codec/error.h"
#include "tools/show.h"

enum qm_health { QM_HEALTH_PASS, QM_HEALTH_WARN, QM_HEALTH_FAIL };

/* text: what was found; todo: what to do about it, NULL where there is nothing. */
typedef void (*qm_finding)(void *ctx, const char *check, enum qm_health health, const char *text, const char *todo);

/* Gives found a text that is made as by printf; what is longer than a line of a person's is cut. */
void qm_find(qm_finding found, void *ctx, const char *check, enum qm_health health, const char *todo, const char *format, ...)
    QM_PRINTF(6, 7);

/* A doctor that writes to standard output. */
struct qm_doctor {
    bool json;
    struct qm_show show;
    uint64_t count[3]; /* by enum qm_health */
};
void qm_doctor_say(struct qm_doctor *d, const char *check, enum qm_health health, const char *todo, const char *format, ...)
    QM_PRINTF(5, 6);
/* The qm_finding of it; ctx: struct qm_doctor. */
void qm_doctor_found(void *ctx, const char *check, enum qm_health health, const char *text, const char *todo);
/* Closes standard output. The exit code: something failed, or nothing did. */
int qm_doctor_close(const struct qm_doctor *d);

#endif
