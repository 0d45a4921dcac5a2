#include "cli/cli_password.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "base/digest.h"

// Signals that would otherwise leave the terminal without echo. They are kept until it has been restored, and then
// sent again.
static const int held_signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGTTIN, SIGTTOU};
enum {
    HELD_COUNT = sizeof held_signals / sizeof held_signals[0],
};
static volatile sig_atomic_t held_signal;

static void
on_signal(int number)
{
    held_signal = number;
}

static enum err
fail_too_long(struct err_detail *why)
{
    return err_fail(why, ERR_INVALID, "the password is longer than %d bytes", CLI_PASSWORD_MAX_BYTES);
}

// read_some appends what one read gives. With all the memory reserved beforehand no unwiped copy is left behind.
static ssize_t
read_some(int fd, struct bytes *out)
{
    ssize_t n = read(fd, out->data + out->size, out->capacity - out->size);
    if (n > 0) {
        out->size += (size_t)n;
    }
    return n;
}

static void
drop_newline(struct bytes *out)
{
    if (out->size > 0 && out->data[out->size - 1] == '\n') {
        out->size--;
        if (out->size > 0 && out->data[out->size - 1] == '\r') {
            out->size--;
        }
    }
}

static enum err
check(const struct bytes *password, struct err_detail *why)
{
    if (password->size == 0) {
        return err_fail(why, ERR_INVALID, "the password is empty");
    }
    if (password->size > CLI_PASSWORD_MAX_BYTES) {
        return fail_too_long(why);
    }
    return ERR_OK;
}

// read_stdin reads to the end. What fills all of the reserved memory is too long.
static enum err
read_stdin(struct bytes *out, struct err_detail *why)
{
    for (;;) {
        if (out->size == out->capacity) {
            return fail_too_long(why);
        }
        ssize_t n = read_some(STDIN_FILENO, out);
        if (n == 0) {
            drop_newline(out);
            return ERR_OK;
        }
        if (n < 0 && errno != EINTR) {
            return err_fail(why, err_from_errno(errno), "cannot read standard input: %s", strerror(errno));
        }
    }
}

static void
write_prompt(int tty, const char *text)
{
    ssize_t ignored = write(tty, text, strlen(text));
    (void)ignored;
}

// read_line_quietly reads a line with echo off and puts everything back as it was. Returns false when a signal came
// first.
static bool
read_line_quietly(int tty, const char *prompt, struct bytes *out)
{
    struct termios before;
    struct termios quiet;
    struct sigaction actions_before[HELD_COUNT];
    struct sigaction action = {.sa_handler = on_signal}; // without SA_RESTART, so that read returns
    sigemptyset(&action.sa_mask);
    held_signal = 0;
    for (size_t i = 0; i < HELD_COUNT; i++) {
        (void)sigaction(held_signals[i], &action, &actions_before[i]);
    }
    bool has_settings = tcgetattr(tty, &before) == 0;
    if (has_settings) {
        quiet = before;
        quiet.c_lflag &= ~(tcflag_t)(ECHO | ECHONL);
        (void)tcsetattr(tty, TCSAFLUSH, &quiet);
    }
    write_prompt(tty, prompt);
    bool is_line = false;
    while (!is_line && held_signal == 0 && out->size < out->capacity) {
        ssize_t n = read_some(tty, out);
        if (n == 0 || (n < 0 && errno != EINTR)) {
            break;
        }
        is_line = out->size > 0 && out->data[out->size - 1] == '\n';
    }
    write_prompt(tty, "\n");
    if (has_settings) {
        // Typed-ahead rest of a line that was too long must not reach the shell.
        (void)tcsetattr(tty, TCSAFLUSH, &before);
    }
    for (size_t i = 0; i < HELD_COUNT; i++) {
        (void)sigaction(held_signals[i], &actions_before[i], NULL);
    }
    return held_signal == 0;
}

static enum err
ask(int tty, const char *prompt, struct bytes *out, struct err_detail *why)
{
    while (!read_line_quietly(tty, prompt, out)) {
        // The default action ends or stops the process here; after a stop the question is asked anew.
        digest_wipe(out->data, out->capacity);
        bytes_clear(out);
        (void)raise(held_signal);
    }
    drop_newline(out);
    return check(out, why);
}

static enum err
open_terminal(int *out, struct err_detail *why)
{
    *out = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
    if (*out < 0) {
        return err_fail(why, ERR_PRECONDITION,
            "there is no terminal to ask for the password; pipe it in with --password-stdin");
    }
    return ERR_OK;
}

