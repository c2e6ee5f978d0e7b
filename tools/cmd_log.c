/* quotemill log: an event log decoded, with its replayed PCRs. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "codec/emit.h"
#include "codec/eventtext.h"
#include "codec/result.h"
#include "engine/explain.h"
#include "tools/command.h"
#include "tools/log_read.h"
#include "tools/options.h"

enum { SHORT_DIGEST = 8 /* bytes shown in a line */ };

static const char *format_name(const struct qm_log_view *v)
{
    return v->log.format == QM_LOG_AGILE ? "crypto-agile" : "sha1-legacy";
}

static void bank_name(struct qm_out *o, const struct qm_log_bank *bank)
{
    if (bank->hash != QM_HASH_NONE) {
        qm_out_text(o, qm_hash_name(bank->hash));
    } else {
        uint8_t id[2] = {(uint8_t)(bank->tpm_alg >> 8), (uint8_t)bank->tpm_alg};
        qm_out_text(o, "0x");
        qm_out_hex(o, id, sizeof id);
    }
}

/* What was written so far goes out; the buffer begins anew. */
static void flush(struct qm_out *o)
{
    assert(!o->full);
    fwrite(o->p, 1, o->len, stdout);
    o->len = 0;
}

/* ---- JSON
 * ----------------------------------------------------------------------------------------------------------
 */

static void json_event(struct qm_out *o, const struct qm_event *e)
{
    char line[QM_EVENT_LINE_MAX];
    struct qm_out text = qm_out_init(line, sizeof line);
    struct qm_emit j = qm_emit_init(o, true);
    const char *name = qm_event_type_name(e->type);
    const char *proved = qm_event_proved_part(e);
    qm_event_describe(e, &text);
    qm_emit_map(&j);
    qm_emit_key(&j, "index");
    qm_emit_u64(&j, e->index);
    qm_emit_key(&j, "pcr");
    qm_emit_u64(&j, e->pcr);
    qm_emit_key(&j, "type");
    qm_emit_u64(&j, e->type);
    qm_emit_key(&j, "type_name");
    if (name != NULL)
        qm_emit_name(&j, name);
    else
        qm_emit_null(&j);
    qm_emit_key(&j, "digests");
    qm_emit_map(&j);
    for (enum qm_hash h = QM_HASH_SHA1; h < QM_HASH_COUNT; h++)
        if (e->digest[h] != NULL) {
            qm_emit_key(&j, qm_hash_name(h));
            qm_emit_bytes(&j, e->digest[h], qm_hash_size(h));
        }
    qm_emit_end(&j);
    qm_emit_key(&j, "size");
    qm_emit_u64(&j, e->data.len);
    qm_emit_key(&j, "text");
    qm_emit_text(&j, (struct qm_span){(const uint8_t *)line, text.len});
    qm_emit_key(&j, "proved");
    qm_emit_bool(&j, proved != NULL);
    if (proved != NULL) {
        qm_emit_key(&j, "proved_part");
        qm_emit_name(&j, proved);
    }
    qm_emit_key(&j, "detail");
    qm_event_json(e, o);
    qm_emit_end(&j);
}

static void json_pcr_key(struct qm_emit *j, unsigned pcr)
{
    char key[12];
    snprintf(key, sizeof key, "%u", pcr);
    qm_emit_key(j, key);
}

/* "pcrs", and "incomplete": the PCRs of a bank that an event extends without its digest. */
static void json_pcrs(struct qm_emit *j, const struct qm_log_view *v)
{
    uint32_t lacking = 0;
    qm_emit_key(j, "pcrs");
    qm_emit_map(j);
    for (unsigned b = 0; v->opened && !v->malformed && b < v->log.bank_count; b++) {
        enum qm_hash h = v->log.bank[b].hash;
        if (h == QM_HASH_NONE)
            continue;
        lacking |= v->lacking[h];
        qm_emit_key(j, qm_hash_name(h));
        qm_emit_map(j);
        for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++)
            if ((v->shown[h] >> pcr & 1) != 0) {
                json_pcr_key(j, pcr);
                qm_emit_bytes(j, v->value[h][pcr], qm_hash_size(h));
            }
        qm_emit_end(j);
    }
    qm_emit_end(j);
    if (lacking == 0)
        return;
    qm_emit_key(j, "incomplete");
    qm_emit_map(j);
    for (enum qm_hash h = QM_HASH_SHA1; h < QM_HASH_COUNT; h++) {
        if (v->lacking[h] == 0)
            continue;
        qm_emit_key(j, qm_hash_name(h));
        qm_emit_array(j);
        for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++)
            if ((v->lacking[h] >> pcr & 1) != 0)
                qm_emit_u64(j, pcr);
        qm_emit_end(j);
    }
    qm_emit_end(j);
}

