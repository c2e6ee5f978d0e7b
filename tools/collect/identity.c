#include "tools/collect/identity.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "codec/emit.h"
#include "tools/collect/state_dir.h"
#include "tools/json_read.h"
#include "tools/line_read.h"

static const char *const hierarchies[] = {[QM_ENDORSEMENT] = "endorsement", [QM_OWNER] = "owner"};

static struct qm_span span(const char *text)
{
    return (struct qm_span){(const uint8_t *)text, strlen(text)};
}

/* ---- the file ---------------------------------------------------------------------------------------------------------- */

static bool take_text(struct qm_span s, char *to, size_t cap)
{
    if (s.len >= cap || memchr(s.p, 0, s.len) != NULL)
        return false;
    memcpy(to, s.p, s.len);
    to[s.len] = '\0';
    return true;
}

static bool take_blob(struct qm_span s, struct qm_blob *to)
{
    return qm_base64_read(s, to->p, sizeof to->p, &to->len);
}

static qm_err take_tag(const struct qm_json_item *item, void *user, struct qm_fault *fault)
{
    struct qm_identity *i = user;
    if (item->kind != QM_JSON_TEXT || i->tag_count == QM_TAGS_MAX ||
        !take_text(item->key, i->tag[i->tag_count].key, QM_TAG_BYTES_MAX) ||
        !take_text(item->text, i->tag[i->tag_count].value, QM_TAG_BYTES_MAX))
        return qm_fail(fault, QM_E_FORMAT, 0, "a tag is damaged");
    i->tag_count++;
    return QM_OK;
}

static qm_err take_cert(const struct qm_json_item *item, void *user, struct qm_fault *fault)
{
    struct qm_tpm_ek *ek = user;
    struct qm_nv_cert *c = &ek->certs.cert[ek->certs.count];
    if (item->kind != QM_JSON_TEXT || ek->certs.count == QM_NV_CERTS_MAX ||
        !qm_base64_read(item->text, c->p, sizeof c->p, &c->len))
        return qm_fail(fault, QM_E_FORMAT, 0, "a certificate is damaged");
    ek->certs.count++;
    return QM_OK;
}

struct reading {
    struct qm_identity *to;
    struct qm_json *json;
    uint64_t version;
};

static qm_err take_member(const struct qm_json_item *item, void *user, struct qm_fault *fault)
{
    struct reading *r = user;
    struct qm_identity *i = r->to;
    bool good = true;
    if (qm_json_key_is(item, "tags"))
        return qm_json_each(r->json, QM_JSON_OBJECT, (const char *)item->text.p, item->text.len, take_tag, i, fault);
    if (qm_json_key_is(item, "ek_cert"))
        return qm_json_each(r->json, QM_JSON_ARRAY, (const char *)item->text.p, item->text.len, take_cert, &i->ek, fault);
    if (qm_json_key_is(item, "v"))
        r->version = item->kind == QM_JSON_INT ? (uint64_t)item->number : 0;
    else if (qm_json_key_is(item, "made"))
        i->made = item->kind == QM_JSON_BOOL && item->number == 1;
    else if (item->kind == QM_JSON_INT) {
        uint32_t *to = qm_json_key_is(item, "handle")          ? &i->handle
                       : qm_json_key_is(item, "former_handle") ? &i->former_handle
                       : qm_json_key_is(item, "pcrs")          ? &i->pcrs
                                                               : NULL;
        good = to == NULL || (item->number >= 0 && item->number <= UINT32_MAX);
        if (to != NULL && good)
            *to = (uint32_t)item->number;
    } else if (item->kind != QM_JSON_TEXT)
        return QM_OK;
    else if (qm_json_key_is(item, "id")) {
        good = qm_id_ok(item->text);
        i->id_len = good ? item->text.len : 0;
        memcpy(i->id, item->text.p, i->id_len);
    } else if (qm_json_key_is(item, "hierarchy"))
        i->hierarchy = qm_span_eq(item->text, span(hierarchies[QM_OWNER])) ? QM_OWNER : QM_ENDORSEMENT;
    else if (qm_json_key_is(item, "file"))
        good = take_text(item->text, i->file, sizeof i->file);
    else if (qm_json_key_is(item, "ak"))
        good = take_blob(item->text, &i->ak);
    else if (qm_json_key_is(item, "template"))
        good = take_blob(item->text, &i->template);
    else if (qm_json_key_is(item, "former"))
        good = take_blob(item->text, &i->former);
    else if (qm_json_key_is(item, "ek"))
        good = take_blob(item->text, &i->ek.public);
    else if (qm_json_key_is(item, "ek_template"))
        good = take_blob(item->text, &i->ek.template);
    return good ? QM_OK : qm_fail(fault, QM_E_FORMAT, 0, "%.*s is damaged", (int)item->key.len, (const char *)item->key.p);
}

