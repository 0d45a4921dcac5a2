#include "base/work_pool.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/thread.h"

struct work_pool {
    // Immutable after new.
    unsigned thread_count;
    bool is_patient;

    pthread_mutex_t mutex;
    pthread_cond_t wake;
    struct {
        STAILQ_HEAD(, work) queue;
        unsigned idle; // threads that wait for wake
        bool closing;
    } locked; // guarded by mutex

    pthread_t threads[];
};

static void *
run_thread(void *context)
{
    struct work_pool *pool = context;
    if (pool->is_patient) {
        thread_give_way();
    }
    pthread_mutex_lock(&pool->mutex);
    for (;;) {
        struct work *work = STAILQ_FIRST(&pool->locked.queue);
        if (work != NULL) {
            STAILQ_REMOVE_HEAD(&pool->locked.queue, link);
            pthread_mutex_unlock(&pool->mutex);
            work->run(work); // which may have freed it
            pthread_mutex_lock(&pool->mutex);
        } else if (pool->locked.closing) {
            // What running work still submits is taken by the thread that runs it.
            break;
        } else {
            pool->locked.idle++;
            pthread_cond_wait(&pool->wake, &pool->mutex);
            pool->locked.idle--;
        }
    }
    pthread_mutex_unlock(&pool->mutex);
    return NULL;
}

static enum err
start(const char *name, unsigned threads, bool is_patient, struct work_pool **out)
{
    struct work_pool *pool = calloc(1, sizeof(*pool) + threads * sizeof(pool->threads[0]));
    if (pool == NULL) {
        return ERR_NO_MEMORY;
    }
    pool->is_patient = is_patient;
    // With default attributes these two cannot fail on Linux.
    (void)pthread_mutex_init(&pool->mutex, NULL);
    (void)pthread_cond_init(&pool->wake, NULL);
    STAILQ_INIT(&pool->locked.queue);
    for (; pool->thread_count < threads; pool->thread_count++) {
        enum err err = thread_start(&pool->threads[pool->thread_count], name, run_thread, pool);
        if (err != ERR_OK) {
            work_pool_free(&pool);
            return err;
        }
    }
    *out = pool;
    return ERR_OK;
}

enum err
work_pool_new(const char *name, unsigned threads, struct work_pool **out)
{
    return start(name, threads, false, out);
}

enum err
work_pool_new_patient(const char *name, unsigned threads, struct work_pool **out)
{
    return start(name, threads, true, out);
}

void
work_pool_submit(struct work_pool *pool, struct work *work)
{
    pthread_mutex_lock(&pool->mutex);
    STAILQ_INSERT_TAIL(&pool->locked.queue, work, link);
    // A busy thread looks at the queue by itself before it waits. Signalled under the lock, because as soon as it is
    // released the work may run and lead to the end of the pool.
    if (pool->locked.idle > 0) {
        pthread_cond_signal(&pool->wake);
    }
    pthread_mutex_unlock(&pool->mutex);
}

void
work_pool_free(struct work_pool **pool_in)
{
    struct work_pool *pool = *pool_in;
    if (pool == NULL) {
        return;
    }
    pthread_mutex_lock(&pool->mutex);
    pool->locked.closing = true;
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
    for (unsigned i = 0; i < pool->thread_count; i++) {
        (void)pthread_join(pool->threads[i], NULL);
    }
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->mutex);
    free(pool);
    *pool_in = NULL;
}
