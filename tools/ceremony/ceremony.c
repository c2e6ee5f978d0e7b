#include "tools/ceremony/ceremony.h"

#include <stdio.h>
#include <stdlib.h>

#include "codec/emit.h"
#include "tools/ceremony/credential.h"
#include "tools/show.h"

static const char command[] = "enroll";
static const uint64_t pending_life_ms = 7 * 24 * 3600 * 1000ull;

static struct qm_span span(const char *text)
{
    return (struct qm_span){(const uint8_t *)text, strlen(text)};
}

/* ---- what all modes do --------------------------------------------------------------------------------------------------- */

qm_err qm_ceremony_merge(struct qm_ceremony *c, struct qm_span id, struct qm_span ak, const char *scheme, struct qm_span *line,
                         struct qm_fault *fault)
{
    struct qm_out o = qm_out_init(c->merged, QM_LINE_MAX);
    qm_defaults_merge(c->defaults, id, ak, scheme, &o);
    if (o.full)
        return qm_fail(fault, QM_E_REFUSED, 0, "with the defaults its line is longer than %d bytes", QM_LINE_MAX);
    *line = (struct qm_span){(const uint8_t *)c->merged, o.len};
    return qm_enrolment_read(c->json, c->merged, o.len, c->enrolment, fault);
}

qm_err qm_ceremony_bind(const struct qm_ceremony *c, struct qm_span id, const uint8_t ek[QM_EK_FINGERPRINT_SIZE],
                        const struct qm_cert_names *names, const char **bound, struct qm_fault *fault)
{
    const enum qm_expected is = c->expected != NULL ? qm_expected_find(c->expected, id, ek) : QM_EXPECTED_UNKNOWN;
    *bound = NULL;
    switch (is) {
    case QM_EXPECTED_OTHER_EK:
        return qm_fail(fault, QM_E_REFUSED, 0, "the EK is not the one that --expect-ek has for this id");
    case QM_EXPECTED_OTHER_ID:
        return qm_fail(fault, QM_E_REFUSED, 0, "--expect-ek has the EK for another id");
    case QM_EXPECTED_SAME:
        *bound = "expected";
        return QM_OK;
    case QM_EXPECTED_UNKNOWN:
        break;
    }
    if (names != NULL && qm_cert_names_has(names, id))
        *bound = "subject";
    return QM_OK;
}

qm_err qm_ceremony_enroll(struct qm_ceremony *c, struct qm_span line, const struct qm_proven *proven, struct qm_fault *fault)
{
    enum qm_enrolled what;
    uint8_t digest[32];
    const struct qm_enroll_options options = {.replace_key = c->ask->replace_key, .proven = proven};
    qm_hash_one(QM_HASH_SHA256, line, digest);
    qm_err err = qm_store_enroll(c->store, c->enrolment, digest, &options, &what, fault);
    if (err != QM_OK)
        return err;
    c->enrolled[what]++;
    return QM_OK;
}

/* Commits, and only then says it: what reached nobody does no harm, what was said stands. */
static qm_err end_batch(struct qm_ceremony *c, struct qm_fault *fault)
{
    qm_err err = qm_store_commit(c->store, fault);
    if (err != QM_OK)
        return err;
    fwrite(c->out.p, 1, c->out.len, stdout);
    c->out.len = 0;
    c->committed = true;
    return QM_OK;
}

static qm_err begin_batch(struct qm_ceremony *c, struct qm_fault *fault)
{
    uint64_t gone;
    qm_err err = qm_store_begin(c->store, fault);
    if (err == QM_OK && c->ask->mode == QM_CEREMONY_CHALLENGE)
        err = qm_store_challenges_age(c->store, &gone, fault);
    if (err == QM_OK && c->ask->mode == QM_CEREMONY_CHALLENGE)
        err = qm_store_challenges_room(c->store, QM_CEREMONY_BATCH, fault);
    return err;
}

/* ---- answers ------------------------------------------------------------------------------------------------------------- */

struct answering {
    struct qm_ceremony *c;
    const struct qm_challenge_answer *a; /* NULL: a person confirms */
};

