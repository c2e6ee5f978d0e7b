/* quotemill-collect init and propose: a key, an id, a proposal. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "codec/text.h"
#include "tools/collect/collect.h"
#include "tools/collect/identity.h"
#include "tools/collect/state_dir.h"
#include "tools/whole_file.h"

struct init {
    struct qm_collect common;
    const char *key, *hierarchy, *persist, *key_file, *handle, *nv_template, *ek, *id, *id_from, *pcrs;
    uint32_t persist_at, handle_at, template_at; /* what the texts say; 0: not given */
    bool force, json;
    struct qm_option_list tags;
    struct qm_identity now; /* what is kept */
    bool known;             /* there was an identity, and it is gone on with */
    struct qm_identity old; /* with --force: the one before */
    bool replaces;
    char former_note[384];
    char note[256], key_note[QM_PATH_MAX + 128];
};

/* ---- what the options say ---------------------------------------------------------------------------------------------- */

static qm_err read_options(struct init *in, struct qm_fault *fault)
{
    qm_err err = qm_handle_read(in->persist, "--persist", 0x81000000, 0x817fffff, &in->persist_at, fault);
    if (err == QM_OK)
        err = qm_handle_read(in->handle, "--handle", 0x81000000, 0x81ffffff, &in->handle_at, fault);
    if (err == QM_OK)
        err = qm_handle_read(in->nv_template, "--nv-template", QM_NV_FIRST, QM_NV_LAST, &in->template_at, fault);
    if (err != QM_OK)
        return err;
    if ((in->persist != NULL) + (in->key_file != NULL) + (in->handle != NULL) > 1)
        return qm_fail(fault, QM_E_USAGE, 0, "--persist, --key-file and --handle are three places for a key; one of them");
    if ((in->key != NULL) + (in->nv_template != NULL) + (in->handle != NULL) > 1)
        return qm_fail(fault, QM_E_USAGE, 0, "--key, --nv-template and --handle are three keys; one of them");
    if (in->nv_template != NULL && in->key_file != NULL)
        return qm_fail(fault, QM_E_USAGE, 0, "a key from a template is a primary key, which no file can keep");
    return QM_OK;
}

static qm_err read_tags(struct init *in, struct qm_fault *fault)
{
    struct qm_identity *i = &in->now;
    if (in->tags.count != 0)
        i->tag_count = 0;
    for (size_t n = 0; n < in->tags.count; n++) {
        const char *value;
        char *key = i->tag[n].key;
        if (!qm_tag_read(in->tags.value[n], key, QM_TAG_BYTES_MAX, &value) || strlen(value) >= QM_TAG_BYTES_MAX ||
            !qm_reason_ok(key) || (value[0] != '\0' && !qm_reason_ok(value)))
            return qm_fail(fault, QM_E_USAGE, 0, "--tag wants KEY=VALUE, each at most %d bytes, not '%.64s'",
                           QM_TAG_BYTES_MAX - 1, in->tags.value[n]);
        for (size_t m = 0; m < n; m++)
            if (strcmp(i->tag[m].key, key) == 0)
                return qm_fail(fault, QM_E_USAGE, 0, "--tag %.64s twice", key);
        memcpy(i->tag[n].value, value, strlen(value) + 1);
        i->tag_count = n + 1;
    }
    return QM_OK;
}

static qm_err choose_id(struct init *in, uint8_t id[QM_ID_MAX], size_t *len, struct qm_fault *fault)
{
    if (in->id == NULL)
        return in->id_from != NULL && strcmp(in->id_from, "smbios") == 0 ? qm_id_smbios(id, len, fault)
                                                                         : qm_id_machine(id, len, fault);
    const struct qm_span s = {(const uint8_t *)in->id, strlen(in->id)};
    if (!qm_id_ok(s))
        return qm_fail(fault, QM_E_USAGE, 0, "--id wants 1 to %d bytes of UTF-8 without control characters", QM_ID_MAX);
    memcpy(id, s.p, s.len);
    *len = s.len;
    return QM_OK;
}

/* Does the key that there is fit what is asked for? Calls that provision a machine are made again and again with the same
 * options. */
