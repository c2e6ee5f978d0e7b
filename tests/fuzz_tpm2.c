/* Fuzz target: TPM structures. The first byte says which. What parses must lie inside the input, and must not parse with a byte
 * more or less. */
#include <assert.h>
#include <stdlib.h>

#include "codec/tpm2.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void inside(struct qm_span s, const uint8_t *data, size_t size)
{
    assert(s.len == 0 || (s.p >= data && s.p + s.len <= data + size));
}

static bool parse(unsigned which, struct qm_span in)
{
    struct qm_attest a;
    struct qm_signature s;
    struct qm_public p;
    bool ok;
    if (which == 0) {
        ok = qm_attest_parse(in, &a);
        if (ok) {
            inside(a.signer, in.p, in.len);
            inside(a.extra, in.p, in.len);
            inside(a.pcr_digest, in.p, in.len);
            assert(a.selection_count <= QM_SELECTION_MAX);
        }
    } else if (which == 1) {
        ok = qm_signature_parse(in, &s);
        if (ok) {
            inside(s.a, in.p, in.len);
            inside(s.b, in.p, in.len);
        }
    } else {
        ok = qm_public_parse(in, &p);
        if (ok) {
            inside(p.a, in.p, in.len);
            inside(p.b, in.p, in.len);
        }
    }
    return ok;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    const unsigned which = data[0] % 3;
    /* its own block, so that a byte too far is seen */
    uint8_t *copy = malloc(size - 1);
    assert(copy != NULL);
    for (size_t i = 1; i < size; i++)
        copy[i - 1] = data[i];
    struct qm_span in = {copy, size - 1};
    bool whole = parse(which, in);
    /* a public area may stand with or without its size in front, so only the others are told by one byte less */
    if (whole && which != 2)
        assert(!parse(which, (struct qm_span){copy, size - 2}));
    free(copy);
    return 0;
}