static struct qm_proven proven_by(const struct qm_ceremony *c, const struct qm_challenge *ch, const char *bound)
{
    struct qm_proven p = {.how = QM_HOW_CREDENTIAL, .has_ek = true, .bound = bound, .anchor = ch->anchor, .allow_weaker = c->ask->allow_weaker,
                           .reason = c->ask->reason};
    memcpy(p.ek, ch->ek, sizeof p.ek);
    return p;
}

/* Enrols what the challenge brings, and uses it up. A refusal leaves it as it is. */
static qm_err use(struct qm_ceremony *c, const struct qm_challenge *ch, const char *bound, struct qm_fault *fault)
{
    const struct qm_proven proven = proven_by(c, ch, bound);
    qm_err err = qm_enrolment_read(c->json, (const char *)ch->line.p, ch->line.len, c->enrolment, fault);
    if (err == QM_OK)
        err = qm_ceremony_enroll(c, ch->line, &proven, fault);
    return err == QM_OK ? qm_store_challenge_use(c->store, ch->no, fault) : err;
}

static qm_err pend(struct qm_ceremony *c, const struct qm_challenge *ch, struct qm_fault *fault)
{
    const uint64_t life_ms = c->ask->expires_ms != 0 ? c->ask->expires_ms : pending_life_ms;
    qm_err err = qm_store_challenge_pend(c->store, ch, qm_store_now_ms(c->store) + life_ms, fault);
    c->pending += err == QM_OK;
    return err;
}

static qm_err answer_visit(void *ctx, const struct qm_challenge *ch, struct qm_fault *fault)
{
    const struct answering *x = ctx;
    struct qm_ceremony *c = x->c;
    uint8_t digest[32];
    const char *bound;
    if (ch->state == QM_CHALLENGE_USED)
        return qm_fail(fault, QM_E_REFUSED, 0, "its challenge was answered before");
    if (ch->state == QM_CHALLENGE_REJECTED)
        return qm_fail(fault, QM_E_REFUSED, 0, "its challenge was answered before, and that was rejected");
    if (ch->until_ms <= qm_store_now_ms(c->store))
        return qm_fail(fault, QM_E_REFUSED, 0, "its challenge has expired");
    /* Both are hashes of what an adversary does not know, so how long comparing them takes tells nothing. */
    qm_hash_one(QM_HASH_SHA256, (struct qm_span){x->a->proof, sizeof x->a->proof}, digest);
    if (!qm_span_eq(ch->id, (struct qm_span){x->a->id, x->a->id_len}) || memcmp(digest, ch->proof_digest, sizeof digest) != 0)
        return qm_fail(fault, QM_E_REFUSED, 0, "it does not answer its challenge");
    if (ch->state == QM_CHALLENGE_PENDING)
        return qm_fail(fault, QM_E_REFUSED, 0, "its challenge was answered before; enroll --confirm takes it");
    qm_err err = qm_ceremony_bind(c, ch->id, ch->ek, NULL, &bound, fault);
    if (err != QM_OK)
        return err;
    if (bound == NULL && c->expected != NULL && ch->bound != NULL && strcmp(ch->bound, "expected") == 0)
        return qm_fail(fault, QM_E_REFUSED, 0, "its challenge was made since a list had the EK; --expect-ek does not have it any more");
    bound = bound != NULL ? bound : ch->bound;
    return bound != NULL ? use(c, ch, bound, fault) : pend(c, ch, fault);
}

static qm_err take_answer(struct qm_ceremony *c, const char *text, size_t len, struct qm_fault *fault)
{
    struct qm_challenge_answer a;
    struct answering x = {c, &a};
    bool found;
    qm_err err = qm_challenge_answer_read(c->json, text, len, &a, fault);
    if (err == QM_OK)
        err = qm_store_challenge_find(c->store, a.challenge, answer_visit, &x, &found, fault);
    if (err == QM_OK && !found)
        err = qm_fail(fault, QM_E_REFUSED, 0,
                      "there is no such challenge: it was never made here, has expired, or gave way to newer ones of its TPM");
    return err;
}

/* ---- files of lines ------------------------------------------------------------------------------------------------------ */