qm_err qm_identity_read(struct qm_identity *i, const char *dir, bool *there, struct qm_fault *fault)
{
    struct reading r = {.to = i};
    struct qm_fault why = {0};
    char *bytes;
    size_t len;
    *i = (struct qm_identity){0};
    qm_err err = qm_state_read(dir, "identity.json", &bytes, &len, there, fault);
    if (err != QM_OK || !*there)
        return err;
    err = qm_json_open(&r.json, &why);
    if (err == QM_OK)
        err = qm_json_each(r.json, QM_JSON_OBJECT, bytes, len, take_member, &r, &why);
    qm_json_close(r.json);
    free(bytes);
    if (err == QM_OK &&
        (r.version != 1 || i->id_len == 0 || i->ak.len == 0 || i->pcrs == 0 || (i->handle == 0) == (i->file[0] == '\0')))
        err = qm_fail(&why, QM_E_FORMAT, 0, "it lacks something, or is of a newer version");
    if (err == QM_OK)
        return QM_OK;
    return qm_fail(fault, err == QM_E_REFUSED ? QM_E_FORMAT : err, 0, "%.200s/identity.json: %.200s", dir, why.text);
}

static void emit_blob(struct qm_emit *e, const char *key, const struct qm_blob *b)
{
    if (b->len == 0)
        return;
    qm_emit_key(e, key);
    qm_emit_base64(e, b->p, b->len);
}

/* What the file and the proposal have alike. */
static void emit_shared(struct qm_emit *e, const struct qm_identity *i)
{
    qm_emit_key(e, "id");
    qm_emit_text(e, (struct qm_span){i->id, i->id_len});
    emit_blob(e, "ak", &i->ak);
    qm_emit_key(e, "tags");
    qm_emit_map(e);
    for (size_t n = 0; n < i->tag_count; n++) {
        /* a key is text of anybody's, which qm_emit_key does not take */
        qm_out_text(e->out, n != 0 ? "," : "");
        qm_out_json_string(e->out, span(i->tag[n].key));
        qm_out_char(e->out, ':');
        qm_out_json_string(e->out, span(i->tag[n].value));
    }
    qm_emit_end(e);
    emit_blob(e, "ek", &i->ek.public);
    if (i->ek.certs.count == 0)
        return;
    qm_emit_key(e, "ek_cert");
    qm_emit_array(e);
    for (size_t n = 0; n < i->ek.certs.count; n++)
        qm_emit_base64(e, i->ek.certs.cert[n].p, i->ek.certs.cert[n].len);
    qm_emit_end(e);
}

qm_err qm_identity_write(const struct qm_identity *i, const char *dir, struct qm_fault *fault)
{
    static char line[2 * QM_LINE_MAX];
    struct qm_out o = qm_out_init(line, sizeof line);
    struct qm_emit e = qm_emit_init(&o, true);
    qm_emit_map(&e);
    qm_emit_key(&e, "v");
    qm_emit_u64(&e, 1);
    emit_shared(&e, i);
    qm_emit_key(&e, "hierarchy");
    qm_emit_name(&e, hierarchies[i->hierarchy]);
    if (i->handle != 0) {
        qm_emit_key(&e, "handle");
        qm_emit_u64(&e, i->handle);
    } else {
        qm_emit_key(&e, "file");
        qm_emit_text(&e, span(i->file));
    }
    qm_emit_key(&e, "made");
    qm_emit_bool(&e, i->made);
    qm_emit_key(&e, "pcrs");
    qm_emit_u64(&e, i->pcrs);
    emit_blob(&e, "template", &i->template);
    if (i->former_handle != 0) {
        qm_emit_key(&e, "former_handle");
        qm_emit_u64(&e, i->former_handle);
        emit_blob(&e, "former", &i->former);
    }
    emit_blob(&e, "ek_template", &i->ek.template);
    qm_emit_end(&e);
    qm_out_char(&o, '\n');
    if (o.full)
        return qm_fail(fault, QM_E_LIMIT, 0, "the identity is longer than %d KiB: fewer tags", QM_LINE_MAX / 512);
    return qm_state_write(dir, "identity.json", (struct qm_span){(const uint8_t *)line, o.len}, fault);
}

qm_err qm_proposal_print(const struct qm_identity *i, struct qm_fault *fault)
{
    static char line[QM_LINE_MAX];
    const char *why, *scheme = qm_ak_scheme((struct qm_span){i->ak.p, i->ak.len}, &why);
    struct qm_out o = qm_out_init(line, sizeof line);
    struct qm_emit e = qm_emit_init(&o, true);
    if (scheme == NULL)
        return qm_fail(fault, QM_E_FORMAT, 0, "the key cannot be enrolled: %s", why);
    qm_emit_map(&e);
    qm_emit_key(&e, "v");
    qm_emit_u64(&e, 1);
    qm_emit_key(&e, "kind");
    qm_emit_name(&e, "proposal");
    qm_emit_key(&e, "scheme");
    qm_emit_name(&e, scheme);
    qm_emit_key(&e, "select");
    qm_emit_array(&e);
    qm_emit_map(&e);
    qm_emit_key(&e, "bank");
    qm_emit_name(&e, "sha256");
    qm_emit_key(&e, "pcrs");
    qm_emit_array(&e);
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++)
        if ((i->pcrs >> pcr & 1) != 0)
            qm_emit_u64(&e, pcr);
    qm_emit_end(&e);
    qm_emit_end(&e);
    qm_emit_end(&e);
    emit_shared(&e, i);
    qm_emit_end(&e);
    qm_out_char(&o, '\n');
    if (o.full)
        return qm_fail(fault, QM_E_LIMIT, 0, "the proposal is longer than %d KiB: fewer tags", QM_LINE_MAX / 1024);
    fwrite(o.p, 1, o.len, stdout);
    return QM_OK;
}

