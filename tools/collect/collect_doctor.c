/* quotemill-collect doctor: what an alert "no measurement" sends a person to check, in the order in which it can fail. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/timex.h>
#include <unistd.h>

#include "tools/collect/collect.h"
#include "tools/collect/evidence_make.h"
#include "tools/collect/service_state.h"
#include "tools/collect/state_dir.h"
#include "tools/finding.h"
#include "tools/log_read.h"

#define DAY_MS 86400000ull
#define BEACON_OLD_MS (DAY_MS / 8) /* what the policy beacon_life says where nobody set it */

/* How far the TPM got. Each is only asked when the one before was answered. */
enum reached { NOTHING, ANSWERS, HAS_KEY, QUOTES };

struct doctor {
    struct qm_collect common;
    struct qm_doctor lines;
    const char *spool, *log_file, *beacon;
    struct qm_identity identity;
    bool known; /* there is an identity */
    uint32_t mask;
    atomic_int reached; /* written by the job, which may be left behind */
    struct qm_tpm_state tpm;
    struct qm_measured measured;
};

static qm_err job(struct qm_tpm *t, void *arg, struct qm_fault *fault)
{
    struct doctor *d = arg;
    struct qm_tpm_key ak;
    uint8_t extra[32] = {0}; /* the quote goes nowhere */
    qm_err err = qm_tpm_look(t, &d->tpm, fault);
    if (err == QM_OK)
        atomic_store(&d->reached, ANSWERS);
    if (err != QM_OK || !d->known)
        return err;
    err = qm_identity_key(t, &d->identity, &ak, fault);
    if (err != QM_OK)
        return err;
    atomic_store(&d->reached, HAS_KEY);
    err = qm_measure(t, &ak, d->mask, (struct qm_span){extra, sizeof extra}, &d->measured, fault);
    if (err == QM_OK)
        atomic_store(&d->reached, QUOTES);
    qm_tpm_key_close(t, &ak);
    return err;
}

/* ---- TPM and key ------------------------------------------------------------------------------------------------------- */

static bool check_device(struct doctor *d)
{
    static const char check[] = "device";
    const char *device = qm_tpm_device(d->common.tcti);
    if (device == NULL)
        qm_doctor_say(&d->lines, check, QM_HEALTH_PASS, NULL, "none: the TPM is reached by %.200s", d->common.tcti);
    else if (access(device, F_OK) != 0)
        qm_doctor_say(
            &d->lines, check, QM_HEALTH_FAIL,
            "switch the TPM on in the firmware's setup, or give the virtual machine one; then modprobe tpm_tis or tpm_crb",
            "%.200s: %s", device, strerrordesc_np(errno));
    else if (access(device, R_OK | W_OK) != 0)
        qm_doctor_say(&d->lines, check, QM_HEALTH_FAIL,
                      "run as root or as a member of the device's group: usermod -a -G tss USER", "%.200s: %s", device,
                      strerrordesc_np(errno));
    else
        qm_doctor_say(&d->lines, check, QM_HEALTH_PASS, NULL, "%.200s can be read and written", device);
    return device == NULL || access(device, R_OK | W_OK) == 0;
}

static void unknown(struct doctor *d, const char *check)
{
    qm_doctor_say(&d->lines, check, QM_HEALTH_WARN, "first mend what failed above", "cannot be told");
}

static void check_lockout(struct doctor *d)
{
    if (d->tpm.locked_out)
        qm_doctor_say(&d->lines, "lock-out", QM_HEALTH_FAIL,
                      "wait until it ends, or tpm2_dictionarylockout --clear-lockout; then find out who tried passwords",
                      "the TPM is locked out: %u wrong passwords of %u", d->tpm.wrong_auths, d->tpm.wrong_auths_max);
    else
        qm_doctor_say(&d->lines, "lock-out", QM_HEALTH_PASS, NULL, "none: %u wrong passwords of %u", d->tpm.wrong_auths,
                      d->tpm.wrong_auths_max);
}

/* A key in the TPM is used without the password of its hierarchy; making it, a challenge, and a key in a file want it. */
static void check_passwords(struct doctor *d, const struct qm_fault *unread)
{
    static const char check[] = "passwords";
    const bool endorsement = d->tpm.has_password[QM_ENDORSEMENT], owner = d->tpm.has_password[QM_OWNER];
    const char *who = endorsement && owner ? "the endorsement and the owner hierarchy have one each"
                      : endorsement        ? "the endorsement hierarchy has one"
                                           : "the owner hierarchy has one";
    if (unread->text[0] != '\0')
        qm_doctor_say(&d->lines, check, QM_HEALTH_FAIL, "give it as --hierarchy-auth FILE: one line, chmod 600, of the user who runs this", "%s",
                      unread->text);
    else if (!endorsement && !owner)
        qm_doctor_say(&d->lines, check, QM_HEALTH_PASS, NULL, "no hierarchy has one");
    else
        qm_doctor_say(&d->lines, check, QM_HEALTH_PASS, NULL, "%s: init, activate and a key in a file take it from --hierarchy-auth FILE", who);
}

