/* Reference values out of a CoRIM: manifests made by libcbor's encoder are read as they were meant, and whatever becomes of their bytes
 * is refused without harm. What each kind of manifest means is asked of the command (corim_test.py). */
#include <cbor.h>
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "tests/craft.h"
#include "tools/corim_read.h"

static struct qm_fault fault;
static struct qm_corim corim;

/* How a manifest is made. */
struct how {
    unsigned sets;
    bool open;      /* arrays and maps that end with a break */
    bool registers; /* values in integrity-registers, else each under its mkey */
    bool named;     /* the algorithm by name */
    bool earlier;   /* as in earlier drafts: within 500, a measurement not in an array */
};

static uint8_t *made;
static size_t made_len;

static void value_of(unsigned set, unsigned pcr, uint8_t value[32])
{
    memset(value, (int)(16 * set + pcr), 32);
}

static cbor_item_t *new_map(const struct how *h, size_t n)
{
    return h->open ? cbor_new_indefinite_map() : cbor_new_definite_map(n);
}

static cbor_item_t *new_array(const struct how *h, size_t n)
{
    return h->open ? cbor_new_indefinite_array() : cbor_new_definite_array(n);
}

static void put(cbor_item_t *map, uint8_t key, cbor_item_t *value)
{
    MUST(cbor_map_add(map, (struct cbor_pair){cbor_move(cbor_build_uint8(key)), cbor_move(value)}));
}

static void push(cbor_item_t *array, cbor_item_t *value)
{
    MUST(cbor_array_push(array, cbor_move(value)));
}

/* A value beside one of another algorithm, which is not looked at. */
static cbor_item_t *digests(const struct how *h, unsigned set, unsigned pcr)
{
    uint8_t value[32], other[48] = {0};
    cbor_item_t *list = new_array(h, 2), *first = new_array(h, 2), *second = new_array(h, 2);
    value_of(set, pcr, value);
    push(first, cbor_build_uint8(7));
    push(first, cbor_build_bytestring(other, sizeof other));
    push(second, h->named ? cbor_build_string("sha-256") : cbor_build_uint64(1));
    push(second, cbor_build_bytestring(value, sizeof value));
    push(list, first);
    push(list, second);
    return list;
}

static cbor_item_t *measurement(const struct how *h, unsigned set, unsigned pcr)
{
    cbor_item_t *m = new_map(h, 2), *values = new_map(h, 2);
    put(values, 0, cbor_build_string("1.0"));
    put(values, 2, digests(h, set, pcr));
    put(m, 0, cbor_build_uint32(pcr));
    put(m, 1, values);
    return m;
}

enum { PCRS = 10 };

static cbor_item_t *environment(const struct how *h)
{
    cbor_item_t *e = new_map(h, 1), *class = new_map(h, 1);
    put(class, 1, cbor_build_string("A Vendor"));
    put(e, 0, class);
    return e;
}

static cbor_item_t *triples(const struct how *h, unsigned set)
{
    cbor_item_t *list = new_array(h, h->earlier ? PCRS : 1);
    for (unsigned pcr = 0; h->earlier && pcr < PCRS; pcr++) {
        cbor_item_t *triple = new_array(h, 2);
        push(triple, environment(h));
        push(triple, measurement(h, set, pcr));
        push(list, triple);
    }
    if (h->earlier)
        return list;
    cbor_item_t *triple = new_array(h, 2), *measurements = new_array(h, h->registers ? 1 : PCRS);
    push(triple, environment(h));
    if (h->registers) {
        cbor_item_t *m = new_map(h, 1), *values = new_map(h, 1), *registers = new_map(h, PCRS);
        for (uint8_t pcr = 0; pcr < PCRS; pcr++)
            put(registers, pcr, digests(h, set, pcr));
        put(values, 14, registers);
        put(m, 1, values);
        push(measurements, m);
    }
    for (unsigned pcr = 0; !h->registers && pcr < PCRS; pcr++)
        push(measurements, measurement(h, set, pcr));
    push(triple, measurements);
    push(list, triple);
    return list;
}