/* ---- the key ----------------------------------------------------------------------------------------------------------- */

static qm_err open_file(struct qm_tpm *t, const struct qm_identity *i, struct qm_tpm_key *out, struct qm_fault *fault)
{
    uint8_t wrapped[QM_WRAPPED_MAX];
    int fd;
    *out = (struct qm_tpm_key){0};
    struct qm_fault why = {0};
    if (qm_file_open(i->file, &fd, &why) != QM_OK)
        return qm_fail(fault, QM_E_IO, 0, "the key file: %.400s", why.text);
    const ssize_t len = read(fd, wrapped, sizeof wrapped);
    const int sys = errno;
    close(fd);
    if (len < 0)
        return qm_fail(fault, QM_E_IO, sys, "the key file %.200s", i->file);
    return qm_key_unwrap(t, i->hierarchy, (struct qm_span){wrapped, (size_t)len}, out, fault);
}

qm_err qm_identity_key(struct qm_tpm *t, const struct qm_identity *i, struct qm_tpm_key *out, struct qm_fault *fault)
{
    bool there = true;
    qm_err err = i->handle != 0 ? qm_key_open(t, i->handle, out, &there, fault) : open_file(t, i, out, fault);
    if (err != QM_OK)
        return err;
    if (!there)
        return qm_fail(fault, QM_E_REFUSED, 0, "the attestation key is gone from 0x%x: quotemill-collect init makes it again",
                       i->handle);
    if (out->public.len == i->ak.len && memcmp(out->public.p, i->ak.p, i->ak.len) == 0)
        return QM_OK;
    qm_tpm_key_close(t, out);
    return qm_fail(fault, QM_E_REFUSED, 0, "another key than the attestation key is at %.200s",
                   i->handle != 0 ? "its handle" : i->file);
}

/* ---- PCRs, ids --------------------------------------------------------------------------------------------------------- */

/* Digits at *at, below QM_PCR_COUNT. */
static bool read_pcr(const char **at, unsigned *pcr)
{
    *pcr = 0;
    if (!isdigit((unsigned char)**at))
        return false;
    for (; isdigit((unsigned char)**at) && *pcr < QM_PCR_COUNT; ++*at)
        *pcr = 10 * *pcr + (unsigned)(**at - '0');
    return *pcr < QM_PCR_COUNT;
}

bool qm_pcrs_read(const char *text, uint32_t *mask)
{
    *mask = 0;
    for (;;) {
        unsigned first, last;
        if (!read_pcr(&text, &first))
            return false;
        last = first;
        if (*text == '-' && (text++, !read_pcr(&text, &last)))
            return false;
        if (last < first)
            return false;
        for (; first <= last; first++)
            *mask |= 1u << first;
        if (*text == '\0')
            return true;
        if (*text++ != ',')
            return false;
    }
}

/* The first line of a file that holds hex digits and dashes, lower case. */
static qm_err read_id(const char *path, size_t digits, uint8_t id[QM_ID_MAX], size_t *len, struct qm_fault *fault)
{
    char text[QM_ID_MAX];
    size_t hex = 0;
    bool same = true; /* all digits: firmware that nobody filled in says 0 or f */
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    const ssize_t n = fd >= 0 ? read(fd, text, sizeof text) : -1;
    const int sys = errno;
    if (fd >= 0)
        close(fd);
    if (n < 0)
        return qm_fail(fault, QM_E_IO, sys, "no id from %s; --id gives one", path);
    for (*len = 0; *len < (size_t)n && text[*len] != '\n'; ++*len) {
        const char c = (char)tolower((unsigned char)text[*len]);
        if (!isxdigit((unsigned char)c) && c != '-')
            return qm_fail(fault, QM_E_REFUSED, 0, "%s holds no id; --id gives one", path);
        same = same && (c == '-' || c == (char)tolower((unsigned char)text[0]));
        hex += c != '-';
        id[*len] = (uint8_t)c;
    }
    if (hex != digits || same)
        return qm_fail(fault, QM_E_REFUSED, 0, "%s holds no id; --id gives one", path);
    return QM_OK;
}

qm_err qm_id_machine(uint8_t id[QM_ID_MAX], size_t *len, struct qm_fault *fault)
{
    return read_id("/etc/machine-id", 32, id, len, fault);
}

qm_err qm_id_smbios(uint8_t id[QM_ID_MAX], size_t *len, struct qm_fault *fault)
{
    return read_id("/sys/class/dmi/id/product_uuid", 32, id, len, fault);
}
