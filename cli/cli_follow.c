// The follower prints messages on its own thread; the main thread reads standard input and waits for the end, which
// comes from a signal, from the follower, or from standard input when that is a terminal.
#include "cli/cli_follow.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/cli_delivery.h"
#include "cli/cli_interrupt.h"
#include "cli/cli_lines.h"
#include "client/fc_chat.h"

enum {
    SHOWN_FIRST = 10, // messages from before, on a terminal
    COLUMNS_DEFAULT = 80,
    FLUSH_INTERVAL_MS = 1000, // while something waits to be sent
};

struct following {
    // Set before the follower begins.
    const char *command; // of fc, for messages to people
    char room[33];       // the id, which stays when the room gets another name
    struct cli_delivery *delivery;
    const char *own_name; // whose messages are left out; NULL: nobody's
    bool is_talk;         // somebody types here and reads here
    bool has_count;       // ends after left messages
    bool is_stderr_terminal;

    // The main thread only.
    bool is_waiting; // something typed is in the outbox

    atomic_bool is_live;

    // The follower's thread only.
    uint64_t left;
    bool is_away;

    pthread_mutex_t mutex;
    struct {
        bool is_ended;
        enum err code; // why the follower ended
        struct err_detail why;
    } locked;
};

static void
end_with(struct following *following, enum err code, const struct err_detail *why)
{
    pthread_mutex_lock(&following->mutex);
    if (!following->locked.is_ended) {
        following->locked.is_ended = true;
        following->locked.code = code;
        if (why != NULL) {
            following->locked.why = *why;
        }
    }
    pthread_mutex_unlock(&following->mutex);
    cli_interrupt_wake();
}

static bool
has_ended(struct following *following, enum err *code_out, struct err_detail *why_out)
{
    pthread_mutex_lock(&following->mutex);
    bool is_ended = following->locked.is_ended;
    if (is_ended) {
        *code_out = following->locked.code;
        *why_out = following->locked.why;
    }
    pthread_mutex_unlock(&following->mutex);
    return is_ended;
}

static bool
on_message(void *context, const struct fc_message *message)
{
    struct following *following = context;
    // Nothing may follow the last message asked for, nor an interrupt.
    if (cli_interrupt_signal() != 0 || (following->has_count && following->left == 0)) {
        return false;
    }
    if (following->own_name != NULL && strcmp(message->sender, following->own_name) == 0) {
        return true;
    }
    if (!cli_delivery_put(following->delivery, message)) {
        return false;
    }
    if (following->has_count && --following->left == 0) {
        end_with(following, ERR_OK, NULL);
        return false;
    }
    return true;
}

// on_failure comes late: the end may have been told already, when the last messages were still to be printed.
static void
on_failure(void *context, enum err code, const struct err_detail *why)
{
    struct following *following = context;
    end_with(following, code, why);
    pthread_mutex_lock(&following->mutex);
    if (following->locked.code == ERR_OK) {
        following->locked.code = code;
        following->locked.why = why != NULL ? *why : (struct err_detail){0};
    }
    pthread_mutex_unlock(&following->mutex);
}

