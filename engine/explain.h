/* Why a PCR has another value than the accepted one: the events behind the accepted value are kept as a list, and a received log
 * is compared with it event by event.
 *
 * A PCR's value is the hash of its events' digests, in order. So a list stands for one (PCR, value), whoever measured it, and is
 * only ever made from a log that replays to that value. Its digests are as good as the value; its types are claims, and its
 * words too unless they are marked as proved.
 *
 *   struct qm_event_list_head | count * struct qm_listed_event | words, one after the other
 *
 * The same bytes stand in the store and in the table. Pure functions; no allocation. */
#ifndef QM_EXPLAIN_H
#define QM_EXPLAIN_H

#include "codec/eventlog.h"
#include "codec/result.h"

enum {
    QM_EVENT_LIST_MAX = 2048, /* events of a list; a PCR with more has none */
    QM_EVENT_WORDS_MAX = 120, /* bytes of an event's words in a list: printable ASCII */
};

/* On disk. */
struct qm_event_list_head {
    uint32_t count;
    uint32_t words_len; /* of all events */
};
struct qm_listed_event {
    uint32_t type;
    uint8_t words_len;
    uint8_t proved; /* the digest is the hash of what the words were read from */
    uint8_t reserved[2];
    uint8_t digest[32];
};
_Static_assert(sizeof(struct qm_event_list_head) == 8 && sizeof(struct qm_listed_event) == 40, "on disk");

/* No list is longer. */
enum {
    QM_EVENT_LIST_BYTES_MAX =
        sizeof(struct qm_event_list_head) + QM_EVENT_LIST_MAX * (sizeof(struct qm_listed_event) + QM_EVENT_WORDS_MAX)
};

/* A list in place; borrows the bytes, which may lie at any address. */
struct qm_event_list {
    const uint8_t *event; /* count * sizeof(struct qm_listed_event) */
    const uint8_t *words;
    uint32_t count;
};
/* False: the bytes are no list (lengths do not add up, a word is not printable). */
bool qm_event_list_read(struct qm_span bytes, struct qm_event_list *out);
/* Event i < count, its words borrowed from the list. */
struct qm_listed_event qm_event_list_at(const struct qm_event_list *list, uint32_t i, struct qm_span *words);

/* Writes the list of a PCR's events in a log into room. Gives its length; 0: the log is malformed, does not replay to the
 * value, has too many events of that PCR, or the list does not fit into cap bytes. */
size_t qm_event_list_collect(struct qm_span log, unsigned pcr, const uint8_t value[32], void *room, size_t cap);

/* Finds the first event of the PCR in a log that is not the one at the same place in the list (by digest), and says of it what
 * struct qm_event_diff asks. Words go to text, of QM_EVENT_TEXT_MAX bytes; out borrows text, the log and the list. False: there
 * is none (or the log is not one that replays), and out is undefined. At most one walk over the log, and four hashes of one event's
 * data by each of its banks. */
bool qm_explain(struct qm_span log, unsigned pcr, const struct qm_event_list *expected, char text[QM_EVENT_TEXT_MAX],
                struct qm_event_diff *out);

/* The part of the data (eventtext.h) that the event's digests prove: every digest of SHA-256 or longer is the hash of that part,
 * or, where there is none, the SHA-1 one is. NULL: the data is a claim. */
const char *qm_event_proved_part(const struct qm_event *e);

#endif
