/* Shared by store_status.c and store_machine.c only. */
#ifndef QM_STORE_STATUS_INSIDE_H
#define QM_STORE_STATUS_INSIDE_H

#include "tools/store/store_inside.h"
#include "tools/store/store_status.h"

/* Number of the group of that name, 0: none. */
uint32_t store_fleet_group(const struct qm_fleet *f, const char *name, size_t len);
/* An entry as it was written: names can be looked up by its bytes. */
bool store_entry_sound(const struct qm_ledger *l);

#endif