static void check_state(struct doctor *d)
{
    struct qm_fault fault = {0};
    int lock;
    const qm_err err = qm_state_open(d->common.state, false, &lock, &fault);
    if (lock >= 0)
        close(lock);
    if (err == QM_OK)
        qm_doctor_say(&d->lines, "state", QM_HEALTH_PASS, NULL, "%.300s is closed to others", d->common.state);
    else
        qm_doctor_say(&d->lines, "state", err == QM_E_BUSY ? QM_HEALTH_WARN : QM_HEALTH_FAIL,
                      err == QM_E_BUSY        ? "look for a call that hangs: pgrep -a quotemill-collect"
                      : err == QM_E_REFUSED   ? "and see who has looked or written there"
                      : fault.sys == ENOENT   ? "or say where it is: --state DIR"
                                              : "run doctor as the user of the service",
                      "%s", fault.text);
}

static void check_key(struct doctor *d, enum reached reached, const struct qm_fault *state, const struct qm_fault *fault)
{
    static const char check[] = "key";
    const char *why;
    const struct qm_identity *i = &d->identity;
    if (state->text[0] != '\0')
        qm_doctor_say(&d->lines, check, QM_HEALTH_FAIL,
                      state->err == QM_E_FORMAT
                          ? "put the file back from a backup; or quotemill-collect init --force makes a new key, to be enrolled anew"
                          : "run doctor as the user of the service",
                      "%s", state->text);
    else if (!d->known)
        qm_doctor_say(&d->lines, check, QM_HEALTH_FAIL, "quotemill-collect init, then enroll what it proposes",
                      "there is none yet");
    else if (reached >= HAS_KEY)
        qm_doctor_say(&d->lines, check, QM_HEALTH_PASS, NULL, "%s of %.*s, in its place",
                      qm_ak_scheme((struct qm_span){i->ak.p, i->ak.len}, &why), (int)i->id_len, (const char *)i->id);
    else if (reached == NOTHING)
        unknown(d, check);
    else
        qm_doctor_say(&d->lines, check, QM_HEALTH_FAIL,
                      i->handle == 0 && d->tpm.has_password[i->hierarchy]
                          ? "a key in a file wants the password of its hierarchy: give --hierarchy-auth, to once too; or init --force --persist"
                          : "quotemill-collect init makes the same key again where the TPM can",
                      "%s", fault->text);
}

static void check_banks(struct doctor *d)
{
    const uint32_t missing = d->mask & ~d->tpm.bank[QM_HASH_SHA256];
    char banks[64] = "";
    for (enum qm_hash h = QM_HASH_SHA1; h < QM_HASH_COUNT; h++)
        if (d->tpm.bank[h] != 0)
            snprintf(banks + strlen(banks), sizeof banks - strlen(banks), "%s%s", banks[0] != '\0' ? ", " : "",
                     qm_hash_name(h));
    if (missing != 0)
        qm_doctor_say(
            &d->lines, "PCR banks", QM_HEALTH_FAIL,
            "switch the SHA-256 bank on in the firmware's setup, or tpm2_pcrallocate sha256:all, and restart the machine",
            "SHA-256 lacks PCR %d; there are: %s", __builtin_ctz(missing), banks[0] != '\0' ? banks : "none");
    else
        qm_doctor_say(&d->lines, "PCR banks", QM_HEALTH_PASS, NULL, "%s", banks);
}

static void check_quote(struct doctor *d, enum reached reached, const struct qm_fault *fault)
{
    if (reached == QUOTES)
        qm_doctor_say(&d->lines, "quote", QM_HEALTH_PASS, NULL, "in %u %s", d->measured.tries,
                      d->measured.tries == 1 ? "try" : "tries");
    else if (reached == HAS_KEY)
        qm_doctor_say(&d->lines, "quote", QM_HEALTH_FAIL, "see tpm2_getcap properties-variable, and the kernel's log", "%s",
                      fault->text);
    else
        unknown(d, "quote");
}

