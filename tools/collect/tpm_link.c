#include "tools/collect/tpm_link.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <tss2/tss2_rc.h>
#include <tss2/tss2_tctildr.h>
#include <unistd.h>

#include "tools/collect/tpm_inside.h"

enum { STACK_BYTES = 1 << 20, NAME_MAX_BYTES = 64 };

struct qm_tpm {
    ESYS_CONTEXT *esys;
    TSS2_TCTI_CONTEXT *tcti;
    const char *where; /* the TCTI as given */
    struct qm_tpm_auth auth[QM_HIERARCHY_COUNT]; /* until ESYS has them */
    ESYS_TR session;                             /* that proves them; ESYS_TR_NONE: there is none */
    bool proves[QM_HIERARCHY_COUNT];
    bool by_hierarchy; /* what is being asked is asked with the password of: */
    enum qm_hierarchy hierarchy;
    qm_tpm_job job;
    void *arg;
    qm_err err;
    struct qm_fault fault;
    struct qm_tpm_time spent;
    pthread_mutex_t lock; /* for all that follows */
    pthread_cond_t moved;
    const char *what; /* is being asked; NULL: nothing */
    uint64_t since_us;
    bool done, left; /* the job is; the caller waits no longer */
};

static atomic_bool abandoned;

bool qm_tpm_abandoned(void)
{
    return atomic_load(&abandoned);
}

const char *qm_tpm_device(const char *tcti)
{
    static const char prefix[] = "device";
    const size_t len = sizeof prefix - 1;
    if (strncmp(tcti, prefix, len) != 0 || (tcti[len] != ':' && tcti[len] != '\0'))
        return NULL;
    return tcti[len] == ':' && tcti[len + 1] != '\0' ? tcti + len + 1 : "/dev/tpmrm0";
}

static uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* ---- the job's side ---------------------------------------------------------------------------------------------------- */

static void ask(struct qm_tpm *t, const char *what)
{
    pthread_mutex_lock(&t->lock);
    t->what = what;
    t->since_us = now_us();
    pthread_cond_signal(&t->moved);
    pthread_mutex_unlock(&t->lock);
}

/* False: nobody waits for the answer any more. */
static bool answered(struct qm_tpm *t)
{
    pthread_mutex_lock(&t->lock);
    t->spent.tpm_us += now_us() - t->since_us;
    t->spent.commands++;
    t->what = NULL;
    const bool left = t->left;
    pthread_mutex_unlock(&t->lock);
    return !left;
}

ESYS_CONTEXT *tpm_esys(struct qm_tpm *t)
{
    return t->esys;
}

ESYS_CONTEXT *tpm_ask(struct qm_tpm *t, const char *what)
{
    ask(t, what);
    return t->esys;
}

TSS2_RC tpm_code(TSS2_RC rc)
{
    if ((rc & TSS2_RC_LAYER_MASK) != 0 && (rc & TSS2_RC_LAYER_MASK) != TSS2_RESMGR_TPM_RC_LAYER)
        return 0;
    rc &= ~(TSS2_RC)TSS2_RC_LAYER_MASK;
    return (rc & TPM2_RC_FMT1) != 0 ? rc & 0xbf : rc; /* part 2, 6.6.2: bits 6 and 8 to 11 say which one */
}

ESYS_TR tpm_hierarchy(enum qm_hierarchy h)
{
    return h == QM_OWNER ? ESYS_TR_RH_OWNER : ESYS_TR_RH_ENDORSEMENT;
}

ESYS_TR tpm_authority(struct qm_tpm *t, enum qm_hierarchy h)
{
    t->by_hierarchy = true;
    t->hierarchy = h;
    return t->proves[h] ? t->session : ESYS_TR_PASSWORD;
}

