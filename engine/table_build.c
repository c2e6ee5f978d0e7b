/* Building: heap items go straight to the new file through one buffer, deduplicated by content; the entries stay in memory
 * (64 bytes an instance, and the id) until they are written behind the heap. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/table_format.h"

enum { BUFFER_SIZE = 1 << 20, SEEDS_TRIED = 16 };

/* Where an item of some content was put. */
struct known {
    XXH128_hash_t content;
    uint64_t off; /* 0: free */
};

struct qm_table_builder {
    char path[4096 + 8], tmp[4096 + 16];
    int fd;
    bool done;
    uint64_t off; /* end of the heap */
    uint64_t expires_ms;
    uint8_t *buffer;
    size_t buffered;
    struct table_instance *instance; /* id_off counts from the start of ids until the ids are written */
    uint64_t instance_count, instance_room;
    uint8_t *ids; /* one after another; behind the heap they need no padding */
    uint64_t id_bytes, id_room;
    struct table_events *events;
    uint64_t events_count, events_room;
    struct known *known;
    uint64_t known_count, known_room; /* room is a power of two */
};

static qm_err no_memory(struct qm_fault *fault)
{
    return qm_fail(fault, QM_E_NOMEM, 0, "no memory to build the table");
}

static qm_err write_fault(struct qm_fault *fault, const struct qm_table_builder *b)
{
    return qm_fail(fault, QM_E_IO, errno, "cannot write the table %s", b->tmp);
}

