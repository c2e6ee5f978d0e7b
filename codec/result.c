#include "codec/result.h"

#include <assert.h>

#include "codec/emit.h"

static const char *const status_names[QM_STATUS_COUNT] = {"invalid", "untrusted", "new", "trusted", "duplicate"};
static const char *const reason_names[QM_REASON_COUNT] = {
    "malformed", "unknown_instance", "not_a_quote",  "bad_signature",      "wrong_selection", "stale_nonce", "duplicate",
    "replayed",  "pcr_mismatch",     "pcr_values_missing", "log_required", "no_baseline",     "learned",     "ok"};
static const char *const log_names[QM_LOG_STATE_COUNT] = {"not_checked",  "absent",       "malformed",
                                                          "unreplayable", "inconsistent", "replayed"};
static const char *const stage_state_names[QM_STAGE_STATE_COUNT] = {"unknown", "pass", "fail", "not_reached"};
static const char *const fresh_names[QM_FRESH_COUNT] = {"", "clock", "beacon", "nonce"};
/* PC Client Platform Firmware Profile, 3.3.4, for 0-7; Linux and systemd usage for 8-15; Library part 1 for the rest. */
static const char *const stage_names[QM_PCR_COUNT] = {
    "firmware and S-CRTM",
    "platform configuration",
    "UEFI drivers and applications",
    "UEFI driver configuration",
    "boot manager code",
    "boot configuration and GPT",
    "manufacturer",
    "secure boot policy",
    "kernel command line and grub configuration",
    "grub modules, kernel and initramfs",
    "IMA measurements",
    "unified kernel image",
    "kernel parameters and credentials",
    "system extensions",
    "shim and machine owner keys",
    "system identity",
    "debug",
    "dynamic launch code",
    "dynamic launch configuration",
    "trusted operating system",
    "trusted operating system",
    "trusted operating system",
    "trusted operating system",
    "application support",
};

const char *qm_status_name(enum qm_status s)
{
    return status_names[s];
}

const char *qm_reason_name(enum qm_reason r)
{
    return reason_names[r];
}

const char *qm_log_state_name(enum qm_log_state s)
{
    return log_names[s];
}

const char *qm_stage_state_name(enum qm_stage_state s)
{
    return stage_state_names[s];
}

const char *qm_fresh_name(enum qm_fresh f)
{
    return fresh_names[f];
}

const char *qm_stage_name(unsigned pcr)
{
    return stage_names[pcr];
}

static void named(struct qm_emit *e, const char *key, const char *text)
{
    qm_emit_key(e, key);
    qm_emit_name(e, text);
}

static void number(struct qm_emit *e, const char *key, uint64_t v)
{
    qm_emit_key(e, key);
    qm_emit_u64(e, v);
}

static void bytes(struct qm_emit *e, const char *key, const uint8_t *p, size_t len)
{
    qm_emit_key(e, key);
    qm_emit_bytes(e, p, len);
}

static void home_name(struct qm_emit *e, const char *home)
{
    if (home == NULL || home[0] == '\0')
        return;
    qm_emit_key(e, "home");
    qm_emit_text(e, (struct qm_span){(const uint8_t *)home, strlen(home)});
}

static void write_stages(struct qm_emit *e, const struct qm_result *r)
{
    qm_emit_key(e, "stages");
    qm_emit_array(e);
    for (unsigned i = 0; i < r->stage_count; i++) {
        const struct qm_stage *s = &r->stage[i];
        qm_emit_map(e);
        number(e, "pcr", s->pcr);
        named(e, "name", stage_names[s->pcr]);
        named(e, "state", stage_state_names[s->state]);
        if (s->measured != NULL)
            bytes(e, "measured", s->measured, 32);
        if (s->expected != NULL)
            bytes(e, "expected", s->expected, 32);
        qm_emit_end(e);
    }
    qm_emit_end(e);
}

/* Every PCR that differs from the nearest accepted set. */
static void write_changes(struct qm_emit *e, const struct qm_result *r)
{
    qm_emit_key(e, "changes");
    qm_emit_array(e);
    for (unsigned i = 0; i < r->stage_count; i++) {
        const struct qm_stage *s = &r->stage[i];
        if (s->measured == NULL || s->expected == NULL || memcmp(s->measured, s->expected, 32) == 0)
            continue;
        qm_emit_map(e);
        number(e, "pcr", s->pcr);
        bytes(e, "expected", s->expected, 32);
        bytes(e, "measured", s->measured, 32);
        qm_emit_end(e);
    }
    qm_emit_end(e);
}

static void write_event(struct qm_emit *e, const struct qm_result *r)
{
    const struct qm_event_diff *d = &r->event;
    qm_emit_map(e);
    number(e, "index", d->index);
    number(e, "pcr", (uint64_t)r->first_fail);
    number(e, "type", d->type);
    if (d->digest != NULL)
        bytes(e, "digest", d->digest, 32);
    if (d->expected_digest != NULL)
        bytes(e, "expected_digest", d->expected_digest, 32);
    qm_emit_key(e, "text");
    qm_emit_text(e, d->text);
    qm_emit_key(e, "proved");
    qm_emit_bool(e, d->proved);
    qm_emit_end(e);
}

