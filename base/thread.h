// Starting threads.
#ifndef BASE_THREAD_H
#define BASE_THREAD_H

#include <pthread.h>

#include "base/err.h"

// thread_start starts a thread named name (cut at 15 characters) that blocks all signals, so that only the threads
// that ask for signals get them. ERR_LIMIT when the system allows no more threads.
enum err thread_start(pthread_t *thread_out, const char *name, void *(*run)(void *context), void *context) ERR_CHECKED;

// thread_give_way makes the calling thread one that others are preferred to, for long work that nobody waits for to the
// millisecond. It still gets a tenth of a processor that others want whole.
void thread_give_way(void);

#endif
