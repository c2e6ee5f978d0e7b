/* The table on disk; shared by its builder and its reader only. All offsets are from the start of the file. */
#ifndef QM_TABLE_FORMAT_H
#define QM_TABLE_FORMAT_H

#include <sys/mman.h>
#include <xxhash.h>

#include "engine/table.h"

#define QM_TABLE_MAGIC "QMTABLE\n"

struct table_header {
    char magic[8];
    uint32_t version;
    uint32_t header_size;
    uint64_t file_size;
    uint64_t seed;
    uint64_t generation;
    uint64_t expires_ms;
    uint8_t home_id[QM_HOME_ID_SIZE];
    uint64_t instance_count;
    uint64_t instance_off;
    uint64_t slot_count; /* a power of two */
    uint64_t slot_off;
    uint64_t events_room; /* slots of struct table_events: a power of two, or 0 */
    uint64_t events_off;
    uint64_t block_count; /* of QM_TABLE_BLOCK bytes from the start of the file up to block_off, the last one shorter */
    uint64_t block_off;   /* the list: 64 bits of XXH3 for each block; block 0 is hashed without the header */
    uint64_t check;       /* XXH3 of the block list and of the header with this field zero */
};
_Static_assert(sizeof(struct table_header) == 136, "on disk");
enum { TABLE_HEADER_ROOM = 4096 };

struct table_instance {
    uint64_t hash;
    uint64_t id_off;
    uint64_t key_off;
    uint64_t profile_off;
    uint64_t sets_off;  /* set_count of struct qm_set, one after another, with composites; 0: none */
    uint64_t nonce_off; /* 0: none */
    uint64_t generation;
    uint32_t slot;
    uint8_t id_len;
    uint8_t nonce_len;
    uint8_t flags; /* enum table_flag */
    uint8_t set_count;
};
_Static_assert(sizeof(struct table_instance) == 64, "one cache line, on disk");

enum table_flag { TABLE_REQUIRE_LOG = 1 << 0, TABLE_REQUIRE_BEACON = 1 << 1 };

/* From one set to the next: all sets of an instance have room for a digest of its profile's hash. */
static inline size_t table_set_size(const struct qm_profile *p)
{
    return sizeof(struct qm_set) + qm_hash_size(p->hash);
}

/* An empty slot has index 0; instance i is stored as i + 1. tag is the high half of the hash. */
struct table_slot {
    uint32_t tag;
    uint32_t index;
};

/* Where the list of events behind a PCR's value lies; another open-addressing hash table. An empty slot has off 0. */
struct table_events {
    uint8_t value[32];
    uint64_t off;
    uint32_t len;
    uint8_t pcr;
    uint8_t reserved[3];
};
_Static_assert(sizeof(struct table_events) == 48, "on disk");

static inline uint64_t table_events_hash(unsigned pcr, const uint8_t value[32], uint64_t seed)
{
    return XXH3_64bits_withSeed(value, 32, seed + pcr);
}

static inline uint64_t table_hash(struct qm_span id, uint64_t seed)
{
    return XXH3_64bits_withSeed(id.p, id.len, seed);
}

static inline uint64_t table_block_check(const uint8_t *base, uint64_t block, uint64_t end, uint64_t seed)
{
    uint64_t from = block * QM_TABLE_BLOCK;
    uint64_t to = from + QM_TABLE_BLOCK < end ? from + QM_TABLE_BLOCK : end;
    if (block == 0)
        from = TABLE_HEADER_ROOM;
    return XXH3_64bits_withSeed(base + from, (size_t)(to - from), seed + block);
}

/* A block of a mapped file that was gone through once: its pages stay in the system's cache, and count no more as this process'. */
static inline void table_block_drop(const uint8_t *base, uint64_t block, uint64_t end)
{
    const uint64_t from = block * QM_TABLE_BLOCK;
    const uint64_t len = end - from < QM_TABLE_BLOCK ? end - from : QM_TABLE_BLOCK;
    madvise((void *)(uintptr_t)(base + from), len, MADV_DONTNEED);
}

static inline uint64_t table_header_check(const struct table_header *h, const uint8_t *block_list)
{
    struct table_header copy = *h;
    copy.check = 0;
    return XXH3_64bits(&copy, sizeof copy) ^ XXH3_64bits_withSeed(block_list, (size_t)(h->block_count * sizeof(uint64_t)), h->seed);
}

#endif
