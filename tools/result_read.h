/* Result records back from their stream (contract, section 4): msgpack or NDJSON, told apart by the first byte. For apply; whoever
 * writes the stream is believed, so this asks for form, not for truth. */
#ifndef QM_RESULT_READ_H
#define QM_RESULT_READ_H

#include <stdio.h>

#include "codec/error.h"
#include "codec/result.h"

enum qm_result_kind { QM_READ_END, QM_READ_STATUS, QM_READ_RUN };

struct qm_result_reader;

/* in stays the caller's. */
qm_err qm_result_reader_open(struct qm_result_reader **out, FILE *in, struct qm_fault *fault) QM_MUST_USE;
/* The next record. STATUS: result is set and points into the reader (valid until the next call); slot is not known.
 * RUN: run is set (texts in the reader too). QM_E_FORMAT with the offset for what is no record, or a stream that ends inside one. */
qm_err qm_result_reader_next(struct qm_result_reader *r, enum qm_result_kind *kind, struct qm_result *result, struct qm_run *run,
                             struct qm_fault *fault) QM_MUST_USE;
void qm_result_reader_close(struct qm_result_reader *r);

#endif
