/* Accepted sets as lines of JSON: what baseline show --json and export write, and what import and set read. */
#ifndef QM_BASELINE_JSON_H
#define QM_BASELINE_JSON_H

#include "codec/text.h"
#include "tools/json_read.h"
#include "tools/store/store_baseline.h"

enum { QM_BASELINE_JSON_MAX = 32 * 1024, QM_BASELINE_LINE_MAX = 32 * 1024 };

/* One object, and the end of its line. out has QM_BASELINE_JSON_MAX bytes left. */
void qm_baseline_json(struct qm_out *out, const struct qm_baseline *b);

/* What a line says. */
struct qm_baseline_line {
    struct qm_set_new set; /* kind, mask, values (into value), why, until_ms; whose it is stands beside it */
    uint8_t value[QM_PCR_COUNT][32];
    char id[QM_ID_MAX + 1], group[QM_GROUP_MAX + 1], why[512]; /* "": absent */
    bool over;                                                 /* it was ended */
};
/* QM_E_REFUSED with the reason. Unknown members are skipped. */
qm_err qm_baseline_line_read(struct qm_json *json, const char *text, size_t len, struct qm_baseline_line *out,
                             struct qm_fault *fault) QM_MUST_USE;
/* An object of values by PCR alone: {"0": hex, …}. */
qm_err qm_baseline_values_read(struct qm_json *json, const char *text, size_t len, struct qm_baseline_line *out,
                               struct qm_fault *fault) QM_MUST_USE;
/* One value: "4", 64 hex digits. QM_E_REFUSED: no PCR, one that stands already, no hex. */
qm_err qm_baseline_value_put(struct qm_baseline_line *to, struct qm_span pcr, struct qm_span hex,
                             struct qm_fault *fault) QM_MUST_USE;

#endif
