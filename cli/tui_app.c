#include "cli/tui_app.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "cli/tui_commands.h"

enum {
    TYPING_TELL_MS = 3000, // how often others are told that somebody writes
    WHEEL_ROWS = 3,
    LOG_KEPT = 1000, // entries of a room that is not shown; the others are in the local store
};

static const char lobby_topic[] = "you are in no room yet: /join ROOM, /create NAME, /dm USER, /help";

void
tui_init(struct tui *tui)
{
    *tui = (struct tui){.state_since_unix_ms = clock_unix_ms()};
    (void)snprintf(tui->lobby.name, sizeof tui->lobby.name, "fc");
}

void
tui_deinit(struct tui *tui)
{
    tui_rooms_free(&tui->rooms);
    tui_log_free(&tui->lobby.log);
    tui_input_free(&tui->lobby.draft);
    tui_history_free(&tui->history);
}

struct tui_room *
tui_shown_room(struct tui *tui)
{
    struct tui_room *room = tui_rooms_current(&tui->rooms);
    return room != NULL ? room : &tui->lobby;
}

// set_line takes text from outside for a line of the screen.
static void
set_line(char out[TUI_STATUS_BYTES], const char *text)
{
    struct bytes plain = {0};
    size_t size = 0;
    if (tui_append_plain(&plain, text, false) == ERR_OK) {
        size = plain.size < TUI_STATUS_BYTES ? plain.size : tui_fit(bytes_as_view(&plain), TUI_STATUS_BYTES / 4);
        size = size < TUI_STATUS_BYTES ? size : 0;
    }
    if (size > 0) {
        memcpy(out, plain.data, size);
    }
    out[size] = '\0';
    bytes_free(&plain);
}

void
tui_say(struct tui *tui, bool is_problem, const char *text)
{
    set_line(tui->status, text);
    tui->is_problem = is_problem;
}

void
tui_note(struct tui *tui, struct tui_room *room, enum tui_style style, const char *text)
{
    struct tui_entry *entry = NULL;
    enum err code = tui_entry_new_note(text, style, &entry);
    if (code == ERR_OK) {
        code = tui_log_put(&room->log, &entry);
    }
    if (code != ERR_OK) {
        tui_say(tui, true, err_sentence(code));
    }
}

bool
tui_ask(struct tui *tui, struct tui_job *job)
{
    enum err code = tui_work_add(tui->work, job);
    if (code != ERR_OK) {
        tui_say(tui, true, code == ERR_LIMIT ? "too much waits to be done; try later" : err_sentence(code));
    }
    return code == ERR_OK;
}

static void
ask_of_room(struct tui *tui, enum tui_job_kind kind, const struct tui_room *room, uint64_t seq)
{
    struct tui_job *job = tui_job_new(kind, room->name, room->id, NULL);
    if (job != NULL) {
        job->seq = seq;
    }
    (void)tui_ask(tui, job);
}

// load sees to it that the shown room has its messages and names.
static void
load(struct tui *tui)
{
    struct tui_room *room = tui_rooms_current(&tui->rooms);
    if (room == NULL || room->is_invited) {
        return;
    }
    if (!room->is_loaded) {
        room->is_loaded = true;
        ask_of_room(tui, TUI_JOB_NEWEST, room, 0);
    }
    if (!room->has_members && tui->state == TUI_STATE_CONNECTED) {
        room->has_members = true;
        ask_of_room(tui, TUI_JOB_MEMBERS, room, 1);
    }
}

void
tui_show(struct tui *tui, const struct tui_room *room)
{
    struct tui_room *before = tui_rooms_current(&tui->rooms);
    if (before != NULL && before != room) {
        tui_log_trim(&before->log, LOG_KEPT);
    }
    tui_rooms_select(&tui->rooms, room);
    load(tui);
}

// --- What the other threads tell ------------------------------------------------------------------------------------

