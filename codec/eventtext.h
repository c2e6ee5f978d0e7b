/* Events in words: one line for a person, an object for a program, and which bytes of the data may
 * have been measured, so that a reader knows which words the digest proves and which the log only
 * claims (PC Client Platform Firmware Profile 1.06, 10.2 and 10.4). No allocation, no recursion;
 * the data is an adversary's. */
#ifndef QM_EVENTTEXT_H
#define QM_EVENTTEXT_H

#include "codec/eventlog.h"
#include "codec/eventnames.h"
#include "codec/text.h"

/* Appends one line: printable ASCII, escaped as by qm_out_shown, no newline, never longer than
 * QM_EVENT_LINE_MAX, so that anyone may show it as it is. Examples: "grub_cmd: linux
 * /boot/vmlinuz", "SecureBoot = 1", "Boot0001 debian \\EFI\\debian". */
enum { QM_EVENT_LINE_MAX = 8 * 1024 };
void qm_event_describe(const struct qm_event *e, struct qm_out *o);

/* Appends a JSON object with what could be read of the data; where it is not what its type asks
 * for, "malformed" and the data as text or hex. Never longer than qm_event_json_max of the data. */
void qm_event_json(const struct qm_event *e, struct qm_out *o);
static inline size_t qm_event_json_max(size_t data_len)
{
    return 64 * 1024 + 16 * data_len;
}

/* Parts of the data that firmware of this type hashes, the likeliest first. None for EV_NO_ACTION,
 * which is never measured. */
struct qm_measured {
    struct qm_span bytes;
    const char *part; /* "data", "text", "value", "structure" */
};
enum { QM_MEASURED_MAX = 4 };
unsigned qm_event_measured(const struct qm_event *e, struct qm_measured parts[QM_MEASURED_MAX]);

#endif
