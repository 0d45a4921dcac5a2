// Timers: one thread that calls back when a time has come.
#ifndef BASE_TIMER_H
#define BASE_TIMER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct timer_queue;
struct timer;

// timer_fn runs on the timer thread and must not block: it hands work on.
typedef void timer_fn(struct timer *timer);

// timer is embedded in its owner; zeroed but for on_expiry it is idle.
struct timer {
    timer_fn *on_expiry;
    uint64_t expires_ms; // monotonic; private to the queue
    size_t heap_index;   // 0: idle; private to the queue
};

enum err timer_queue_new(struct timer_queue **out) ERR_CHECKED;

// timer_start arms the timer, or moves it when it is armed. ERR_NO_MEMORY leaves it idle.
enum err timer_start(struct timer_queue *queue, struct timer *timer, uint64_t delay_ms) ERR_CHECKED;

// timer_stop disarms it; when its callback is running just now on another thread, waits until that has returned, so
// that the owner can be freed afterwards. Called from its own callback it does not wait. The caller must not hold a
// lock that the callback takes. Returns whether it was armed.
bool timer_stop(struct timer_queue *queue, struct timer *timer);

// timer_queue_free ends the thread; armed timers never fire.
void timer_queue_free(struct timer_queue **queue);

#endif