static cbor_item_t *comid(const struct how *h, unsigned set)
{
    static const uint8_t id[4] = {0xde, 0xad, 0xbe, 0xef};
    unsigned char *bytes;
    size_t room;
    cbor_item_t *c = new_map(h, 2), *identity = new_map(h, 2), *all = new_map(h, 1);
    put(identity, 0, cbor_build_bytestring(id, sizeof id));
    put(identity, 1, cbor_build_uint8((uint8_t)set));
    put(all, 0, triples(h, set));
    put(c, 1, identity);
    put(c, 4, all);
    const size_t len = cbor_serialize_alloc(c, &bytes, &room);
    MUST(len != 0);
    cbor_decref(&c);
    cbor_item_t *inside = cbor_build_bytestring(bytes, len);
    free(bytes);
    return cbor_build_tag(506, cbor_move(inside));
}

static void make(const struct how *h)
{
    size_t room;
    cbor_item_t *map = new_map(h, 3), *tags = new_array(h, h->sets), *valid = new_map(h, 2);
    for (unsigned i = 0; i < h->sets; i++)
        push(tags, comid(h, i));
    put(valid, 0, cbor_build_tag(1, cbor_move(cbor_build_uint32(1700000000))));
    put(valid, 1, cbor_build_tag(1, cbor_move(cbor_build_float8(4000000000.5))));
    put(map, 0, cbor_build_string("vendor\x1b[31m"));
    put(map, 1, tags);
    put(map, 4, valid);
    cbor_item_t *tagged = cbor_build_tag(501, cbor_move(map));
    if (h->earlier)
        tagged = cbor_build_tag(500, cbor_move(tagged));
    free(made);
    made_len = cbor_serialize_alloc(tagged, &made, &room);
    MUST(made_len != 0);
    cbor_decref(&tagged);
}

static void give_back(void)
{
    free(made);
    made = NULL;
    craft_free_all();
}

TestSuite(corim, .fini = give_back);

static const struct how ways[] = {
    {.sets = 1}, {.sets = 1, .open = true}, {.sets = 2, .registers = true}, {.sets = 8, .registers = true, .open = true, .named = true},
    {.sets = 2, .earlier = true}, {.sets = 1, .earlier = true, .open = true},
};

Test(corim, what_was_written_is_read)
{
    for (size_t i = 0; i < QM_COUNT(ways); i++) {
        make(&ways[i]);
        cr_assert_eq(qm_corim_read((struct qm_span){made, made_len}, &corim, &fault), QM_OK, "way %zu: %s", i, fault.text);
        cr_expect_eq(corim.count, ways[i].sets);
        cr_expect_str_eq(corim.name, "vendor\\u{1b}[31m");
        cr_expect_eq(corim.not_before_ms, 1700000000000);
        cr_expect_eq(corim.not_after_ms, 4000000000500);
        for (unsigned set = 0; set < corim.count; set++) {
            char name[64];
            snprintf(name, sizeof name, "deadbeef version %u", set);
            cr_expect_str_eq(corim.set[set].name, name);
            cr_expect_eq(corim.set[set].mask, (1u << PCRS) - 1);
            for (unsigned pcr = 0; pcr < PCRS; pcr++) {
                uint8_t value[32];
                value_of(set, pcr, value);
                cr_expect_arr_eq(corim.set[set].value[pcr], value, 32);
            }
        }
    }
}

Test(corim, one_set_more_than_there_is_room_for)
{
    make(&(struct how){.sets = QM_CORIM_SETS_MAX + 1});
    cr_expect_eq(qm_corim_read((struct qm_span){made, made_len}, &corim, &fault), QM_E_REFUSED);
    cr_expect_not_null(strstr(fault.text, "more than 8"), "%s", fault.text);
}

/* In memory of exactly that size, so that a byte too far is seen. */
static qm_err read_exactly(const uint8_t *p, size_t len)
{
    uint8_t *copy = malloc(len != 0 ? len : 1);
    MUST(copy != NULL);
    if (len != 0)
        memcpy(copy, p, len);
    qm_err err = qm_corim_read((struct qm_span){copy, len}, &corim, &fault);
    free(copy);
    return err;
}

Test(corim, cut_anywhere_it_is_refused)
{
    for (size_t i = 0; i < QM_COUNT(ways); i++) {
        make(&ways[i]);
        for (size_t len = 0; len < made_len; len++)
            if (read_exactly(made, len) != QM_E_REFUSED)
                cr_assert_fail("way %zu, %zu bytes", i, len);
    }
}

