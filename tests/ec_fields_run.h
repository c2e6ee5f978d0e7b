/* See ec_fields.h. False, and what is wrong in why, if a routine gives a wrong value or leaves its range. The CPU must have
 * what the kernel needs. */
#ifndef QM_TEST_EC_FIELDS_RUN_H
#define QM_TEST_EC_FIELDS_RUN_H

#include "tests/forge.h"

bool ec_fields_check_p256(struct forge_rng *rng, unsigned rounds, char *why, size_t cap);
bool ec_fields_check_p384(struct forge_rng *rng, unsigned rounds, char *why, size_t cap);

#endif
