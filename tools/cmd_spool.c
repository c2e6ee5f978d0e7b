/* spool: one record from standard input, checked, delivered whole. What transports call. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "codec/evidence.h"
#include "codec/text.h"
#include "tools/command.h"
#include "tools/options.h"
#include "tools/spool/spool.h"

/* One byte more than a record may have, so that what is longer is seen. */
static qm_err read_stdin(uint8_t *to, size_t *len, struct qm_fault *fault)
{
    *len = 0;
    while (*len <= QM_RECORD_MAX) {
        ssize_t n = read(STDIN_FILENO, to + *len, QM_RECORD_MAX + 1 - *len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return qm_fail(fault, QM_E_IO, errno, "cannot read standard input");
        if (n == 0)
            break;
        *len += (size_t)n;
    }
    return QM_OK;
}

static void shown_id(struct qm_span id, char *text, size_t cap)
{
    struct qm_out o = qm_out_init(text, cap - 1);
    qm_out_shown(&o, id);
    text[o.len] = '\0';
}

/* Exactly one record that keeps the rules, and of that machine. */
static qm_err check(struct qm_span bytes, const char *as, struct qm_evidence *e, struct qm_fault *fault)
{
    char has[8 * QM_ID_MAX + 1];
    if (bytes.len == 0)
        return qm_fail(fault, QM_E_REFUSED, 0, "standard input is empty");
    if (bytes.len > QM_RECORD_MAX)
        return qm_fail(fault, QM_E_REFUSED, 0, "standard input is longer than a record may be (%d bytes)", QM_RECORD_MAX);
    switch (qm_evidence_read(bytes, e)) {
    case QM_FRAME_MORE:
        return qm_fail(fault, QM_E_REFUSED, 0, "the record is cut short: %zu bytes end inside it", bytes.len);
    case QM_FRAME_OVER:
    case QM_FRAME_LOST:
        return qm_fail(fault, QM_E_REFUSED, 0, "standard input is no evidence record (a msgpack map)");
    case QM_FRAME_RECORD:
        break;
    }
    if (e->record.len != bytes.len)
        return qm_fail(fault, QM_E_REFUSED, 0, "%zu bytes follow the record: one record at a time", bytes.len - e->record.len);
    if (e->malformed)
        return qm_fail(fault, QM_E_REFUSED, 0, "the record is malformed: a key is missing, doubled or over its cap");
    if (as == NULL || qm_span_eq(e->id, (struct qm_span){(const uint8_t *)as, strlen(as)}))
        return QM_OK;
    shown_id(e->id, has, sizeof has);
    return qm_fail(fault, QM_E_REFUSED, 0, "the record is of '%.300s', not of the machine given by --as", has);
}

static int say(const char *to, const char *name, const struct qm_evidence *e)
{
    char text[48 * 1024];
    struct qm_out o = qm_out_init(text, sizeof text);
    char path[4096 + QM_SPOOL_NAME_MAX];
    int n = snprintf(path, sizeof path, "%.4095s/%s", to, name);
    qm_out_text(&o, "{\"kind\":\"spooled\",\"file\":");
    qm_out_json_string(&o, (struct qm_span){(const uint8_t *)path, (size_t)n});
    qm_out_text(&o, ",\"id\":");
    qm_out_json_string(&o, e->id);
    qm_out_text(&o, ",\"bytes\":");
    qm_out_u64(&o, e->record.len);
    qm_out_text(&o, "}\n");
    fwrite(o.p, 1, o.len, stdout);
    return qm_stdout_close("spool");
}

int qm_cmd_spool(int argc, char **argv)
{
    const char *to = NULL, *as = NULL;
    bool json = false;
    const struct qm_option options[] = {
        {.name = "to", .kind = QM_OPT_TEXT, .to = &to, .value = "DIR", .help = "the spool directory, or a sender's own one in it"},
        {.name = "as", .kind = QM_OPT_TEXT, .to = &as, .value = "ID", .help = "refuse a record of any other instance"},
        {.name = "json", .kind = QM_OPT_FLAG, .to = &json, .help = "say what was delivered as one JSON object"},
    };
    static const struct qm_usage usage = {
        "spool", "", "Delivers one evidence record from standard input into a spool: checked, whole, under a name of its own.",
        "The record is written to a hidden file, synced and renamed, so that a run sees all of it or nothing. Its signature is not\n"
        "checked here. A transport that knows who is sending should say so with --as.\n"
        "Exit codes: 0 delivered, 1 refused: not one well-formed record, or of another instance, 3 it could not be written.\n"};
    int first, code;
    if (!qm_options_parse(&usage, options, QM_COUNT(options), argc, argv, 0, 0, &first, &code))
        return code;
    if (to == NULL)
        return qm_complain_usage("spool", "--to DIR is missing; see quotemill spool --help");
    if (as != NULL && !qm_id_ok((struct qm_span){(const uint8_t *)as, strlen(as)}))
        return qm_complain_usage("spool", "--as wants an instance id: 1 to %d bytes of UTF-8 without control characters", QM_ID_MAX);
    struct qm_fault fault = {0};
    struct qm_evidence e;
    char name[QM_SPOOL_NAME_MAX];
    size_t len = 0;
    uint8_t *bytes = malloc(QM_RECORD_MAX + 1);
    qm_err err = bytes != NULL ? read_stdin(bytes, &len, &fault) : qm_fail(&fault, QM_E_NOMEM, 0, "no memory for a record");
    if (err == QM_OK)
        err = check((struct qm_span){bytes, len}, as, &e, &fault);
    if (err == QM_OK)
        err = qm_spool_deliver(to, e.id, e.record, name, &fault);
    if (err != QM_OK)
        code = qm_complain("spool", &fault);
    else
        code = json ? say(to, name, &e) : QM_EXIT_OK;
    free(bytes);
    return code;
}
