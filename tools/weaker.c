#include "tools/weaker.h"

#include <stdio.h>

#include "codec/text.h"

static void reason(struct qm_out *o, const char *text)
{
    if (o->len != 0)
        qm_out_text(o, "; ");
    qm_out_text(o, text);
}

static void pcrs(struct qm_out *o, uint32_t mask, const char *text)
{
    char name[16];
    if (mask == 0)
        return;
    reason(o, (mask & (mask - 1)) == 0 ? "PCR " : "PCRs ");
    for (unsigned pcr = 0, n = 0; pcr < QM_PCR_COUNT; pcr++) {
        if ((mask >> pcr & 1) == 0)
            continue;
        snprintf(name, sizeof name, "%s%u", n++ != 0 ? "," : "", pcr);
        qm_out_text(o, name);
    }
    qm_out_text(o, text);
}

static uint32_t selected(const struct qm_profile *p, uint8_t hash)
{
    for (unsigned i = 0; i < p->select_count; i++)
        if (p->select[i].hash == hash)
            return p->select[i].mask;
    return 0;
}

static void compare_selection(struct qm_out *o, const struct qm_profile *was, const struct qm_profile *now)
{
    char text[64];
    for (unsigned i = 0; i < was->select_count; i++) {
        const uint8_t hash = was->select[i].hash;
        const char *name = qm_hash_name((enum qm_hash)hash);
        const uint32_t left = selected(now, hash);
        if (left == 0)
            snprintf(text, sizeof text, "the bank %s not selected any more", name);
        else
            snprintf(text, sizeof text, " of %s not selected any more", name);
        if (left == 0)
            reason(o, text);
        else
            pcrs(o, was->select[i].mask & ~left, text);
    }
}

/* Bits of security (SP 800-57 part 1, table 2; RSA 4096 by the formula of FIPS 140-2 IG 7.5). */
static unsigned strength(const struct qm_key *key)
{
    switch (key->sig_class) {
    case QM_SIG_P256:
        return 128;
    case QM_SIG_P384:
        return 192;
    default:
        return key->bits >= 4096 ? 152 : key->bits >= 3072 ? 128 : 112;
    }
}

bool qm_weaker(const struct qm_demands *was, const struct qm_demands *now, char why[QM_WEAKER_MAX])
{
    struct qm_out o = qm_out_init(why, QM_WEAKER_MAX - 1);
    const uint32_t compared_was = was->profile->baselined & ~was->ignored, compared = now->profile->baselined & ~now->ignored;
    compare_selection(&o, was->profile, now->profile);
    pcrs(&o, compared_was & ~compared, " not compared any more");
    if (was->require_log && !now->require_log)
        reason(&o, "no log required any more");
    if (was->nonce && !now->nonce)
        reason(&o, "no nonce expected any more");
    if (was->beacon && !now->beacon)
        reason(&o, "no beacon demanded any more by its group");
    if (qm_hash_size((enum qm_hash)now->profile->hash) < qm_hash_size((enum qm_hash)was->profile->hash))
        reason(&o, "signatures with a shorter hash");
    if (strength(now->key) < strength(was->key))
        reason(&o, "a weaker key");
    if (was->proven && !now->proven)
        reason(&o, "a key that nothing proves in the place of one that was proven");
    why[o.len] = '\0';
    return o.len != 0 || o.full;
}
