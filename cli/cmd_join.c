// fc join: follows a room and sends what is typed or piped in.
//
// The stream prints messages on its own thread; the main thread reads standard input and waits for the end, which comes
// from a signal, from the stream, or from standard input when that is a terminal.
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/cli_command.h"
#include "cli/cli_interrupt.h"
#include "cli/cli_lines.h"
#include "cli/cli_message.h"
#include "client/fc_room.h"

enum {
    SHOWN_FIRST = 10, // messages from before, on a terminal
    COLUMNS_DEFAULT = 80,
};

struct join {
    // Set before the stream opens.
    const char *room;
    bool is_json;
    bool is_talk;   // somebody types here and reads here
    bool has_count; // ends after left messages
    bool is_stderr_terminal;

    // The stream's thread only.
    uint64_t left;
    bool is_away;

    pthread_mutex_t mutex;
    struct {
        bool is_ended;
        enum err code; // why the stream ended
        struct err_detail why;
    } locked;
};

static void
end_with(struct join *join, enum err code, const struct err_detail *why)
{
    pthread_mutex_lock(&join->mutex);
    if (!join->locked.is_ended) {
        join->locked.is_ended = true;
        join->locked.code = code;
        if (why != NULL) {
            join->locked.why = *why;
        }
    }
    pthread_mutex_unlock(&join->mutex);
    cli_interrupt_wake();
}

static bool
has_ended(struct join *join, enum err *code_out, struct err_detail *why_out)
{
    pthread_mutex_lock(&join->mutex);
    bool is_ended = join->locked.is_ended;
    if (is_ended) {
        *code_out = join->locked.code;
        *why_out = join->locked.why;
    }
    pthread_mutex_unlock(&join->mutex);
    return is_ended;
}

static bool
on_message(void *context, const struct fc_message *message)
{
    struct join *join = context;
    struct err_detail why = {0};
    // Nothing may follow the last message asked for, nor an interrupt.
    if (cli_interrupt_signal() != 0 || (join->has_count && join->left == 0)) {
        return false;
    }
    enum err code = cli_message_print(message, join->is_json, &why);
    if (code != ERR_OK) {
        end_with(join, code, &why);
        return false;
    }
    if (join->has_count && --join->left == 0) {
        end_with(join, ERR_OK, NULL);
        return false;
    }
    return true;
}

static void
on_state(void *context, enum fc_stream_state state, enum err code, const struct err_detail *why)
{
    struct join *join = context;
    switch (state) {
    case FC_STREAM_LIVE:
        if (join->is_away && join->is_stderr_terminal) {
            cli_output_error("fc join: connected again");
        }
        join->is_away = false;
        return;
    case FC_STREAM_RECONNECTING:
        if (!join->is_away && join->is_stderr_terminal) {
            cli_output_error("fc join: %s; trying again until it works", err_message(why, code));
        }
        join->is_away = true;
        return;
    case FC_STREAM_ENDED:
        end_with(join, code, why);
        return;
    }
}

// erase_typed takes the typed line off the terminal: it comes back as a message, with its time and sender.
static enum err
erase_typed(struct bytes_view line, struct err_detail *why)
{
    struct winsize size;
    size_t columns = COLUMNS_DEFAULT;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
        columns = size.ws_col;
    }
    size_t characters = 0;
    for (size_t i = 0; i < line.size; i++) {
        characters += (line.data[i] & 0xc0) != 0x80;
    }
    char up[32];
    (void)snprintf(up, sizeof up, "\033[%zuA\r\033[J", 1 + (characters - 1) / columns);
    return cli_output_write(bytes_view_of_text(up), why);
}

static enum err
send_line(struct cli *cli, const struct join *join, struct bytes_view line, struct err_detail *why)
{
    struct fc_sent sent;
    enum err code = ERR_OK;
    if (line.size > CLI_LINE_MAX_BYTES) {
        return err_fail(why, ERR_TOO_BIG, "a line has more than %d bytes; send it as a file", CLI_LINE_MAX_BYTES);
    }
    if (join->is_talk) {
        code = erase_typed(line, why);
    }
    if (code == ERR_OK) {
        code = fc_room_send(cli->session, join->room, line, NULL, &sent, why);
    }
    if (code != ERR_OK && join->is_talk && !cli_output_is_closed()) {
        // Somebody is there to see it and to type it again.
        cli_output_error("fc join: not sent: %s", err_message(why, code));
        return ERR_OK;
    }
    return code;
}

static enum err
send_input(struct cli *cli, const struct join *join, struct cli_lines *lines, struct err_detail *why)
{
    struct bytes_view line;
    enum err code = cli_lines_read(lines, why);
    while (code == ERR_OK && cli_interrupt_signal() == 0 && cli_lines_next(lines, &line)) {
        code = send_line(cli, join, line, why);
    }
    if (code == ERR_OK && cli_lines_is_too_long(lines)) {
        code = err_fail(why, ERR_TOO_BIG, "a line has more than %d bytes; send it as a file", CLI_LINE_MAX_BYTES);
    }
    return code;
}