static const char *password_hint(const struct qm_tpm *t, const char *what)
{
    if (!t->by_hierarchy)
        return "; the key has a password of its own, which this program does not take";
    if (t->hierarchy == QM_ENDORSEMENT)
        return t->proves[QM_ENDORSEMENT] ? "; the endorsement hierarchy has another password than --hierarchy-auth gives"
                                         : "; the endorsement hierarchy has a password: --hierarchy-auth FILE gives it";
    if (t->proves[QM_OWNER])
        return "; the owner hierarchy has another password than --owner-auth, or else --hierarchy-auth, gives";
    return strcmp(what, "TPM2_EvictControl") == 0
               ? "; the owner hierarchy has a password: --hierarchy-auth FILE gives it, or --key-file does without"
               : "; the owner hierarchy has a password: --hierarchy-auth FILE gives it";
}

static const char *hint(const struct qm_tpm *t, const char *what, TSS2_RC rc)
{
    switch (tpm_code(rc)) {
    case TPM2_RC_LOCKOUT:
        return "; the TPM is locked out after wrong passwords: wait, or tpm2_dictionarylockout --clear-lockout";
    case TPM2_RC_AUTH_FAIL & 0xbf:
    case TPM2_RC_BAD_AUTH & 0xbf:
        return password_hint(t, what);
    case TPM2_RC_HIERARCHY & 0xbf:
        return "; that hierarchy is switched off: look into the firmware's setup";
    case TPM2_RC_INITIALIZE:
        return "; the TPM was not started: restart the machine";
    case TPM2_RC_FAILURE:
        return "; the TPM found itself broken: restart the machine, then replace the TPM";
    case TPM2_RC_OBJECT_MEMORY:
    case TPM2_RC_SESSION_MEMORY:
    case TPM2_RC_OBJECT_HANDLES:
    case TPM2_RC_SESSION_HANDLES:
        return "; others have filled the TPM: use its resource manager, device:/dev/tpmrm0";
    case TPM2_RC_NV_SPACE:
        return "; the TPM has no room for one more persistent key: --key-file keeps it outside";
    case TPM2_RC_HANDLE & 0xbf:
        return "; there is nothing of that handle";
    default:
        return "";
    }
}

qm_err tpm_answer(struct qm_tpm *t, TSS2_RC rc, struct qm_fault *fault)
{
    const char *what = t->what;
    if (!answered(t))
        return qm_fail(fault, QM_E_IO, 0, "too late");
    if (rc == TSS2_RC_SUCCESS) {
        t->by_hierarchy = false;
        return QM_OK;
    }
    qm_fail(fault, QM_E_IO, 0, "%s: %.200s (0x%x)%s", what, Tss2_RC_Decode(rc), rc, hint(t, what, rc));
    t->by_hierarchy = false;
    return QM_E_IO;
}

void tpm_over(struct qm_tpm *t)
{
    (void)answered(t);
    t->by_hierarchy = false;
}

void tpm_flush(struct qm_tpm *t, ESYS_TR *object)
{
    if (*object != ESYS_TR_NONE) {
        (void)Esys_FlushContext(tpm_ask(t, "TPM2_FlushContext"), *object);
        tpm_over(t);
    }
    *object = ESYS_TR_NONE;
}

/* The loader takes a TCTI's name and its configuration apart; what stands before the first colon is the name. */
static qm_err open_tcti(struct qm_tpm *t, struct qm_fault *fault)
{
    char name[NAME_MAX_BYTES];
    const char *device = qm_tpm_device(t->where), *colon = strchr(t->where, ':');
    const size_t len = colon != NULL ? (size_t)(colon - t->where) : strlen(t->where);
    if (device != NULL && access(device, R_OK | W_OK) != 0)
        return qm_fail(fault, QM_E_IO, errno, "the TPM %.200s%s", device,
                       errno == EACCES ? " is for others (Debian: for members of the group tss)" : "");
    if (len == 0 || len >= sizeof name)
        return qm_fail(fault, QM_E_USAGE, 0, "no name of a TCTI: '%.64s'", t->where);
    memcpy(name, t->where, len);
    name[len] = '\0';
    ask(t, "connecting");
    const TSS2_RC rc = Tss2_TctiLdr_Initialize_Ex(name, colon != NULL ? colon + 1 : device, &t->tcti);
    if (!answered(t))
        return qm_fail(fault, QM_E_IO, 0, "too late");
    if (rc == TSS2_RC_SUCCESS)
        return QM_OK;
    t->tcti = NULL;
    return qm_fail(fault, QM_E_IO, 0, "no way to the TPM by %.200s: %.100s (0x%x); is it there, and libtss2-tcti-%s installed?",
                   t->where, Tss2_RC_Decode(rc), rc, name);
}

