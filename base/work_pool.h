// A fixed set of threads that run queued work, first in, first out.
#ifndef BASE_WORK_POOL_H
#define BASE_WORK_POOL_H

#include <sys/queue.h>

#include "base/err.h"

struct work;

// work_fn runs once on a thread of the pool. It may free the memory that holds the work, and may submit more.
typedef void work_fn(struct work *work);

// work is embedded in what it works on. The submitter fills `run`; the pool owns it from submit until run is called.
struct work {
    STAILQ_ENTRY(work) link;
    work_fn *run;
};

struct work_pool;

// work_pool_new starts threads named name (at most 15 characters).
enum err work_pool_new(const char *name, unsigned threads, struct work_pool **out) ERR_CHECKED;

// work_pool_new_patient is the same for long work: its threads let others go first (thread_give_way).
enum err work_pool_new_patient(const char *name, unsigned threads, struct work_pool **out) ERR_CHECKED;

// work_pool_submit queues work. Never blocks and never runs it inside the call. Not after work_pool_free has begun.
void work_pool_submit(struct work_pool *pool, struct work *work);

// work_pool_free runs everything queued, also what that queues, then ends the threads. Not from a thread of the pool.
void work_pool_free(struct work_pool **pool);

#endif
