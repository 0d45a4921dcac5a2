// fc chat: rooms and messages on a full screen.
//
// This thread draws and reads the keyboard, and waits for nothing else: it polls standard input, what other threads and
// a change of the terminal's size tell (tui_event.h), and signals (cli_interrupt.h). All calls are made by tui_work.h.
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "cli/cli_command.h"
#include "cli/cli_exit.h"
#include "cli/cli_interrupt.h"
#include "cli/cli_output.h"
#include "cli/tui_app.h"

enum {
    // How long the end waits for a call that is being made: longer only for messages that are not in the outbox yet.
    PATIENCE_MS = 2000,
    PATIENCE_FOR_MESSAGES_MS = 20 * 1000,
};

// The signal handlers need them.
static struct tui_events events;
static volatile sig_atomic_t is_resized;
static volatile sig_atomic_t is_to_stop;

static void
on_signal(int number)
{
    int saved_errno = errno;
    if (number == SIGTSTP) {
        is_to_stop = 1;
    } else {
        is_resized = 1;
    }
    tui_events_wake(&events);
    errno = saved_errno;
}

static void
watch(int number, void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    struct sigaction before;
    sigemptyset(&action.sa_mask);
    // What the parent ignores stays ignored.
    if (sigaction(number, NULL, &before) == 0 && before.sa_handler != SIG_IGN) {
        (void)sigaction(number, &action, NULL);
    }
}

// stop does what Ctrl-Z asks for, with the terminal as it was. ncurses would do it inside of the signal handler,
// whatever it was doing.
static void
stop(void)
{
    tui_screen_leave();
    watch(SIGTSTP, SIG_DFL);
    (void)raise(SIGTSTP);
    watch(SIGTSTP, on_signal);
    tui_screen_return();
}

static void
take_events(struct tui *tui)
{
    struct tui_event *event = tui_events_take(&events);
    while (event != NULL) {
        struct tui_event *next = event->next;
        tui_take_event(tui, event);
        tui_event_free(&event);
        event = next;
    }
}

static void
take_keys(struct tui *tui)
{
    struct tui_key key = tui_screen_read_key();
    while (key.kind != TUI_KEY_NONE && !tui->is_done) {
        tui_take_key(tui, &key);
        key = tui_screen_read_key();
    }
}

// pause_until gives poll the time up to next_ms; 0: as long as it takes.
static int
pause_until(uint64_t next_ms)
{
    uint64_t now_ms = clock_monotonic_ms();
    return next_ms == 0 ? -1 : next_ms > now_ms ? (int)(next_ms - now_ms) : 0;
}

static enum err
run_screen(struct tui *tui, struct err_detail *why)
{
    struct pollfd fds[] = {
        {.fd = STDIN_FILENO, .events = POLLIN},
        {.fd = events.fds[0], .events = POLLIN},
        {.fd = cli_interrupt_fd(), .events = POLLIN},
    };
    while (!tui->is_done && cli_interrupt_signal() == 0) {
        uint64_t next_ms = 0;
        if (is_to_stop != 0) {
            is_to_stop = 0;
            stop();
        }
        if (is_resized != 0) {
            is_resized = 0;
            tui_screen_resize();
        }
        enum err code = tui_draw(tui, &next_ms);
        if (code != ERR_OK) {
            return code;
        }
        if (poll(fds, sizeof fds / sizeof fds[0], pause_until(next_ms)) < 0 && errno != EINTR) {
            return err_fail(why, err_from_errno(errno), "cannot wait for input: %s", strerror(errno));
        }
        if ((fds[0].revents & (POLLHUP | POLLERR | POLLNVAL)) != 0) {
            return ERR_OK; // the terminal has gone
        }
        take_events(tui);
        take_keys(tui);
    }
    return ERR_OK;
}

// leave ends the threads. What a call was doing is safe when the process ends instead: the local store is written in
// transactions.
static void
leave(struct tui *tui)
{
    bool is_over = tui_transfer_stop(&tui->transfer, PATIENCE_MS) && tui_work_stop(&tui->work, PATIENCE_MS);
    if (!is_over && tui_work_has_messages(tui->work)) {
        cli_output_error("fc chat: some messages are not sent yet; they are being kept for later");
        is_over = tui_transfer_stop(&tui->transfer, PATIENCE_FOR_MESSAGES_MS) &&
                  tui_work_stop(&tui->work, PATIENCE_FOR_MESSAGES_MS);
    }
    int number = cli_interrupt_signal();
    if (!is_over) {
        _exit(number == 0 || number == SIGINT ? CLI_EXIT_DONE : CLI_EXIT_SIGNAL + number);
    }
}

static enum err
chat(struct cli *cli, struct err_detail *why)
{
    struct tui tui;
    tui_init(&tui);
    tui.wanted_room = cli->argument_count > 0 ? cli->arguments[0] : NULL;
    enum err code = tui_work_start(cli->session, &events, &tui.work, why);
    if (code == ERR_OK) {
        tui.own_name = tui_work_own_name(tui.work);
        code = tui_transfer_new(cli->session, &events, tui.work, &tui.transfer);
    }
    if (code == ERR_OK) {
        log_set_level(LOG_ERROR); // others would write over the screen
        watch(SIGWINCH, on_signal);
        watch(SIGTSTP, on_signal);
        code = tui_screen_open(why);
    }
    if (code == ERR_OK) {
        code = run_screen(&tui, why);
    }
    // First, so that nothing that follows can keep the terminal.
    tui_screen_close();
    tui_events_close(&events);
    leave(&tui);
    tui_deinit(&tui);
    return code;
}

static enum err
run_chat(struct cli *cli, struct err_detail *why)
{
    const char *term = getenv("TERM");
    if (isatty(STDIN_FILENO) != 1 || isatty(STDOUT_FILENO) != 1 || term == NULL || strcmp(term, "dumb") == 0) {
        return err_fail(why, ERR_INVALID, "this needs a terminal; fc join, fc send and fc history work without one");
    }
    if (cli_options_has(&cli->options, CLI_OPTION_JSON)) {
        return err_fail(why, ERR_INVALID, "there is no --json for a screen; fc join has it");
    }
    enum err code = cli_session_open(cli, true, why);
    if (code == ERR_OK) {
        code = cli_interrupt_watch(why);
    }
    if (code == ERR_OK) {
        code = tui_events_init(&events, why);
    }
    if (code != ERR_OK) {
        return code;
    }
    code = chat(cli, why);
    watch(SIGWINCH, SIG_DFL);
    watch(SIGTSTP, SIG_DFL);
    tui_events_deinit(&events);
    if (code == ERR_OK && cli_interrupt_signal() != 0 && cli_interrupt_signal() != SIGINT) {
        code = ERR_CANCELLED;
    }
    return code;
}

const struct cli_command cmd_chat = {
    .name = "chat",
    .synopsis = "[ROOM]",
    .summary = "rooms and messages on a full screen",
    .details = "The rooms stand on the left, with the number of unread messages, and @ where\n"
               "somebody mentions you. What is typed is sent to the one that is shown; what\n"
               "begins with / is a command, and /help lists them. Tab completes commands, rooms\n"
               "and, after @, users. PgUp, PgDn and the mouse wheel scroll; Ctrl-N, Ctrl-P,\n"
               "Alt-Up, Alt-Down and the mouse change the room; Ctrl-C or /quit leaves.\n"
               "\n"
               "While the server is away everything goes on: what was there can be read, and\n"
               "what is sent waits until it is back.\n",
    .options = 0,
    .arguments_min = 0,
    .arguments_max = 1,
    .run = run_chat,
};
