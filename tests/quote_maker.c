/* Makes evidence for the tests of the home: authentic quotes by order of a script. Reads lines of words parted by tabs:
 *
 *   key N KIND           makes key N ("p256", "rsa2048", …); answers with the TPMT_PUBLIC in base64
 *   record WORD…         appends one record to a file; a word is name=value:
 *     file=PATH id=TEXT key=N kind=KIND reset=N restart=N clock=MS safe=0|1
 *     extra=HEX          extraData
 *     pcr=N:TEXT         one event: its data is the text, its digest is extended into the PCR; in order, any number
 *     reset_pcr=N        that PCR keeps its reset value in the quote whatever its events say
 *     locality=N         where PCR 0 starts: what reset_pcr=0 leaves there
 *     log=no|yes|other|torn    without, with the events, with another last event, cut in its last event
 *     values=no|yes|wrong      `pcrs` in the record: without, as quoted, another PCR 9
 *     select=MASK magic=N      other than PCRs 0-9; other than the right one
 *     t=MS               the collector's clock
 *     broken=1           one bit of the signed bytes is turned after signing
 *   sync                 answers "ok" when all that was asked is in its files
 *
 * Keys are made once and have private halves of their own; a script that says the same record twice gets the same attest with,
 * for ECDSA, another signature. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/craft.h"

enum { EVENTS_MAX = 64, LINE_MAX_BYTES = 1 << 16 };

struct order {
    const char *file, *id, *kind, *extra, *log, *values;
    unsigned key;
    uint32_t reset, restart, magic, mask, kept;
    uint64_t clock_ms, t_ms;
    uint8_t safe, locality;
    bool broken;
    unsigned event_count;
    struct {
        unsigned pcr;
        const char *text;
    } event[EVENTS_MAX];
};

static void fail(const char *why, const char *what)
{
    fprintf(stderr, "quote_maker: %s: %s\n", why, what);
    exit(1);
}

static uint64_t number(const char *text)
{
    char *end;
    uint64_t n = strtoull(text, &end, 0);
    if (end == text || *end != '\0')
        fail("no number", text);
    return n;
}

static void take_event(struct order *o, char *value)
{
    char *text = strchr(value, ':');
    if (text == NULL || o->event_count == EVENTS_MAX)
        fail("no event, or one too many", value);
    *text++ = '\0';
    o->event[o->event_count].pcr = (unsigned)number(value);
    o->event[o->event_count++].text = text;
}

static void take_word(struct order *o, char *word)
{
    char *value = strchr(word, '=');
    if (value == NULL)
        fail("not name=value", word);
    *value++ = '\0';
    const struct {
        const char *name;
        const char **to;
    } texts[] = {{"file", &o->file},   {"id", &o->id},   {"kind", &o->kind},
                 {"extra", &o->extra}, {"log", &o->log}, {"values", &o->values}};
    const struct {
        const char *name;
        uint32_t *to;
    } numbers[] = {{"key", &o->key}, {"reset", &o->reset}, {"restart", &o->restart}, {"magic", &o->magic}, {"select", &o->mask}};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (strcmp(texts[i].name, word) == 0) {
            *texts[i].to = value;
            return;
        }
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (strcmp(numbers[i].name, word) == 0) {
            *numbers[i].to = (uint32_t)number(value);
            return;
        }
    if (strcmp(word, "clock") == 0)
        o->clock_ms = number(value);
    else if (strcmp(word, "t") == 0)
        o->t_ms = number(value);
    else if (strcmp(word, "safe") == 0)
        o->safe = (uint8_t)number(value);
    else if (strcmp(word, "broken") == 0)
        o->broken = number(value) != 0;
    else if (strcmp(word, "reset_pcr") == 0)
        o->kept |= 1u << number(value);
    else if (strcmp(word, "locality") == 0)
        o->locality = (uint8_t)number(value);
    else if (strcmp(word, "pcr") == 0)
        take_event(o, value);
    else
        fail("unknown word", word);
}

static enum qm_scheme scheme_of(const char *kind)
{
    return kind[0] == 'r' ? QM_SCHEME_RSASSA : QM_SCHEME_ECDSA;
}

/* What is written again and again grows once. */
static struct craft attest, sig, log_bytes, log_other, values, record, extra;

static struct qm_span bytes_of(const char *hex)
{
    extra.len = 0;
    for (; hex[0] != '\0' && hex[1] != '\0'; hex += 2) {
        char two[3] = {hex[0], hex[1], '\0'};
        craft_be(&extra, strtoull(two, NULL, 16), 1);
    }
    return craft_span(&extra);
}