static qm_err write_all(struct qm_table_builder *b, const void *p, size_t len, struct qm_fault *fault)
{
    for (const uint8_t *from = p; len != 0;) {
        ssize_t n = write(b->fd, from, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return write_fault(fault, b);
        from += n;
        len -= (size_t)n;
    }
    return QM_OK;
}

static qm_err flush(struct qm_table_builder *b, struct qm_fault *fault)
{
    qm_err err = write_all(b, b->buffer, b->buffered, fault);
    b->buffered = 0;
    return err;
}

static qm_err append(struct qm_table_builder *b, const void *p, size_t len, struct qm_fault *fault)
{
    if (len > BUFFER_SIZE - b->buffered) {
        qm_err err = flush(b, fault);
        if (err != QM_OK)
            return err;
    }
    b->off += len;
    if (len > BUFFER_SIZE)
        return write_all(b, p, len, fault);
    memcpy(b->buffer + b->buffered, p, len);
    b->buffered += len;
    return QM_OK;
}

static qm_err pad(struct qm_table_builder *b, size_t to, struct qm_fault *fault)
{
    static const uint8_t zeros[TABLE_HEADER_ROOM];
    return append(b, zeros, (size_t)(qm_align_up(b->off, to) - b->off), fault);
}

qm_err qm_table_builder_open(struct qm_table_builder **out, const char *path, struct qm_fault *fault)
{
    *out = NULL;
    struct qm_table_builder *b = calloc(1, sizeof *b);
    if (b == NULL)
        return no_memory(fault);
    b->fd = -1;
    b->expires_ms = UINT64_MAX;
    b->known_room = 1 << 12;
    b->buffer = malloc(BUFFER_SIZE);
    b->known = calloc(b->known_room, sizeof *b->known);
    if (b->buffer == NULL || b->known == NULL) {
        qm_table_builder_close(b);
        return no_memory(fault);
    }
    if (strlen(path) > 4096) {
        qm_table_builder_close(b);
        return qm_fail(fault, QM_E_LIMIT, 0, "the path of the table is too long");
    }
    snprintf(b->path, sizeof b->path, "%s", path);
    snprintf(b->tmp, sizeof b->tmp, "%s.new", path);
    b->fd = open(b->tmp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (b->fd < 0) {
        qm_err err = qm_fail(fault, QM_E_IO, errno, "cannot create %s", b->tmp);
        b->done = true; /* nothing to remove */
        qm_table_builder_close(b);
        return err;
    }
    static const uint8_t zeros[TABLE_HEADER_ROOM];
    qm_err err = append(b, zeros, sizeof zeros, fault);
    if (err != QM_OK) {
        qm_table_builder_close(b);
        return err;
    }
    *out = b;
    return QM_OK;
}

void qm_table_builder_close(struct qm_table_builder *b)
{
    if (b == NULL)
        return;
    if (b->fd >= 0)
        close(b->fd);
    if (!b->done)
        unlink(b->tmp);
    free(b->buffer);
    free(b->instance);
    free(b->ids);
    free(b->events);
    free(b->known);
    free(b);
}

static struct known *known_find(struct known *table, uint64_t room, XXH128_hash_t content)
{
    for (uint64_t i = content.low64 & (room - 1);; i = (i + 1) & (room - 1))
        if (table[i].off == 0 || (table[i].content.low64 == content.low64 && table[i].content.high64 == content.high64))
            return &table[i];
}

static bool known_grow(struct qm_table_builder *b)
{
    if (b->known_count < b->known_room / 2)
        return true;
    uint64_t room = b->known_room * 2;
    struct known *bigger = calloc(room, sizeof *bigger);
    if (bigger == NULL)
        return false;
    for (uint64_t i = 0; i < b->known_room; i++)
        if (b->known[i].off != 0)
            *known_find(bigger, room, b->known[i].content) = b->known[i];
    free(b->known);
    b->known = bigger;
    b->known_room = room;
    return true;
}

/* Stores an item once by content, aligned to align (at most 64); *off is where it lies. kind keeps items of different kinds apart.
 * Contents come from the store, not from evidence: 128 bits of a hash that is not cryptographic tell them apart. */
static qm_err intern(struct qm_table_builder *b, unsigned kind, const void *p, size_t len, size_t align, uint64_t *off,
                     struct qm_fault *fault)
{
    if (!known_grow(b))
        return no_memory(fault);
    XXH128_hash_t content = XXH3_128bits_withSeed(p, len, kind);
    struct known *k = known_find(b->known, b->known_room, content);
    if (k->off == 0) {
        qm_err err = pad(b, align, fault);
        if (err != QM_OK)
            return err;
        *k = (struct known){content, b->off};
        b->known_count++;
        *off = k->off;
        return append(b, p, len, fault);
    }
    *off = k->off;
    return QM_OK;
}

size_t qm_set_composite(const struct qm_profile *p, const uint8_t *const value[QM_PCR_COUNT], uint8_t composite[QM_DIGEST_MAX])
{
    struct qm_pcr_values v;
    uint8_t message[QM_COMPOSITE_MAX];
    if (p->select_count != 1)
        return 0;
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++) {
        v.value[0][pcr] = value[pcr];
        if ((p->select[0].mask >> pcr & 1) != 0 && value[pcr] == NULL)
            return 0;
    }
    size_t len = qm_composite_message(p, &v, message);
    qm_hash_one(p->hash, (struct qm_span){message, len}, composite);
    return qm_hash_size(p->hash);
}

/* Where the values of a PCR mask lie; 0: there are none. */
static qm_err intern_values(struct qm_table_builder *b, uint32_t mask, const uint8_t *values, uint64_t *off, struct qm_fault *fault)
{
    *off = 0;
    return mask != 0 ? intern(b, 3, values, 32 * (size_t)__builtin_popcount(mask), 8, off, fault) : QM_OK;
}

/* What the sets of an instance are known by: who shares all of it shares the sets. */
struct sets_key {
    uint64_t profile_off;
    struct {
        uint32_t set_no, pair_no, mask, pair_mask;
    } set[QM_SETS_MAX];
};

/* One set behind those before it, at the end of the heap. */
static qm_err append_set(struct qm_table_builder *b, const struct qm_profile *profile, const struct qm_table_set *from,
                         const uint64_t off[2], struct qm_fault *fault)
{
    _Alignas(8) uint8_t item[sizeof(struct qm_set) + QM_DIGEST_MAX];
    struct qm_set *set = (struct qm_set *)(void *)item;
    const uint8_t *value[QM_PCR_COUNT], *next[2] = {from->value, from->pair};
    memset(item, 0, sizeof item);
    set->set_no = from->set_no;
    set->pair_no = from->pair_no;
    set->mask = from->mask | from->pair_mask;
    set->pair_mask = from->pair_mask;
    set->value_off = off[0] != 0 ? (int64_t)(off[0] - b->off) : 0;
    set->pair_off = off[1] != 0 ? (int64_t)(off[1] - b->off) : 0;
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++) {
        const unsigned which = from->pair_mask >> pcr & 1;
        value[pcr] = NULL;
        if ((set->mask >> pcr & 1) == 0)
            continue;
        value[pcr] = next[which];
        next[which] += 32;
    }
    set->composite_size = (uint8_t)qm_set_composite(profile, value, set->composite);
    return append(b, item, table_set_size(profile), fault);
}

