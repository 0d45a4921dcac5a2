// What is typed and entered: messages and commands.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cli/tui_app.h"
#include "cli/tui_commands.h"

static char *
copy(struct bytes_view text)
{
    return text.size == 0 ? strdup("") : strndup((const char *)text.data, text.size);
}

static struct tui_job *
new_job(struct tui *tui, enum tui_job_kind kind, struct bytes_view text)
{
    const struct tui_room *room = tui_shown_room(tui);
    char *owned = copy(text);
    struct tui_job *job = owned != NULL ? tui_job_new(kind, room->name, room->id, owned) : NULL;
    free(owned);
    return job;
}

static bool
is_in_room(struct tui *tui)
{
    if (tui_shown_room(tui) == &tui->lobby) {
        tui_say(tui, true, "there is no room here; /join, /create or /dm opens one");
        return false;
    }
    return true;
}

// add_pending shows what is to be sent until it is there.
static void
add_pending(struct tui *tui, const struct tui_job *job)
{
    struct tui_room *room = tui_shown_room(tui);
    struct tui_entry *entry = NULL;
    enum err code = tui_entry_new_pending(tui->own_name, job->text, job->type == FC_MESSAGE_EMOTE, job->reply_to_seq,
        job->token, clock_unix_ms(), &entry);
    if (code == ERR_OK) {
        code = tui_log_put(&room->log, &entry);
    }
    (void)code; // it is sent all the same
    room->log.is_scrolled = false;
}

static void
send_message(struct tui *tui, enum fc_message_type type, struct bytes_view text, uint64_t seq, uint64_t reply_to_seq)
{
    if (!is_in_room(tui)) {
        return;
    }
    struct tui_job *job = new_job(tui, TUI_JOB_SEND, text);
    if (job != NULL) {
        job->type = type;
        job->seq = seq;
        job->reply_to_seq = reply_to_seq;
        job->token = ++tui->last_token;
        if (type == FC_MESSAGE_TEXT || type == FC_MESSAGE_EMOTE) {
            add_pending(tui, job);
        }
    }
    if (!tui_ask(tui, job)) {
        tui_log_sent(&tui_shown_room(tui)->log, tui->last_token, 0);
        return;
    }
    tui->typing_told_ms = 0;
}

// react adds a reaction, or takes back the one that is there.
static void
react(struct tui *tui, const struct tui_command *command)
{
    const struct tui_room *room = tui_shown_room(tui);
    const struct tui_entry *entry = tui_log_find(&room->log, command->seq);
    enum fc_message_type type = FC_MESSAGE_REACTION;
    if (entry != NULL && tui_entry_has_reaction(entry, command->rest)) {
        type = FC_MESSAGE_UNREACTION;
    }
    send_message(tui, type, command->rest, command->seq, 0);
}

static void
ask_with_argument(struct tui *tui, enum tui_job_kind kind, struct bytes_view argument, struct bytes_view text)
{
    struct tui_job *job = new_job(tui, kind, text);
    if (job != NULL && argument.size >= sizeof job->argument) {
        tui_job_free(&job);
        tui_say(tui, true, "no name is as long as that");
        return;
    }
    if (job != NULL && argument.size > 0) {
        memcpy(job->argument, argument.data, argument.size);
    }
    (void)tui_ask(tui, job);
}

static void
join(struct tui *tui, struct bytes_view name)
{
    char *room_name = copy(name);
    const struct tui_room *room = room_name != NULL ? tui_rooms_by_name(&tui->rooms, room_name) : NULL;
    free(room_name);
    if (room != NULL && !room->is_invited) {
        tui_show(tui, room);
        return;
    }
    bool is_direct = name.size > 1 && name.data[0] == '@';
    if (is_direct) {
        name = bytes_view_of(name.data + 1, name.size - 1);
    }
    ask_with_argument(tui, is_direct ? TUI_JOB_DM : TUI_JOB_JOIN, name, bytes_view_of(NULL, 0));
}

static void
move_file(struct tui *tui, bool is_upload, struct bytes_view path)
{
    const struct tui_room *room = tui_shown_room(tui);
    struct err_detail why = {0};
    char *owned = copy(path);
    if (owned == NULL || !is_in_room(tui)) {
        free(owned);
        return;
    }
    struct tui_transfer_wish wish = {.is_upload = is_upload, .room = room->name, .path = owned};
    enum err code = tui_transfer_start(tui->transfer, &wish, &why);
    if (code != ERR_OK) {
        tui_say(tui, true, err_message(&why, code));
    }
    free(owned);
}