void qm_result_event_json(struct qm_out *out, const struct qm_result *r)
{
    struct qm_emit e = qm_emit_init(out, true);
    write_event(&e, r);
}

void qm_result_write(struct qm_out *out, const struct qm_result *r, enum qm_format format, bool stages)
{
    assert(out->cap - out->len >= QM_RESULT_MAX);
    struct qm_emit e = qm_emit_init(out, format == QM_FORMAT_NDJSON);
    qm_emit_map(&e);
    number(&e, "v", 1);
    named(&e, "kind", "status");
    named(&e, "run", r->run);
    home_name(&e, r->home);
    qm_emit_key(&e, "src");
    qm_emit_text(&e, (struct qm_span){r->source.p, r->source.len < QM_SOURCE_MAX ? r->source.len : QM_SOURCE_MAX});
    number(&e, "off", r->off);
    number(&e, "len", r->len);
    qm_emit_key(&e, "id");
    qm_emit_text(&e, r->id);
    named(&e, "status", status_names[r->status]);
    named(&e, "reason", reason_names[r->reason]);
    named(&e, "log", log_names[r->log]);
    if (r->count != 0)
        number(&e, "count", r->count);
    if (r->status != QM_INVALID && (stages || r->status != QM_TRUSTED))
        write_stages(&e, r);
    if (r->first_fail >= 0)
        number(&e, "first_fail", (uint64_t)r->first_fail);
    if (r->reason == QM_PCR_MISMATCH && r->proven)
        write_changes(&e, r);
    if (r->has_event) {
        qm_emit_key(&e, "event");
        write_event(&e, r);
    }
    if (r->has_clock && r->status != QM_TRUSTED)
        bytes(&e, "pcr_digest", r->pcr_digest.p, r->pcr_digest.len);
    if (r->has_attest)
        bytes(&e, "attest", r->attest, sizeof r->attest);
    if (r->has_clock) {
        number(&e, "clock", r->clock_ms);
        number(&e, "reset", r->reset);
        number(&e, "restart", r->restart);
        qm_emit_key(&e, "safe");
        qm_emit_bool(&e, r->safe != 0);
        number(&e, "firmware", r->firmware);
    }
    if (r->has_t)
        number(&e, "t", r->t_ms);
    number(&e, "checked", r->checked_ms);
    if (r->has_baseline)
        number(&e, "baseline", r->baseline);
    if (r->set_a != 0 || r->set_b != 0) {
        qm_emit_key(&e, "sets");
        qm_emit_array(&e);
        qm_emit_u64(&e, r->set_a);
        if (r->set_b != 0)
            qm_emit_u64(&e, r->set_b);
        qm_emit_end(&e);
    }
    if (r->beacon != 0)
        number(&e, "beacon", r->beacon);
    if (r->has_state) {
        named(&e, "fresh", fresh_names[r->fresh]);
        number(&e, "boots", r->boots);
    }
    qm_emit_end(&e);
    if (format == QM_FORMAT_NDJSON)
        qm_out_char(out, '\n');
    assert(!out->full);
}

void qm_run_write(struct qm_out *out, const struct qm_run *r, enum qm_format format)
{
    struct qm_emit e = qm_emit_init(out, format == QM_FORMAT_NDJSON);
    qm_emit_map(&e);
    number(&e, "v", 1);
    named(&e, "kind", "run");
    named(&e, "run", r->run);
    home_name(&e, r->home);
    number(&e, "start", r->start_ms);
    number(&e, "end", r->end_ms);
    qm_emit_key(&e, "complete");
    qm_emit_bool(&e, r->complete);
    number(&e, "files", r->files);
    number(&e, "records", r->records);
    number(&e, "bytes", r->bytes);
    qm_emit_key(&e, "by_status");
    qm_emit_map(&e);
    for (unsigned i = 0; i < QM_STATUS_COUNT; i++)
        if (r->by_status[i] != 0)
            number(&e, status_names[i], r->by_status[i]);
    qm_emit_end(&e);
    qm_emit_key(&e, "by_reason");
    qm_emit_map(&e);
    for (unsigned i = 0; i < QM_REASON_COUNT; i++)
        if (r->by_reason[i] != 0)
            number(&e, reason_names[i], r->by_reason[i]);
    qm_emit_end(&e);
    named(&e, "version", r->version);
    qm_emit_key(&e, "kernels");
    qm_emit_map(&e);
    for (size_t i = 0; i < r->kernel_count; i++)
        named(&e, r->kernel[i].what, r->kernel[i].name);
    qm_emit_end(&e);
    number(&e, "generation", r->generation);
    qm_emit_end(&e);
    if (format == QM_FORMAT_NDJSON)
        qm_out_char(out, '\n');
}
