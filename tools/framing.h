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

/* Frames records of the piece from *at on, until it is used up or out is full. True: used up (then *ended says that the rest of
 * the source must not be read). For a window with `last` false, *at is then where the next window must begin. */
bool qm_frame_piece(const struct qm_piece *piece, size_t *at, struct qm_framed *out, bool *ended);
/* Of what a window of a file (`last` false) just gave: where a few records more than a multiple of lanes would have lanes of their
 * own to fill, takes those back, and moves *at to the first of them; they come again. Only well-formed ones, and never all. */
void qm_frame_take_back(const struct qm_piece *piece, size_t *at, struct qm_framed *out, unsigned lanes);

#endif