static qm_err intern_sets(struct qm_table_builder *b, const struct qm_table_row *row, uint64_t profile_off, uint64_t *off,
                          struct qm_fault *fault)
{
    struct sets_key key;
    uint64_t values[QM_SETS_MAX][2];
    const unsigned count = row->set_count;
    key.profile_off = profile_off;
    for (unsigned i = 0; i < count; i++) {
        const struct qm_table_set *s = &row->set[i];
        assert((s->mask & s->pair_mask) == 0 && (s->mask | s->pair_mask) >> QM_PCR_COUNT == 0);
        key.set[i].set_no = s->set_no;
        key.set[i].pair_no = s->pair_no;
        key.set[i].mask = s->mask;
        key.set[i].pair_mask = s->pair_mask;
    }
    if (!known_grow(b))
        return no_memory(fault);
    XXH128_hash_t content = XXH3_128bits_withSeed(&key, offsetof(struct sets_key, set) + count * sizeof key.set[0], 4);
    const struct known *found = known_find(b->known, b->known_room, content);
    *off = found->off;
    if (found->off != 0)
        return QM_OK;
    for (unsigned i = 0; i < count; i++) {
        qm_err err = intern_values(b, row->set[i].mask, row->set[i].value, &values[i][0], fault);
        if (err == QM_OK)
            err = intern_values(b, row->set[i].pair_mask, row->set[i].pair, &values[i][1], fault);
        if (err != QM_OK)
            return err;
    }
    qm_err err = pad(b, 8, fault);
    *off = b->off;
    for (unsigned i = 0; err == QM_OK && i < count; i++)
        err = append_set(b, &row->profile, &row->set[i], values[i], fault);
    if (err != QM_OK)
        return err;
    if (!known_grow(b)) /* the values took places */
        return no_memory(fault);
    *known_find(b->known, b->known_room, content) = (struct known){content, *off};
    b->known_count++;
    return QM_OK;
}

void qm_table_builder_expires(struct qm_table_builder *b, uint64_t ms)
{
    if (ms < b->expires_ms)
        b->expires_ms = ms;
}

qm_err qm_table_builder_add(struct qm_table_builder *b, const struct qm_table_row *row, struct qm_fault *fault)
{
    assert(row->id.len != 0 && row->id.len <= QM_ID_MAX && row->nonce.len <= QM_NONCE_MAX && row->set_count <= QM_SETS_MAX);
    if (b->instance_count == b->instance_room) {
        uint64_t room = b->instance_room != 0 ? b->instance_room * 2 : 1024;
        struct table_instance *bigger = reallocarray(b->instance, room, sizeof *bigger);
        if (bigger == NULL)
            return no_memory(fault);
        b->instance = bigger;
        b->instance_room = room;
    }
    if (b->id_room - b->id_bytes < QM_ID_MAX) {
        uint64_t room = b->id_room != 0 ? b->id_room * 2 : 64 * 1024;
        uint8_t *bigger = realloc(b->ids, room);
        if (bigger == NULL)
            return no_memory(fault);
        b->ids = bigger;
        b->id_room = room;
    }
    if (row->slot > UINT32_MAX || b->instance_count >= UINT32_MAX - 2)
        return qm_fail(fault, QM_E_LIMIT, 0, "more instances than a table holds");
    struct table_instance e = {
        .generation = row->generation,
        .slot = (uint32_t)row->slot,
        .id_len = (uint8_t)row->id.len,
        .nonce_len = (uint8_t)row->nonce.len,
        .flags = (uint8_t)((row->require_log ? TABLE_REQUIRE_LOG : 0) | (row->require_beacon ? TABLE_REQUIRE_BEACON : 0)),
        .set_count = row->set_count,
    };
    qm_err err = intern(b, 1, row->key, row->key->bytes, QM_CACHE_LINE, &e.key_off, fault);
    if (err == QM_OK)
        err = intern(b, 2, &row->profile, sizeof row->profile, 8, &e.profile_off, fault);
    if (err == QM_OK && row->set_count != 0)
        err = intern_sets(b, row, e.profile_off, &e.sets_off, fault);
    if (err == QM_OK && row->nonce.p != NULL) {
        uint8_t nonce[QM_NONCE_MAX + 1] = {0};
        memcpy(nonce, row->nonce.p, row->nonce.len);
        err = intern(b, 5, nonce, row->nonce.len + 1, 1, &e.nonce_off, fault);
    }
    if (err != QM_OK)
        return err;
    e.id_off = b->id_bytes;
    memcpy(b->ids + b->id_bytes, row->id.p, row->id.len);
    b->id_bytes += row->id.len;
    b->instance[b->instance_count++] = e;
    return QM_OK;
}