static qm_err compare_wish(const struct init *in, struct qm_fault *fault)
{
    const struct qm_identity *i = &in->now;
    const char *why, *scheme = qm_ak_scheme((struct qm_span){i->ak.p, i->ak.len}, &why);
    if (in->key != NULL && scheme != NULL && strcmp(scheme, qm_ak_kind_scheme(in->key)) != 0)
        return qm_fail(fault, QM_E_REFUSED, 0, "there is a key already, for %s; --force makes a new one", scheme);
    if ((in->key_file != NULL) != (i->handle == 0) && (in->key_file != NULL || in->persist != NULL || in->handle != NULL))
        return qm_fail(fault, QM_E_REFUSED, 0, "there is a key already, kept %s; --force makes a new one",
                       i->handle != 0 ? "in the TPM" : "in a file");
    if ((in->persist_at != 0 && in->persist_at != i->handle) || (in->handle_at != 0 && in->handle_at != i->handle))
        return qm_fail(fault, QM_E_REFUSED, 0, "there is a key already, at 0x%x; --force takes another", i->handle);
    return QM_OK;
}

/* An identity that there is stays, unless --force; what was said anew (PCRs, tags) replaces what was. */
static qm_err settle(struct init *in, struct qm_fault *fault)
{
    struct qm_identity *i = &in->now;
    const bool said = in->id != NULL || in->id_from != NULL;
    uint8_t id[QM_ID_MAX];
    size_t len = 0;
    qm_err err = qm_identity_read(i, in->common.state, &in->known, fault);
    if (err == QM_E_FORMAT && in->force) {
        err = QM_OK; /* damaged: a new one */
        in->known = false;
    }
    if (err == QM_OK && (said || !in->known))
        err = choose_id(in, id, &len, fault);
    if (err != QM_OK)
        return err;
    if (in->known && in->force) {
        in->old = *i;
        in->replaces = true;
        in->known = false;
    }
    if (in->known && len != 0 && !qm_span_eq((struct qm_span){id, len}, (struct qm_span){i->id, i->id_len}))
        return qm_fail(fault, QM_E_REFUSED, 0, "this machine is %.*s already; --force makes it another one, with a new key",
                       (int)i->id_len, (const char *)i->id);
    if (in->known && (err = compare_wish(in, fault)) != QM_OK)
        return err;
    if (!in->known) {
        *i = (struct qm_identity){.pcrs = QM_PCRS_DEFAULT, .id_len = len};
        memcpy(i->id, id, len);
        if (!said && in->replaces) { /* a new key for the same machine */
            i->id_len = in->old.id_len;
            memcpy(i->id, in->old.id, i->id_len);
        }
        if (in->replaces && in->old.made && in->old.handle != 0) {
            i->former_handle = in->old.handle;
            i->former = in->old.ak;
        }
        i->hierarchy = in->hierarchy != NULL && strcmp(in->hierarchy, "owner") == 0 ? QM_OWNER : QM_ENDORSEMENT;
    }
    if (in->pcrs != NULL && !qm_pcrs_read(in->pcrs, &i->pcrs))
        return qm_fail(fault, QM_E_USAGE, 0, "--pcrs wants a list like 0-9,14, not '%.64s'", in->pcrs);
    return read_tags(in, fault);
}

/* ---- the key ----------------------------------------------------------------------------------------------------------- */

static qm_err take_public(struct qm_identity *i, const struct qm_blob *public, struct qm_fault *fault)
{
    const char *why;
    if (qm_ak_scheme((struct qm_span){public->p, public->len}, &why) == NULL)
        return qm_fail(fault, QM_E_REFUSED, 0, "this key cannot attest: %s", why);
    i->ak = *public;
    return QM_OK;
}

static qm_err make_file(struct qm_tpm *t, struct init *in, struct qm_fault *fault)
{
    uint8_t wrapped[QM_WRAPPED_MAX];
    struct qm_whole_file w;
    struct qm_tpm_key k;
    struct qm_identity *i = &in->now;
    char folder[QM_PATH_MAX];
    size_t len;
    if (in->key_file[0] == '/' ? snprintf(i->file, sizeof i->file, "%s", in->key_file) >= (int)sizeof i->file
                               : getcwd(folder, sizeof folder) == NULL ||
                                     snprintf(i->file, sizeof i->file, "%s/%s", folder, in->key_file) >= (int)sizeof i->file)
        return qm_fail(fault, QM_E_USAGE, 0, "the name of the key file is too long");
    if (!in->force && access(i->file, F_OK) == 0)
        return qm_fail(fault, QM_E_REFUSED, 0, "%.200s is there already; --force overwrites it", i->file);
    qm_err err = qm_key_wrap(t, i->hierarchy, in->key != NULL ? in->key : qm_ak_kinds[0], wrapped, &len, fault);
    if (err == QM_OK)
        err = qm_key_unwrap(t, i->hierarchy, (struct qm_span){wrapped, len}, &k, fault); /* it can be used */
    if (err != QM_OK)
        return err;
    err = take_public(i, &k.public, fault);
    qm_tpm_key_close(t, &k);
    if (err == QM_OK)
        err = qm_whole_open(&w, i->file, 0600, fault);
    if (err != QM_OK)
        return err;
    if (write(w.fd, wrapped, len) != (ssize_t)len)
        err = qm_fail(fault, QM_E_IO, errno, "cannot write %.200s", i->file);
    else
        err = qm_whole_finish(&w, fault);
    qm_whole_close(&w);
    i->made = true;
    return err;
}

