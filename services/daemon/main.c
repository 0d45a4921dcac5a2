// fcd: the process around the server, and its signals.
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "services/daemon/daemon.h"
#include "services/daemon/daemon_options.h"

enum {
    EXIT_DONE = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,

    DRAIN_TIMEOUT_MS = 10 * 1000,

    // 10,000 connections, their files, and room. Not all that the hard limit may allow: libwebsockets keeps a table
    // with an entry for every possible descriptor.
    FILES_MAX = 32768,

    // One arena for each thread would keep what each of them once needed. Freed memory beyond this goes back.
    ARENAS_MAX = 2,
    TRIM_THRESHOLD_BYTES = 1024 * 1024,
};

static void
set_limits(void)
{
    struct rlimit limit;
    umask(S_IRWXG | S_IRWXO);
    mallopt(M_ARENA_MAX, ARENAS_MAX);
    mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < FILES_MAX) {
        limit.rlim_cur = limit.rlim_max < FILES_MAX ? limit.rlim_max : FILES_MAX;
        if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
            log_warn("FCD-FILES", NULL, "the limit of open files stays as it is, so there can be fewer connections");
        }
    }
}

// Blocks the signals that end the server, for every thread that will be started: the main thread waits for them.
static sigset_t
block_signals(void)
{
    sigset_t ending;
    sigemptyset(&ending);
    sigaddset(&ending, SIGTERM);
    sigaddset(&ending, SIGINT);
    pthread_sigmask(SIG_BLOCK, &ending, NULL);
    signal(SIGPIPE, SIG_IGN);
    return ending;
}

// Waits beside the drain for a second signal. Ending at once loses nothing that was acknowledged: that is on disk.
static void *
end_at_once(void *signals)
{
    int number = 0;
    if (sigwait(signals, &number) == 0) {
        log_warn("FCD-CUT-SHORT", NULL, "ended by a second signal; calls in flight were not answered");
        _exit(EXIT_FAILED);
    }
    return NULL;
}

static int
run(const struct daemon_options *options)
{
    static sigset_t ending; // outlives this function for the second thread
    struct daemon *daemon = NULL;
    struct err_detail why = {0};
    pthread_t impatient;
    int number = 0;
    ending = block_signals();
    log_set_level(options->log_level);
    enum err err = daemon_new(options, &daemon, &why);
    if (err != ERR_OK) {
        fprintf(stderr, "fcd: %s\n", err_message(&why, err));
        return EXIT_FAILED;
    }
    struct bytes_view ready = daemon_ready_line(daemon);
    if (fwrite(ready.data, 1, ready.size, stdout) != ready.size || fflush(stdout) != 0) {
        log_warn("FCD-STDOUT", NULL, "the ready line could not be written to stdout");
    }
    log_info("FCD-READY", NULL, "fcd " FC_VERSION " keeps its data in %s and is %.*s", options->data_dir,
        (int)ready.size - 1, (const char *)ready.data);
    sigwait(&ending, &number);
    log_info("FCD-DRAIN", NULL, "%s: lets calls in flight finish, for at most %d s; a second signal ends it at once",
        strsignal(number), DRAIN_TIMEOUT_MS / 1000);
    if (pthread_create(&impatient, NULL, end_at_once, &ending) == 0) {
        pthread_detach(impatient);
    }
    daemon_drain(daemon, DRAIN_TIMEOUT_MS);
    daemon_free(&daemon);
    log_info("FCD-END", NULL, "ended");
    return EXIT_DONE;
}

int
main(int argc, char **argv)
{
    struct daemon_options options;
    struct err_detail why = {0};
    enum err err = daemon_options_parse(argc, argv, &options, &why);
    if (err != ERR_OK) {
        fprintf(stderr, "fcd: %s\n", err_message(&why, err));
        return err == ERR_INVALID ? EXIT_USAGE : EXIT_FAILED;
    }
    switch (options.action) {
    case DAEMON_HELP:
        daemon_options_print_help(stdout);
        return EXIT_DONE;
    case DAEMON_VERSION:
        puts("fcd " FC_VERSION);
        return EXIT_DONE;
    case DAEMON_RUN:
        break;
    }
    set_limits();
    return run(&options);
}