// show_wanted opens the room that was named at the start.
static void
show_wanted(struct tui *tui)
{
    if (tui->wanted_room == NULL) {
        return;
    }
    const struct tui_room *room = tui_rooms_by_name(&tui->rooms, tui->wanted_room);
    if (room != NULL) {
        tui_show(tui, room);
    } else if (tui->state == TUI_STATE_CONNECTED) {
        bool is_direct = tui->wanted_room[0] == '@';
        struct tui_job *job = tui_job_new(is_direct ? TUI_JOB_DM : TUI_JOB_JOIN, NULL, NULL, "");
        if (job != NULL) {
            (void)snprintf(job->argument, sizeof job->argument, "%s", tui->wanted_room + (is_direct ? 1 : 0));
        }
        (void)tui_ask(tui, job);
    } else {
        return; // not known yet
    }
    tui->wanted_room = NULL;
}

static void
take_rooms(struct tui *tui, const struct tui_event *event)
{
    enum err code = tui_rooms_update(&tui->rooms, event->rooms, event->room_count);
    if (code != ERR_OK) {
        tui_say(tui, true, err_sentence(code));
    }
    for (size_t i = 0; i < tui->rooms.count; i++) {
        const char *name = tui->rooms.items[i]->name;
        if (name[0] == '@') {
            tui_names_add(&tui->rooms.names, name + 1);
        }
    }
    const char *topic = tui->state == TUI_STATE_CONNECTED ? lobby_topic : "";
    (void)snprintf(tui->lobby.topic, sizeof tui->lobby.topic, "%s", topic);
    show_wanted(tui);
    load(tui);
}

static void
put_entries(struct tui *tui, struct tui_room *room, struct tui_event *event)
{
    for (size_t i = 0; i < event->entry_count; i++) {
        struct tui_entry *entry = event->entries[i];
        event->entries[i] = NULL;
        tui_names_add(&tui->rooms.names, entry->sender);
        tui_room_typing_end(room, entry->sender);
        enum err code = tui_log_put(&room->log, &entry);
        if (code != ERR_OK) {
            tui_say(tui, true, err_sentence(code));
        }
    }
}

static void
take_newest(struct tui *tui, struct tui_room *room, struct tui_event *event)
{
    uint64_t last_seq = tui_log_last_seq(&room->log);
    if (last_seq != 0 && event->entry_count > 0 && event->entries[0]->seq > last_seq) {
        tui_log_forget(&room->log); // there may be some in between, which scrolling up brings
    }
    room->log.has_first = room->log.has_first || event->is_first;
    put_entries(tui, room, event);
}

static void
take_older(struct tui *tui, struct tui_room *room, struct tui_event *event)
{
    room->is_fetching = false;
    if (tui_log_first_seq(&room->log) == event->seq) { // else the log begins elsewhere by now
        room->log.has_first = event->is_first;
        put_entries(tui, room, event);
    }
}

static void
take_entries(struct tui *tui, struct tui_room *room, struct tui_event *event)
{
    if (room == NULL || !room->is_loaded) {
        return; // it is in the local store
    }
    if (event->kind == TUI_EVENT_NEWEST) {
        take_newest(tui, room, event);
    } else if (event->kind == TUI_EVENT_OLDER) {
        take_older(tui, room, event);
    } else if (event->entry_count > 0 && event->entries[0]->seq >= tui_log_first_seq(&room->log)) {
        put_entries(tui, room, event);
    }
}

static void
take_sent(struct tui *tui, const struct tui_event *event)
{
    struct tui_room *room = tui_rooms_by_id(&tui->rooms, event->room_id);
    if (room != NULL && event->token != 0) {
        tui_log_sent(&room->log, event->token, event->seq);
    }
    if (event->code != ERR_OK) {
        char line[TUI_STATUS_BYTES];
        (void)snprintf(line, sizeof line, "not sent: %s", event->text != NULL ? event->text : "");
        tui_say(tui, true, line);
        if (room != NULL) {
            tui_note(tui, room, TUI_STYLE_ERROR, line);
        }
    }
}

static void
take_state(struct tui *tui, const struct tui_event *event)
{
    if (tui->state != event->state) {
        tui->state = event->state;
        tui->state_since_unix_ms = clock_unix_ms();
    }
    set_line(tui->state_why, event->text != NULL ? event->text : "");
    if (tui->state == TUI_STATE_CONNECTED) {
        show_wanted(tui);
        load(tui);
    }
}

