#include "tools/alert_words.h"

#include <stdlib.h>

static const struct words {
    enum qm_severity severity;
    const char *meaning;
    const char *advice;
} words[] = {
    [QM_ALERT_PCR_MISMATCH] = {QM_SEVERITY_HIGH, "What was measured at boot is none of the accepted sets.",
                               "An update that was meant: accept it (--group for all machines of the group).\n"
                               "Else treat the machine as changed by somebody: keep its event log, compare it with that "
                               "of a\n"
                               "machine that passes (quotemill log), and look at what the first differing event "
                               "names.\n"},
    [QM_ALERT_PCR_VALUES_MISSING] = {QM_SEVERITY_LOW, "The quote is genuine, but nothing proves which PCR values it is about.",
                                     "Have the collector send the PCR values read with the quote (pcrs), or the event log.\n"},
    [QM_ALERT_LOG_REQUIRED] = {QM_SEVERITY_MEDIUM, "The machine must send an event log that replays to the quote, and did not.",
                               "Look whether the collector may read binary_bios_measurements, and sends it whole.\n"},
    [QM_ALERT_LOG_INCONSISTENT] = {QM_SEVERITY_MEDIUM, "The event log does not replay to the PCR values that were proven.",
                                   "A log that was changed, cut, or is another boot's; or firmware that logs what it does "
                                   "not measure.\n"},
    [QM_ALERT_REPLAYED] = {QM_SEVERITY_MEDIUM, "A quote came that is not newer than what the machine sent before.",
                           "A transport that delivers late, a snapshot that was restored, or "
                           "somebody who sends old quotes again.\n"},
    [QM_ALERT_CLONED_OR_ROLLED_BACK] =
        {QM_SEVERITY_HIGH, "Two sequences go on under one key: the machine was cloned, or put back to a snapshot.",
         "A snapshot that was meant: accept it, and the machine goes on from the refused "
         "sequence.\n"
         "Else two machines have the same TPM state: take the copy away, and give the machine a\n"
         "new key (enroll --replace-key).\n"},
    [QM_ALERT_TPM_STATE] = {QM_SEVERITY_MEDIUM,
                            "The TPM's clock went back over a reset: it was cleared, or its state replaced.",
                            "Ask who cleared the TPM or replaced the board; without an answer, enrol the machine "
                            "anew.\n"},
    [QM_ALERT_HELD_BACK] = {QM_SEVERITY_MEDIUM,
                            "Quotes come later than they were made: the TPM's time runs behind ours within one boot.",
                            "A collector that sends old quotes, or somebody who keeps them back.\n"
                            "A beacon shows when a quote was made.\n"},
    [QM_ALERT_NO_BASELINE] = {QM_SEVERITY_LOW, "The machine is still new: nothing was learned or accepted for it.",
                              "Give it a baseline (baseline set), or let it learn (config set "
                              "learn first; within learn_within\n"
                              "of its enrolment).\n"},
    [QM_ALERT_KEY_CONFLICT] = {QM_SEVERITY_MEDIUM, "Another key was given for its id, or its key or EK for another id.",
                               "Ask who enrolled it, or who proposed it: a machine that was set up again, or one that claims\n"
                               "to be this one. By a proposal: whoever has a copy of that EK's certificate can make it; by a tpm:\n"
                               "it was proven. enroll --replace-key takes a new key for the id; retire sets a TPM free.\n"},
    [QM_ALERT_UNMEASURED] = {QM_SEVERITY_MEDIUM, "No genuine quote came for longer than unmeasured_after.", NULL},
    [QM_ALERT_MALFORMED] = {QM_SEVERITY_LOW, "Records came that cannot be read.",
                            "Look at what that sender writes; HOME/quarantine keeps such files.\n"},
    [QM_ALERT_UNKNOWN_INSTANCE] = {QM_SEVERITY_LOW, "Records came under ids that are not enrolled.",
                                   "Enrol the machines, or stop the sender. Evidence of unknown "
                                   "machines is kept for a while,\n"
                                   "and used once they are enrolled.\n"},
    [QM_ALERT_NOT_A_QUOTE] = {QM_SEVERITY_LOW, "Records came whose attested structure is no quote.",
                              "Look at that sender's collector.\n"},
    [QM_ALERT_BAD_SIGNATURE] = {QM_SEVERITY_MEDIUM, "Records came that the enrolled key did not sign.",
                                "A machine whose attestation key was made anew (enroll "
                                "--replace-key), or somebody who sends for others.\n"},
    [QM_ALERT_WRONG_SELECTION] = {QM_SEVERITY_LOW, "Quotes came of other PCRs than were asked for.",
                                  "Look at that sender's collector: it must quote what is enrolled.\n"},
    [QM_ALERT_STALE_NONCE] = {QM_SEVERITY_LOW, "Quotes came with another nonce than is expected.",
                              "A collector with an old beacon, or somebody who sends old quotes again.\n"},
};