static qm_err take_line(struct qm_ceremony *c, const struct qm_gathered *l, struct qm_fault *fault)
{
    struct qm_fault of_line = {0};
    const char *text = c->text + l->at;
    qm_err err = c->ask->mode == QM_CEREMONY_CHALLENGE ? qm_ceremony_propose(c, text, l->len, &of_line)
                                                       : take_answer(c, text, l->len, &of_line);
    c->lines++;
    if (err == QM_E_REFUSED) {
        c->refused++;
        qm_lines_complain(&(struct qm_lines){.name = l->file, .number = l->number}, command, of_line.text);
        return QM_OK;
    }
    if (err != QM_OK)
        *fault = of_line;
    return err;
}

/* What was gathered, in one transaction. */
static qm_err take_gathered(struct qm_ceremony *c, struct qm_fault *fault)
{
    qm_err err = begin_batch(c, fault);
    for (unsigned i = 0; err == QM_OK && i < c->gathered_count; i++)
        err = take_line(c, &c->gathered[i], fault);
    c->gathered_count = 0;
    c->text_len = 0;
    return err == QM_OK ? end_batch(c, fault) : err;
}

static qm_err take_file(struct qm_ceremony *c, const char *name, struct qm_fault *fault)
{
    struct qm_lines lines;
    qm_err err = qm_lines_open(&lines, name, fault);
    if (err != QM_OK)
        return err;
    for (size_t len; err == QM_OK && qm_lines_next(&lines, c->text + c->text_len, &len);) {
        c->gathered[c->gathered_count++] = (struct qm_gathered){name, lines.number, c->text_len, len};
        c->text_len += len;
        if (c->gathered_count == QM_CEREMONY_BATCH || QM_GATHER_ROOM - c->text_len < QM_LINE_MAX + 1)
            err = take_gathered(c, fault);
    }
    qm_err closed = qm_lines_close(&lines, err == QM_OK ? fault : NULL);
    return err == QM_OK ? closed : err;
}

/* ---- what waits for a person --------------------------------------------------------------------------------------------- */

static void refused_operand(struct qm_ceremony *c, const char *operand, const char *why)
{
    char shown[1024];
    struct qm_out o = qm_out_init(shown, sizeof shown - 1);
    qm_out_shown(&o, span(operand));
    shown[o.len] = '\0';
    fprintf(stderr, "quotemill %s: %s: refused: %s\n", command, shown, why);
    c->refused++;
}

static qm_err count_visit(void *ctx, const struct qm_challenge *ch, struct qm_fault *fault)
{
    (void)ch;
    (void)fault;
    ++*(unsigned *)ctx;
    return QM_OK;
}

static qm_err confirm_visit(void *ctx, const struct qm_challenge *ch, struct qm_fault *fault)
{
    const struct answering *x = ctx;
    return use(x->c, ch, "confirmed", fault);
}

static qm_err reject_visit(void *ctx, const struct qm_challenge *ch, struct qm_fault *fault)
{
    const struct answering *x = ctx;
    qm_err err = qm_store_challenge_reject(x->c->store, ch, x->c->ask->reason, fault);
    x->c->rejected += err == QM_OK;
    return err;
}

static qm_err nothing_waits(struct qm_ceremony *c, struct qm_span id, struct qm_span ek, struct qm_fault *fault)
{
    char who[QM_WHO_SHOWN_MAX];
    qm_err err = qm_store_challenge_rejecter(c->store, id, ek, who, fault);
    if (err != QM_OK)
        return err;
    return who[0] == '\0' ? qm_fail(fault, QM_E_REFUSED, 0, "nothing waits under this id")
                          : qm_fail(fault, QM_E_REFUSED, 0, "nothing waits under this id any more: it was rejected by %s", who);
}

/* A person decides on the one answer that waits under an id. */
static qm_err decide(struct qm_ceremony *c, const char *id, qm_challenge_visit visit, struct qm_fault *fault)
{
    const struct qm_span of = span(id);
    struct answering x = {c, NULL};
    uint8_t prefix[QM_EK_FINGERPRINT_SIZE];
    struct qm_span ek = {prefix, c->ask->ek != NULL ? strlen(c->ask->ek) / 2 : 0};
    unsigned waiting = 0;
    if (ek.len != 0 && !qm_hex_read(c->ask->ek, prefix, ek.len))
        return qm_fail(fault, QM_E_USAGE, 0, "--ek wants hex digits");
    qm_err err = of.len != 0 ? qm_store_challenges_pending(c->store, of, ek, count_visit, &waiting, fault) : QM_OK;
    if (err == QM_OK && waiting == 0)
        err = nothing_waits(c, of, ek, fault);
    else if (err == QM_OK && waiting > 1)
        err = qm_fail(fault, QM_E_REFUSED, 0, "%u answers wait under this id (enroll --pending lists them); --ek says which TPM's is meant",
                      waiting);
    return err == QM_OK ? qm_store_challenges_pending(c->store, of, ek, visit, &x, fault) : err;
}

