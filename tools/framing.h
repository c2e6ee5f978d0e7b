/* Pieces of files -> records: where one ends and the next begins, how many malformed ones of a file have a result of their own
 * (contract, section 1). Works on one piece at a time and keeps what it must remember in the source. */
#ifndef QM_FRAMING_H
#define QM_FRAMING_H

#include "engine/verify.h"
#include "ingest/ingest.h"

/* Records gathered for one qm_verify. */
struct qm_framed {
    struct qm_record record[QM_VERIFY_BATCH];
    size_t count;
    bool lost;   /* bytes of an unbounded source were lost: the stream was cut */
};

/* What a result counts for where results are bounded: many small records in a file of a long name make far more bytes than they are. */
static inline uint64_t qm_result_weight(struct qm_span source)
{
    return 1 + source.len / 256;
}
/* A file's results count for so much; what is left of it then is one malformed record. Records with a quote and a signature fill a file
 * of QM_FILE_MAX before that, unless they have neither log nor PCR values. */
enum { QM_FILE_RESULTS_MAX = 1 << 22 };

/* Frames records of the piece from *at on, until it is used up or out is full. True: used up (then *ended says that the rest of
 * the source must not be read). For a window with `last` false, *at is then where the next window must begin. */
bool qm_frame_piece(const struct qm_piece *piece, size_t *at, struct qm_framed *out, bool *ended);
/* Of what a window of a file (`last` false) just gave: where a few records more than a multiple of lanes would have lanes of their
 * own to fill, takes those back, and moves *at to the first of them; they come again. Only well-formed ones, and never all. */
void qm_frame_take_back(const struct qm_piece *piece, size_t *at, struct qm_framed *out, unsigned lanes);

#endif