static void
take_typing(struct tui *tui, const struct tui_event *event)
{
    struct tui_room *room = event->text != NULL ? tui_rooms_by_name(&tui->rooms, event->text) : NULL;
    if (room != NULL) {
        tui_room_typing(room, event->user_name, clock_monotonic_ms());
    }
}

// take_status shows what has become of a command; what is longer than the line, in the log as well.
static void
take_status(struct tui *tui, enum err code, const char *text)
{
    tui_say(tui, code != ERR_OK, text);
    if (code != ERR_OK && tui_columns(bytes_view_of_text(tui->status)) > tui_screen_columns() / 2) {
        tui_note(tui, tui_shown_room(tui), TUI_STYLE_ERROR, text);
    }
}

void
tui_take_event(struct tui *tui, struct tui_event *event)
{
    struct tui_room *room = tui_rooms_by_id(&tui->rooms, event->room_id);
    const char *text = event->text != NULL ? event->text : "";
    switch (event->kind) {
    case TUI_EVENT_ROOMS:
        take_rooms(tui, event);
        return;
    case TUI_EVENT_MESSAGES:
    case TUI_EVENT_NEWEST:
    case TUI_EVENT_OLDER:
    case TUI_EVENT_CHANGED:
        take_entries(tui, room, event);
        return;
    case TUI_EVENT_SENT:
        take_sent(tui, event);
        return;
    case TUI_EVENT_WAITING:
        tui_say(tui, false, "it will be sent when the server is back");
        return;
    case TUI_EVENT_QUEUED:
        tui->queued_count = event->seq;
        return;
    case TUI_EVENT_STATE:
        take_state(tui, event);
        return;
    case TUI_EVENT_TYPING:
        take_typing(tui, event);
        return;
    case TUI_EVENT_SHOW:
        if (room != NULL) {
            tui_show(tui, room);
        }
        return;
    case TUI_EVENT_NOTE:
        tui_note(tui, room != NULL ? room : tui_shown_room(tui),
            event->code != ERR_OK ? TUI_STYLE_ERROR : TUI_STYLE_FAINT, text);
        return;
    case TUI_EVENT_STATUS:
        take_status(tui, event->code, text);
        return;
    case TUI_EVENT_PROGRESS:
        set_line(tui->progress, text);
        return;
    case TUI_EVENT_USER:
        tui_names_add(&tui->rooms.names, event->user_name);
        return;
    case TUI_EVENT_PUBLIC:
        tui_names_add(&tui->rooms.public_rooms, text);
        return;
    }
}

// --- Keys -----------------------------------------------------------------------------------------------------------

// nth_name gives the index-th of the names that begin with prefix, and counts *index down otherwise.
static const char *
nth_name(const struct tui_names *names, struct bytes_view prefix, size_t *index)
{
    for (size_t i = 0; i < names->count; i++) {
        if (strncmp(names->items[i], (const char *)prefix.data, prefix.size) == 0 && (*index)-- == 0) {
            return names->items[i];
        }
    }
    return NULL;
}

static const char *
nth_room(const struct tui *tui, struct bytes_view prefix, size_t *index)
{
    for (size_t i = 0; i < tui->rooms.count; i++) {
        const char *name = tui->rooms.items[i]->name;
        if (strncmp(name, (const char *)prefix.data, prefix.size) == 0 && (*index)-- == 0) {
            return name;
        }
    }
    return nth_name(&tui->rooms.public_rooms, prefix, index);
}

static const char *
nth_command(struct tui *tui, struct bytes_view prefix, size_t index)
{
    for (unsigned i = 0; i < TUI_COMMAND_NUMBER_OF; i++) {
        const char *name = tui_command_rows[i].name;
        if (strncmp(name, (const char *)prefix.data + 1, prefix.size - 1) == 0 && index-- == 0) {
            (void)snprintf(tui->completion, sizeof tui->completion, "/%s", name);
            return tui->completion;
        }
    }
    return NULL;
}