static const struct words *of(enum qm_alert_kind k)
{
    static const struct words none = {QM_SEVERITY_MEDIUM, "", ""};
    return (size_t)k < QM_COUNT(words) && words[k].meaning != NULL ? &words[k] : &none;
}

enum qm_severity qm_alert_severity(enum qm_alert_kind k)
{
    return of(k)->severity;
}

const char *qm_alert_meaning(enum qm_alert_kind k)
{
    return of(k)->meaning;
}

/* By why it is silent (engine/standing.h). */
static const char *unmeasured_advice(const char *cause)
{
    static const char refused[] = "Records come under its id and are refused: quotemill status ID says why.\n"
                                  "  - bad_signature: was its attestation key made anew, or is somebody else sending under "
                                  "its id?\n"
                                  "  - stale_nonce: does its collector have the beacon of now?\n"
                                  "  - wrong_selection: does it quote the PCRs that are enrolled?\n";
    static const char fleet[] = "Nothing genuine comes from any machine, so look here first:\n"
                                "  - does the transport deliver into the spool, and may it write there?\n"
                                "  - is the disk full, is the spool the one that run reads? (quotemill doctor)\n"
                                "  - did the network or the key of the transport change?\n";
    static const char alone[] = "On the machine:\n"
                                "  - is it running, and reachable?\n"
                                "  - does the collector run (its timer or cron line), and what does its journal say?\n"
                                "  - is the TPM there and does it answer (/dev/tpmrm0, tpm2_getcap properties-fixed)?\n"
                                "  - is the attestation key still there (tpm2_readpublic of its handle)?\n"
                                "  - is there room for its spool, and does the transport deliver what lies in it?\n"
                                "A machine that is gone for good: quotemill retire ID. One that is off for a while: "
                                "quotemill hold ID.\n";
    if (cause != NULL && strstr(cause, "refused") != NULL)
        return refused;
    if (cause != NULL && (strstr(cause, "fleet") != NULL || strstr(cause, "anyone") != NULL))
        return fleet;
    return alone;
}

const char *qm_alert_advice(enum qm_alert_kind k, const char *cause)
{
    return k == QM_ALERT_UNMEASURED ? unmeasured_advice(cause) : of(k)->advice;
}

bool qm_alert_of_fleet(const struct qm_alert_view *a)
{
    return a->kind == QM_ALERT_UNMEASURED && a->slot == 0 && a->detail != NULL && strstr(a->detail, "anyone") != NULL;
}

/* "22 of 40 machines", as the detail of a row for many says; else "machines". */
static void how_many(struct qm_out *o, const char *detail)
{
    static const char machines[] = "\"machines\":", of[] = "\"of\":";
    const char *m = detail != NULL ? strstr(detail, machines) : NULL, *n = detail != NULL ? strstr(detail, of) : NULL;
    if (m != NULL && n != NULL) {
        qm_out_u64(o, strtoull(m + sizeof machines - 1, NULL, 10));
        qm_out_text(o, " of ");
        qm_out_u64(o, strtoull(n + sizeof of - 1, NULL, 10));
        qm_out_char(o, ' ');
    }
    qm_out_text(o, "machines");
}

void qm_cohort_who(struct qm_out *o, const struct qm_cohort *c)
{
    const struct qm_alert_view *a = &c->one;
    if (a->source != NULL) {
        qm_out_u64(o, c->count);
        qm_out_text(o, c->count == 1 ? " record from " : " records from ");
        qm_out_shown_again(o, (struct qm_span){(const uint8_t *)a->source, strlen(a->source)});
        return;
    }
    if (qm_alert_of_fleet(a)) {
        qm_out_text(o, "the fleet");
        return;
    }
    if (a->slot == 0) {
        how_many(o, a->detail);
    } else if (c->alerts == 1) {
        qm_out_shown(o, a->id);
    } else {
        qm_out_u64(o, c->alerts);
        qm_out_text(o, " machines");
    }
    if (a->group.len != 0) {
        qm_out_text(o, " of group ");
        qm_out_shown(o, a->group);
    } else if (a->slot == 0) {
        qm_out_text(o, " without a group");
    }
}

void qm_cohort_words(struct qm_out *o, const struct qm_cohort *c)
{
    const struct qm_alert_view *a = &c->one;
    qm_out_text(o, qm_alert_kind_name(a->kind) != NULL ? qm_alert_kind_name(a->kind) : "unknown");
    qm_out_text(o, ": ");
    qm_cohort_who(o, c);
    for (unsigned i = 0; i < a->item_count; i++) {
        qm_out_text(o, i == 0 ? ", PCR " : " ");
        qm_out_u64(o, a->item[i].pcr);
    }
    if (a->name[0] != '\0') {
        qm_out_text(o, ", change ");
        qm_out_text(o, a->name);
    }
    qm_out_text(o, c->alerts == 1 ? ", alert " : ", alerts ");
    qm_out_u64(o, a->no);
    if (c->alerts != 1) {
        qm_out_text(o, " to ");
        qm_out_u64(o, c->last_no);
    }
}
