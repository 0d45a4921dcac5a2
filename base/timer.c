// A binary heap ordered by expiry, and one thread that sleeps until its top is due.
#include "base/timer.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/thread.h"

enum {
    FIRST_HEAP_SLOTS = 64,
};

struct timer_queue {
    pthread_t thread; // immutable after new
    pthread_mutex_t mutex;
    pthread_cond_t wake;     // the top has changed, or closing
    pthread_cond_t returned; // a callback that somebody waits for has returned
    struct {
        // From 1 on, so that index 0 can mean idle. Child slots of i are 2 * i and 2 * i + 1.
        struct timer **heap;
        size_t count;
        size_t slots;
        struct timer *running; // only compared: its callback may have freed it
        bool running_stopped;  // somebody waits in timer_stop for it, and so keeps it alive
        bool closing;
    } locked; // guarded by mutex
};

static void
place_locked(struct timer_queue *queue, size_t index, struct timer *timer)
{
    queue->locked.heap[index] = timer;
    timer->heap_index = index;
}

// Moves the timer of a slot up or down to where the heap is in order again.
static void
settle_locked(struct timer_queue *queue, size_t index)
{
    struct timer **heap = queue->locked.heap;
    struct timer *timer = heap[index];
    while (index > 1 && timer->expires_ms < heap[index / 2]->expires_ms) {
        place_locked(queue, index, heap[index / 2]);
        index /= 2;
    }
    for (;;) {
        size_t child = 2 * index;
        if (child > queue->locked.count) {
            break;
        }
        if (child < queue->locked.count && heap[child + 1]->expires_ms < heap[child]->expires_ms) {
            child++;
        }
        if (timer->expires_ms <= heap[child]->expires_ms) {
            break;
        }
        place_locked(queue, index, heap[child]);
        index = child;
    }
    place_locked(queue, index, timer);
}

static bool
remove_locked(struct timer_queue *queue, struct timer *timer)
{
    size_t index = timer->heap_index;
    if (index == 0) {
        return false;
    }
    timer->heap_index = 0;
    struct timer *last = queue->locked.heap[queue->locked.count--];
    if (last != timer) {
        place_locked(queue, index, last);
        settle_locked(queue, index);
    }
    return true;
}

static void
wait_until_locked(struct timer_queue *queue, uint64_t expires_ms)
{
    struct timespec until = {
        .tv_sec = (time_t)(expires_ms / 1000),
        .tv_nsec = (long)(expires_ms % 1000) * 1000000,
    };
    (void)pthread_cond_timedwait(&queue->wake, &queue->mutex, &until);
}

static void
fire_locked(struct timer_queue *queue, struct timer *timer)
{
    (void)remove_locked(queue, timer);
    queue->locked.running = timer;
    queue->locked.running_stopped = false;
    pthread_mutex_unlock(&queue->mutex);
    timer->on_expiry(timer);
    pthread_mutex_lock(&queue->mutex);
    queue->locked.running = NULL;
    if (queue->locked.running_stopped) {
        // It may have armed itself once more.
        (void)remove_locked(queue, timer);
        pthread_cond_broadcast(&queue->returned);
    }
}

static void *
run_thread(void *context)
{
    struct timer_queue *queue = context;
    pthread_mutex_lock(&queue->mutex);
    while (!queue->locked.closing) {
        if (queue->locked.count == 0) {
            pthread_cond_wait(&queue->wake, &queue->mutex);
            continue;
        }
        struct timer *first = queue->locked.heap[1];
        if (first->expires_ms > clock_monotonic_ms()) {
            wait_until_locked(queue, first->expires_ms);
        } else {
            fire_locked(queue, first);
        }
    }
    pthread_mutex_unlock(&queue->mutex);
    return NULL;
}

static void
destroy(struct timer_queue *queue)
{
    pthread_cond_destroy(&queue->returned);
    pthread_cond_destroy(&queue->wake);
    pthread_mutex_destroy(&queue->mutex);
    free(queue->locked.heap);
    free(queue);
}

enum err
timer_queue_new(struct timer_queue **out)
{
    struct timer_queue *queue = calloc(1, sizeof(*queue));
    if (queue == NULL) {
        return ERR_NO_MEMORY;
    }
    // With these attributes none of them can fail on Linux.
    pthread_condattr_t monotonic;
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&queue->wake, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    (void)pthread_cond_init(&queue->returned, NULL);
    (void)pthread_mutex_init(&queue->mutex, NULL);
    enum err err = thread_start(&queue->thread, "timer", run_thread, queue);
    if (err != ERR_OK) {
        destroy(queue);
        return err;
    }
    *out = queue;
    return ERR_OK;
}

static enum err
reserve_slot_locked(struct timer_queue *queue)
{
    if (queue->locked.count + 1 < queue->locked.slots) {
        return ERR_OK;
    }
    size_t slots = queue->locked.slots == 0 ? FIRST_HEAP_SLOTS : queue->locked.slots * 2;
    struct timer **heap = realloc(queue->locked.heap, slots * sizeof(struct timer *));
    if (heap == NULL) {
        return ERR_NO_MEMORY;
    }
    queue->locked.heap = heap;
    queue->locked.slots = slots;
    return ERR_OK;
}

enum err
timer_start(struct timer_queue *queue, struct timer *timer, uint64_t delay_ms)
{
    // About 30 years: later than any use, and far from the end of time_t.
    const uint64_t longest_delay_ms = (uint64_t)1000 * 1000 * 1000 * 1000;
    if (delay_ms > longest_delay_ms) {
        delay_ms = longest_delay_ms;
    }
    uint64_t expires_ms = clock_monotonic_ms() + delay_ms;
    enum err err = ERR_OK;
    pthread_mutex_lock(&queue->mutex);
    if (timer->heap_index == 0) {
        err = reserve_slot_locked(queue);
        if (err != ERR_OK) {
            goto out;
        }
        place_locked(queue, ++queue->locked.count, timer);
    }
    timer->expires_ms = expires_ms;
    settle_locked(queue, timer->heap_index);
    if (timer->heap_index == 1) {
        pthread_cond_signal(&queue->wake);
    }
out:
    pthread_mutex_unlock(&queue->mutex);
    return err;
}

bool
timer_stop(struct timer_queue *queue, struct timer *timer)
{
    pthread_mutex_lock(&queue->mutex);
    bool was_armed = remove_locked(queue, timer);
    if (!pthread_equal(pthread_self(), queue->thread)) {
        while (queue->locked.running == timer) {
            queue->locked.running_stopped = true;
            pthread_cond_wait(&queue->returned, &queue->mutex);
        }
    }
    pthread_mutex_unlock(&queue->mutex);
    return was_armed;
}

void
timer_queue_free(struct timer_queue **queue)
{
    if (*queue == NULL) {
        return;
    }
    pthread_mutex_lock(&(*queue)->mutex);
    (*queue)->locked.closing = true;
    pthread_cond_signal(&(*queue)->wake);
    pthread_mutex_unlock(&(*queue)->mutex);
    (void)pthread_join((*queue)->thread, NULL);
    destroy(*queue);
    *queue = NULL;
}
