/* What an enrolment asks of a machine's evidence, and whether another one asks for less. */
#ifndef QM_WEAKER_H
#define QM_WEAKER_H

#include "engine/kernel/key.h"
#include "engine/table.h"

struct qm_demands {
    const struct qm_profile *profile;
    const struct qm_key *key;
    uint32_t ignored; /* PCRs that the group's policy leaves out */
    bool nonce, require_log;
    bool beacon; /* the group's policy asks for evidence made of a live beacon */
    bool proven; /* the key is, by a credential or a certificate */
};

enum { QM_WEAKER_MAX = 360 };
/* True: now asks for less than was in some way; why says in what, one after another, ASCII. */
bool qm_weaker(const struct qm_demands *was, const struct qm_demands *now, char why[QM_WEAKER_MAX]);

#endif