// complete finds what Tab may put: commands at the beginning, users after @, and what the command is about.
static const char *
complete(void *context, struct bytes_view line, struct bytes_view word, size_t index)
{
    struct tui *tui = context;
    if (line.size == 0 && word.data[0] == '/') {
        return nth_command(tui, word, index);
    }
    bool is_command = line.size > 0 && line.data[0] == '/';
    bool is_join = bytes_view_equal(line, bytes_view_of_text("/join "));
    bool is_user = word.data[0] == '@';
    if (is_command && (is_join || !is_user)) {
        const char *room = nth_room(tui, word, &index);
        if (room != NULL || is_join) {
            return room;
        }
    }
    if (!is_user && !is_command) {
        return NULL;
    }
    struct bytes_view prefix = is_user ? bytes_view_of(word.data + 1, word.size - 1) : word;
    const char *name = nth_name(&tui->rooms.names, prefix, &index);
    if (name != NULL) {
        (void)snprintf(tui->completion, sizeof tui->completion, "%s%s", is_user ? "@" : "", name);
        return tui->completion;
    }
    return NULL;
}

// tell_typing lets others know that somebody writes a message.
static void
tell_typing(struct tui *tui)
{
    const struct tui_room *room = tui_rooms_current(&tui->rooms);
    struct bytes_view text = room != NULL ? tui_input_view(&room->draft) : bytes_view_of(NULL, 0);
    uint64_t now_ms = clock_monotonic_ms();
    bool is_due = tui->typing_told_ms == 0 || now_ms - tui->typing_told_ms >= TYPING_TELL_MS;
    if (text.size > 0 && text.data[0] != '/' && is_due && tui->state == TUI_STATE_CONNECTED) {
        tui->typing_told_ms = now_ms;
        ask_of_room(tui, TUI_JOB_TYPING, room, 0);
    }
}

static void
scroll(struct tui *tui, long rows)
{
    struct tui_room *room = tui_shown_room(tui);
    size_t height = tui_screen_log_height();
    bool is_top = tui_log_scroll(&room->log, rows, height > 0 ? height : 1);
    if (rows > 0 && is_top && room != &tui->lobby && !room->log.has_first && !room->is_fetching) {
        room->is_fetching = true;
        ask_of_room(tui, TUI_JOB_OLDER, room, tui_log_first_seq(&room->log));
    }
}

static void
step_room(struct tui *tui, int step)
{
    struct tui_room *before = tui_rooms_current(&tui->rooms);
    tui_rooms_step(&tui->rooms, step);
    struct tui_room *now = tui_rooms_current(&tui->rooms);
    if (now != NULL && before != NULL) {
        tui_rooms_select(&tui->rooms, before);
        tui_show(tui, now);
    }
}

void
tui_take_key(struct tui *tui, const struct tui_key *key)
{
    struct tui_input *input = &tui_shown_room(tui)->draft;
    long page = (long)tui_screen_log_height() - 1;
    page = page > 0 ? page : 1;
    switch (key->kind) {
    case TUI_KEY_NONE:
    case TUI_KEY_OTHER:
        return;
    case TUI_KEY_CHAR:
        tui_input_put(input, key->code);
        tell_typing(tui);
        return;
    case TUI_KEY_ENTER:
        tui_enter(tui);
        return;
    case TUI_KEY_TAB:
        (void)tui_input_complete(input, complete, tui);
        return;
    case TUI_KEY_ESCAPE:
        tui_shown_room(tui)->log.is_scrolled = false;
        tui_say(tui, false, "");
        return;
    case TUI_KEY_UP:
    case TUI_KEY_DOWN:
        tui_history_step(&tui->history, key->kind == TUI_KEY_UP ? -1 : 1, input);
        return;
    case TUI_KEY_MOVE:
        tui_input_move(input, key->move);
        return;
    case TUI_KEY_ERASE:
        tui_input_erase(input, key->move);
        return;
    case TUI_KEY_PAGE_UP:
    case TUI_KEY_PAGE_DOWN:
        scroll(tui, key->kind == TUI_KEY_PAGE_UP ? page : -page);
        return;
    case TUI_KEY_WHEEL_UP:
    case TUI_KEY_WHEEL_DOWN:
        scroll(tui, key->kind == TUI_KEY_WHEEL_UP ? WHEEL_ROWS : -WHEEL_ROWS);
        return;
    case TUI_KEY_NEXT_ROOM:
    case TUI_KEY_PREVIOUS_ROOM:
        step_room(tui, key->kind == TUI_KEY_NEXT_ROOM ? 1 : -1);
        return;
    case TUI_KEY_ROOM:
        if (key->room < tui->rooms.count) {
            tui_show(tui, tui->rooms.items[key->room]);
        }
        return;
    case TUI_KEY_REPAINT:
        tui_screen_repaint();
        return;
    case TUI_KEY_END_OF_INPUT:
        tui->is_done = tui_input_view(input).size == 0;
        return;
    }
}

