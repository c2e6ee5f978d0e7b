/* Opening and looking up. Whatever is read from the file was checked first: its block's checksum, and its bounds. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "codec/cursor.h"
#include "engine/kernel/key.h"
#include "engine/table_format.h"

struct qm_table {
    const uint8_t *base;
    size_t size;
    struct table_header header; /* a copy */
    _Atomic uint8_t *block_ok;  /* block_count bytes: 1 once the block's checksum was right */
};

static bool block_good(const struct qm_table *t, uint64_t block)
{
    if (QM_LIKELY(atomic_load_explicit(&t->block_ok[block], memory_order_acquire) == 1))
        return true;
    uint64_t want = qm_load_le64(t->base + t->header.block_off + block * sizeof(uint64_t));
    if (table_block_check(t->base, block, t->header.block_off, t->header.seed) != want)
        return false;
    atomic_store_explicit(&t->block_ok[block], 1, memory_order_release);
    return true;
}

/* The len bytes at off, or NULL when they are out of bounds or damaged. len is small and not zero. */
static const void *at(const struct qm_table *t, uint64_t off, uint64_t len)
{
    uint64_t end = t->header.block_off;
    if (QM_UNLIKELY(off < TABLE_HEADER_ROOM || off > end || len > end - off))
        return NULL;
    for (uint64_t b = off / QM_TABLE_BLOCK; b <= (off + len - 1) / QM_TABLE_BLOCK; b++)
        if (QM_UNLIKELY(!block_good(t, b)))
            return NULL;
    return t->base + off;
}

/* The room behind the header is no block's: no checksum covers it, so it must hold nothing. */
static bool header_room_empty(const uint8_t *base)
{
    uint8_t any = 0;
    for (size_t i = sizeof(struct table_header); i < TABLE_HEADER_ROOM; i++)
        any |= base[i];
    return any == 0;
}

static const char *header_fault(const struct table_header *h, size_t size, const uint8_t *base)
{
    if (size < sizeof *h || memcmp(h->magic, QM_TABLE_MAGIC, sizeof h->magic) != 0)
        return "is no table of baselines";
    if (h->version != QM_TABLE_VERSION)
        return h->version < QM_TABLE_VERSION ? "is of an older version; run or enroll rebuilds it" : "is of a newer version";
    if (size < TABLE_HEADER_ROOM || h->file_size > size)
        return "is truncated";
    if (h->file_size != size || h->header_size != sizeof *h)
        return "is damaged (size)";
    uint64_t list = h->block_count * sizeof(uint64_t);
    if (h->block_count == 0 || h->block_count > size / sizeof(uint64_t) || h->block_off < TABLE_HEADER_ROOM ||
        h->block_off > size || list != size - h->block_off ||
        h->block_count != (h->block_off + QM_TABLE_BLOCK - 1) / QM_TABLE_BLOCK)
        return "is damaged (block list)";
    if (table_header_check(h, base + h->block_off) != h->check || !header_room_empty(base))
        return "is damaged (header checksum)";
    if (h->slot_count == 0 || (h->slot_count & (h->slot_count - 1)) != 0 || h->instance_count >= h->slot_count ||
        h->slot_count > size / sizeof(struct table_slot) || h->instance_count > UINT32_MAX - 1 ||
        h->slot_off > h->block_off || h->slot_count * sizeof(struct table_slot) > h->block_off - h->slot_off ||
        h->instance_off < TABLE_HEADER_ROOM || h->instance_off > h->slot_off ||
        h->instance_count * sizeof(struct table_instance) > h->slot_off - h->instance_off ||
        h->slot_off % sizeof(struct table_slot) != 0 || h->instance_off % sizeof(struct table_instance) != 0)
        return "is damaged (sections)";
    if ((h->events_room & (h->events_room - 1)) != 0 || h->events_room > size / sizeof(struct table_events) ||
        h->events_off < h->slot_off || h->events_off > h->block_off || h->events_off % sizeof(uint64_t) != 0 ||
        h->events_room * sizeof(struct table_events) > h->block_off - h->events_off)
        return "is damaged (events)";
    return NULL;
}

