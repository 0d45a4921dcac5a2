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
            return check(out, why);
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
ask_on_terminal(bool is_new, struct bytes *out, struct bytes *again, struct err_detail *why)
{
    int tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
    if (tty < 0) {
        return err_fail(why, ERR_PRECONDITION,
            "there is no terminal to ask for the password; pipe it in with --password-stdin");
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
    bytes_free_secret(&again);
    if (code != ERR_OK) {
        bytes_free_secret(&password);
        return code;
    }
    *out = password;
    return ERR_OK;
}
