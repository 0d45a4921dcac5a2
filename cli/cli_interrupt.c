#include "cli/cli_interrupt.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

static atomic_int first_signal;
// Read end, write end. Never closed: a signal may come until the process has gone.
static int wake_pipe[2] = {-1, -1};

void
cli_interrupt_wake(void)
{
    // A full pipe is as readable as one byte makes it.
    ssize_t ignored = write(wake_pipe[1], "", 1);
    (void)ignored;
}

static void
on_signal(int number)
{
    int saved_errno = errno;
    int none = 0;
    atomic_compare_exchange_strong(&first_signal, &none, number);
    cli_interrupt_wake();
    errno = saved_errno;
}

enum err
cli_interrupt_watch(struct err_detail *why)
{
    if (pipe2(wake_pipe, O_CLOEXEC | O_NONBLOCK) != 0) {
        return err_fail(why, err_from_errno(errno), "cannot make a pipe: %s", strerror(errno));
    }
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART | (int)SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        struct sigaction before;
        // What the parent ignores (nohup, a background job of a plain sh) stays ignored.
        if (sigaction(signals[i], NULL, &before) == 0 && before.sa_handler == SIG_IGN) {
            continue;
        }
        if (sigaction(signals[i], &action, NULL) != 0) {
            return err_fail(why, ERR_INTERNAL, "cannot watch for signals: %s", strerror(errno));
        }
    }
    return ERR_OK;
}

int
cli_interrupt_signal(void)
{
    return atomic_load(&first_signal);
}

int
cli_interrupt_fd(void)
{
    return wake_pipe[0];
}