qm_err qm_table_open(struct qm_table **out, const char *path, struct qm_fault *fault)
{
    *out = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return qm_fail(fault, QM_E_IO, errno, "cannot open the table %s", path);
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        int sys = errno;
        close(fd);
        return qm_fail(fault, QM_E_IO, S_ISREG(st.st_mode) ? sys : 0, "cannot read the table %s", path);
    }
    size_t size = (size_t)st.st_size;
    void *base = size != 0 ? mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
    int sys = errno;
    close(fd);
    if (base == MAP_FAILED)
        return size == 0 ? qm_fail(fault, QM_E_FORMAT, 0, "the table %s is empty", path)
                         : qm_fail(fault, QM_E_IO, sys, "cannot map the table %s", path);
    struct table_header h;
    memset(&h, 0, sizeof h);
    memcpy(&h, base, size < sizeof h ? size : sizeof h);
    const char *what = header_fault(&h, size, base);
    struct qm_table *t = what == NULL ? calloc(1, sizeof *t + h.block_count) : NULL;
    if (t == NULL) {
        munmap(base, size);
        return what != NULL ? qm_fail(fault, QM_E_FORMAT, 0, "the table %s %s", path, what)
                            : qm_fail(fault, QM_E_NOMEM, 0, "no memory for the table %s", path);
    }
    *t = (struct qm_table){base, size, h, (_Atomic uint8_t *)(t + 1)};
    *out = t;
    return QM_OK;
}

uint64_t qm_table_generation(const struct qm_table *t)
{
    return t->header.generation;
}

uint64_t qm_table_instances(const struct qm_table *t)
{
    return t->header.instance_count;
}

uint64_t qm_table_expires_ms(const struct qm_table *t)
{
    return t->header.expires_ms;
}

size_t qm_table_bytes(const struct qm_table *t)
{
    return t->size;
}

const uint8_t *qm_table_home_id(const struct qm_table *t)
{
    return t->header.home_id;
}

qm_err qm_table_check(const struct qm_table *t, struct qm_fault *fault)
{
    for (uint64_t b = 0; b < t->header.block_count; b++) {
        if (!block_good(t, b))
            return qm_fail(fault, QM_E_FORMAT, 0, "the table is damaged in its block %llu", (unsigned long long)b);
        table_block_drop(t->base, b, t->header.block_off);
    }
    return QM_OK;
}

void qm_table_close(struct qm_table *t)
{
    if (t == NULL)
        return;
    munmap((void *)(uintptr_t)t->base, t->size);
    free(t);
}

/* Does a stored profile keep what the appraisal relies on? */
static bool profile_sound(const struct qm_profile *p, const struct qm_key *key)
{
    const bool ec = key->sig_class == QM_SIG_P256 || key->sig_class == QM_SIG_P384;
    if (p->select_count > QM_BANK_MAX || p->first256 >= p->select_count || p->hash <= QM_HASH_SHA1 || p->hash >= QM_HASH_COUNT ||
        p->scheme < QM_SCHEME_RSASSA || p->scheme > QM_SCHEME_ECDSA || (p->scheme == QM_SCHEME_ECDSA) != ec)
        return false;
    for (unsigned i = 0; i < p->select_count; i++)
        if (p->select[i].hash <= QM_HASH_NONE || p->select[i].hash >= QM_HASH_COUNT || p->select[i].mask >> QM_PCR_COUNT != 0)
            return false;
    return p->select[p->first256].hash == QM_HASH_SHA256 && p->baselined != 0 && (p->baselined & ~p->select[p->first256].mask) == 0;
}

/* The values of a set, off bytes from where it lies. */
static bool values_read(const struct qm_table *t, uint64_t set_off, int64_t off, uint32_t mask)
{
    if (mask == 0)
        return true;
    const uint64_t size = t->header.block_off;
    if (off > (int64_t)size || off < -(int64_t)size)
        return false;
    return at(t, set_off + (uint64_t)off, 32 * (uint64_t)__builtin_popcount(mask)) != NULL;
}

static bool sets_read(const struct qm_table *t, const struct table_instance *e, struct qm_instance *out)
{
    const size_t size = table_set_size(out->profile);
    out->set_count = 0;
    if (e->sets_off == 0)
        return true;
    if (e->set_count > QM_SETS_MAX || e->sets_off % 8 != 0)
        return false;
    for (unsigned i = 0; i < e->set_count; i++) {
        const uint64_t off = e->sets_off + i * size;
        const struct qm_set *s = at(t, off, size);
        if (s == NULL || s->composite_size > size - sizeof *s || s->mask >> QM_PCR_COUNT != 0 || (s->pair_mask & ~s->mask) != 0 ||
            !values_read(t, off, s->value_off, s->mask & ~s->pair_mask) || !values_read(t, off, s->pair_off, s->pair_mask))
            return false;
        out->set[i] = s;
    }
    out->set_count = e->set_count;
    return true;
}

