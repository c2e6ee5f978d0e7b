/* Explained differences for explain_check.py: explain_driver LOG PCR=VALUE... (SHA-256, hex). For each PCR a line of JSON: its
 * list of events as it is stored, in hex ("" where none can be made), and what is said of the log when one event of the list is
 * another one (the first ten), when the list has one event more, and when it has one less. */
#include <stdio.h>
#include <stdlib.h>

#include "codec/text.h"
#include "engine/explain.h"
#include "tools/log_read.h"

enum { ENTRY = sizeof(struct qm_listed_event), HEAD = sizeof(struct qm_event_list_head), CHANGED_MAX = 10 };

static uint8_t bytes[QM_EVENT_LIST_BYTES_MAX + ENTRY], changed[sizeof bytes];

static void put_digest(struct qm_out *o, const uint8_t *digest)
{
    qm_out_char(o, '"');
    if (digest != NULL)
        qm_out_hex(o, digest, 32);
    qm_out_text(o, "\",");
}

static void explain(struct qm_out *o, struct qm_span log, unsigned pcr, size_t len)
{
    char text[QM_EVENT_TEXT_MAX];
    struct qm_event_list list;
    struct qm_event_diff d;
    bool read = qm_event_list_read((struct qm_span){changed, len}, &list);
    if (!read)
        abort();
    if (!qm_explain(log, pcr, &list, text, &d)) {
        qm_out_text(o, ",null");
        return;
    }
    qm_out_text(o, ",[");
    qm_out_u64(o, d.index);
    qm_out_char(o, ',');
    qm_out_u64(o, d.type);
    qm_out_char(o, ',');
    put_digest(o, d.digest);
    put_digest(o, d.expected_digest);
    qm_out_json_string(o, d.text);
    qm_out_text(o, d.proved ? ",true]" : ",false]");
}

static void set_head(uint32_t count, uint32_t words_len)
{
    struct qm_event_list_head head = {count, words_len};
    memcpy(changed, &head, sizeof head);
}

static void one_pcr(struct qm_out *o, struct qm_span log, unsigned pcr, const uint8_t value[32])
{
    struct qm_event_list_head head = {0};
    size_t len = qm_event_list_collect(log, pcr, value, bytes, QM_EVENT_LIST_BYTES_MAX);
    memcpy(&head, bytes, sizeof head);
    qm_out_text(o, "{\"pcr\":");
    qm_out_u64(o, pcr);
    qm_out_text(o, ",\"list\":\"");
    qm_out_hex(o, bytes, len);
    qm_out_text(o, "\",\"changed\":[0");
    for (uint32_t i = 0; len != 0 && i < head.count && i < CHANGED_MAX; i++) {
        memcpy(changed, bytes, len);
        changed[HEAD + (size_t)i * ENTRY + offsetof(struct qm_listed_event, digest)] ^= 1;
        explain(o, log, pcr, len);
    }
    qm_out_text(o, "],\"more\":[0");
    if (len != 0 && head.count < QM_EVENT_LIST_MAX) {
        static const struct qm_listed_event more = {.type = 77, .digest = {1, 2, 3}};
        const size_t events = HEAD + (size_t)head.count * ENTRY;
        memcpy(changed, bytes, events);
        memcpy(changed + events, &more, ENTRY);
        memcpy(changed + events + ENTRY, bytes + events, head.words_len);
        set_head(head.count + 1, head.words_len);
        explain(o, log, pcr, len + ENTRY);
    }
    qm_out_text(o, "],\"less\":[0");
    if (len != 0 && head.count != 0) {
        struct qm_listed_event last;
        const size_t events = HEAD + (size_t)(head.count - 1) * ENTRY;
        memcpy(&last, bytes + events, ENTRY);
        memcpy(changed, bytes, events);
        memcpy(changed + events, bytes + events + ENTRY, head.words_len - last.words_len);
        set_head(head.count - 1, head.words_len - last.words_len);
        explain(o, log, pcr, len - ENTRY - last.words_len);
    }
    qm_out_text(o, "]}\n");
}

int main(int argc, char **argv)
{
    struct qm_fault fault = {0};
    struct qm_span log;
    uint8_t *mem;
    const size_t room = 4 << 20;
    char *text = malloc(room);
    if (argc < 2 || text == NULL || qm_log_file_read(argv[1], &mem, &log.len, &fault) != QM_OK) {
        fprintf(stderr, "explain_driver LOG PCR=VALUE...: %s\n", fault.text);
        return 2;
    }
    log.p = mem;
    for (int i = 2; i < argc; i++) {
        uint8_t value[32];
        char *end;
        unsigned long pcr = strtoul(argv[i], &end, 10);
        struct qm_out o = qm_out_init(text, room);
        if (pcr >= QM_PCR_COUNT || *end != '=' || strlen(end + 1) != 64 || !qm_hex_read(end + 1, value, sizeof value))
            return 2;
        one_pcr(&o, log, (unsigned)pcr, value);
        if (o.full || fwrite(o.p, 1, o.len, stdout) != o.len)
            return 3;
    }
    free(mem);
    free(text);
    return fclose(stdout) == 0 ? 0 : 3;
}
