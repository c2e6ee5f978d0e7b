/* Linked in front of the result's encoder (the linker's --wrap): quotemill as it would be if somebody allocated for each record.
 * Shows that alloc_test.py sees it. */
#include <stdlib.h>

#include "codec/result.h"

void __real_qm_result_write(struct qm_out *o, const struct qm_result *r, enum qm_format format, bool stages);
void __wrap_qm_result_write(struct qm_out *o, const struct qm_result *r, enum qm_format format, bool stages);

void __wrap_qm_result_write(struct qm_out *o, const struct qm_result *r, enum qm_format format, bool stages)
{
    void *volatile p = malloc(64);
    free(p);
    __real_qm_result_write(o, r, format, stages);
}