static void check_tpm(struct doctor *d, const struct qm_fault *state)
{
    struct qm_fault fault = {0}, unread = {0};
    struct qm_tpm_way way;
    qm_err err = QM_E_IO;
    const bool can = check_device(d);
    if (qm_collect_way(&d->common, &way, &unread) != QM_OK) /* what needs no password can be told without */
        explicit_bzero(way.auth, sizeof way.auth);
    if (can)
        err = qm_tpm_do(&way, job, d, NULL, &fault);
    explicit_bzero(&way, sizeof way);
    const enum reached reached = (enum reached)atomic_load(&d->reached);
    if (reached >= ANSWERS)
        qm_doctor_say(&d->lines, "TPM", QM_HEALTH_PASS, NULL, "%s %s, firmware %llx", d->tpm.vendor, d->tpm.model,
                      (unsigned long long)d->tpm.firmware);
    else if (can && err != QM_OK)
        qm_doctor_say(&d->lines, "TPM", QM_HEALTH_FAIL,
                      "restart what gives the TPM, or the machine; see the kernel's log: dmesg | grep -i tpm", "%s",
                      fault.text);
    else
        unknown(d, "TPM");
    if (reached >= ANSWERS)
        check_lockout(d);
    else
        unknown(d, "lock-out");
    if (reached >= ANSWERS || unread.text[0] != '\0')
        check_passwords(d, &unread);
    else
        unknown(d, "passwords");
    check_state(d);
    check_key(d, reached, state, &fault);
    if (reached >= ANSWERS)
        check_banks(d);
    else
        unknown(d, "PCR banks");
    check_quote(d, reached, &fault);
}

/* ---- the log ----------------------------------------------------------------------------------------------------------- */

/* "0, 4, 8" */
static void list_pcrs(char *to, size_t cap, uint32_t mask)
{
    to[0] = '\0';
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++)
        if ((mask >> pcr & 1) != 0)
            snprintf(to + strlen(to), cap - strlen(to), "%s%u", to[0] != '\0' ? ", " : "", pcr);
}

static void replay(struct doctor *d, struct qm_span log)
{
    static const char check[] = "event log";
    static struct qm_log_view v;
    uint32_t other = 0;
    char pcrs[128];
    v = (struct qm_log_view){0};
    qm_log_view_init(&v, log);
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++)
        if ((d->mask >> pcr & 1) != 0 && memcmp(v.value[QM_HASH_SHA256][pcr], d->measured.pcr[pcr], 32) != 0)
            other |= 1u << pcr;
    list_pcrs(pcrs, sizeof pcrs, other);
    if (v.malformed)
        qm_doctor_say(&d->lines, check, QM_HEALTH_FAIL,
                      "give --log another file, or --no-log; is the firmware's own log damaged?", "damaged at byte %zu of %zu",
                      v.malformed_at, log.len);
    else if (v.unreplayable)
        qm_doctor_say(&d->lines, check, QM_HEALTH_FAIL, "let the firmware log SHA-256: its setup, or an update",
                      "it has no SHA-256 digests");
    else if (other != 0)
        qm_doctor_say(
            &d->lines, check, QM_HEALTH_FAIL,
            "something extends these PCRs and logs it elsewhere: quote others (init --pcrs), or do not require the log",
            "it does not replay to the quoted PCRs: %s", pcrs);
    else
        qm_doctor_say(&d->lines, check, QM_HEALTH_PASS, NULL, "%zu events replay to the quoted PCRs", v.event_count);
}

static void check_log(struct doctor *d)
{
    static const char check[] = "event log";
    const char *path = d->log_file != NULL ? d->log_file : QM_LOG_DEFAULT;
    struct qm_fault fault = {0};
    uint8_t *bytes = NULL;
    size_t len;
    if (qm_log_file_read(path, &bytes, &len, &fault) != QM_OK)
        qm_doctor_say(&d->lines, check, QM_HEALTH_FAIL,
                      d->log_file != NULL ? "--log wants the file that has the firmware's log; without it the kernel's is read"
                      : fault.sys == EACCES || fault.sys == EPERM ? "run as root, or with CAP_DAC_READ_SEARCH"
                      : fault.sys == ENOENT || fault.sys == ENOTDIR
                          ? "mount -t securityfs securityfs /sys/kernel/security; where it is mounted, the firmware gave the kernel no log: boot by "
                            "UEFI, with the TPM switched on"
                          : "see what the firmware gives the kernel: dmesg | grep -i tpm",
                      "%s", fault.text);
    else if (len == 0)
        qm_doctor_say(&d->lines, check, QM_HEALTH_FAIL, "see what the firmware gives the kernel: dmesg | grep -i tpm",
                      "%s is empty", path);
    else if (atomic_load(&d->reached) == QUOTES)
        replay(d, (struct qm_span){bytes, len});
    else
        qm_doctor_say(&d->lines, check, QM_HEALTH_WARN, "first mend what failed above",
                      "it can be read; what it replays to cannot be compared");
    free(bytes);
}