static void measure(const struct order *o, struct craft_pcrs *pcrs)
{
    const unsigned bank = 1u << QM_HASH_SHA256;
    craft_pcrs_reset(pcrs);
    log_bytes.len = log_other.len = 0;
    craft_log_open(&log_bytes, bank);
    for (unsigned i = 0; i < o->event_count; i++) {
        if (i + 1 == o->event_count) {
            craft_put(&log_other, log_bytes.p, log_bytes.len);
            craft_log_event(&log_other, bank, o->event[i].pcr, 0xd, "another event", NULL);
        }
        craft_log_event(&log_bytes, bank, o->event[i].pcr, 0xd, o->event[i].text, pcrs);
    }
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++)
        if ((o->kept >> pcr & 1) != 0)
            memset(pcrs->value[QM_HASH_SHA256][pcr], 0, 32);
    if ((o->kept & 1) != 0)
        pcrs->value[QM_HASH_SHA256][0][31] = o->locality;
}

static struct qm_span log_of(const struct order *o)
{
    if (strcmp(o->log, "no") == 0)
        return (struct qm_span){NULL, 0};
    if (strcmp(o->log, "other") == 0)
        return craft_span(&log_other);
    if (strcmp(o->log, "torn") == 0)
        return (struct qm_span){log_bytes.p, log_bytes.len - 1};
    return craft_span(&log_bytes);
}

static void make_record(const struct order *o)
{
    struct qm_profile p = {.hash = QM_HASH_SHA256, .select_count = 1};
    p.select[0].hash = QM_HASH_SHA256;
    p.select[0].mask = o->mask;
    struct craft_key *key = craft_key(o->kind, o->key);
    static struct craft_pcrs pcrs;
    measure(o, &pcrs);
    struct craft_attest a = {.magic = o->magic, .extra = bytes_of(o->extra), .select_count = 1, .clock_ms = o->clock_ms,
                             .firmware = 0x0001000200030004, .reset = o->reset, .restart = o->restart, .safe = o->safe,
                             .digest_len = 32};
    a.select[0].tpm_alg = QM_TPM_ALG_SHA256;
    a.select[0].size = 3;
    a.select[0].mask = o->mask;
    uint8_t composite[QM_PCR_COUNT * 32];
    size_t len = 0;
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++)
        if ((o->mask >> pcr & 1) != 0) {
            memcpy(composite + len, pcrs.value[QM_HASH_SHA256][pcr], 32);
            len += 32;
        }
    craft_hash(QM_HASH_SHA256, (struct qm_span){composite, len}, a.digest);
    attest.len = sig.len = values.len = record.len = 0;
    craft_attest(&attest, &a);
    craft_sign(&sig, key, scheme_of(o->kind), QM_HASH_SHA256, craft_span(&attest));
    if (o->broken)
        attest.p[attest.len - 1] ^= 1;
    if (strcmp(o->values, "wrong") == 0)
        pcrs.value[QM_HASH_SHA256][9][0] ^= 1;
    if (strcmp(o->values, "no") != 0)
        craft_pcrs_map(&values, &pcrs, &p);
    struct craft_record r = {.id = o->id, .quote = craft_span(&attest), .sig = craft_span(&sig), .log = log_of(o),
                             .has_t = o->t_ms != 0, .t_ms = o->t_ms};
    if (values.len != 0)
        r.pcrs = craft_span(&values);
    craft_record(&record, &r);
    FILE *f = fopen(o->file, "ab");
    if (f == NULL || fwrite(record.p, 1, record.len, f) != record.len || fclose(f) != 0)
        fail("cannot write", o->file);
}

static void make_key(char *words)
{
    char *kind = strchr(words, '\t');
    if (kind == NULL)
        fail("no kind of key", words);
    *kind++ = '\0';
    struct craft public = {0};
    craft_tpmt_public(&public, craft_key(kind, (unsigned)number(words)), CRAFT_AK_ATTRIBUTES, QM_TPM_ALG_NULL, 0);
    printf("%s\n", craft_base64(craft_span(&public)));
    fflush(stdout);
}

int main(void)
{
    static char line[LINE_MAX_BYTES];
    while (fgets(line, sizeof line, stdin) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "key\t", 4) == 0) {
            make_key(line + 4);
        } else if (strncmp(line, "record\t", 7) == 0) {
            struct order o = {.kind = "p256", .extra = "", .log = "yes", .values = "no", .mask = 0x3ff};
            char *rest = NULL;
            for (char *word = strtok_r(line + 7, "\t", &rest); word != NULL; word = strtok_r(NULL, "\t", &rest))
                take_word(&o, word);
            if (o.file == NULL || o.id == NULL)
                fail("no file or id in", "record");
            make_record(&o);
        } else if (strcmp(line, "sync") == 0) {
            printf("ok\n");
            fflush(stdout);
        } else {
            fail("unknown order", line);
        }
    }
    craft_free_all();
    return 0;
}
