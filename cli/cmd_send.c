// fc send, react, edit, delete.
#include <inttypes.h>
#include <string.h>

#include "cli/cli_command.h"
#include "cli/cli_send.h"
#include "cli/cli_words.h"
#include "rpc/rpc_channel.h"

static enum err
run_send(struct cli *cli, struct err_detail *why)
{
    enum err code = cli_send_check(cli, why);
    if (code == ERR_OK) {
        code = cli_session_open(cli, true, why);
    }
    if (code == ERR_OK) {
        // While the store is opened and the message sealed.
        rpc_channel_connect(fc_session_channel(cli->session));
        code = cli_chat_open(cli, why);
    }
    return code == ERR_OK ? cli_send_run(cli, cli->arguments[0], 1, why) : code;
}

// What is known of the message that something is about.
struct target {
    uint64_t seq;
    bool is_found;
    bool is_own;
    bool is_deleted;
    const char *own_name;
};

static bool
on_target(void *context, const struct fc_message *message)
{
    struct target *target = context;
    if (message->seq == target->seq) {
        target->is_found = true;
        target->is_deleted = message->is_deleted;
        target->is_own = strcmp(message->sender, target->own_name) == 0;
    }
    return true;
}

// check_target looks whether there is such a message. In encrypted rooms the server cannot tell, and the others would
// take no notice of what is about nothing, or not for the sender to do.
static enum err
check_target(struct cli *cli, const struct fc_chat_draft *draft, struct err_detail *why)
{
    const char *room = cli->arguments[0];
    struct target target = {.seq = draft->target_seq, .own_name = cli->credential.user_name};
    const struct fc_chat_range range = {.around_seq = draft->target_seq, .limit = 1, .with_events = true};
    enum err code = fc_chat_sync(cli->chat, room, why);
    bool is_away = code == ERR_UNAVAILABLE || code == ERR_TIMEOUT || code == ERR_CLOSED;
    if (code == ERR_OK || is_away) {
        code = fc_chat_history(cli->chat, room, &range, on_target, &target, why);
    }
    if (code == ERR_OK && !target.is_found && !is_away) {
        code = err_fail(why, ERR_NOT_FOUND, "there is no message #%" PRIu64 " in \"%s\"", target.seq, room);
    }
    if (code == ERR_OK && target.is_deleted) {
        code = err_fail(why, ERR_PRECONDITION, "message #%" PRIu64 " has been deleted", target.seq);
    }
    if (code == ERR_OK && target.is_found && !target.is_own && draft->type == FC_MESSAGE_EDIT) {
        code = err_fail(why, ERR_DENIED, "message #%" PRIu64 " is not yours, so that you cannot edit it", target.seq);
    }
    return code;
}

// send_about sends something about the message that the second argument names.
static enum err
send_about(struct cli *cli, enum fc_message_type type, struct bytes_view text, struct err_detail *why)
{
    struct fc_chat_draft draft = {.type = type, .text = text};
    enum err code = cli_words_seq(cli->arguments[1], &draft.target_seq, why);
    if (code == ERR_OK) {
        code = cli_chat_open(cli, why);
    }
    if (code == ERR_OK) {
        code = check_target(cli, &draft, why);
    }
    return code == ERR_OK ? cli_send_draft(cli, cli->arguments[0], &draft, why) : code;
}

static enum err
run_react(struct cli *cli, struct err_detail *why)
{
    struct bytes_view emoji = bytes_view_of_text(cli->arguments[2]);
    if (emoji.size == 0 || emoji.size > 32) {
        return err_fail(why, ERR_INVALID, "a reaction has 1 to 32 bytes");
    }
    return send_about(cli,
        cli_options_has(&cli->options, CLI_OPTION_UNDO) ? FC_MESSAGE_UNREACTION : FC_MESSAGE_REACTION, emoji, why);
}

static enum err
run_edit(struct cli *cli, struct err_detail *why)
{
    struct bytes text = {0};
    enum err code = cli_words_join(cli, 2, "the new text", &text, why);
    if (code == ERR_OK) {
        code = send_about(cli, FC_MESSAGE_EDIT, bytes_as_view(&text), why);
    }
    bytes_free(&text);
    return code;
}

static enum err
run_delete(struct cli *cli, struct err_detail *why)
{
    return send_about(cli, FC_MESSAGE_DELETE, (struct bytes_view){0}, why);
}

const struct cli_command cmd_send = {
    .name = "send",
    .synopsis = "ROOM TEXT... | ROOM -",
    .summary = "send a message to a room",
    .details = "The words of TEXT are joined by spaces. With - each line of standard input is a\n"
               "message, and empty ones are left out. Returns when the server has it on disk.\n"
               "@NAME in it mentions somebody. You have to be in the room: see 'fc join'. Put --\n"
               "before words that begin with a dash.\n"
               "\n"
               "When the server cannot be reached the message waits in the outbox, goes with the\n"
               "next command that reaches it, and the exit code is 10.\n",
    .options = CLI_SEND_ALLOWS,
    .arguments_min = 2,
    .arguments_max = CLI_ARGUMENTS_ANY,
    .run = run_send,
};

const struct cli_command cmd_react = {
    .name = "react",
    .synopsis = "ROOM SEQ EMOJI [--undo]",
    .summary = "put an emoji beside a message",
    .details = "SEQ is the message's number: 'fc history -n' shows it. EMOJI is any text of up\n"
               "to 32 bytes.\n",
    .options = CLI_ALLOWS(CLI_OPTION_UNDO),
    .arguments_min = 3,
    .arguments_max = 3,
    .run = run_react,
};

const struct cli_command cmd_edit = {
    .name = "edit",
    .synopsis = "ROOM SEQ TEXT...",
    .summary = "replace the text of a message of yours",
    .details = "SEQ is the message's number: 'fc history -n' shows it. The others see that it\n"
               "was edited.\n",
    .arguments_min = 3,
    .arguments_max = CLI_ARGUMENTS_ANY,
    .run = run_edit,
};

const struct cli_command cmd_delete = {
    .name = "delete",
    .synopsis = "ROOM SEQ",
    .summary = "take a message back",
    .details = "SEQ is the message's number: 'fc history -n' shows it. One of yours, or as an\n"
               "admin of the room anybody's. Its text is gone from the server; whoever has read\n"
               "it may still have it.\n",
    .arguments_min = 2,
    .arguments_max = 2,
    .run = run_delete,
};
