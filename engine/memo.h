/* A memory of PCR chains: machines of one image extend the same digests in the same order, so the value that a chain ends
 * with is usually known already. Inside the engine, one for each verifier.
 *
 * What it gives is what the chain would have come to, by equality: the start value and every digest of the chain are compared,
 * byte for byte, with those that were extended before. The print (a few bytes of each digest, mixed) only says where to
 * look, and nobody need trust it: logs are written by those who are checked, and who makes prints collide has a slower replay
 * of his own records, never another value.
 *
 * Memory is fixed. A ring holds start value and digests of each chain, one behind the other; the index, two places for each
 * print (so that the same digests in two orders are both known), holds where and the end value. What is new overwrites the
 * oldest. A chain is kept at the second time that its print
 * is seen, so that chains which no other machine has push nothing out. And where remembering saves too little it rests, for
 * fifteen turns out of sixteen. */
#ifndef QM_MEMO_H
#define QM_MEMO_H

#include "engine/kernel/kernel.h"

enum {
    QM_MEMO_UNITS = 32768,     /* of 32 bytes, in the ring: 1 MiB */
    QM_MEMO_CHAIN_MAX = 2048,  /* digests of a chain that is kept */
    QM_MEMO_PLACES = 4096,     /* in the index */
    QM_MEMO_PRINTS = 8192,     /* remembered as seen once */
    QM_MEMO_WAITING = 256,     /* chains to be kept that wait for their value; more are kept another time */
    QM_MEMO_TURN = 4096,       /* chains between two looks at what it saves */
    QM_MEMO_TURNS_OF_REST = 15,
    QM_MEMO_WORTH = 8,         /* it must save one extend in so many */
};

struct qm_memo;

size_t qm_memo_size(void);
/* Places an empty memo in mem, 64-byte aligned. */
void qm_memo_init(struct qm_memo **out, void *mem);

/* False: it rests, and need not be asked until the next account. */
bool qm_memo_awake(const struct qm_memo *m);
/* What count chains had to extend, whether it was awake or not. */
void qm_memo_account(struct qm_memo *m, size_t count, uint64_t extends);

/* Of the start value and the digests, in any order: no step waits for another. */
uint64_t qm_memo_print(const struct qm_chain *c);
/* Chains that are known get their end value, and count 0: nothing is left to extend. Others are as they were, and may be noted:
 * they and their digests must stay until qm_memo_learn. Gives the extends saved. */
uint64_t qm_memo_recall(struct qm_memo *m, struct qm_chain *chains, size_t count);
/* Keeps what was noted; the chains have their end values now. */
void qm_memo_learn(struct qm_memo *m);

#endif