qm_err qm_table_builder_add_events(struct qm_table_builder *b, unsigned pcr, const uint8_t value[32], struct qm_span list,
                                   struct qm_fault *fault)
{
    assert(pcr < QM_PCR_COUNT && list.len != 0 && list.len <= QM_EVENT_LIST_BYTES_MAX);
    if (b->events_count == b->events_room) {
        uint64_t room = b->events_room != 0 ? b->events_room * 2 : 256;
        struct table_events *bigger = reallocarray(b->events, room, sizeof *bigger);
        if (bigger == NULL)
            return no_memory(fault);
        b->events = bigger;
        b->events_room = room;
    }
    struct table_events *e = &b->events[b->events_count++];
    *e = (struct table_events){.len = (uint32_t)list.len, .pcr = (uint8_t)pcr};
    memcpy(e->value, value, sizeof e->value);
    return intern(b, 6, list.p, list.len, 8, &e->off, fault);
}

/* Fills the events' slots for a seed, which spreads as the ids' slots were filled by it: values are hashes. False: a probe would
 * be too long. */
static bool events_fill(const struct qm_table_builder *b, uint64_t seed, struct table_events *slots, uint64_t slot_count)
{
    memset(slots, 0, slot_count * sizeof *slots);
    for (uint64_t i = 0; i < b->events_count; i++) {
        const struct table_events *e = &b->events[i];
        uint64_t hash = table_events_hash(e->pcr, e->value, seed), probe = 0, s;
        for (; slots[s = (hash + probe) & (slot_count - 1)].off != 0; probe++)
            if (probe + 2 >= QM_TABLE_PROBE_MAX)
                return false;
        slots[s] = *e;
    }
    return true;
}

/* Fills the slots for a seed. False: a probe would be too long. */
static bool slots_fill(const struct qm_table_builder *b, uint64_t seed, struct table_slot *slots, uint64_t slot_count)
{
    memset(slots, 0, slot_count * sizeof *slots);
    for (uint64_t i = 0; i < b->instance_count; i++) {
        struct table_instance *e = &b->instance[i];
        e->hash = table_hash((struct qm_span){b->ids + e->id_off, e->id_len}, seed);
        uint64_t probe = 0, s;
        for (; slots[s = (e->hash + probe) & (slot_count - 1)].index != 0; probe++)
            if (probe + 2 >= QM_TABLE_PROBE_MAX) /* one more stays for the empty slot that ends a search in vain */
                return false;
        slots[s] = (struct table_slot){(uint32_t)(e->hash >> 32), (uint32_t)(i + 1)};
    }
    return true;
}

static qm_err checks_write(struct qm_table_builder *b, struct table_header *h, struct qm_fault *fault)
{
    const uint8_t *base = mmap(NULL, h->block_off, PROT_READ, MAP_SHARED, b->fd, 0);
    uint64_t *list = malloc(h->block_count * sizeof *list);
    qm_err err = QM_OK;
    if (base == MAP_FAILED || list == NULL)
        err = no_memory(fault);
    for (uint64_t i = 0; err == QM_OK && i < h->block_count; i++) {
        list[i] = table_block_check(base, i, h->block_off, h->seed);
        table_block_drop(base, i, h->block_off);
    }
    if (base != MAP_FAILED)
        munmap((void *)(uintptr_t)base, h->block_off);
    if (err == QM_OK)
        err = write_all(b, list, h->block_count * sizeof *list, fault);
    if (err == QM_OK) {
        h->check = table_header_check(h, (const uint8_t *)list);
        if (pwrite(b->fd, h, sizeof *h, 0) != (ssize_t)sizeof *h)
            err = write_fault(fault, b);
    }
    free(list);
    return err;
}

