/* Moments as people give them: --until, --since. */
#ifndef QM_MOMENT_READ_H
#define QM_MOMENT_READ_H

#include "codec/base.h"

/* RFC 3339 ("2026-11-27T06:41:30Z", "2026-11-27 06:41:30.5+01:00"), a date alone (its first moment,
 * UTC), or a duration (qm_duration_read) from now: ahead of it, or back. False: it is none of
 * these, or out of range. */
bool qm_moment_read(const char *text, uint64_t now_ms, bool ahead, uint64_t *ms);

#endif