static void print_json(const struct qm_log_view *v, struct qm_out *o)
{
    struct qm_emit j = qm_emit_init(o, true);
    qm_emit_map(&j);
    qm_emit_key(&j, "format");
    if (v->opened)
        qm_emit_name(&j, format_name(v));
    else
        qm_emit_null(&j);
    qm_emit_key(&j, "banks");
    qm_emit_array(&j);
    for (unsigned b = 0; v->opened && b < v->log.bank_count; b++) {
        char name[16];
        struct qm_out n = qm_out_init(name, sizeof name - 1);
        bank_name(&n, &v->log.bank[b]);
        name[n.len] = '\0';
        qm_emit_name(&j, name);
    }
    qm_emit_end(&j);
    qm_emit_key(&j, "events");
    qm_out_char(o, '[');
    flush(o);
    struct qm_log log = v->log;
    struct qm_event e;
    while (v->opened && qm_log_next(&log, &e) == QM_LOG_EVENT) {
        if (e.index != 0)
            qm_out_char(o, ',');
        json_event(o, &e);
        flush(o);
    }
    qm_out_char(o, ']');
    json_pcrs(&j, v);
    qm_emit_key(&j, "status");
    qm_emit_name(&j, qm_log_view_status(v));
    if (v->malformed) {
        qm_emit_key(&j, "malformed_at");
        qm_emit_u64(&j, v->malformed_at);
    }
    qm_emit_end(&j);
    qm_out_char(o, '\n');
    flush(o);
}

/* ---- for people
 * ----------------------------------------------------------------------------------------------------
 */

static enum qm_hash shown_bank(const struct qm_event *e)
{
    static const enum qm_hash order[] = {QM_HASH_SHA256, QM_HASH_SHA384, QM_HASH_SHA512,
                                         QM_HASH_SHA1};
    for (size_t i = 0; i < QM_COUNT(order); i++)
        if (e->digest[order[i]] != NULL)
            return order[i];
    return QM_HASH_NONE;
}

static void print_event(const struct qm_event *e, struct qm_out *o)
{
    char pcr[12] = "-", type[40], digest[2 * SHORT_DIGEST + 1] = "-";
    const char *name = qm_event_type_name(e->type);
    enum qm_hash h = shown_bank(e);
    if (e->pcr != QM_PCR_NONE)
        snprintf(pcr, sizeof pcr, "%u", e->pcr);
    if (name != NULL)
        snprintf(type, sizeof type, "%s", name);
    else
        snprintf(type, sizeof type, "0x%08x", e->type);
    if (h != QM_HASH_NONE) {
        qm_hex_write(digest, e->digest[h], SHORT_DIGEST);
        digest[sizeof digest - 1] = '\0';
    }
    const char *mark = !e->extends ? "-" : qm_event_proved_part(e) != NULL ? "proved" : "claimed";
    printf("%5u %3s  %-32s  %-16s  %-7s  ", e->index, pcr, type, digest, mark);
    qm_event_describe(e, o);
    qm_out_char(o, '\n');
    flush(o);
}