/* ---- clock, spool, queue ----------------------------------------------------------------------------------------------- */

static void check_clock(struct doctor *d, const struct qm_delivery *last)
{
    struct timex t = {0};
    if (qm_now_ms() + DAY_MS / 24 < last->at_ms)
        qm_doctor_say(&d->lines, "clock", QM_HEALTH_FAIL, "set the clock", "it is %llu s behind the last delivery",
                      (unsigned long long)((last->at_ms - qm_now_ms()) / 1000));
    else if (adjtimex(&t) == TIME_ERROR || (t.status & STA_UNSYNC) != 0)
        qm_doctor_say(&d->lines, "clock", QM_HEALTH_WARN, "let a time service set it",
                      "the kernel does not know that it is synchronized; no verdict depends on it");
    else
        qm_doctor_say(&d->lines, "clock", QM_HEALTH_PASS, NULL, "synchronized");
}

/* Can a file be made there? One without a name, where the file system has such. */
static int try_spool(const char *dir)
{
    struct stat st;
    if (stat(dir, &st) != 0)
        return errno;
    if (!S_ISDIR(st.st_mode))
        return ENOTDIR;
    const int fd = open(dir, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL ? access(dir, W_OK | X_OK) == 0 ? 0 : errno : errno;
    static const uint8_t block[4096];
    const int sys = write(fd, block, sizeof block) == (ssize_t)sizeof block ? 0 : errno;
    close(fd);
    return sys;
}

static void check_spool(struct doctor *d)
{
    if (d->spool == NULL) {
        qm_doctor_say(&d->lines, "spool", QM_HEALTH_WARN, "doctor --spool DIR, as /etc/default/quotemill-collect has it in QUOTEMILL_SPOOL",
                      "which one is meant was not said");
        return;
    }
    const int sys = try_spool(d->spool);
    if (sys != 0)
        qm_doctor_say(&d->lines, "spool", QM_HEALTH_FAIL,
                      sys == EACCES || sys == EPERM
                          ? "let this machine write there (Debian: a member of the group quotemill-spool)"
                      : sys == ENOSPC || sys == EDQUOT ? "make room"
                                                       : "mount it, or make it; until then records wait in the queue",
                      "%.300s: %s", d->spool, strerrordesc_np(sys));
    else
        qm_doctor_say(&d->lines, "spool", QM_HEALTH_PASS, NULL, "%.300s can be written", d->spool);
}

static void check_queue(struct doctor *d)
{
    struct qm_fault fault = {0};
    struct qm_queue q;
    if (qm_queue_look(d->common.state, &q, &fault) != QM_OK)
        qm_doctor_say(&d->lines, "queue", QM_HEALTH_FAIL, "see that the state directory can be read", "%s", fault.text);
    else if (q.files != 0)
        qm_doctor_say(&d->lines, "queue", QM_HEALTH_WARN, "mend the spool: what waits is delivered first, oldest first",
                      "%llu records wait, %llu KiB", (unsigned long long)q.files, (unsigned long long)((q.bytes + 1023) / 1024));
    else
        qm_doctor_say(&d->lines, "queue", QM_HEALTH_PASS, NULL, "nothing waits");
}

static void check_delivery(struct doctor *d, const struct qm_delivery *last, bool there)
{
    char age[QM_AGE_MAX];
    const uint64_t now = qm_now_ms();
    if (!there)
        qm_doctor_say(&d->lines, "delivery", QM_HEALTH_FAIL, "quotemill-collect once --spool DIR -v", "nothing was ever delivered");
    else if (strcmp(last->to, QM_DELIVERY_STDOUT) == 0)
        qm_doctor_say(&d->lines, "delivery", now > last->at_ms + DAY_MS ? QM_HEALTH_FAIL : QM_HEALTH_PASS,
                      now > last->at_ms + DAY_MS ? "see that what calls quotemill-collect once --stdout runs" : NULL,
                      "the last record went to standard output %s; whether it arrived, only the verifier knows", qm_ago(age, now, last->at_ms));
    else if (now > last->at_ms + DAY_MS)
        qm_doctor_say(&d->lines, "delivery", QM_HEALTH_FAIL,
                      "quotemill-collect once --spool DIR -v, and see that its timer runs", "the last was %s, to %.300s",
                      qm_ago(age, now, last->at_ms), last->to);
    else
        qm_doctor_say(&d->lines, "delivery", QM_HEALTH_PASS, NULL, "the last was %s, to %.300s", qm_ago(age, now, last->at_ms),
                      last->to);
}

/* As once takes it. */
static void check_beacon(struct doctor *d)
{
    static const char check[] = "beacon", fetch[] = "see what fetches it, and what the verifier publishes: quotemill beacon show";
    char age[QM_AGE_MAX];
    struct qm_fault fault = {0};
    struct stat st = {0};
    uint8_t extra[32];
    const uint64_t now = qm_now_ms();
    qm_err err = qm_extra_beacon(d->beacon, (struct qm_span){extra, 0}, extra, &fault);
    if (err == QM_OK && stat(d->beacon, &st) != 0)
        err = qm_fail(&fault, QM_E_IO, errno, "the beacon %.200s", d->beacon);
    const uint64_t at = st.st_mtime > 0 ? (uint64_t)st.st_mtime * 1000 : 0;
    if (err != QM_OK)
        qm_doctor_say(&d->lines, check, QM_HEALTH_FAIL, fetch, "%s", fault.text);
    else if (now > at + BEACON_OLD_MS)
        qm_doctor_say(&d->lines, check, QM_HEALTH_WARN, fetch,
                      "it was fetched %s: verifiers accept one for 3 hours, or as their policy beacon_life says", qm_ago(age, now, at));
    else
        qm_doctor_say(&d->lines, check, QM_HEALTH_PASS, NULL, "it was fetched %s", qm_ago(age, now, at));
}

int qm_collect_doctor(int argc, char **argv)
{
    static struct doctor d; /* a job that was left behind still has it */
    struct qm_delivery last = {0};
    struct qm_fault state = {0}, fault = {0};
    bool delivered = false;
    d = (struct doctor){.common = QM_COLLECT_INIT, .lines.show = qm_show_init(stdout), .mask = QM_PCRS_DEFAULT};
    d.common.timeout_s = 15;
    const struct qm_option options[] = {
        {.name = "spool",
         .kind = QM_OPT_TEXT,
         .to = &d.spool,
         .value = "DIR",
         .help = "where once delivers to (else $QUOTEMILL_SPOOL, else where it did last)"},
        {.name = "log", .kind = QM_OPT_TEXT, .to = &d.log_file, .value = "FILE", .help = "the event log (else the kernel's)"},
        {.name = "beacon", .kind = QM_OPT_TEXT, .to = &d.beacon, .value = "FILE", .help = "the beacon that once is given"},
        {.name = "json", .kind = QM_OPT_FLAG, .to = &d.lines.json, .help = "one JSON object for each finding"},
        QM_STATE_OPTION(&d.common),
        QM_TPM_OPTIONS(&d.common),
    };
    static const struct qm_usage usage = {"doctor", "",
                                          "Checks what an alert 'no measurement' may come from, in order, and says what to do.",
                                          "Changes nothing. Exit codes: 0 nothing failed, 1 something did, 2 usage.\n"};
    int first, code;
    if (!qm_options_parse(&usage, options, QM_COUNT(options), argc, argv, 0, 0, &first, &code))
        return code;
    qm_collect_settle(&d.common);
    if (d.spool == NULL)
        d.spool = getenv("QUOTEMILL_SPOOL");
    if (d.spool != NULL && d.spool[0] == '\0')
        d.spool = NULL;
    if (qm_identity_read(&d.identity, d.common.state, &d.known, &state) != QM_OK)
        d.known = false;
    if (d.known)
        d.mask = d.identity.pcrs;
    check_tpm(&d, &state);
    check_log(&d);
    if (d.beacon != NULL)
        check_beacon(&d);
    if (qm_delivery_read(d.common.state, &last, &delivered, &fault) != QM_OK)
        delivered = false;
    const bool by_stdout = delivered && strcmp(last.to, QM_DELIVERY_STDOUT) == 0;
    if (d.spool == NULL && delivered && !by_stdout)
        d.spool = last.to;
    check_clock(&d, &last);
    if (by_stdout && d.spool == NULL)
        qm_doctor_say(&d.lines, "spool", QM_HEALTH_PASS, NULL, "none: records go to standard output");
    else
        check_spool(&d);
    check_queue(&d);
    check_delivery(&d, &last, delivered);
    qm_service_check(&d.lines);
    return qm_doctor_close(&d.lines);
}