/* ---- passwords --------------------------------------------------------------------------------------------------------- */

/* Which hierarchies have one: where none is set, one that is given would be wrong. */
static qm_err which_have(struct qm_tpm *t, bool has[QM_HIERARCHY_COUNT], struct qm_fault *fault)
{
    TPMS_CAPABILITY_DATA *data = NULL;
    TPMI_YES_NO more;
    const TSS2_RC rc = Esys_GetCapability(tpm_ask(t, "TPM2_GetCapability"), ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE,
                                          TPM2_CAP_TPM_PROPERTIES, TPM2_PT_PERMANENT, 1, &more, &data);
    qm_err err = tpm_answer(t, rc, fault);
    const TPML_TAGGED_TPM_PROPERTY *p = err == QM_OK ? &data->data.tpmProperties : NULL;
    const uint32_t set = p != NULL && p->count != 0 && p->tpmProperty[0].property == TPM2_PT_PERMANENT ? p->tpmProperty[0].value : 0;
    has[QM_ENDORSEMENT] = (set & TPMA_PERMANENT_ENDORSEMENTAUTHSET) != 0;
    has[QM_OWNER] = (set & TPMA_PERMANENT_OWNERAUTHSET) != 0;
    Esys_Free(data);
    return err;
}

/* ESYS keeps a password in the object of its hierarchy; one of zeros is written over it. */
static TSS2_RC give_password(struct qm_tpm *t, enum qm_hierarchy h, const struct qm_tpm_auth *auth)
{
    TPM2B_AUTH value = {.size = (UINT16)auth->len};
    memcpy(value.buffer, auth->p, auth->len);
    const TSS2_RC rc = Esys_TR_SetAuth(t->esys, tpm_hierarchy(h), &value);
    explicit_bzero(&value, sizeof value);
    return rc;
}

static qm_err begin_passwords(struct qm_tpm *t, struct qm_fault *fault)
{
    const TPMT_SYM_DEF none = {.algorithm = TPM2_ALG_NULL};
    bool has[QM_HIERARCHY_COUNT], any = false;
    if (t->auth[QM_ENDORSEMENT].len == 0 && t->auth[QM_OWNER].len == 0)
        return QM_OK;
    mallopt(M_PERTURB, 0xff); /* ESYS frees its session, which has the password, as it is: now free() overwrites */
    qm_err err = which_have(t, has, fault);
    for (enum qm_hierarchy h = QM_ENDORSEMENT; err == QM_OK && h < QM_HIERARCHY_COUNT; h++) {
        t->proves[h] = has[h] && t->auth[h].len != 0;
        any = any || t->proves[h];
        if (t->proves[h] && give_password(t, h, &t->auth[h]) != TSS2_RC_SUCCESS)
            err = qm_fail(fault, QM_E_IO, 0, "the password of a hierarchy cannot be taken");
    }
    explicit_bzero(t->auth, sizeof t->auth);
    if (err != QM_OK || !any)
        return err;
    TSS2_RC rc = Esys_StartAuthSession(tpm_ask(t, "TPM2_StartAuthSession"), ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE,
                                       ESYS_TR_NONE, NULL, TPM2_SE_HMAC, &none, TPM2_ALG_SHA256, &t->session);
    err = tpm_answer(t, rc, fault);
    if (err != QM_OK)
        return err;
    rc = Esys_TRSess_SetAttributes(t->esys, t->session, TPMA_SESSION_CONTINUESESSION, 0xff);
    return rc == TSS2_RC_SUCCESS ? QM_OK : qm_fail(fault, QM_E_IO, 0, "a session cannot be kept (0x%x)", rc);
}

static void end_passwords(struct qm_tpm *t)
{
    tpm_flush(t, &t->session);
    for (enum qm_hierarchy h = QM_ENDORSEMENT; h < QM_HIERARCHY_COUNT; h++)
        if (t->proves[h])
            (void)give_password(t, h, &(struct qm_tpm_auth){0});
}

