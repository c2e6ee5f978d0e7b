/* See ec_fields.h. The kernel's struct gets another name here: the real one is in the library. */
#define qm_sig_p384_ifma512 ec_fields_p384_kernel
#include "engine/kernel/kernel.h"
#include "engine/kernel/p384_ifma512.c"

#define FIELDS_CHECK ec_fields_check_p384
#include "tests/ec_fields.h"