static enum err
ask_on_terminal(bool is_new, struct bytes *out, struct bytes *again, struct err_detail *why)
{
    int tty = -1;
    enum err opened = open_terminal(&tty, why);
    if (opened != ERR_OK) {
        return opened;
    }
    enum err code = ask(tty, is_new ? "New password: " : "Password: ", out, why);
    if (code == ERR_OK && is_new) {
        code = ask(tty, "New password again: ", again, why);
        if (code == ERR_OK && !bytes_view_equal_secret(bytes_as_view(out), bytes_as_view(again))) {
            code = err_fail(why, ERR_INVALID, "the two passwords differ; try again");
        }
    }
    (void)close(tty);
    return code;
}

enum err
cli_password_read(bool is_from_stdin, bool is_new, struct bytes *out, struct err_detail *why)
{
    struct bytes password = {0};
    struct bytes again = {0};
    // Room for "\r\n" and for one byte that shows that it is too long.
    enum err code = bytes_reserve(&password, CLI_PASSWORD_MAX_BYTES + 3);
    if (code == ERR_OK && is_new) {
        code = bytes_reserve(&again, CLI_PASSWORD_MAX_BYTES + 3);
    }
    if (code == ERR_OK) {
        code = is_from_stdin ? read_stdin(&password, why) : ask_on_terminal(is_new, &password, &again, why);
    }
    if (code == ERR_OK && is_from_stdin) {
        code = check(&password, why);
    }
    bytes_free_secret(&again);
    if (code != ERR_OK) {
        bytes_free_secret(&password);
        return code;
    }
    *out = password;
    return ERR_OK;
}

// split_change takes the first line for the old password and the rest for the new one.
static enum err
split_change(const struct bytes *both, struct bytes *old_out, struct bytes *new_out, struct err_detail *why)
{
    const uint8_t *end = both->size > 0 ? memchr(both->data, '\n', both->size) : NULL;
    if (end == NULL) {
        return err_fail(why, ERR_INVALID, "standard input has to be the old password, a newline, and the new one");
    }
    size_t size = (size_t)(end - both->data);
    enum err code = bytes_append(old_out, bytes_view_of(both->data, size + 1));
    if (code == ERR_OK) {
        drop_newline(old_out);
        code = bytes_append(new_out, bytes_view_of(end + 1, both->size - size - 1));
    }
    if (code == ERR_OK) {
        code = check(old_out, why);
    }
    return code == ERR_OK ? check(new_out, why) : code;
}

enum err
cli_password_read_change(bool is_from_stdin, struct bytes *old_out, struct bytes *new_out, struct err_detail *why)
{
    struct bytes old = {0};
    struct bytes fresh = {0};
    struct bytes both = {0};
    // The memory of both lines, reserved so that no unwiped copy is left behind.
    enum err code = bytes_reserve(&old, CLI_PASSWORD_MAX_BYTES + 3);
    if (code == ERR_OK) {
        code = bytes_reserve(&fresh, CLI_PASSWORD_MAX_BYTES + 3);
    }
    if (code == ERR_OK) {
        code = bytes_reserve(&both, 2 * CLI_PASSWORD_MAX_BYTES + 6);
    }
    if (code == ERR_OK && is_from_stdin) {
        code = read_stdin(&both, why);
        if (code == ERR_OK) {
            code = split_change(&both, &old, &fresh, why);
        }
    } else if (code == ERR_OK) {
        int tty = -1;
        code = open_terminal(&tty, why);
        if (code == ERR_OK) {
            code = ask(tty, "Old password: ", &old, why);
            (void)close(tty);
        }
        if (code == ERR_OK) {
            code = ask_on_terminal(true, &fresh, &both, why);
        }
    }
    bytes_free_secret(&both);
    if (code != ERR_OK) {
        bytes_free_secret(&old);
        bytes_free_secret(&fresh);
        return code;
    }
    *old_out = old;
    *new_out = fresh;
    return ERR_OK;
}

enum err
cli_password_read_recovery_key(struct bytes *out, struct err_detail *why)
{
    struct bytes key = {0};
    int tty = -1;
    enum err code = bytes_reserve(&key, CLI_PASSWORD_MAX_BYTES + 3);
    if (code == ERR_OK && isatty(STDIN_FILENO) != 1) {
        code = read_stdin(&key, why);
    } else if (code == ERR_OK) {
        code = open_terminal(&tty, why);
        if (code == ERR_OK) {
            code = ask(tty, "Recovery key: ", &key, why);
            (void)close(tty);
        }
    }
    if (code == ERR_OK && (key.size == 0 || memchr(key.data, '\0', key.size) != NULL)) {
        code = err_fail(why, ERR_INVALID, "there is no recovery key on standard input");
    }
    if (code == ERR_OK) {
        code = bytes_append(&key, bytes_view_of("", 1));
    }
    if (code != ERR_OK) {
        bytes_free_secret(&key);
        return code;
    }
    *out = key;
    return ERR_OK;
}