static void
help(struct tui *tui)
{
    struct bytes text = {0};
    char line[160];
    enum err code = ERR_OK;
    for (unsigned i = 0; i < TUI_COMMAND_NUMBER_OF && code == ERR_OK; i++) {
        const struct tui_command_row *row = &tui_command_rows[i];
        const char *space = row->synopsis[0] != '\0' ? " " : "";
        (void)snprintf(line, sizeof line, "/%s%s%s - %s\n", row->name, space, row->synopsis, row->summary);
        code = bytes_append(&text, bytes_view_of_text(line));
    }
    if (code == ERR_OK) {
        static const char keys[] =
            "Tab completes, PgUp and PgDn scroll, Ctrl-N and Ctrl-P or Alt-arrows change the room,"
            " Up and Down bring back what was typed, Ctrl-C leaves.";
        code = bytes_append(&text, bytes_view_of(keys, sizeof keys));
    }
    if (code == ERR_OK) {
        tui_note(tui, tui_shown_room(tui), TUI_STYLE_FAINT, (const char *)text.data);
    }
    bytes_free(&text);
}

static void
ask_of_room(struct tui *tui, enum tui_job_kind kind, struct bytes_view argument, struct bytes_view text)
{
    if (is_in_room(tui)) {
        ask_with_argument(tui, kind, argument, text);
    }
}

static void
run(struct tui *tui, const struct tui_command *command)
{
    struct bytes_view none = bytes_view_of(NULL, 0);
    switch (command->kind) {
    case TUI_CREATE:
        ask_with_argument(tui, TUI_JOB_CREATE, command->word, command->rest);
        return;
    case TUI_DELETE:
        send_message(tui, FC_MESSAGE_DELETE, none, command->seq, 0);
        return;
    case TUI_DM:
        ask_with_argument(tui, TUI_JOB_DM, command->word, none);
        return;
    case TUI_EDIT:
        send_message(tui, FC_MESSAGE_EDIT, command->rest, command->seq, 0);
        return;
    case TUI_FILE:
        move_file(tui, true, command->rest);
        return;
    case TUI_GET:
        move_file(tui, false, command->rest);
        return;
    case TUI_HELP:
        help(tui);
        return;
    case TUI_INVITE:
        ask_of_room(tui, TUI_JOB_INVITE, command->word, none);
        return;
    case TUI_JOIN:
        join(tui, command->word);
        return;
    case TUI_LEAVE:
        ask_of_room(tui, TUI_JOB_LEAVE, none, none);
        return;
    case TUI_ME:
        send_message(tui, FC_MESSAGE_EMOTE, command->rest, 0, 0);
        return;
    case TUI_MEMBERS:
        ask_of_room(tui, TUI_JOB_MEMBERS, none, none);
        return;
    case TUI_QUIT:
        tui->is_done = true;
        return;
    case TUI_REACT:
        react(tui, command);
        return;
    case TUI_REPLY:
        send_message(tui, FC_MESSAGE_TEXT, command->rest, 0, command->seq);
        return;
    case TUI_SEARCH:
        ask_with_argument(tui, TUI_JOB_SEARCH, none, command->rest);
        return;
    case TUI_TOPIC:
        ask_of_room(tui, TUI_JOB_TOPIC, none, command->rest);
        return;
    case TUI_VERIFY:
        ask_with_argument(tui, TUI_JOB_VERIFY, command->word, none);
        return;
    case TUI_TEXT:
        send_message(tui, FC_MESSAGE_TEXT, command->rest, 0, 0);
        return;
    }
}

static struct bytes_view
trim(struct bytes_view text)
{
    while (text.size > 0 && (text.data[text.size - 1] == ' ' || text.data[text.size - 1] == '\n')) {
        text.size--;
    }
    return text;
}

void
tui_enter(struct tui *tui)
{
    struct tui_input *input = &tui_shown_room(tui)->draft;
    struct bytes_view line = trim(tui_input_view(input));
    struct err_detail why = {0};
    tui_say(tui, false, "");
    if (line.size == 0) {
        tui_shown_room(tui)->log.is_scrolled = false;
        tui_input_set(input, line);
        return;
    }
    // The command may change the room, and with it what is being typed.
    char *owned = copy(line);
    if (owned == NULL) {
        tui_say(tui, true, err_sentence(ERR_NO_MEMORY));
        return;
    }
    struct tui_command command;
    line = bytes_view_of_text(owned);
    enum err code = tui_command_parse(line, &command, &why);
    if (code == ERR_OK && command.kind == TUI_TEXT && !is_in_room(tui)) {
        free(owned);
        return;
    }
    if (code == ERR_OK) {
        tui_history_add(&tui->history, line);
        tui_input_set(input, bytes_view_of(NULL, 0));
        run(tui, &command);
    } else {
        tui_say(tui, true, err_message(&why, code)); // and the line stays, to be mended
    }
    free(owned);
}
