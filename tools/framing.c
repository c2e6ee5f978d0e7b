#include "tools/framing.h"

/* What a source remembers between its pieces, in qm_source.user. */
enum {
    U_MALFORMED,  /* malformed records so far that have a result of their own */
    U_REST_COUNT, /* and those that share one */
    U_REST_OFF,   /* offset of their first */
    U_REST_LEN,   /* and its length */
    U_SKIPPING,   /* inside a record over the cap */
    U_SKIP_OFF,   /* its offset */
    U_SKIP_PENDING,
    U_SKIP_RAW,
    U_RESULTS, /* what its results count for so far */
};

static struct qm_record *add(const struct qm_piece *piece, struct qm_framed *out, uint64_t off, uint64_t len)
{
    struct qm_record *r = &out->record[out->count++];
    r->source = (struct qm_span){(const uint8_t *)piece->source->name, strlen(piece->source->name)};
    piece->source->user[U_RESULTS] += qm_result_weight(r->source);
    r->off = off;
    r->len = len;
    r->count = 0;
    r->bad_file = NULL;
    return r;
}

/* A malformed record; NULL where it shares the result of others. e (may be NULL) is what could be read of it. */
static struct qm_record *add_malformed(const struct qm_piece *piece, struct qm_framed *out, uint64_t off, uint64_t len, const struct qm_evidence *e)
{
    uint64_t *user = piece->source->user;
    if (piece->source->bounded && user[U_MALFORMED] >= QM_MALFORMED_ALONE_MAX) {
        if (user[U_REST_COUNT]++ == 0) {
            user[U_REST_OFF] = off;
            user[U_REST_LEN] = len;
        }
        return NULL;
    }
    user[U_MALFORMED]++;
    struct qm_record *r = add(piece, out, off, len);
    if (e != NULL)
        r->evidence = *e;
    else
        memset(&r->evidence, 0, sizeof r->evidence);
    r->evidence.malformed = true;
    return r;
}

/* What is left of the source cannot be told apart any more: one result. */
static void add_rest(const struct qm_piece *piece, struct qm_framed *out, uint64_t off, const char *why)
{
    uint64_t end = piece->off + piece->len;
    if (piece->file_bytes > end)
        end = piece->file_bytes;
    struct qm_record *r = add_malformed(piece, out, off, end - off, NULL);
    if (r != NULL)
        r->bad_file = why;
    out->lost |= !piece->source->bounded;
}

static void add_lost(const struct qm_piece *piece, struct qm_framed *out, uint64_t off)
{
    add_rest(piece, out, off, "the end of a record cannot be found");
}

/* The end of a source: what its further malformed records have to say together. */
static void finish(const struct qm_piece *piece, struct qm_framed *out)
{
    uint64_t *user = piece->source->user;
    if (user[U_REST_COUNT] == 0)
        return;
    struct qm_record *r = add(piece, out, user[U_REST_OFF], user[U_REST_LEN]);
    memset(&r->evidence, 0, sizeof r->evidence);
    r->evidence.malformed = true;
    r->count = user[U_REST_COUNT];
    r->bad_file = "more than 1000 malformed records";
    user[U_REST_COUNT] = 0;
}

/* Goes on over a record that is over the cap. True: it ended, or the source is lost. */
static bool skip_on(const struct qm_piece *piece, size_t *at, struct qm_framed *out, bool *ended)
{
    uint64_t *user = piece->source->user;
    struct qm_skip s = {user[U_SKIP_PENDING], user[U_SKIP_RAW]};
    size_t used;
    enum qm_frame f = qm_skip_step(&s, (struct qm_span){piece->bytes + *at, piece->len - *at}, &used);
    *at += used;
    user[U_SKIP_PENDING] = s.pending;
    user[U_SKIP_RAW] = s.raw;
    const uint64_t off = user[U_SKIP_OFF];
    if (f == QM_FRAME_MORE && (!piece->last || piece->broken))
        return false;
    user[U_SKIPPING] = 0;
    if (f == QM_FRAME_RECORD) {
        add_malformed(piece, out, off, piece->off + *at - off, NULL);
        return true;
    }
    add_lost(piece, out, off);
    *ended = true;
    return true;
}

static void skip_begin(const struct qm_piece *piece, size_t at)
{
    uint64_t *user = piece->source->user;
    user[U_SKIPPING] = 1;
    user[U_SKIP_OFF] = piece->off + at;
    user[U_SKIP_PENDING] = 1;
    user[U_SKIP_RAW] = 0;
}

bool qm_frame_piece(const struct qm_piece *piece, size_t *at, struct qm_framed *out, bool *ended)
{
    const size_t room = QM_VERIFY_BATCH - 2; /* the last record and what finish says */
    *ended = false;
    if (piece->too_big) {
        if (out->count > room)
            return false;
        add_malformed(piece, out, 0, piece->file_bytes, NULL)->bad_file = "longer than 4 GiB";
        *ended = true;
        return true;
    }
    while (*at < piece->len && !*ended) {
        if (out->count > room)
            return false;
        if (piece->source->user[U_SKIPPING] != 0) {
            if (!skip_on(piece, at, out, ended))
                break;
            continue;
        }
        if (piece->source->bounded && piece->source->user[U_RESULTS] >= QM_FILE_RESULTS_MAX) {
            add_rest(piece, out, piece->off + *at, "more records than one file may have");
            *ended = true;
            continue;
        }
        struct qm_record *r = &out->record[out->count];
        enum qm_frame f = qm_evidence_read((struct qm_span){piece->bytes + *at, piece->len - *at}, &r->evidence);
        if (f == QM_FRAME_RECORD) {
            size_t len = r->evidence.record.len;
            if (r->evidence.malformed) {
                struct qm_evidence e = r->evidence;
                add_malformed(piece, out, piece->off + *at, len, &e);
            } else {
                add(piece, out, piece->off + *at, len);
            }
            *at += len;
        } else if (f == QM_FRAME_OVER) {
            skip_begin(piece, *at);
        } else if (f == QM_FRAME_LOST || (piece->last && !piece->broken)) {
            add_lost(piece, out, piece->off + *at);
            *ended = true;
        } else {
            break; /* inside a record: the rest comes again with more */
        }
    }
    if (piece->source->user[U_SKIPPING] != 0 && piece->last && !piece->broken && !*ended) {
        if (out->count > room)
            return false;
        add_lost(piece, out, piece->source->user[U_SKIP_OFF]);
        piece->source->user[U_SKIPPING] = 0;
        *ended = true;
    }
    if (piece->last || *ended) {
        if (out->count == QM_VERIFY_BATCH)
            return false;
        if (piece->last)
            *at = piece->len;
        finish(piece, out);
    }
    return true;
}

void qm_frame_take_back(const struct qm_piece *piece, size_t *at, struct qm_framed *out, unsigned lanes)
{
    const uint64_t *user = piece->source->user;
    const size_t over = out->count % lanes, keep = out->count - over;
    if (over == 0 || over > lanes / 4 || keep == 0 || piece->last || !piece->source->bounded)
        return;
    /* What has left a trace in the source must not come again. */
    if (user[U_SKIPPING] != 0 || user[U_MALFORMED] >= QM_MALFORMED_ALONE_MAX)
        return;
    for (size_t i = keep; i < out->count; i++)
        if (out->record[i].evidence.malformed)
            return;
    *at = (size_t)(out->record[keep].off - piece->off);
    piece->source->user[U_RESULTS] -= over * qm_result_weight(out->record[keep].source);
    out->count = keep;
}