static void
on_state(void *context, enum fc_stream_state state, enum err code, const struct err_detail *why)
{
    struct following *following = context;
    switch (state) {
    case FC_STREAM_LIVE:
        atomic_store(&following->is_live, true);
        if (following->is_away && following->is_stderr_terminal) {
            cli_output_error("fc %s: connected again", following->command);
        }
        following->is_away = false;
        return;
    case FC_STREAM_RECONNECTING:
        atomic_store(&following->is_live, false);
        if (!following->is_away && following->is_stderr_terminal) {
            cli_output_error("fc %s: %s; trying again until it works", following->command, err_message(why, code));
        }
        following->is_away = true;
        return;
    case FC_STREAM_ENDED:
        end_with(following, code, why);
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
send_line(struct cli *cli, struct following *following, struct bytes_view line, struct err_detail *why)
{
    struct fc_sent sent;
    const struct fc_chat_draft draft = {.text = line};
    enum err code = ERR_OK;
    if (line.size > CLI_LINE_MAX_BYTES) {
        return err_fail(why, ERR_TOO_BIG, "a line has more than %d bytes; send it as a file", CLI_LINE_MAX_BYTES);
    }
    if (following->is_talk) {
        code = erase_typed(line, why);
    }
    if (code == ERR_OK) {
        code = fc_chat_send(cli->chat, following->room, &draft, &sent, why);
    }
    following->is_waiting = code == ERR_QUEUED;
    if (code == ERR_QUEUED) {
        cli_output_error("fc %s: %s", following->command, err_message(why, code));
        return ERR_OK;
    }
    if (code != ERR_OK && following->is_talk && !cli_output_is_closed()) {
        // Somebody is there to see it and to type it again.
        cli_output_error("fc %s: not sent: %s", following->command, err_message(why, code));
        return ERR_OK;
    }
    return code;
}

static enum err
send_input(struct cli *cli, struct following *following, struct cli_lines *lines, struct err_detail *why)
{
    struct bytes_view line;
    enum err code = cli_lines_read(lines, why);
    while (code == ERR_OK && cli_interrupt_signal() == 0 && cli_lines_next(lines, &line)) {
        code = send_line(cli, following, line, why);
    }
    if (code == ERR_OK && cli_lines_is_too_long(lines)) {
        code = err_fail(why, ERR_TOO_BIG, "a line has more than %d bytes; send it as a file", CLI_LINE_MAX_BYTES);
    }
    return code;
}

// flush sends what waits once the server is there again. What prevents it now may be over with the next attempt.
static void
flush(struct cli *cli, struct following *following)
{
    size_t count = 0;
    struct err_detail why = {0};
    if (atomic_load(&following->is_live) && fc_chat_flush(cli->chat, &count, &why) == ERR_OK) {
        following->is_waiting = false;
    }
}

static enum err
follow(struct cli *cli, struct following *following, struct err_detail *why)
{
    struct cli_lines lines = {0};
    struct pollfd fds[] = {{.fd = cli_interrupt_fd(), .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
    enum err code = ERR_OK;
    for (;;) {
        int ready = poll(fds, 2, following->is_waiting ? FLUSH_INTERVAL_MS : -1);
        if (ready < 0 && errno != EINTR) {
            code = err_fail(why, err_from_errno(errno), "cannot wait for input: %s", strerror(errno));
            break;
        }
        if (ready == 0) {
            flush(cli, following);
        }
        if (cli_interrupt_signal() != 0 || has_ended(following, &code, why)) {
            break;
        }
        if ((fds[1].revents & (POLLIN | POLLHUP | POLLERR | POLLNVAL)) == 0) {
            continue;
        }
        code = send_input(cli, following, &lines, why);
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
follow_room(struct cli *cli, struct following *following, const struct fc_room *room, struct err_detail *why)
{
    struct fc_chat_follower *follower = NULL;
    enum err ended = ERR_OK;
    struct err_detail cause = {0};
    const char *const rooms[] = {following->room};
    struct fc_chat_follow_options options = {
        .rooms = rooms,
        .room_count = 1,
        .on_message = on_message,
        .on_state = on_state,
        .context = following,
    };
    bool is_terminal = !cli_options_has(&cli->options, CLI_OPTION_EXEC) && isatty(STDOUT_FILENO) == 1;
    enum err code = choose_start(cli, room, is_terminal, &options.after_seq, why);
    if (code == ERR_OK) {
        code = cli_interrupt_watch(why);
    }
    if (code == ERR_OK) {
        code = fc_chat_follow(cli->chat, &options, &follower, why);
    }
    if (code == ERR_OK) {
        code = follow(cli, following, why);
    }
    // What came before a proper end is still printed; who leaves wants no more.
    if (!has_ended(following, &ended, &cause)) {
        cli_delivery_stop(following->delivery);
    }
    fc_chat_follow_end(&follower);
    return code;
}

enum err
cli_follow_check(const struct cli *cli, struct err_detail *why)
{
    uint64_t ignored;
    enum err code = cli_options_u64(&cli->options, CLI_OPTION_COUNT, 1, 0, &ignored, why);
    if (code == ERR_OK) {
        code = cli_options_u64(&cli->options, CLI_OPTION_SINCE, 0, 0, &ignored, why);
    }
    if (code == ERR_OK && cli_options_has(&cli->options, CLI_OPTION_OWN) &&
        !cli_options_has(&cli->options, CLI_OPTION_EXEC)) {
        code = err_fail(why, ERR_INVALID, "--own is for --exec");
    }
    return code;
}

enum err
cli_follow_run(struct cli *cli, const struct fc_room *room, struct err_detail *why)
{
    const struct cli_options *options = &cli->options;
    const char *term = getenv("TERM");
    bool is_screen = isatty(STDOUT_FILENO) && term != NULL && strcmp(term, "dumb") != 0;
    bool has_exec = cli_options_has(options, CLI_OPTION_EXEC);
    struct err_detail cause = {0};
    struct following following = {
        .command = cli->command->name,
        .own_name = has_exec && !cli_options_has(options, CLI_OPTION_OWN) ? cli->credential.user_name : NULL,
        .has_count = cli_options_has(options, CLI_OPTION_COUNT),
        .is_talk = is_screen && !has_exec && isatty(STDIN_FILENO),
        .is_stderr_terminal = isatty(STDERR_FILENO) != 0,
        .mutex = PTHREAD_MUTEX_INITIALIZER,
    };
    struct cli_delivery_options delivery = {
        .style = cli_message_style_from(options),
        .command = options->values[CLI_OPTION_EXEC],
        .on_failure = on_failure,
        .context = &following,
    };
    delivery.style.is_json = delivery.style.is_json || has_exec;
    bytes_to_hex(bytes_view_of(room->id, sizeof room->id), following.room);
    enum err code = cli_options_u64(options, CLI_OPTION_COUNT, 1, 0, &following.left, why);
    if (code == ERR_OK) {
        code = cli_delivery_new(&delivery, &following.delivery, why);
    }
    if (code == ERR_OK) {
        code = follow_room(cli, &following, room, why);
        cli_delivery_free(&following.delivery);
    }
    // What was found out while the rest was printed.
    if (code == ERR_OK && cli_interrupt_signal() == 0 && has_ended(&following, &code, &cause) && code != ERR_OK) {
        *why = cause;
    }
    return code;
}
