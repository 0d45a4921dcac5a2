// fcd: the process around the server, and its signals.
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "services/daemon/daemon.h"
#include "services/daemon/daemon_mirror.h"
#include "services/daemon/daemon_options.h"
#include "services/daemon/daemon_tls.h"
#include "services/daemon/daemon_tools.h"

enum {
    EXIT_DONE = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,

    DRAIN_TIMEOUT_MS = 10 * 1000,

    // 10,000 connections, their files, and room. Not all that the limits may allow: libwebsockets keeps a table with 16
    // bytes for every possible descriptor, which would be 16 MiB where containers get a limit of a million.
    FILES_MAX = 32768,

    // Each thread with an arena of its own would keep what it once needed.
    ARENAS_MAX = 2,
    // Chunks of files are kept in the heap between calls: mapped anew for each, they made downloads take three times as
    // long, all of it page faults. What the heap holds too much of goes back when the server has been idle for a while.
    HEAP_KEEP_BYTES = 16 * 1024 * 1024,
    IDLE_CHECK_S = 5,
    IDLE_CPU_MS = 50, // less than this of processor time in between is idle
};

// What runs, by its role.
struct role {
    enum err (*start)(const struct daemon_options *options, void **out, struct err_detail *why);
    struct bytes_view (*ready_line)(const void *self);
    void (*reload_tls)(void *self);
    void (*drain)(void *self, unsigned timeout_ms);
    void (*free)(void *self);
};

static enum err
origin_start(const struct daemon_options *options, void **out, struct err_detail *why)
{
    return daemon_new(options, (struct daemon **)out, why);
}

static struct bytes_view
origin_ready_line(const void *self)
{
    return daemon_ready_line(self);
}

static void
origin_reload_tls(void *self)
{
    daemon_reload_tls(self);
}

static void
origin_drain(void *self, unsigned timeout_ms)
{
    daemon_drain(self, timeout_ms);
}

static void
origin_free(void *self)
{
    struct daemon *daemon = self;
    daemon_free(&daemon);
}

static enum err
mirror_start(const struct daemon_options *options, void **out, struct err_detail *why)
{
    return daemon_mirror_new(options, (struct daemon_mirror **)out, why);
}

static struct bytes_view
mirror_ready_line(const void *self)
{
    return daemon_mirror_ready_line(self);
}

static void
mirror_reload_tls(void *self)
{
    daemon_mirror_reload_tls(self);
}

static void
mirror_drain(void *self, unsigned timeout_ms)
{
    daemon_mirror_drain(self, timeout_ms);
}

static void
mirror_free(void *self)
{
    struct daemon_mirror *mirror = self;
    daemon_mirror_free(&mirror);
}

static const struct role roles[] = {
    [DAEMON_ORIGIN] = {origin_start, origin_ready_line, origin_reload_tls, origin_drain, origin_free},
    [DAEMON_SEGMENT] = {mirror_start, mirror_ready_line, mirror_reload_tls, mirror_drain, mirror_free},
};

static void
set_limits(void)
{
    struct rlimit limit;
    umask(S_IRWXG | S_IRWXO);
    mallopt(M_ARENA_MAX, ARENAS_MAX);
    mallopt(M_MMAP_THRESHOLD, HEAP_KEEP_BYTES);
    mallopt(M_TRIM_THRESHOLD, HEAP_KEEP_BYTES);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != FILES_MAX) {
        limit.rlim_cur = limit.rlim_max < FILES_MAX ? limit.rlim_max : FILES_MAX;
        if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
            log_warn("FCD-FILES", NULL, "the limit of open files stays as it is, so there can be fewer connections");
        }
    }
}

