#include "engine/pool.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

struct member {
    struct qm_pool *pool;
    void *worker;
    pthread_t thread;
};

struct qm_pool {
    qm_pool_work work;
    _Atomic bool *stop;
    unsigned count;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    unsigned running; /* guarded by lock, like the fault */
    struct qm_fault fault;
    struct member member[];
};

static void *run(void *arg)
{
    struct member *m = arg;
    struct qm_pool *p = m->pool;
    struct qm_fault fault = {0};
    qm_err err = p->work(m->worker, &fault);
    pthread_mutex_lock(&p->lock);
    if (err != QM_OK) {
        atomic_store(p->stop, true);
        if (p->fault.err == QM_OK) {
            p->fault = fault;
            p->fault.err = err;
        }
    }
    p->running--;
    pthread_cond_signal(&p->ended);
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* Signals are the main thread's business: workers are started with all of them blocked. */
static int start_blocked(struct member *m)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int sys = pthread_create(&m->thread, NULL, run, m);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return sys;
}

qm_err qm_pool_start(struct qm_pool **out, unsigned count, qm_pool_work work, void *const *workers, _Atomic bool *stop,
                     struct qm_fault *fault)
{
    struct qm_pool *p = calloc(1, sizeof *p + count * sizeof p->member[0]);
    *out = NULL;
    if (p == NULL)
        return qm_fail(fault, QM_E_NOMEM, 0, "no memory for the workers");
    p->work = work;
    p->stop = stop;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->ended, &attributes);
    pthread_condattr_destroy(&attributes);
    for (unsigned i = 0; i < count; i++) {
        p->member[i] = (struct member){.pool = p, .worker = workers[i]};
        pthread_mutex_lock(&p->lock);
        p->running++;
        pthread_mutex_unlock(&p->lock);
        int sys = start_blocked(&p->member[i]);
        if (sys != 0) {
            pthread_mutex_lock(&p->lock);
            p->running--;
            pthread_mutex_unlock(&p->lock);
            atomic_store(stop, true);
            qm_err ignored = qm_pool_join(p, NULL);
            (void)ignored;
            return qm_fail(fault, QM_E_NOMEM, sys, "cannot start worker %u", i + 1);
        }
        p->count = i + 1;
    }
    *out = p;
    return QM_OK;
}

bool qm_pool_wait(struct qm_pool *p, unsigned timeout_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&p->lock);
    while (p->running != 0 && pthread_cond_timedwait(&p->ended, &p->lock, &until) != ETIMEDOUT)
        ;
    bool done = p->running == 0;
    pthread_mutex_unlock(&p->lock);
    return done;
}

qm_err qm_pool_join(struct qm_pool *p, struct qm_fault *fault)
{
    for (unsigned i = 0; i < p->count; i++)
        pthread_join(p->member[i].thread, NULL);
    qm_err err = p->fault.err;
    if (fault != NULL && err != QM_OK)
        *fault = p->fault;
    pthread_cond_destroy(&p->ended);
    pthread_mutex_destroy(&p->lock);
    free(p);
    return err;
}