struct listing {
    struct qm_ceremony *c;
    struct qm_show show;
    uint64_t count;
};

static void pending_json(const struct qm_challenge *ch, const struct qm_anchor *ca)
{
    char line[16 * 1024];
    struct qm_out o = qm_out_init(line, sizeof line);
    struct qm_emit e = qm_emit_init(&o, true);
    qm_emit_map(&e);
    qm_emit_key(&e, "kind");
    qm_emit_name(&e, "pending");
    qm_emit_key(&e, "id");
    qm_emit_text(&e, ch->id);
    qm_emit_key(&e, "ek");
    qm_emit_bytes(&e, ch->ek, sizeof ch->ek);
    if (ca->known) {
        qm_emit_key(&e, "ca");
        qm_emit_map(&e);
        qm_emit_key(&e, "subject");
        qm_emit_text(&e, span(ca->subject));
        qm_emit_key(&e, "sha256");
        qm_emit_bytes(&e, ca->sha256, sizeof ca->sha256);
        qm_emit_end(&e);
    }
    qm_emit_key(&e, "challenge");
    qm_emit_bytes(&e, ch->name, sizeof ch->name);
    qm_emit_key(&e, "answered");
    qm_emit_u64(&e, ch->answered_ms);
    qm_emit_key(&e, "expires");
    qm_emit_u64(&e, ch->until_ms);
    qm_emit_end(&e);
    qm_out_char(&o, '\n');
    fwrite(o.p, 1, o.len, stdout);
}

static qm_err pending_visit(void *ctx, const struct qm_challenge *ch, struct qm_fault *fault)
{
    struct listing *l = ctx;
    char age[QM_AGE_MAX];
    const uint64_t now = qm_store_now_ms(l->c->store);
    struct qm_anchor ca;
    qm_err err = qm_store_anchor_get(l->c->store, ch->anchor, &ca, fault);
    if (err != QM_OK)
        return err;
    l->count++;
    if (l->c->ask->json) {
        pending_json(ch, &ca);
        return QM_OK;
    }
    qm_show_text(&l->show, ch->id, 0);
    fputs("  EK ", stdout);
    qm_show_hex(&l->show, ch->ek, sizeof ch->ek);
    printf("  answered %s", qm_ago(age, now, ch->answered_ms));
    printf(", expires %s", qm_ago(age, now, ch->until_ms));
    if (ca.known) {
        fputs(", CA ", stdout);
        qm_show_text(&l->show, span(ca.subject), 0);
    }
    putchar('\n');
    return QM_OK;
}

static qm_err list_pending(struct qm_ceremony *c, struct qm_fault *fault)
{
    struct listing l = {.c = c, .show = qm_show_init(stdout)};
    qm_err err = qm_store_challenges_pending(c->store, (struct qm_span){0}, (struct qm_span){0}, pending_visit, &l, fault);
    if (err == QM_OK && l.count == 0 && !c->ask->json)
        fputs("nothing waits for --confirm\n", stdout);
    return err;
}

/* ---- keys by certificates ------------------------------------------------------------------------------------------------ */

/* The common name, else the only DNS name. NULL: neither. */
static const struct qm_cert_name *identity(const struct qm_cert_names *n)
{
    return n->count != 0 && (!n->name[0].dns || n->count == 1) ? &n->name[0] : NULL;
}

/* A pipe's end may let us wait for it; meanwhile the store is open to others. */
static qm_err read_ak_cert(struct qm_ceremony *c, const char *path, struct qm_ak_cert *cert, struct qm_fault *fault)
{
    const bool waits = qm_lines_wait(path);
    qm_err err = waits ? end_batch(c, fault) : QM_OK;
    if (err != QM_OK)
        return err;
    err = qm_ak_cert_read(c->trust, path, cert, fault);
    qm_err begun = waits ? begin_batch(c, err == QM_OK ? fault : NULL) : QM_OK;
    return begun == QM_OK ? err : begun;
}