/* Ids, instances and both kinds of slots behind the heap. */
static qm_err index_write(struct qm_table_builder *b, struct table_header *h, struct qm_fault *fault)
{
    h->slot_count = 16;
    while (h->slot_count < 2 * b->instance_count)
        h->slot_count *= 2;
    while (h->events_room < 2 * b->events_count)
        h->events_room = h->events_room != 0 ? h->events_room * 2 : 16;
    struct table_slot *slots = malloc(h->slot_count * sizeof *slots);
    struct table_events *events = malloc((h->events_room + 1) * sizeof *events);
    if (slots == NULL || events == NULL) {
        free(slots);
        free(events);
        return no_memory(fault);
    }
    bool filled = false;
    for (unsigned i = 0; i < SEEDS_TRIED && !filled; i++)
        filled = getrandom(&h->seed, sizeof h->seed, 0) == (ssize_t)sizeof h->seed && slots_fill(b, h->seed, slots, h->slot_count) &&
                 events_fill(b, h->seed, events, h->events_room);
    qm_err err = filled ? QM_OK : qm_fail(fault, QM_E_LIMIT, 0, "no seed spreads the ids of the table");
    for (uint64_t i = 0; i < b->instance_count; i++)
        b->instance[i].id_off += b->off;
    if (err == QM_OK && b->id_bytes != 0)
        err = append(b, b->ids, b->id_bytes, fault);
    if (err == QM_OK)
        err = pad(b, QM_CACHE_LINE, fault);
    h->instance_count = b->instance_count;
    h->instance_off = b->off;
    if (err == QM_OK && b->instance_count != 0)
        err = append(b, b->instance, b->instance_count * sizeof *b->instance, fault);
    h->slot_off = b->off;
    if (err == QM_OK)
        err = append(b, slots, h->slot_count * sizeof *slots, fault);
    h->events_off = b->off;
    if (err == QM_OK && h->events_room != 0)
        err = append(b, events, h->events_room * sizeof *events, fault);
    if (err == QM_OK)
        err = flush(b, fault);
    free(events);
    free(slots);
    return err;
}

static qm_err sync_and_rename(struct qm_table_builder *b, struct qm_fault *fault)
{
    if (fsync(b->fd) != 0)
        return write_fault(fault, b);
    struct qm_table *t;
    qm_err err = qm_table_open(&t, b->tmp, fault);
    if (err == QM_OK) {
        err = qm_table_check(t, fault);
        qm_table_close(t);
    }
    if (err != QM_OK)
        return err;
    if (rename(b->tmp, b->path) != 0)
        return qm_fail(fault, QM_E_IO, errno, "cannot rename %s", b->tmp);
    b->done = true;
    char dir[sizeof b->path];
    snprintf(dir, sizeof dir, "%s", b->path);
    char *slash = strrchr(dir, '/');
    int fd = open(slash == NULL ? "." : slash == dir ? "/" : (*slash = '\0', dir), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool synced = fd >= 0 && fsync(fd) == 0;
    int sys = errno;
    if (fd >= 0)
        close(fd);
    return synced ? QM_OK : qm_fail(fault, QM_E_IO, sys, "cannot sync the directory of %s", b->path);
}

qm_err qm_table_builder_publish(struct qm_table_builder *b, const uint8_t home_id[QM_HOME_ID_SIZE], uint64_t generation,
                                struct qm_fault *fault)
{
    struct table_header h = {.version = QM_TABLE_VERSION, .header_size = sizeof h, .generation = generation, .expires_ms = b->expires_ms};
    memcpy(h.magic, QM_TABLE_MAGIC, sizeof h.magic);
    memcpy(h.home_id, home_id, sizeof h.home_id);
    qm_err err = index_write(b, &h, fault);
    if (err != QM_OK)
        return err;
    h.block_off = b->off;
    h.block_count = (b->off + QM_TABLE_BLOCK - 1) / QM_TABLE_BLOCK;
    h.file_size = b->off + h.block_count * sizeof(uint64_t);
    err = checks_write(b, &h, fault);
    return err == QM_OK ? sync_and_rename(b, fault) : err;
}
