/* Fuzz target: CoRIM manifests. What is read has sets with values of PCRs that there are, and names that a terminal may be shown. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "tools/corim_read.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void printable(const char *name)
{
    size_t len = 0;
    for (; name[len] != '\0'; len++)
        assert(name[len] >= 0x20 && name[len] < 0x7f);
    assert(len < QM_CORIM_NAME_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct qm_corim corim;
    struct qm_fault fault = {0};
    /* its own block, so that a byte too far is seen */
    uint8_t *copy = malloc(size != 0 ? size : 1);
    assert(copy != NULL);
    if (size != 0)
        memcpy(copy, data, size);
    qm_err err = qm_corim_read((struct qm_span){copy, size}, &corim, &fault);
    free(copy);
    assert(err == QM_OK || (err == QM_E_REFUSED && fault.text[0] != '\0'));
    assert(corim.count <= QM_CORIM_SETS_MAX);
    printable(corim.name);
    for (unsigned i = 0; i < corim.count; i++) {
        printable(corim.set[i].name);
        assert(corim.set[i].mask >> QM_CORIM_PCRS == 0);
        assert(err != QM_OK || corim.set[i].mask != 0);
    }
    return 0;
}
