/* The names of event types and of the tags inside tagged events. */
#ifndef QM_EVENTNAMES_H
#define QM_EVENTNAMES_H

#include "codec/base.h"

/* "EV_EFI_BOOT_SERVICES_APPLICATION"; NULL where none is known. */
const char *qm_event_type_name(uint32_t type);
/* TCG_PCClientTaggedEvent.taggedEventID: Windows' SIPAEVENT ids, Linux' stub; NULL where none is
 * known. */
const char *qm_event_tag_name(uint32_t id);
/* Does the tag hold other tags? Windows' aggregations do. */
static inline bool qm_event_tag_nests(uint32_t id)
{
    return (id & 0x7fff0000u) == 0x40010000u;
}

#endif