static qm_err take_over(struct qm_tpm *t, struct init *in, struct qm_fault *fault)
{
    struct qm_tpm_key k;
    bool there;
    qm_err err = qm_key_open(t, in->handle_at, &k, &there, fault);
    if (err != QM_OK)
        return err;
    if (!there)
        return qm_fail(fault, QM_E_REFUSED, 0, "the TPM has no key at 0x%x", in->handle_at);
    err = take_public(&in->now, &k.public, fault);
    qm_tpm_key_close(t, &k);
    in->now.handle = in->handle_at;
    return err;
}

/* The TPM would not keep the key: what was known before is known again, so that another place can be tried. */
static void take_back(const struct init *in)
{
    struct qm_fault ignored; /* what failed first is said */
    if (in->replaces)
        (void)!qm_identity_write(&in->old, in->common.state, &ignored);
    else
        qm_state_remove(in->common.state, "identity.json");
}

/* The identity is written before the key is kept: killed in between, the next init makes the same key from its template, and no
 * handle is used up. */
static qm_err make_primary(struct qm_tpm *t, struct init *in, struct qm_fault *fault)
{
    struct qm_identity *i = &in->now;
    struct qm_tpm_key k;
    qm_err err = in->template_at != 0 ? qm_ak_template_nv(t, in->template_at, &i->template, fault)
                                      : qm_ak_template(in->key != NULL ? in->key : qm_ak_kinds[0], &i->template, fault);
    if (err == QM_OK)
        err = qm_primary_make(t, i->hierarchy, &i->template, &k, fault);
    if (err != QM_OK)
        return err;
    err = take_public(i, &k.public, fault);
    if (err == QM_OK)
        err = qm_handle_free(t, in->persist_at, &i->handle, fault);
    i->made = true;
    if (err == QM_OK)
        err = qm_identity_write(i, in->common.state, fault);
    if (err == QM_OK) {
        err = qm_key_persist(t, &k, i->handle, fault);
        if (err != QM_OK)
            take_back(in);
    }
    qm_tpm_key_close(t, &k);
    return err;
}

/* A key that is gone from its handle is made again, where its template is known and the hierarchy still has its seed. */
static qm_err find_again(struct qm_tpm *t, struct init *in, struct qm_fault *fault)
{
    struct qm_identity *i = &in->now;
    struct qm_tpm_key k;
    bool there = true;
    qm_err err = QM_OK;
    if (i->handle != 0) {
        err = qm_key_open(t, i->handle, &k, &there, fault);
        if (err == QM_OK && there)
            qm_tpm_key_close(t, &k);
    }
    if (err != QM_OK)
        return err;
    if (!there && i->template.len != 0) {
        err = qm_primary_make(t, i->hierarchy, &i->template, &k, fault);
        if (err != QM_OK)
            return err;
        const bool same = k.public.len == i->ak.len && memcmp(k.public.p, i->ak.p, i->ak.len) == 0;
        if (same)
            err = qm_key_persist(t, &k, i->handle, fault);
        qm_tpm_key_close(t, &k);
        if (!same)
            return qm_fail(fault, QM_E_REFUSED, 0,
                           "the key is gone, and this TPM cannot make it again: it is another TPM, or was given a new "
                           "seed; --force makes a new key, to be enrolled anew");
        snprintf(in->key_note, sizeof in->key_note, "the key was gone from 0x%x and is there again, the same one", i->handle);
        return err;
    }
    err = qm_identity_key(t, i, &k, fault);
    if (err != QM_OK)
        return err;
    qm_tpm_key_close(t, &k);
    snprintf(in->key_note, sizeof in->key_note, "the key is there already, %s; --force makes a new one",
             i->handle != 0 ? "persistent" : "in its file");
    return QM_OK;
}