static qm_err take_ak_cert(struct qm_ceremony *c, const char *path, struct qm_fault *fault)
{
    struct qm_ak_cert cert;
    struct qm_span line;
    qm_err err = read_ak_cert(c, path, &cert, fault);
    if (err != QM_OK)
        return err;
    const struct qm_cert_name *name = identity(&cert.names);
    if (name == NULL)
        return qm_fail(fault, QM_E_REFUSED, 0, "the certificate has no common name, and not one DNS name, that is an id");
    const struct qm_span id = {name->text, name->len}, key = span(cert.key);
    struct qm_proven proven = {
        .how = QM_HOW_CERTIFICATE, .bound = "subject", .allow_weaker = c->ask->allow_weaker, .reason = c->ask->reason};
    err = qm_store_anchor(c->store, &cert.anchor, &proven.anchor, fault);
    if (err == QM_OK)
        err = qm_ceremony_merge(c, id, key, "", &line, fault);
    if (err == QM_OK)
        err = qm_ceremony_enroll(c, line, &proven, fault);
    if (err != QM_OK)
        return err;
    char shown[1024];
    struct qm_out o = qm_out_init(shown, sizeof shown - 1);
    qm_out_shown(&o, id);
    shown[o.len] = '\0';
    fprintf(stderr, "quotemill %s: %s: its id is the %s\n", command, shown, name->dns ? "certificate's DNS name" : "subject's common name");
    return QM_OK;
}

/* ---- the command --------------------------------------------------------------------------------------------------------- */

static qm_err take_operand(struct qm_ceremony *c, const char *operand, struct qm_fault *fault)
{
    struct qm_fault of_operand = {0};
    c->lines++;
    qm_err err = c->ask->mode == QM_CEREMONY_CONFIRM  ? decide(c, operand, confirm_visit, &of_operand)
                 : c->ask->mode == QM_CEREMONY_REJECT ? decide(c, operand, reject_visit, &of_operand)
                                                      : take_ak_cert(c, operand, &of_operand);
    if (err == QM_E_REFUSED) {
        refused_operand(c, operand, of_operand.text);
        return QM_OK;
    }
    if (err != QM_OK)
        *fault = of_operand;
    return err;
}

static qm_err take_operands(struct qm_ceremony *c, struct qm_fault *fault)
{
    const bool of_lines = c->ask->mode == QM_CEREMONY_CHALLENGE || c->ask->mode == QM_CEREMONY_ANSWER;
    qm_err err = of_lines ? QM_OK : begin_batch(c, fault);
    for (int i = 0; err == QM_OK && i < c->ask->operand_count; i++)
        err = of_lines ? take_file(c, c->ask->operands[i], fault) : take_operand(c, c->ask->operands[i], fault);
    if (err != QM_OK)
        return err;
    return of_lines ? take_gathered(c, fault) : end_batch(c, fault);
}

/* What an earlier transaction took is published, whatever became of a later one. */
static qm_err work(struct qm_ceremony *c, struct qm_fault *fault)
{
    bool built;
    if (c->ask->mode == QM_CEREMONY_PENDING)
        return list_pending(c, fault);
    qm_err err = take_operands(c, fault);
    if (err != QM_OK)
        qm_store_rollback(c->store);
    qm_err published = c->committed ? qm_store_publish(c->store, &built, err == QM_OK ? fault : NULL) : QM_OK;
    return err == QM_OK ? published : err;
}