static enum err
follow(struct cli *cli, struct join *join, struct err_detail *why)
{
    struct cli_lines lines = {0};
    struct pollfd fds[] = {{.fd = cli_interrupt_fd(), .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
    enum err code = ERR_OK;
    for (;;) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR) {
            code = err_fail(why, err_from_errno(errno), "cannot wait for input: %s", strerror(errno));
            break;
        }
        if (cli_interrupt_signal() != 0 || has_ended(join, &code, why)) {
            break;
        }
        if ((fds[1].revents & (POLLIN | POLLHUP | POLLERR | POLLNVAL)) == 0) {
            continue;
        }
        code = send_input(cli, join, &lines, why);
        if (code != ERR_OK) {
            break;
        }
        if (lines.is_at_end && isatty(STDIN_FILENO)) {
            break; // Ctrl-D
        }
        if (lines.is_at_end) {
            fds[1].fd = -1; // whoever piped it in may still want the answers
        }
    }
    cli_lines_free(&lines);
    return code;
}

// choose_start reads --since, or begins with the messages from now on, and on a terminal with some from before.
static enum err
choose_start(const struct cli *cli, const struct fc_room *room, bool is_terminal, uint64_t *after_seq_out,
    struct err_detail *why)
{
    uint64_t after_seq = room->head_seq;
    if (is_terminal) {
        after_seq = room->head_seq > SHOWN_FIRST ? room->head_seq - SHOWN_FIRST : 0;
    }
    return cli_options_u64(&cli->options, CLI_OPTION_SINCE, 0, after_seq, after_seq_out, why);
}

static enum err
run_in_room(struct cli *cli, struct join *join, struct err_detail *why)
{
    struct fc_room room = {0};
    struct fc_room_stream *stream = NULL;
    struct fc_room_stream_options options = {.rooms = &join->room,
        .room_count = 1,
        .on_message = on_message,
        .on_state = on_state,
        .context = join};
    enum err code = fc_room_join(cli->session, join->room, &room, why);
    if (code == ERR_OK) {
        code = choose_start(cli, &room, isatty(STDOUT_FILENO), &options.after_seq, why);
    }
    if (code == ERR_OK) {
        code = cli_interrupt_watch(why);
    }
    if (code == ERR_OK) {
        code = fc_room_stream_open(cli->session, &options, &stream, why);
    }
    if (code == ERR_OK) {
        code = follow(cli, join, why);
    }
    fc_room_stream_close(&stream);
    return code;
}

static enum err
run_join(struct cli *cli, struct err_detail *why)
{
    const char *term = getenv("TERM");
    bool is_screen = isatty(STDOUT_FILENO) && term != NULL && strcmp(term, "dumb") != 0;
    struct join join = {
        .room = cli->arguments[0],
        .is_json = cli_options_has(&cli->options, CLI_OPTION_JSON),
        .has_count = cli_options_has(&cli->options, CLI_OPTION_COUNT),
        .is_talk = is_screen && isatty(STDIN_FILENO),
        .is_stderr_terminal = isatty(STDERR_FILENO) != 0,
        .mutex = PTHREAD_MUTEX_INITIALIZER,
    };
    uint64_t ignored;
    enum err code = cli_options_u64(&cli->options, CLI_OPTION_COUNT, 1, 0, &join.left, why);
    if (code == ERR_OK) {
        code = cli_options_u64(&cli->options, CLI_OPTION_SINCE, 0, 0, &ignored, why); // before joining anything
    }
    if (code == ERR_OK) {
        code = cli_session_open(cli, true, why);
    }
    if (code == ERR_OK) {
        code = run_in_room(cli, &join, why);
    }
    return code;
}

const struct cli_command cmd_join = {
    .name = "join",
    .synopsis = "ROOM [--since SEQ] [--count N]",
    .summary = "enter a room: print its messages, send what is typed",
    .details = "Prints messages as they come and sends each line of standard input as one.\n"
               "Begins with what is sent from now on, on a terminal with the last 10 before;\n"
               "--since SEQ begins after message SEQ. Ends with --count, Ctrl-C, or Ctrl-D on\n"
               "a terminal. When piped input ends it goes on printing. When the server is away\n"
               "it waits for it, and then prints what was missed.\n"
               "\n"
               "Being interrupted is how it usually ends, so that its exit code is 0 then.\n",
    .options = CLI_ALLOWS(CLI_OPTION_SINCE) | CLI_ALLOWS(CLI_OPTION_COUNT),
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_join,
};