/* The handle of a key that was replaced goes back to the TPM, if that key was ours and is still there. */
static void give_up_former(struct qm_tpm *t, struct init *in, struct qm_identity *i)
{
    struct qm_tpm_key k;
    struct qm_fault fault = {0};
    bool there;
    qm_err err = QM_OK;
    if (i->former_handle == 0)
        return;
    if (i->former_handle != i->handle) {
        err = qm_key_open(t, i->former_handle, &k, &there, &fault);
        if (err == QM_OK && there && k.public.len == i->former.len && memcmp(k.public.p, i->former.p, k.public.len) == 0)
            err = qm_key_evict(t, &k, &fault);
        qm_tpm_key_close(t, &k);
    }
    if (err == QM_OK)
        i->former_handle = 0;
    else
        snprintf(in->former_note, sizeof in->former_note, "a former key is still at 0x%x: %.300s", i->former_handle,
                 fault.text);
}

static qm_err job(struct qm_tpm *t, void *arg, struct qm_fault *fault)
{
    struct init *in = arg;
    struct qm_identity *i = &in->now;
    qm_err err = QM_OK;
    if (in->known) {
        err = find_again(t, in, fault);
        if (err == QM_OK)
            give_up_former(t, in, i);
        return err == QM_OK ? qm_identity_write(i, in->common.state, fault) : err;
    }
    if (in->replaces)
        give_up_former(t, in, &in->old); /* what a call that was killed had yet to do */
    if (in->ek == NULL || strcmp(in->ek, "none") != 0)
        err = qm_ek_find(t, in->ek, &i->ek, in->note, fault);
    if (err != QM_OK)
        return err;
    if (in->key_file != NULL)
        err = make_file(t, in, fault);
    else if (in->handle_at != 0)
        err = take_over(t, in, fault);
    else
        err = make_primary(t, in, fault);
    if (err == QM_OK)
        err = qm_identity_write(i, in->common.state, fault);
    if (err != QM_OK)
        return err;
    if (i->handle != 0)
        snprintf(in->key_note, sizeof in->key_note, "the key is %s at the persistent handle 0x%x",
                 in->handle_at != 0 ? "taken over" : "made, and kept", i->handle);
    else
        snprintf(in->key_note, sizeof in->key_note, "the key is made, and kept wrapped by the TPM in %s", i->file);
    if (i->former_handle == 0)
        return QM_OK;
    give_up_former(t, in, i);
    return qm_identity_write(i, in->common.state, fault);
}

/* ---- the commands ------------------------------------------------------------------------------------------------------ */

static void tell(const struct init *in)
{
    const char *why;
    const struct qm_identity *i = &in->now;
    qm_collect_note("init", "%.*s: %s", (int)i->id_len, (const char *)i->id, in->key_note);
    qm_collect_note("init",
                    "scheme %s, %s EK certificate; enroll the line on standard output: quotemill enroll FILE, or with proof: "
                    "quotemill enroll --challenge FILE",
                    qm_ak_scheme((struct qm_span){i->ak.p, i->ak.len}, &why),
                    i->ek.certs.count != 0 ? "with an" : "without an");
    if (in->note[0] != '\0')
        qm_collect_note("init", "%s", in->note);
    if (in->former_note[0] != '\0')
        qm_collect_note("init", "%s", in->former_note);
}

