/* Fuzz target: explained differences. The input is a log that is compared with the lists of a sound one and of which lists are
 * made, and it is a list that a sound log is compared with. */
#include <assert.h>
#include <stdlib.h>

#include "engine/explain.h"
#include "engine/replay.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ROOM = QM_EVENT_LIST_BYTES_MAX };
static uint8_t *sound_list, *room;
static size_t sound_list_len;
static uint8_t sound_log[1024];
static size_t sound_log_len;

static void put(const void *p, size_t len)
{
    memcpy(sound_log + sound_log_len, p, len);
    sound_log_len += len;
}

static void put32(uint32_t v)
{
    const uint8_t le[4] = {(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24)};
    put(le, sizeof le);
}

/* A header that announces SHA-256, and five events of PCR 8. */
static void make_sound(void)
{
    static const uint8_t spec[33] = "Spec ID Event03\0\0\0\0\0\0\2\0\2\1\0\0\0\x0b\0\x20\0";
    static const uint8_t zeros[20];
    uint8_t value[QM_PCR_COUNT][QM_DIGEST_MAX];
    put32(0);
    put32(QM_EV_NO_ACTION);
    put(zeros, sizeof zeros);
    put32(sizeof spec);
    put(spec, sizeof spec);
    for (unsigned i = 0; i < 5; i++) {
        const uint8_t words[] = {'c', 'm', 'd', ' ', (uint8_t)('0' + i)};
        uint8_t digest[32];
        qm_hash_one(QM_HASH_SHA256, (struct qm_span){words, sizeof words}, digest);
        put32(8);
        put32(13);
        put32(1);
        put("\x0b", 2);
        put(digest, sizeof digest);
        put32(sizeof words);
        put(words, sizeof words);
    }
    sound_list = malloc(ROOM);
    room = malloc(ROOM);
    assert(sound_list != NULL && room != NULL);
    bool replayed = qm_replay_bank((struct qm_span){sound_log, sound_log_len}, QM_HASH_SHA256, 1 << 8, value);
    assert(replayed);
    sound_list_len = qm_event_list_collect((struct qm_span){sound_log, sound_log_len}, 8, value[8], sound_list, ROOM);
    assert(sound_list_len != 0);
}

/* Holds for any log and any list that can be read. */
static bool check_explained(struct qm_span log, unsigned pcr, const struct qm_event_list *list)
{
    static char text[QM_EVENT_TEXT_MAX];
    struct qm_event_diff d;
    if (!qm_explain(log, pcr, list, text, &d))
        return false;
    assert(d.digest != NULL || d.expected_digest != NULL);
    assert(d.digest == NULL || (d.digest > log.p && d.digest + 32 <= log.p + log.len));
    assert(d.digest == NULL || d.expected_digest == NULL || memcmp(d.digest, d.expected_digest, 32) != 0);
    assert(d.text.len <= (d.digest != NULL ? QM_EVENT_TEXT_MAX : QM_EVENT_WORDS_MAX));
    for (size_t i = 0; i < d.text.len; i++)
        assert(d.text.p[i] >= 0x20 && d.text.p[i] < 0x7f);
    return true;
}

/* What is collected of a log can be read, and does not differ from that log. */
static void check_collected(struct qm_span log)
{
    uint8_t value[QM_PCR_COUNT][QM_DIGEST_MAX];
    if (!qm_replay_bank(log, QM_HASH_SHA256, 0xffffff, value))
        return;
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++) {
        struct qm_event_list list;
        struct qm_span words;
        size_t len = qm_event_list_collect(log, pcr, value[pcr], room, ROOM);
        if (len == 0)
            continue; /* too many events */
        bool read = qm_event_list_read((struct qm_span){room, len}, &list);
        assert(read);
        for (uint32_t i = 0; i < list.count && i < 8; i++)
            qm_event_list_at(&list, i, &words);
        bool differs = check_explained(log, pcr, &list);
        assert(!differs);
        value[pcr][7] ^= 1;
        len = qm_event_list_collect(log, pcr, value[pcr], room, ROOM);
        assert(len == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct qm_event_list list;
    struct qm_span input = {data, size};
    if (sound_list == NULL)
        make_sound();
    if (!qm_event_list_read((struct qm_span){sound_list, sound_list_len}, &list))
        abort();
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++)
        check_explained(input, pcr, &list);
    check_collected(input);
    if (qm_event_list_read(input, &list))
        check_explained((struct qm_span){sound_log, sound_log_len}, 8, &list);
    return 0;
}
