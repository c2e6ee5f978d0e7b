/* See ec_fields.h. The kernel's struct gets another name here: the real one is in the library. */
#define qm_sig_p256_ifma512 ec_fields_p256_kernel
#include "engine/kernel/kernel.h"
#include "engine/kernel/p256_ifma512.c"

#define FIELDS_CHECK ec_fields_check_p256
#include "tests/ec_fields.h"
