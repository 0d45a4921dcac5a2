#include "cli/cli_exec.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli_interrupt.h"
#include "cli/cli_output.h"

enum {
    VARIABLES = 3,
    // How often it is looked whether the command has ended: soon for short ones, seldom for long ones.
    LOOK_FIRST_MS = 1,
    LOOK_LAST_MS = 100,
};

static const char *const names[VARIABLES] = {"FC_ROOM=", "FC_SEQ=", "FC_SENDER="};

// A command that runs.
struct child {
    pid_t pid; // and its process group's
    int input; // our end of its standard input; -1: closed
    const atomic_bool *is_stopped;
    struct pollfd wake;
};

// What the child's environment consists of: ours, and what the message adds.
struct environment {
    char *own[VARIABLES];
    char **all; // borrows
};

static void
free_environment(struct environment *environment)
{
    for (size_t i = 0; i < VARIABLES; i++) {
        free(environment->own[i]);
    }
    free(environment->all);
}

static bool
is_ours(const char *variable)
{
    for (size_t i = 0; i < VARIABLES; i++) {
        if (strncmp(variable, names[i], strlen(names[i])) == 0) {
            return true;
        }
    }
    return false;
}

static enum err
make_environment(const struct cli_exec_about *about, struct environment *out)
{
    size_t count = 0;
    size_t used = 0;
    while (environ[count] != NULL) {
        count++;
    }
    char seq[24];
    (void)snprintf(seq, sizeof seq, "%" PRIu64, about->seq);
    const char *const values[VARIABLES] = {about->room, seq, about->sender};
    out->all = calloc(count + VARIABLES + 1, sizeof(*out->all));
    if (out->all == NULL) {
        return ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < VARIABLES; i++) {
        if (asprintf(&out->own[i], "%s%s", names[i], values[i]) < 0) {
            out->own[i] = NULL;
            return ERR_NO_MEMORY;
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (!is_ours(environ[i])) {
            out->all[used++] = environ[i];
        }
    }
    for (size_t i = 0; i < VARIABLES; i++) {
        out->all[used++] = out->own[i];
    }
    return ERR_OK;
}

static void
discard_attributes(posix_spawn_file_actions_t *actions, posix_spawnattr_t *attributes)
{
    posix_spawnattr_destroy(attributes);
    posix_spawn_file_actions_destroy(actions);
}

// spawn starts the command in a process group of its own, so that it can be ended with all that it has started, and
// with signals as programs expect them: our threads block them, and we ignore SIGPIPE.
static int
spawn(const char *command, char **environment, int input, pid_t *pid_out)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    sigset_t defaults;
    char *const arguments[] = {(char *)(uintptr_t) "sh", (char *)(uintptr_t) "-c", (char *)(uintptr_t)command, NULL};
    sigemptyset(&none);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    int failure = posix_spawn_file_actions_init(&actions);
    if (failure != 0) {
        return failure;
    }
    failure = posix_spawnattr_init(&attributes);
    if (failure != 0) {
        posix_spawn_file_actions_destroy(&actions);
        return failure;
    }
    failure = posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
    if (failure == 0) {
        failure = posix_spawnattr_setsigdefault(&attributes, &defaults);
    }
    if (failure == 0) {
        failure = posix_spawnattr_setsigmask(&attributes, &none);
    }
    if (failure == 0) {
        failure = posix_spawnattr_setpgroup(&attributes, 0);
    }
    if (failure == 0) {
        failure = posix_spawnattr_setflags(&attributes,
            POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
    }
    if (failure == 0) {
        failure = posix_spawn(pid_out, "/bin/sh", &actions, &attributes, arguments, environment);
    }
    discard_attributes(&actions, &attributes);
    return failure;
}

static enum err
start(const char *command, char **environment, struct child *out, struct err_detail *why)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return err_fail(why, err_from_errno(errno), "cannot make a pipe: %s", strerror(errno));
    }
    int failure = spawn(command, environment, ends[0], &out->pid);
    (void)close(ends[0]);
    // Only our end: the command's own one is as it expects it.
    if (failure == 0 && fcntl(ends[1], F_SETFL, O_NONBLOCK) != 0) {
        failure = errno;
        (void)kill(-out->pid, SIGKILL);
        (void)waitpid(out->pid, NULL, 0);
    }
    if (failure != 0) {
        (void)close(ends[1]);
        return err_fail(why, ERR_IO, "cannot run /bin/sh: %s", strerror(failure));
    }
    out->input = ends[1];
    return ERR_OK;
}

static bool
is_cancelled(const struct child *child)
{
    return atomic_load(child->is_stopped) || cli_interrupt_signal() != 0;
}

static void
close_input(struct child *child)
{
    if (child->input >= 0) {
        (void)close(child->input);
        child->input = -1;
    }
}

// give writes what fits into the pipe. A command need not read it.
static void
give(struct child *child, struct bytes_view *input)
{
    while (child->input >= 0 && input->size > 0) {
        ssize_t n = write(child->input, input->data, input->size);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno == EAGAIN) {
            return;
        }
        if (n < 0) {
            break;
        }
        input->data += n;
        input->size -= (size_t)n;
    }
    close_input(child);
}

// attend feeds the command and waits for its end, which ends it when it is cancelled.
static int
attend(struct child *child, struct bytes_view input)
{
    int status = 0;
    int pause_ms = LOOK_FIRST_MS;
    bool is_told = false;
    for (;;) {
        give(child, &input);
        pid_t ended = waitpid(child->pid, &status, WNOHANG);
        if (ended == child->pid || (ended < 0 && errno != EINTR)) {
            close_input(child);
            return status;
        }
        if (is_cancelled(child) && !is_told) {
            (void)kill(-child->pid, SIGTERM);
            close_input(child);
            is_told = true;
        }
        struct pollfd fds[] = {child->wake, {.fd = child->input, .events = POLLOUT}};
        if (poll(fds, 2, pause_ms) > 0 && fds[0].revents != 0) {
            child->wake.fd = -1; // it stays so, for whatever reason
        }
        pause_ms = 2 * pause_ms < LOOK_LAST_MS ? 2 * pause_ms : LOOK_LAST_MS;
    }
}

enum err
cli_exec_run(const char *command, const struct cli_exec_about *about, struct bytes_view input,
    const atomic_bool *is_stopped, struct err_detail *why)
{
    struct environment environment = {0};
    struct child child = {
        .input = -1,
        .is_stopped = is_stopped,
        .wake = {.fd = cli_interrupt_fd(), .events = POLLIN},
    };
    enum err code = make_environment(about, &environment);
    if (code == ERR_OK) {
        code = start(command, environment.all, &child, why);
    }
    free_environment(&environment);
    if (code != ERR_OK) {
        return code;
    }
    int status = attend(&child, input);
    if (is_cancelled(&child)) {
        return ERR_CANCELLED;
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) != 0) {
        cli_output_error("fc join: the command ended with %d for #%" PRIu64 " of %s", WEXITSTATUS(status), about->seq,
            about->room);
    } else if (WIFSIGNALED(status)) {
        cli_output_error("fc join: the command was ended by signal %d for #%" PRIu64 " of %s", WTERMSIG(status),
            about->seq, about->room);
    }
    return ERR_OK;
}