int qm_collect_init(int argc, char **argv)
{
    static const char *tag[QM_TAGS_MAX];
    static struct init in; /* a job that was left behind still has it */
    static const char *const hierarchies[] = {"endorsement", "owner", NULL}, *const id_sources[] = {"machine-id", "smbios",
                                                                                                    NULL};
    static const char *const eks[] = {"rsa2048", "p256", "rsa2048-high", "p256-high", "p384-high", "none", NULL};
    in = (struct init){.common = QM_COLLECT_INIT, .tags = {.value = tag, .max = QM_TAGS_MAX}};
    const struct qm_option options[] = {
        {.name = "key",
         .kind = QM_OPT_CHOICE,
         .to = &in.key,
         .choices = qm_ak_kinds,
         .help = "what key to make (rsa2048: RSASSA with SHA-256)"},
        {.name = "hierarchy",
         .kind = QM_OPT_CHOICE,
         .to = &in.hierarchy,
         .choices = hierarchies,
         .help = "where to make it (endorsement: quotes tell the firmware's version and the true count of boots)"},
        {.name = "persist",
         .kind = QM_OPT_TEXT,
         .to = &in.persist,
         .value = "HANDLE",
         .help = "keep it in the TPM at this handle (a free one from 0x81010100 on)"},
        {.name = "key-file",
         .kind = QM_OPT_TEXT,
         .to = &in.key_file,
         .value = "FILE",
         .help = "keep it in a file, wrapped by the TPM"},
        {.name = "handle",
         .kind = QM_OPT_TEXT,
         .to = &in.handle,
         .value = "HANDLE",
         .help = "take over the key that the platform keeps at this handle"},
        {.name = "nv-template",
         .kind = QM_OPT_TEXT,
         .to = &in.nv_template,
         .value = "INDEX",
         .help = "make the key of the template in this NV index"},
        {.name = "ek",
         .kind = QM_OPT_CHOICE,
         .to = &in.ek,
         .choices = eks,
         .help = "which endorsement key to show (the first that has a certificate)"},
        {.name = "id", .kind = QM_OPT_TEXT, .to = &in.id, .value = "ID", .help = "this machine's id"},
        {.name = "id-from",
         .kind = QM_OPT_CHOICE,
         .to = &in.id_from,
         .choices = id_sources,
         .help = "where the id is from, without --id (machine-id)"},
        {.name = "pcrs",
         .kind = QM_OPT_TEXT,
         .to = &in.pcrs,
         .value = "LIST",
         .help = "PCRs of the SHA-256 bank to quote (0-9)"},
        {.name = "tag", .kind = QM_OPT_LIST, .to = &in.tags, .value = "KEY=VALUE", .help = "for search; may be given again"},
        {.name = "force", .kind = QM_OPT_FLAG, .to = &in.force, .help = "a new key, even if there is one"},
        {.name = "json", .kind = QM_OPT_FLAG, .to = &in.json, .help = "nothing but the proposal's line"},
        QM_STATE_OPTION(&in.common),
        QM_TPM_OPTIONS(&in.common),
    };
    static const struct qm_usage usage = {
        "init", "", "Makes this machine's attestation key, or takes one over, and writes the proposal for its enrolment.",
        "Called again, it makes no second key: it looks whether the key is there, and writes the same line again.\n"
        "Exit codes: 0 done, 1 refused, 2 usage, 3 the environment or the TPM failed, 75 another works with the state.\n"};
    struct qm_fault fault = {0};
    int first, code, lock = -1;
    if (!qm_options_parse(&usage, options, QM_COUNT(options), argc, argv, 0, 0, &first, &code))
        return code;
    qm_collect_settle(&in.common);
    qm_err err = read_options(&in, &fault);
    if (err == QM_OK)
        err = qm_state_open(in.common.state, true, &lock, &fault);
    if (err == QM_OK)
        err = settle(&in, &fault);
    if (err == QM_OK)
        err = qm_collect_tpm(&in.common, job, &in, NULL, &fault);
    if (err == QM_OK)
        err = qm_proposal_print(&in.now, &fault);
    if (lock >= 0)
        close(lock);
    if (err != QM_OK)
        return qm_complain("init", &fault);
    if (!in.json)
        tell(&in);
    return qm_stdout_close("init");
}

int qm_collect_propose(int argc, char **argv)
{
    static struct qm_identity i;
    struct qm_collect c = QM_COLLECT_INIT;
    const struct qm_option options[] = {QM_STATE_OPTION(&c)};
    static const struct qm_usage usage = {"propose", "", "Writes the proposal of init again; asks nothing of the TPM.", NULL};
    struct qm_fault fault = {0};
    int first, code;
    bool there;
    if (!qm_options_parse(&usage, options, QM_COUNT(options), argc, argv, 0, 0, &first, &code))
        return code;
    qm_collect_settle(&c);
    qm_err err = qm_identity_read(&i, c.state, &there, &fault);
    if (err == QM_OK && !there)
        err = qm_fail(&fault, QM_E_REFUSED, 0, "there is no key yet: quotemill-collect init");
    if (err == QM_OK)
        err = qm_proposal_print(&i, &fault);
    return err == QM_OK ? qm_stdout_close("propose") : qm_complain("propose", &fault);
}
