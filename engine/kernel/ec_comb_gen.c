/* Writes ec_tables.c when the project is built: the combs of both curves' generators, as qm_ec_comb_make gives them. They never
 * change, and making them takes 10 ms, which every start would pay. */
#include <stdio.h>
#include <stdlib.h>

#include "engine/kernel/ec_comb.h"

static int write_table(const char *name, const struct qm_ec_curve *curve, const struct qm_ec_comb_shape *shape)
{
    const size_t bytes = qm_ec_comb_bytes(curve, shape);
    uint8_t *comb = malloc(bytes);
    if (comb == NULL)
        return 1;
    qm_ec_comb_make(curve, shape, curve->gx, curve->gy, comb);
    printf("\nconst uint64_t %s[] __attribute__((aligned(64))) = {", name);
    for (size_t at = 0; at < bytes; at += 8) {
        uint64_t word = 0;
        for (unsigned i = 0; i < 8; i++)
            word |= (uint64_t)comb[at + i] << (8 * i);
        printf("%s0x%016llx,", at % 32 == 0 ? "\n    " : " ", (unsigned long long)word);
    }
    puts("\n};");
    free(comb);
    return 0;
}

int main(void)
{
    puts("/* Written by ec_comb_gen.c. */\n#include \"engine/kernel/ec_comb.h\"");
    int failed = write_table("qm_ec_p256_g", &qm_ec_p256, &qm_ec_p256_g_shape) |
                 write_table("qm_ec_p384_g", &qm_ec_p384, &qm_ec_p384_g_shape);
    return failed | (fclose(stdout) != 0);
}