/* Reads what an instance's entry points at. False: damaged. */
static bool instance_read(const struct qm_table *t, const struct table_instance *e, struct qm_instance *out)
{
    const struct qm_key *key = at(t, e->key_off, sizeof *key);
    if (key == NULL || e->key_off % QM_CACHE_LINE != 0 || at(t, e->key_off, key->bytes) == NULL ||
        !qm_key_sound(key, key->bytes))
        return false;
    out->profile = at(t, e->profile_off, sizeof *out->profile);
    if (out->profile == NULL || e->profile_off % 8 != 0 || !profile_sound(out->profile, key))
        return false;
    out->nonce = (struct qm_span){NULL, 0};
    if (e->nonce_off != 0) {
        /* an expected nonce of no bytes still takes one in the heap */
        out->nonce = (struct qm_span){at(t, e->nonce_off, e->nonce_len + 1u), e->nonce_len};
        if (out->nonce.p == NULL)
            return false;
    }
    out->generation = e->generation;
    out->slot = e->slot;
    out->require_log = (e->flags & TABLE_REQUIRE_LOG) != 0;
    out->require_beacon = (e->flags & TABLE_REQUIRE_BEACON) != 0;
    if (!sets_read(t, e, out))
        return false;
    out->key = key;
    return true;
}

/* Stage by stage over the whole batch, so that the misses of one id overlap with those of the others. */
qm_err qm_table_find(const struct qm_table *t, const struct qm_span *ids, size_t count, struct qm_instance *out,
                     struct qm_fault *fault)
{
    uint64_t hash[QM_TABLE_BATCH];
    const struct table_instance *entry[QM_TABLE_BATCH];
    const uint64_t mask = t->header.slot_count - 1;
    const struct table_instance *instances = (const void *)(t->base + t->header.instance_off);
    const struct table_slot *slots = (const void *)(t->base + t->header.slot_off);
    if (count > QM_TABLE_BATCH)
        return qm_fail(fault, QM_E_LIMIT, 0, "a look-up of more than %d ids", QM_TABLE_BATCH);
    for (size_t i = 0; i < count; i++) {
        hash[i] = table_hash(ids[i], t->header.seed);
        __builtin_prefetch(&slots[hash[i] & mask]);
    }
    for (size_t i = 0; i < count; i++) {
        entry[i] = NULL;
        for (uint64_t probe = 0; ids[i].len != 0 && probe < QM_TABLE_PROBE_MAX; probe++) {
            uint64_t s = (hash[i] + probe) & mask;
            if (at(t, t->header.slot_off + s * sizeof *slots, sizeof *slots) == NULL)
                goto damaged;
            if (slots[s].index == 0)
                break;
            if (slots[s].tag != (uint32_t)(hash[i] >> 32))
                continue;
            if (slots[s].index > t->header.instance_count)
                goto damaged;
            const struct table_instance *e = &instances[slots[s].index - 1];
            if (at(t, t->header.instance_off + (slots[s].index - 1) * sizeof *e, sizeof *e) == NULL)
                goto damaged;
            if (e->hash != hash[i] || e->id_len != ids[i].len)
                continue;
            const void *id = at(t, e->id_off, e->id_len);
            if (id == NULL)
                goto damaged;
            if (memcmp(id, ids[i].p, ids[i].len) != 0)
                continue;
            entry[i] = e;
            __builtin_prefetch(t->base + e->key_off);
            __builtin_prefetch(t->base + e->profile_off);
            break;
        }
    }
    for (size_t i = 0; i < count; i++) {
        out[i].key = NULL;
        if (entry[i] != NULL && !instance_read(t, entry[i], &out[i]))
            goto damaged;
    }
    return QM_OK;
damaged:
    return qm_fail(fault, QM_E_FORMAT, 0, "the table is damaged; run enroll to rebuild it");
}

qm_err qm_table_events(const struct qm_table *t, unsigned pcr, const uint8_t value[32], struct qm_event_list *out, bool *found,
                       struct qm_fault *fault)
{
    const struct table_events *slots = (const void *)(t->base + t->header.events_off);
    const uint64_t hash = table_events_hash(pcr, value, t->header.seed);
    *found = false;
    for (uint64_t probe = 0; t->header.events_room != 0 && probe < QM_TABLE_PROBE_MAX; probe++) {
        const uint64_t s = (hash + probe) & (t->header.events_room - 1);
        if (at(t, t->header.events_off + s * sizeof *slots, sizeof *slots) == NULL)
            goto damaged;
        if (slots[s].off == 0)
            break;
        if (slots[s].pcr != pcr || memcmp(slots[s].value, value, sizeof slots[s].value) != 0)
            continue;
        const void *list = slots[s].len != 0 ? at(t, slots[s].off, slots[s].len) : NULL;
        if (list == NULL || !qm_event_list_read((struct qm_span){list, slots[s].len}, out))
            goto damaged;
        *found = true;
        break;
    }
    return QM_OK;
damaged:
    return qm_fail(fault, QM_E_FORMAT, 0, "the table is damaged; run enroll to rebuild it");
}