// Blocks the signals that mean something to the server, for every thread that will be started: the main thread waits
// for them. Returns those that end it; the other is SIGHUP.
static sigset_t
block_signals(void)
{
    sigset_t ending;
    sigemptyset(&ending);
    sigaddset(&ending, SIGTERM);
    sigaddset(&ending, SIGINT);
    sigset_t blocked = ending;
    sigaddset(&blocked, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &blocked, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    return ending;
}

static int64_t
used_cpu_ms(void)
{
    struct timespec used;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (int64_t)used.tv_sec * 1000 + used.tv_nsec / 1000000;
}

// Waits for a signal that ends the server, and gives memory back when there is nothing to do after there was.
static int
wait_for_end(const struct role *role, void *self, const sigset_t *ending)
{
    sigset_t expected = *ending;
    sigaddset(&expected, SIGHUP);
    const struct timespec interval = {.tv_sec = IDLE_CHECK_S};
    int64_t before_ms = used_cpu_ms();
    bool has_worked = false;
    for (;;) {
        int number = sigtimedwait(&expected, NULL, &interval);
        if (number == SIGHUP) {
            role->reload_tls(self);
        } else if (number > 0) {
            return number;
        }
        int64_t now_ms = used_cpu_ms();
        bool is_idle = now_ms - before_ms < IDLE_CPU_MS;
        if (is_idle && has_worked) {
            malloc_trim(0);
        }
        has_worked = !is_idle;
        before_ms = now_ms;
    }
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
    const struct role *role = &roles[options->role];
    void *self = NULL;
    struct err_detail why = {0};
    pthread_t impatient;
    ending = block_signals();
    log_set_level(options->log_level);
    enum err err = role->start(options, &self, &why);
    if (err != ERR_OK) {
        (void)fprintf(stderr, "fcd: %s\n", err_message(&why, err));
        return EXIT_FAILED;
    }
    struct bytes_view ready = role->ready_line(self);
    if (fwrite(ready.data, 1, ready.size, stdout) != ready.size || fflush(stdout) != 0) {
        log_warn("FCD-STDOUT", NULL, "the ready line could not be written to stdout");
    }
    log_info("FCD-READY", NULL, "fcd " FC_VERSION " keeps its data in %s and is %.*s", options->data_dir,
        (int)ready.size - 1, (const char *)ready.data);
    int number = wait_for_end(role, self, &ending);
    log_info("FCD-DRAIN", NULL, "%s: lets calls in flight finish, for at most %d s; a second signal ends it at once",
        strsignal(number), DRAIN_TIMEOUT_MS / 1000);
    if (pthread_create(&impatient, NULL, end_at_once, &ending) == 0) {
        pthread_detach(impatient);
    }
    role->drain(self, DRAIN_TIMEOUT_MS);
    role->free(self);
    log_info("FCD-END", NULL, "ended");
    return EXIT_DONE;
}

static int
print_fingerprint(const struct daemon_options *options)
{
    struct rpc_tls_server *tls = NULL;
    struct err_detail why = {0};
    uint8_t fingerprint[RPC_TLS_FINGERPRINT_BYTES];
    char text[RPC_TLS_FINGERPRINT_TEXT_BYTES];
    enum err err = daemon_tls_open(options, options->data_dir, false, &tls, &why);
    if (err != ERR_OK) {
        (void)fprintf(stderr, "fcd: %s%s\n", err_message(&why, err),
            err == ERR_NOT_FOUND ? "; fcd makes a certificate when it first runs" : "");
        return EXIT_FAILED;
    }
    rpc_tls_server_fingerprint(tls, fingerprint);
    rpc_tls_fingerprint_format(fingerprint, text);
    rpc_tls_server_free(&tls);
    return puts(text) >= 0 && fflush(stdout) == 0 ? EXIT_DONE : EXIT_FAILED;
}

// Runs a command that prints what it finds.
static int
run_tool(const struct daemon_options *options,
    enum err (*tool)(const struct daemon_options *options, bool *is_well_out, struct err_detail *why))
{
    struct err_detail why = {0};
    bool is_well = false;
    umask(S_IRWXG | S_IRWXO);
    log_set_level(options->log_level);
    enum err err = tool(options, &is_well, &why);
    if (err != ERR_OK) {
        (void)fprintf(stderr, "fcd: %s\n", err_message(&why, err));
        return EXIT_FAILED;
    }
    return fflush(stdout) == 0 && is_well ? EXIT_DONE : EXIT_FAILED;
}

int
main(int argc, char **argv)
{
    struct daemon_options options;
    struct err_detail why = {0};
    enum err err = daemon_options_parse(argc, argv, &options, &why);
    if (err != ERR_OK) {
        (void)fprintf(stderr, "fcd: %s\n", err_message(&why, err));
        return err == ERR_INVALID ? EXIT_USAGE : EXIT_FAILED;
    }
    switch (options.action) {
    case DAEMON_HELP:
        daemon_options_print_help(stdout);
        return EXIT_DONE;
    case DAEMON_VERSION:
        puts("fcd " FC_VERSION);
        return EXIT_DONE;
    case DAEMON_FINGERPRINT:
        return print_fingerprint(&options);
    case DAEMON_CHECK:
        return run_tool(&options, daemon_check);
    case DAEMON_BACKUP:
        return run_tool(&options, daemon_backup);
    case DAEMON_RUN:
        break;
    }
    set_limits();
    return run(&options);
}