// --- The screen -----------------------------------------------------------------------------------------------------

// count_waiting counts what is not on the server yet: what is shown as pending, or more that waits from before.
static uint64_t
count_waiting(const struct tui *tui)
{
    uint64_t count = 0;
    for (size_t i = 0; i < tui->rooms.count; i++) {
        const struct tui_log *log = &tui->rooms.items[i]->log;
        for (size_t j = log->count; j > 0 && log->entries[j - 1]->kind == TUI_ENTRY_PENDING; j--) {
            count++;
        }
    }
    return count > tui->queued_count ? count : tui->queued_count;
}

// describe_connection writes what is always to be seen. size is enough for a name and a time.
static void
describe_connection(const struct tui *tui, char *out, size_t size)
{
    char since[16] = "";
    time_t seconds = (time_t)(tui->state_since_unix_ms / 1000);
    struct tm parts;
    if (localtime_r(&seconds, &parts) != NULL) {
        (void)strftime(since, sizeof since, "%H:%M:%S", &parts);
    }
    uint64_t count = count_waiting(tui);
    char waiting[40] = "";
    // While connected, what was just typed is on its way.
    if (count > 0 && (tui->state != TUI_STATE_CONNECTED || tui->queued_count > 0)) {
        (void)snprintf(waiting, sizeof waiting, ", %" PRIu64 " to be sent", count);
    }
    switch (tui->state) {
    case TUI_STATE_CONNECTING:
        (void)snprintf(out, size, "%s: connecting%s", tui->own_name, waiting);
        return;
    case TUI_STATE_CONNECTED:
        (void)snprintf(out, size, "%s: connected%s", tui->own_name, waiting);
        return;
    case TUI_STATE_RECONNECTING:
        (void)snprintf(out, size, "%s: reconnecting since %s%s", tui->own_name, since, waiting);
        return;
    case TUI_STATE_ENDED:
        (void)snprintf(out, size, "%s: not connected%s: %s", tui->own_name, waiting, tui->state_why);
        return;
    }
}

// mark_read tells the server what was seen.
static void
mark_read(struct tui *tui, struct tui_room *room, uint64_t seq)
{
    if (room != &tui->lobby && !room->is_invited && seq > room->read_seq) {
        room->read_seq = seq;
        ask_of_room(tui, TUI_JOB_READ, room, seq);
    }
}

enum err
tui_draw(struct tui *tui, uint64_t *next_ms_out)
{
    struct tui_room *room = tui_shown_room(tui);
    char typing[TUI_STATUS_BYTES];
    char connection[2 * TUI_STATUS_BYTES];
    uint64_t last_seq = 0;
    *next_ms_out = tui_room_typing_text(room, clock_monotonic_ms(), typing, sizeof typing);
    if (room->log.is_scrolled) {
        (void)snprintf(typing, sizeof typing, "(older messages; Esc shows the newest)");
    }
    describe_connection(tui, connection, sizeof connection);
    struct tui_view view = {
        .rooms = &tui->rooms,
        .room = room,
        .input = &room->draft,
        .typing = typing,
        .connection = connection,
        .is_connected = tui->state == TUI_STATE_CONNECTED,
        .status = tui->progress[0] != '\0' ? tui->progress : tui->status,
        .is_problem = tui->progress[0] == '\0' && tui->is_problem,
    };
    enum err code = tui_screen_draw(&view, &last_seq);
    if (code == ERR_OK) {
        mark_read(tui, room, last_seq);
    }
    return code;
}