/* Whatever a byte becomes: read or refused, and never more PCRs than there are, or sets. */
Test(corim, any_byte_may_be_another)
{
    static const uint8_t becomes[] = {0x00, 0x1b, 0x3b, 0x5b, 0x5f, 0x7f, 0x9b, 0x9f, 0xbb, 0xbf, 0xdb, 0xf7, 0xfb, 0xff};
    for (size_t i = 0; i < QM_COUNT(ways); i++) {
        struct how how = ways[i];
        how.sets = 1;
        make(&how);
        for (size_t at = 0; at < made_len; at++)
            for (size_t k = 0; k < QM_COUNT(becomes); k++) {
                const uint8_t was = made[at];
                made[at] = becomes[k];
                const qm_err err = read_exactly(made, made_len);
                made[at] = was;
                bool sound = (err == QM_OK || err == QM_E_REFUSED) && corim.count <= QM_CORIM_SETS_MAX;
                for (unsigned s = 0; s < corim.count && sound; s++)
                    sound = corim.set[s].mask >> QM_CORIM_PCRS == 0;
                if (!sound)
                    cr_assert_fail("way %zu, byte %zu as %02x", i, at, becomes[k]);
            }
    }
}

/* 501({key: the bytes}) */
static qm_err read_under(uint8_t key, const uint8_t *p, size_t len)
{
    struct craft c = {0};
    const uint8_t head[] = {0xd9, 0x01, 0xf5, 0xa1, key};
    craft_put(&c, head, sizeof head);
    craft_put(&c, p, len);
    return read_exactly(c.p, c.len);
}

Test(corim, nested_without_end)
{
    static uint8_t deep[QM_CORIM_BYTES_MAX];
    memset(deep, 0x81, sizeof deep);
    cr_expect_eq(read_under(7, deep, 100000), QM_E_REFUSED);
    cr_expect_str_eq(fault.text, "the CBOR is nested too deep");
    memset(deep, 0x9f, sizeof deep);
    cr_expect_eq(read_under(7, deep, 100000), QM_E_REFUSED);
    cr_expect_str_eq(fault.text, "the CBOR is nested too deep");
    memset(deep, 0xc1, sizeof deep); /* tags upon tags cost nothing but their bytes */
    cr_expect_eq(read_under(7, deep, 100000), QM_E_REFUSED);
    cr_expect_str_eq(fault.text, "the CBOR is cut short");
    /* the last depth that is read, and one more */
    memset(deep, 0x81, sizeof deep);
    deep[QM_CORIM_DEPTH] = 0x00;
    cr_expect_eq(read_under(7, deep, QM_CORIM_DEPTH + 1), QM_E_REFUSED);
    cr_expect_str_eq(fault.text, "the CoRIM has no tags");
    deep[QM_CORIM_DEPTH] = 0x81;
    deep[QM_CORIM_DEPTH + 1] = 0x00;
    cr_expect_eq(read_under(7, deep, QM_CORIM_DEPTH + 2), QM_E_REFUSED);
    cr_expect_str_eq(fault.text, "the CBOR is nested too deep");
}

Test(corim, false_claims)
{
    static const struct {
        uint8_t p[12];
        size_t len;
    } claims[] = {
        {{0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 9}, {{0xbb, 0x80, 0, 0, 0, 0, 0, 0, 0}, 9},
        {{0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 9}, {{0x7b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 9},
        {{0x9a, 0x00, 0x10, 0x00, 0x00, 0x01}, 6},                   {{0x9f, 0x01}, 2},
        {{0xbf, 0x01, 0xff}, 3},                                     {{0xff}, 1},
        {{0x1c}, 1},                                                 {{0x5f, 0x41, 0x00, 0xff}, 4},
    };
    for (size_t i = 0; i < QM_COUNT(claims); i++) {
        cr_expect_eq(read_under(1, claims[i].p, claims[i].len), QM_E_REFUSED, "claim %zu", i);
        cr_expect_eq(read_under(7, claims[i].p, claims[i].len), QM_E_REFUSED);
        cr_expect_str_neq(fault.text, "the CoRIM has no tags", "claim %zu, where nobody looks", i);
    }
}

Test(corim, too_long)
{
    static const uint8_t nothing[QM_CORIM_BYTES_MAX + 1];
    cr_expect_eq(qm_corim_read((struct qm_span){nothing, sizeof nothing}, &corim, &fault), QM_E_REFUSED);
    cr_expect_not_null(strstr(fault.text, "longer than 1048576 bytes"), "%s", fault.text);
}
