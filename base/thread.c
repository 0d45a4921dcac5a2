#include "base/thread.h"

#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

enum err
thread_start(pthread_t *thread_out, const char *name, void *(*run)(void *context), void *context)
{
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    // The new thread inherits the mask of this moment.
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(thread_out, NULL, run, context);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed != 0) {
        return ERR_LIMIT;
    }
    enum {
        THREAD_NAME_BYTES = 16, // of the kernel, with NUL
    };
    char cut[THREAD_NAME_BYTES];
    (void)snprintf(cut, sizeof(cut), "%s", name);
    (void)pthread_setname_np(*thread_out, cut);
    return ERR_OK;
}

void
thread_give_way(void)
{
    enum {
        NICE = 10,
    };
    // On Linux this is the priority of one thread. Should it fail, the thread only is in the others' way.
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), NICE);
}