static qm_err prepare(struct qm_ceremony *c, struct qm_fault *fault)
{
    const struct qm_ceremony_ask *a = c->ask;
    c->enrolment = aligned_alloc(QM_CACHE_LINE, qm_align_up(sizeof *c->enrolment, QM_CACHE_LINE));
    c->proposal = malloc(sizeof *c->proposal);
    c->text = malloc(QM_GATHER_ROOM);
    c->merged = malloc(QM_LINE_MAX);
    char *room = malloc(QM_BATCH_ROOM);
    c->out = qm_out_init(room, room != NULL ? QM_BATCH_ROOM : 0);
    if (c->enrolment == NULL || c->proposal == NULL || c->text == NULL || c->merged == NULL || room == NULL)
        return qm_fail(fault, QM_E_NOMEM, 0, "no memory for the ceremony");
    qm_err err = qm_json_open(&c->json, fault);
    if (err == QM_OK)
        err = qm_store_open(&c->store, qm_home_path(a->home), a->mode != QM_CEREMONY_PENDING, fault);
    if (err == QM_OK && a->ca.count != 0)
        err = qm_trust_open(&c->trust, qm_store_now_ms(c->store), fault);
    for (size_t i = 0; err == QM_OK && i < a->ca.count; i++)
        err = qm_trust_add(c->trust, a->ca.value[i], fault);
    for (size_t i = 0; err == QM_OK && i < a->crl.count; i++)
        err = qm_trust_add_crl(c->trust, a->crl.value[i], fault);
    if (err == QM_OK && a->expect_ek != NULL)
        err = qm_expected_open(&c->expected, a->expect_ek, fault);
    return err == QM_OK ? qm_defaults_open(&c->defaults, c->json, a->defaults, a->group, a->tags.value, a->tags.count, fault) : err;
}

static void finish(struct qm_ceremony *c)
{
    qm_defaults_close(c->defaults);
    qm_expected_close(c->expected);
    qm_trust_close(c->trust);
    qm_store_close(c->store);
    qm_json_close(c->json);
    free(c->out.p);
    free(c->merged);
    free(c->text);
    free(c->proposal);
    free(c->enrolment);
}

static void say(const struct qm_ceremony *c)
{
    const bool enrols = c->ask->mode != QM_CEREMONY_CHALLENGE && c->ask->mode != QM_CEREMONY_REJECT;
    const struct {
        const char *key, *words;
        uint64_t value;
        bool always;
    } numbers[] = {{"lines", NULL, c->lines, true},
                   {"challenges", "challenges made", c->challenges, c->ask->mode == QM_CEREMONY_CHALLENGE},
                   {"new", "new", c->enrolled[QM_ENROLLED_NEW], enrols},
                   {"changed", "changed", c->enrolled[QM_ENROLLED_CHANGED], enrols},
                   {"keys_replaced", "keys replaced", c->enrolled[QM_ENROLLED_KEY_REPLACED], enrols},
                   {"pending", "wait for --confirm", c->pending, c->ask->mode == QM_CEREMONY_ANSWER},
                   {"rejected", "rejected", c->rejected, c->ask->mode == QM_CEREMONY_REJECT},
                   {"refused", "refused", c->refused, true}};
    char text[1024];
    struct qm_out o = qm_out_init(text, sizeof text);
    struct qm_emit e = qm_emit_init(&o, true);
    if (c->ask->json) {
        qm_emit_map(&e);
        qm_emit_key(&e, "kind");
        qm_emit_name(&e, "ceremony");
        for (size_t i = 0; i < QM_COUNT(numbers); i++)
            if (numbers[i].always) {
                qm_emit_key(&e, numbers[i].key);
                qm_emit_u64(&e, numbers[i].value);
            }
        qm_emit_end(&e);
        qm_out_char(&o, '\n');
        fwrite(o.p, 1, o.len, stdout);
        return;
    }
    fprintf(stderr, "quotemill %s:", command);
    for (size_t i = 1, n = 0; i < QM_COUNT(numbers); i++)
        if (numbers[i].always)
            fprintf(stderr, "%s %llu %s", n++ != 0 ? "," : "", (unsigned long long)numbers[i].value, numbers[i].words);
    fputc('\n', stderr);
}

int qm_ceremony(const struct qm_ceremony_ask *ask)
{
    struct qm_ceremony c = {.ask = ask};
    struct qm_fault fault = {0};
    qm_err err = prepare(&c, &fault);
    if (err == QM_OK)
        err = work(&c, &fault);
    int code = c.refused != 0 ? QM_EXIT_FOUND : QM_EXIT_OK;
    if (err != QM_OK)
        code = qm_complain(command, &fault);
    else if (ask->mode != QM_CEREMONY_PENDING)
        say(&c);
    finish(&c);
    const int flushed = qm_stdout_close(command);
    return flushed != QM_EXIT_OK ? flushed : code;
}
