#include "cli/cli_exec.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli_message.h"
#include "cli/cli_output.h"

enum {
    VARIABLES = 3,
};

static const char *const names[VARIABLES] = {"FC_ROOM=", "FC_SEQ=", "FC_SENDER="};

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
make_environment(const struct fc_message *message, struct environment *out)
{
    size_t count = 0;
    size_t used = 0;
    while (environ[count] != NULL) {
        count++;
    }
    char seq[24];
    (void)snprintf(seq, sizeof seq, "%" PRIu64, message->seq);
    const char *const values[VARIABLES] = {message->room, seq, message->sender};
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

// spawn starts the command in a process group of its own, so that it can be ended with all that it has started.
static int
spawn(const struct cli_exec *exec, char **environment, int input, pid_t *child_out)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t defaults;
    char *const arguments[] = {(char *)(uintptr_t) "sh", (char *)(uintptr_t) "-c", (char *)(uintptr_t)exec->command,
        NULL};
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE); // which we ignore, and programs count on
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
        failure = posix_spawnattr_setpgroup(&attributes, 0);
    }
    if (failure == 0) {
        failure = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    }
    if (failure == 0) {
        failure = posix_spawn(child_out, "/bin/sh", &actions, &attributes, arguments, environment);
    }
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return failure;
}

// start runs the command with a pipe to it. ERR_CANCELLED: it has been stopped.
static enum err
start(struct cli_exec *exec, char **environment, int *input_out, pid_t *child_out, struct err_detail *why)
{
    int ends[2];
    int failure = 0;
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return err_fail(why, err_from_errno(errno), "cannot make a pipe: %s", strerror(errno));
    }
    pthread_mutex_lock(&exec->mutex);
    bool is_stopped = exec->locked.is_stopped;
    if (!is_stopped) {
        failure = spawn(exec, environment, ends[0], child_out);
        exec->locked.child = failure == 0 ? *child_out : 0;
    }
    pthread_mutex_unlock(&exec->mutex);
    (void)close(ends[0]);
    if (is_stopped || failure != 0) {
        (void)close(ends[1]);
        return is_stopped ? ERR_CANCELLED : err_fail(why, ERR_IO, "cannot run /bin/sh: %s", strerror(failure));
    }
    *input_out = ends[1];
    return ERR_OK;
}

// give writes the message. A command need not read it.
static void
give(int input, struct bytes_view text)
{
    while (text.size > 0) {
        ssize_t n = write(input, text.data, text.size);
        if (n < 0 && errno != EINTR) {
            break;
        }
        if (n > 0) {
            text.data += n;
            text.size -= (size_t)n;
        }
    }
    (void)close(input);
}

// await waits for the end. The process is looked at before it is reaped, so that cli_exec_stop never meets a number
// that is somebody else's already.
static int
await(struct cli_exec *exec, pid_t child)
{
    siginfo_t info;
    int status = 0;
    while (waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT) != 0 && errno == EINTR) {
    }
    pthread_mutex_lock(&exec->mutex);
    (void)waitpid(child, &status, 0);
    exec->locked.child = 0;
    pthread_mutex_unlock(&exec->mutex);
    return status;
}

void
cli_exec_init(struct cli_exec *exec, const char *command)
{
    *exec = (struct cli_exec){.command = command, .mutex = PTHREAD_MUTEX_INITIALIZER};
}

void
cli_exec_deinit(struct cli_exec *exec)
{
    pthread_mutex_destroy(&exec->mutex);
}

enum err
cli_exec_run(struct cli_exec *exec, const struct fc_message *message, struct err_detail *why)
{
    struct environment environment = {0};
    struct cli_text text = {0};
    int input = -1;
    pid_t child = 0;
    cli_message_add_json(&text, message);
    enum err code = text.code;
    if (code == ERR_OK) {
        code = make_environment(message, &environment);
    }
    if (code == ERR_OK) {
        code = start(exec, environment.all, &input, &child, why);
    }
    if (code == ERR_OK) {
        give(input, bytes_as_view(&text.bytes));
        int status = await(exec, child);
        if (WIFEXITED(status) && WEXITSTATUS(status) != 0) {
            cli_output_error("fc join: the command ended with %d for #%" PRIu64 " of %s", WEXITSTATUS(status),
                message->seq, message->room);
        } else if (WIFSIGNALED(status)) {
            cli_output_error("fc join: the command was ended by signal %d for #%" PRIu64 " of %s", WTERMSIG(status),
                message->seq, message->room);
        }
    }
    bytes_free(&text.bytes);
    free_environment(&environment);
    return code;
}

void
cli_exec_stop(struct cli_exec *exec)
{
    pthread_mutex_lock(&exec->mutex);
    exec->locked.is_stopped = true;
    if (exec->locked.child > 0) {
        (void)kill(-exec->locked.child, SIGTERM);
    }
    pthread_mutex_unlock(&exec->mutex);
}