static void print_pcrs(const struct qm_log_view *v, struct qm_out *o)
{
    for (unsigned b = 0; b < v->log.bank_count; b++) {
        enum qm_hash h = v->log.bank[b].hash;
        if (h == QM_HASH_NONE)
            continue;
        printf("\nPCRs replayed, %s\n", qm_hash_name(h));
        for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++) {
            if (((v->shown[h] | v->lacking[h]) >> pcr & 1) == 0)
                continue;
            printf("%5u  %-42s  ", pcr, qm_stage_name(pcr));
            if ((v->lacking[h] >> pcr & 1) != 0)
                qm_out_text(o, "an event extends it without a digest of this bank");
            else
                qm_out_hex(o, v->value[h][pcr], qm_hash_size(h));
            qm_out_char(o, '\n');
            flush(o);
        }
    }
}

static void print_people(const struct qm_log_view *v, struct qm_out *o)
{
    if (v->opened) {
        qm_out_text(o, format_name(v));
        qm_out_text(o, " log, ");
        qm_out_u64(o, v->event_count);
        qm_out_text(o, v->event_count == 1 ? " event, banks" : " events, banks");
        for (unsigned b = 0; b < v->log.bank_count; b++) {
            qm_out_char(o, ' ');
            bank_name(o, &v->log.bank[b]);
        }
        qm_out_text(o, "\n\n");
        flush(o);
        printf("%5s %3s  %-32s  %-16s  %-7s  %s\n", "event", "pcr", "type", "digest", "data is",
               "text");
    }
    struct qm_log log = v->log;
    struct qm_event e;
    while (v->opened && qm_log_next(&log, &e) == QM_LOG_EVENT)
        print_event(&e, o);
    if (v->opened && !v->malformed)
        print_pcrs(v, o);
    printf("%sstatus: %s\n", v->opened ? "\n" : "", qm_log_view_status(v));
}

static int show(const char *path, struct qm_span bytes, bool json)
{
    struct qm_log_view *v = malloc(sizeof *v);
    if (v != NULL)
        qm_log_view_init(v, bytes);
    /* One event at a time, the escaped line among it; PCRs and bank names need far less. */
    size_t cap = v != NULL ? qm_event_json_max(v->data_max) + 8 * QM_EVENT_LINE_MAX : 0;
    char *buffer = v != NULL ? malloc(cap) : NULL;
    if (buffer == NULL) {
        free(v);
        return qm_complain("log", &(struct qm_fault){.err = QM_E_NOMEM});
    }
    struct qm_out o = qm_out_init(buffer, cap);
    if (json)
        print_json(v, &o);
    else
        print_people(v, &o);
    int code = qm_stdout_close("log");
    if (v->malformed) {
        qm_out_shown(&o, (struct qm_span){(const uint8_t *)path, strnlen(path, 256)});
        fprintf(stderr,
                "quotemill log: '%.*s' is malformed at byte %zu of %zu, after %zu whole events\n",
                (int)o.len, buffer, v->malformed_at, bytes.len, v->event_count);
        code = code == QM_EXIT_OK ? QM_EXIT_FOUND : code;
    }
    free(buffer);
    free(v);
    return code;
}

int qm_cmd_log(int argc, char **argv)
{
    bool json = false;
    const struct qm_option options[] = {
        {.name = "json", .kind = QM_OPT_FLAG, .to = &json, .help = "one JSON object on one line"},
    };
    static const struct qm_usage usage = {
        .command = "log",
        .operands = "FILE",
        .summary = "Shows an event log decoded, with its replayed PCRs; - is standard input.",
        .text = "Data is \"proved\" where it hashes to the event's digest, else it is only "
                "\"claimed\": types and data are not\n"
                "measured. EV_NO_ACTION events are never measured.\n"
                "Exit codes: 0 the log was read, 1 it is malformed, 3 it could not be read.\n",
    };
    int first, code;
    if (!qm_options_parse(&usage, options, QM_COUNT(options), argc, argv, 1, 1, &first, &code))
        return code;
    uint8_t *bytes;
    size_t len;
    struct qm_fault fault = {0};
    if (qm_log_file_read(argv[first], &bytes, &len, &fault) != QM_OK)
        return qm_complain("log", &fault);
    code = show(argv[first], (struct qm_span){bytes, len}, json);
    free(bytes);
    return code;
}