static qm_err do_job(struct qm_tpm *t, struct qm_fault *fault)
{
    qm_err err = open_tcti(t, fault);
    if (err != QM_OK)
        return err;
    ask(t, "connecting");
    err = tpm_answer(t, Esys_Initialize(&t->esys, t->tcti, NULL), fault);
    if (err == QM_OK) {
        err = begin_passwords(t, fault);
        if (err == QM_OK)
            err = t->job(t, t->arg, fault);
        end_passwords(t);
        Esys_Finalize(&t->esys);
    }
    ask(t, "closing");
    Tss2_TctiLdr_Finalize(&t->tcti);
    tpm_over(t);
    return err;
}

static void *work(void *arg)
{
    struct qm_tpm *t = arg;
    t->err = do_job(t, &t->fault);
    pthread_mutex_lock(&t->lock);
    t->done = true;
    pthread_cond_signal(&t->moved);
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

/* ---- the caller's side ------------------------------------------------------------------------------------------------- */

/* Until the job is done, or a command, *what, has taken longer than timeout_us. */
static bool wait_for(struct qm_tpm *t, uint64_t timeout_us, const char **what)
{
    pthread_mutex_lock(&t->lock);
    while (!t->done && !t->left) {
        const uint64_t end = t->what != NULL ? t->since_us + timeout_us : now_us() + timeout_us;
        const struct timespec until = {(time_t)(end / 1000000), (long)(end % 1000000 * 1000)};
        pthread_cond_timedwait(&t->moved, &t->lock, &until);
        t->left = !t->done && t->what != NULL && now_us() >= t->since_us + timeout_us;
    }
    const bool done = t->done;
    *what = t->what;
    pthread_mutex_unlock(&t->lock);
    return done;
}

static bool start(struct qm_tpm *t, pthread_t *thread)
{
    pthread_attr_t attr;
    pthread_condattr_t clock;
    if (pthread_condattr_init(&clock) != 0)
        return false;
    bool good = pthread_condattr_setclock(&clock, CLOCK_MONOTONIC) == 0 && pthread_cond_init(&t->moved, &clock) == 0;
    pthread_condattr_destroy(&clock);
    if (!good || pthread_mutex_init(&t->lock, NULL) != 0 || pthread_attr_init(&attr) != 0)
        return false;
    good = pthread_attr_setstacksize(&attr, STACK_BYTES) == 0 && pthread_create(thread, &attr, work, t) == 0;
    pthread_attr_destroy(&attr);
    return good;
}

static void close_link(struct qm_tpm *t)
{
    explicit_bzero(t->auth, sizeof t->auth);
    free(t);
}

qm_err qm_tpm_do(const struct qm_tpm_way *way, qm_tpm_job job, void *arg, struct qm_tpm_time *spent, struct qm_fault *fault)
{
    pthread_t thread;
    const char *what;
    struct qm_tpm *t = calloc(1, sizeof *t);
    if (t == NULL)
        return qm_fail(fault, QM_E_NOMEM, 0, "out of memory");
    t->where = way->tcti;
    memcpy(t->auth, way->auth, sizeof t->auth);
    t->session = ESYS_TR_NONE;
    t->job = job;
    t->arg = arg;
    if (!start(t, &thread)) {
        close_link(t);
        return qm_fail(fault, QM_E_NOMEM, 0, "no thread for the TPM");
    }
    if (!wait_for(t, (uint64_t)way->timeout_s * 1000000, &what)) {
        atomic_store(&abandoned, true);
        pthread_detach(thread);
        return qm_fail(fault, QM_E_IO, 0, "the TPM (%.200s) has not answered for %u s (%s)", way->tcti, way->timeout_s, what);
    }
    pthread_join(thread, NULL);
    const qm_err err = t->err;
    if (err != QM_OK && fault != NULL)
        *fault = t->fault;
    if (spent != NULL)
        *spent = t->spent;
    pthread_cond_destroy(&t->moved);
    pthread_mutex_destroy(&t->lock);
    close_link(t);
    return err;
}
