/* Fuzz target: the table file. A small sound table is overlaid with the input (pairs of a position and a byte), its checksums are made
 * right again so that the bounds checks behind them are reached, and it is opened and asked. The input as it is must be refused
 * or answered as well. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/kernel/key.h"
#include "engine/table_format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { IDS = 20 };
static uint8_t *sound;
static size_t sound_size;

static void make_sound(void)
{
    static const uint8_t home[QM_HOME_ID_SIZE] = {1};
    static _Alignas(QM_CACHE_LINE) uint8_t room[QM_KEY_BYTES_MAX];
    uint8_t modulus[256], value[10 * 32] = {7};
    memset(modulus, 0xff, sizeof modulus);
    struct qm_public_numbers n = {.rsa = true, .exponent = 65537, .a = {modulus, sizeof modulus}};
    struct qm_key *key = (struct qm_key *)(void *)room;
    struct qm_table_builder *b;
    char path[] = "/tmp/fuzz_table.XXXXXX";
    struct qm_fault fault = {0};
    int fd = mkstemp(path);
    if (fd < 0 || qm_key_make(&n, key, &fault) != QM_OK || qm_table_builder_open(&b, path, &fault) != QM_OK)
        abort();
    for (unsigned i = 0; i < IDS; i++) {
        char id[16];
        int len = snprintf(id, sizeof id, "machine-%u", i);
        struct qm_table_row row = {.id = {(const uint8_t *)id, (size_t)len}, .key = key, .generation = 2, .slot = i + 1};
        row.profile = (struct qm_profile){.scheme = QM_SCHEME_RSASSA, .hash = QM_HASH_SHA256, .select_count = 1, .baselined = 0x3ff};
        row.profile.select[0].hash = QM_HASH_SHA256;
        row.profile.select[0].mask = 0x3ff;
        row.set_count = i % 3 == 0 ? 0 : 1;
        row.set[0].set_no = 1;
        row.set[0].mask = 0x3ff;
        row.set[0].value = value;
        if (i % 3 == 2) { /* a group's values beside the instance's own */
            row.set[0].mask = 0x39d;
            row.set[0].pair_no = 2;
            row.set[0].pair_mask = 0x62;
            row.set[0].pair = value + 7 * 32;
        }
        row.nonce = i % 2 == 0 ? (struct qm_span){(const uint8_t *)"nonce", 5} : (struct qm_span){NULL, 0};
        if (qm_table_builder_add(b, &row, &fault) != QM_OK)
            abort();
    }
    const uint8_t list[8 + 2 * 40 + 5] = {[0] = 2, [4] = 5, [8] = 13, [8 + 4] = 5, [8 + 2 * 40] = 'w', 'o', 'r', 'd', 's'};
    for (unsigned pcr = 0; pcr < 3; pcr++)
        if (qm_table_builder_add_events(b, pcr, value, (struct qm_span){list, sizeof list}, &fault) != QM_OK)
            abort();
    if (qm_table_builder_publish(b, home, 2, &fault) != QM_OK)
        abort();
    qm_table_builder_close(b);
    close(fd);
    FILE *f = fopen(path, "rb");
    sound = malloc(1 << 20);
    if (f == NULL || sound == NULL)
        abort();
    sound_size = fread(sound, 1, 1 << 20, f);
    fclose(f);
    unlink(path);
}

static void ask(const uint8_t *image, size_t size)
{
    struct qm_table *t;
    char path[64];
    int fd = memfd_create("table", MFD_CLOEXEC);
    if (fd < 0 || (size != 0 && write(fd, image, size) != (ssize_t)size))
        abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (qm_table_open(&t, path, NULL) == QM_OK) {
        struct qm_span ids[IDS + 1];
        struct qm_instance found[IDS + 1];
        char text[IDS + 1][16];
        for (unsigned i = 0; i <= IDS; i++)
            ids[i] = (struct qm_span){(const uint8_t *)text[i], (size_t)snprintf(text[i], sizeof text[i], "machine-%u", i)};
        if (qm_table_find(t, ids, IDS + 1, found, NULL) == QM_OK)
            for (unsigned i = 0; i <= IDS; i++)
                if (found[i].key != NULL)
                    for (unsigned s = 0; s < found[i].set_count; s++)
                        for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++) {
                            const uint8_t *v = qm_set_value(found[i].set[s], pcr);
                            if (v != NULL)
                                (void)*(const volatile uint8_t *)(v + 31);
                        }
        for (unsigned pcr = 0; pcr < 4; pcr++) {
            static const uint8_t value[32] = {7};
            struct qm_event_list list;
            struct qm_span words;
            bool there;
            if (qm_table_events(t, pcr, value, &list, &there, NULL) == QM_OK && there)
                for (uint32_t i = 0; i < list.count; i++)
                    (void)qm_event_list_at(&list, i, &words);
        }
        qm_table_close(t);
    }
    close(fd);
}

static void repair(uint8_t *image, size_t size)
{
    struct table_header h;
    memcpy(&h, image, sizeof h);
    if (h.block_off > size || h.block_count != 1 || size - h.block_off < sizeof(uint64_t) || h.block_off < TABLE_HEADER_ROOM)
        return;
    uint64_t check = table_block_check(image, 0, h.block_off, h.seed);
    memcpy(image + h.block_off, &check, sizeof check);
    h.check = table_header_check(&h, image + h.block_off);
    memcpy(image, &h, sizeof h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (sound == NULL)
        make_sound();
    uint8_t *image = malloc(sound_size);
    assert(image != NULL);
    memcpy(image, sound, sound_size);
    for (size_t i = 0; i + 3 <= size; i += 3) {
        /* positions count from the end of the heap's padding too: the small table is mostly its header's room */
        size_t at = ((size_t)data[i] << 8 | data[i + 1]) % sound_size;
        image[at] ^= data[i + 2];
    }
    repair(image, sound_size);
    ask(image, sound_size);
    free(image);
    ask(data, size);
    return 0;
}
