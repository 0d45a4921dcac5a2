// fc join, dm.
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/digest.h"
#include "cli/cli_command.h"
#include "cli/cli_follow.h"
#include "cli/cli_link.h"
#include "cli/cli_output.h"
#include "cli/cli_room.h"
#include "cli/cli_send.h"

// read_link reads the first line of standard input and leaves what follows for the room.
static enum err
read_link(char link_out[FC_CHAT_LINK_MAX_BYTES], struct err_detail *why)
{
    size_t size = 0;
    for (;;) {
        char byte;
        ssize_t n = read(STDIN_FILENO, &byte, 1);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return err_fail(why, err_from_errno(errno), "cannot read standard input: %s", strerror(errno));
        }
        if (n == 0 || byte == '\n') {
            break;
        }
        if (size == FC_CHAT_LINK_MAX_BYTES - 1) {
            return err_fail(why, ERR_INVALID, "standard input does not begin with an invite link");
        }
        link_out[size++] = byte;
    }
    while (size > 0 && (link_out[size - 1] == '\r' || link_out[size - 1] == ' ')) {
        size--;
    }
    link_out[size] = '\0';
    if (!cli_link_is(link_out)) {
        return err_fail(why, ERR_INVALID, "standard input does not begin with an invite link");
    }
    return ERR_OK;
}

static enum err
enter(struct cli *cli, struct fc_room *room, struct err_detail *why)
{
    char link[FC_CHAT_LINK_MAX_BYTES] = "";
    const char *where = cli->arguments[0];
    bool is_stdin = strcmp(where, "-") == 0;
    enum err code = is_stdin ? read_link(link, why) : ERR_OK;
    if (code == ERR_OK) {
        code = cli_chat_open(cli, why);
    }
    if (code == ERR_OK && (is_stdin || cli_link_is(where))) {
        code = fc_chat_link_join(cli->chat, is_stdin ? link : where, room, why);
    } else if (code == ERR_OK) {
        code = fc_chat_join(cli->chat, where, room, why);
    }
    digest_wipe(link, sizeof link);
    return code;
}

static enum err
run_join(struct cli *cli, struct err_detail *why)
{
    struct fc_chat_room entered = {0};
    enum err code = cli_follow_check(cli, why);
    if (code == ERR_OK) {
        code = enter(cli, &entered.room, why);
    }
    if (code != ERR_OK) {
        return code;
    }
    if (!cli_options_has(&cli->options, CLI_OPTION_NO_FOLLOW)) {
        return cli_follow_run(cli, &entered.room, why);
    }
    if (!cli_options_has(&cli->options, CLI_OPTION_JSON)) {
        return ERR_OK;
    }
    code = cli_room_complete(cli, &entered, why);
    return code == ERR_OK ? cli_room_print_json(&entered, why) : code;
}

static enum err
run_dm(struct cli *cli, struct err_detail *why)
{
    struct fc_room room = {0};
    char id[33];
    bool is_following = cli->argument_count == 1;
    enum err code = is_following ? cli_follow_check(cli, why) : cli_send_check(cli, why);
    if (code == ERR_OK && (cli->options.given & (is_following ? CLI_SEND_ALLOWS : CLI_FOLLOW_ALLOWS)) != 0) {
        code = err_fail(why, ERR_INVALID, "some of the options are for %s",
            is_following ? "sending, and there is no text" : "following, which is done without a text");
    }
    if (code == ERR_OK) {
        code = cli_chat_open(cli, why);
    }
    if (code == ERR_OK && strcmp(cli->arguments[0], cli->credential.user_name) == 0) {
        code = err_fail(why, ERR_INVALID, "a room of two needs somebody else than you");
    }
    if (code == ERR_OK) {
        code = fc_chat_direct(cli->chat, cli->arguments[0], &room, why);
    }
    if (code != ERR_OK) {
        return code;
    }
    bytes_to_hex(bytes_view_of(room.id, sizeof room.id), id);
    return is_following ? cli_follow_run(cli, &room, why) : cli_send_run(cli, id, 1, why);
}

const struct cli_command cmd_join = {
    .name = "join",
    .synopsis = "ROOM | LINK | -",
    .summary = "enter a room: print its messages, send what is typed",
    .details = "Enters a public room, one that you are invited to, or by a link. With - the link\n"
               "is the first line of standard input: others on this machine can see arguments,\n"
               "and whoever has the link can join.\n"
               "\n"
               "Prints messages as they come and sends each line of standard input as one.\n"
               "Begins with what is sent from now on, on a terminal with the last 10 before;\n"
               "--since SEQ begins after message SEQ. Ends with --count, Ctrl-C, or Ctrl-D on\n"
               "a terminal. When piped input ends it goes on printing. When the server is away\n"
               "it waits for it, and then prints what was missed.\n"
               "\n"
               "--exec runs COMMAND with /bin/sh -c for each message of others instead, one\n"
               "after the other, with the message as JSON on its standard input, and FC_ROOM,\n"
               "FC_SEQ and FC_SENDER in its environment. That it fails ends nothing.\n"
               "\n"
               "Being interrupted is how it usually ends, so that its exit code is 0 then.\n",
    .options = CLI_FOLLOW_ALLOWS | CLI_ALLOWS(CLI_OPTION_NO_FOLLOW),
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_join,
};

const struct cli_command cmd_dm = {
    .name = "dm",
    .synopsis = "USER [TEXT... | -]",
    .summary = "write to one user, or follow what you write to each other",
    .details = "The room of the two of you is made when there is none yet; it is encrypted. With\n"
               "TEXT or - it sends as 'fc send' does, without it follows as 'fc join'. In other\n"
               "commands the room's name is @USER.\n",
    .options = CLI_SEND_ALLOWS | CLI_FOLLOW_ALLOWS,
    .arguments_min = 1,
    .arguments_max = CLI_ARGUMENTS_ANY,
    .run = run_dm,
};
