// What fc chat asks of the local store and the server, on the thread of tui_work.c.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/tui_work_priv.h"
#include "client/fc_identity.h"

enum {
    LINE_BYTES = 1024,
};

// gathering is an event that messages are added to.
struct gathering {
    struct tui_work *work;
    struct tui_event *event;
    enum err code;
};

static bool
gather(void *context, const struct fc_message *message)
{
    struct gathering *gathering = context;
    struct tui_entry *entry = NULL;
    gathering->code = tui_entry_new(message, gathering->work->own_name, &entry);
    if (gathering->code == ERR_OK) {
        gathering->code = tui_event_add_entry(gathering->event, &entry);
    }
    return gathering->code == ERR_OK;
}

static enum err
post_history(struct tui_work *work, const struct tui_job *job, enum tui_event_kind kind,
    const struct fc_chat_range *range, struct err_detail *why)
{
    struct gathering gathering = {.work = work, .event = tui_event_new(kind, job->room_id, NULL)};
    if (gathering.event == NULL) {
        return ERR_NO_MEMORY;
    }
    enum err code = fc_chat_history(work->chat, job->room, range, gather, &gathering, why);
    code = code == ERR_OK ? gathering.code : code;
    if (code != ERR_OK) {
        tui_event_free(&gathering.event);
        return code;
    }
    gathering.event->is_first = gathering.event->entry_count < range->limit;
    gathering.event->seq = job->seq;
    tui_work_post(work, gathering.event);
    return ERR_OK;
}

static enum err
send(struct tui_work *work, const struct tui_job *job, struct err_detail *why)
{
    struct fc_chat_draft draft = {
        .type = job->type,
        .text = bytes_view_of_text(job->text),
        .target_seq = job->type == FC_MESSAGE_TEXT || job->type == FC_MESSAGE_EMOTE ? 0 : job->seq,
        .reply_to_seq = job->reply_to_seq,
    };
    struct fc_sent sent = {0};
    enum err code = fc_chat_send(work->chat, job->room, &draft, &sent, why);
    bool is_queued = code == ERR_QUEUED;
    struct tui_event *event = tui_event_new(is_queued ? TUI_EVENT_WAITING : TUI_EVENT_SENT, job->room_id,
        code == ERR_OK || is_queued ? NULL : err_message(why, code));
    if (event != NULL) {
        event->token = job->token;
        event->seq = sent.seq;
        event->code = is_queued ? ERR_OK : code;
    }
    tui_work_post(work, event);
    if (is_queued || work->is_waiting) {
        tui_work_post_queued(work); // what went before it may have gone, too
    }
    return ERR_OK;
}

static enum err
show(struct tui_work *work, const struct fc_room *room, struct err_detail *why)
{
    enum err code = tui_work_post_rooms(work, why);
    tui_work_post(work, tui_event_new(TUI_EVENT_SHOW, room->id, NULL));
    return code == ERR_OK ? tui_work_connect(work, why) : code;
}

static enum err
create(struct tui_work *work, const struct tui_job *job, struct err_detail *why)
{
    struct fc_room room = {0};
    struct fc_chat_new_room wanted = {
        .name = job->argument,
        .is_public = strcmp(job->text, "public") == 0,
        .is_plain = job->text[0] != '\0',
    };
    if (wanted.is_plain && !wanted.is_public && strcmp(job->text, "plain") != 0) {
        return err_fail(why, ERR_INVALID, "usage: /create NAME [plain|public]");
    }
    enum err code = fc_chat_create(work->chat, &wanted, &room, why);
    return code == ERR_OK ? show(work, &room, why) : code;
}

static enum err
join(struct tui_work *work, const struct tui_job *job, struct err_detail *why)
{
    struct fc_room room = {0};
    bool is_link = strncmp(job->argument, "fc://", 5) == 0;
    enum err code = job->kind == TUI_JOB_DM ? fc_chat_direct(work->chat, job->argument, &room, why)
                    : is_link               ? fc_chat_link_join(work->chat, job->argument, &room, why)
                                            : fc_chat_join(work->chat, job->argument, &room, why);
    return code == ERR_OK ? show(work, &room, why) : code;
}

static enum err
amend(struct tui_work *work, const struct tui_job *job, struct err_detail *why)
{
    const char *name = job->argument;
    struct fc_chat_amendment amendment = {0};
    if (job->kind == TUI_JOB_INVITE) {
        amendment.invite = &name;
        amendment.invite_count = 1;
    } else {
        amendment.topic = job->text;
    }
    enum err code = fc_chat_amend(work->chat, job->room, &amendment, why);
    if (code == ERR_OK) {
        tui_work_post_status(work, ERR_OK, job->kind == TUI_JOB_INVITE ? "invited" : "the topic is set");
        code = tui_work_refresh(work, why);
    }
    return code;
}

// text_list puts lines together. The first failure stays.
struct text_list {
    struct tui_work *work;
    struct bytes bytes;
    enum err code;
};

static void
add_line(struct text_list *list, const char *line)
{
    if (list->code == ERR_OK && list->bytes.size > 0) {
        list->code = bytes_append(&list->bytes, bytes_view_of_text("\n"));
    }
    if (list->code == ERR_OK) {
        list->code = bytes_append(&list->bytes, bytes_view_of_text(line));
    }
}

static enum err
post_list(struct tui_work *work, const struct tui_job *job, struct text_list *list, const char *if_empty)
{
    if (list->bytes.size == 0) {
        add_line(list, if_empty);
    }
    if (list->code == ERR_OK) {
        list->code = bytes_append(&list->bytes, bytes_view_of("", 1));
    }
    if (list->code == ERR_OK) {
        tui_work_post(work, tui_event_new(TUI_EVENT_NOTE, job->room_id, (const char *)list->bytes.data));
    }
    bytes_free(&list->bytes);
    return list->code;
}

static bool
take_member(void *context, const struct fc_chat_member *member)
{
    static const char *const roles[] = {"", "member", "admin", "owner"};
    struct text_list *list = context;
    char line[LINE_BYTES];
    bool has_role = member->role > FC_ROLE_NONE && member->role <= FC_ROLE_OWNER;
    (void)snprintf(line, sizeof line, "  %s  %s", member->user_name,
        member->is_invited ? "invited" : roles[has_role ? member->role : 0]);
    add_line(list, line);
    struct tui_event *event = tui_event_new(TUI_EVENT_USER, NULL, NULL);
    if (event != NULL) {
        (void)snprintf(event->user_name, sizeof event->user_name, "%s", member->user_name);
    }
    tui_work_post(list->work, event);
    return list->code == ERR_OK;
}

static enum err
members(struct tui_work *work, const struct tui_job *job, struct err_detail *why)
{
    struct text_list list = {.work = work};
    add_line(&list, "In this room:");
    enum err code = fc_chat_each_member(work->chat, job->room, take_member, &list, why);
    if (code != ERR_OK || job->seq != 0) { // for their names only
        bytes_free(&list.bytes);
        return code;
    }
    return post_list(work, job, &list, "");
}

static bool
take_found(void *context, const struct fc_message *message)
{
    struct text_list *list = context;
    char line[LINE_BYTES];
    size_t size = strcspn(message->text, "\n");
    (void)snprintf(line, sizeof line, "  %s #%" PRIu64 " %s: %.*s", message->room, message->seq, message->sender,
        (int)(size < LINE_BYTES / 2 ? size : LINE_BYTES / 2), message->text);
    add_line(list, line);
    return list->code == ERR_OK;
}

static enum err
search(struct tui_work *work, const struct tui_job *job, struct err_detail *why)
{
    struct text_list list = {.work = work};
    enum err code = fc_chat_search(work->chat, NULL, job->text, TUI_WORK_FOUND_MAX, take_found, &list, why);
    if (code != ERR_OK) {
        bytes_free(&list.bytes);
        return code;
    }
    return post_list(work, job, &list, "nothing found");
}

// describe_contact says what to do with a safety number.
static const char *
describe_contact(const struct fc_contact *contact)
{
    return contact->is_changed    ? "The keys are others than those that you verified."
           : contact->is_verified ? "Verified."
                                  : "Not verified yet: compare it with what they see; fc verify keeps the result.";
}

static enum err
verify(struct tui_work *work, const struct tui_job *job, struct err_detail *why)
{
    struct text_list list = {.work = work};
    struct fc_identity *identity = NULL;
    struct fc_contact contact;
    char number[FC_SAFETY_NUMBER_BYTES];
    char line[LINE_BYTES];
    enum err code = fc_identity_open(work->session, NULL, &identity, why);
    if (code == ERR_OK) {
        code = fc_identity_safety_number(identity, job->argument, number, &contact, why);
    }
    fc_identity_close(&identity);
    if (code != ERR_OK) {
        return code;
    }
    (void)snprintf(line, sizeof line, "The safety number of you and %s:", job->argument);
    add_line(&list, line);
    (void)snprintf(line, sizeof line, "%.35s\n%s", number, number + 36); // six groups a line
    add_line(&list, line);
    add_line(&list, describe_contact(&contact));
    return post_list(work, job, &list, "");
}

static enum err
leave(struct tui_work *work, const struct tui_job *job, struct err_detail *why)
{
    enum err code = fc_chat_leave(work->chat, job->room, why);
    if (code == ERR_OK) {
        tui_work_post_status(work, ERR_OK, "left the room");
        code = tui_work_connect(work, why);
    }
    return code;
}

static enum err
run(struct tui_work *work, const struct tui_job *job, struct err_detail *why)
{
    struct fc_chat_range range = {.limit = TUI_WORK_NEWEST_COUNT};
    switch (job->kind) {
    case TUI_JOB_ROOMS:
        return tui_work_post_rooms(work, why);
    case TUI_JOB_NEWEST:
        return post_history(work, job, TUI_EVENT_NEWEST, &range, why);
    case TUI_JOB_OLDER:
        range.before_seq = job->seq;
        range.limit = TUI_WORK_OLDER_COUNT;
        return post_history(work, job, TUI_EVENT_OLDER, &range, why);
    case TUI_JOB_ONE:
        range.has_after = true;
        range.after_seq = job->seq > 0 ? job->seq - 1 : 0;
        range.limit = 1;
        return post_history(work, job, TUI_EVENT_CHANGED, &range, why);
    case TUI_JOB_SEARCH:
        return search(work, job, why);
    case TUI_JOB_SEND:
        return send(work, job, why);
    case TUI_JOB_READ:
        return fc_chat_mark_read(work->chat, job->room, job->seq, why) == ERR_OK ? tui_work_post_rooms(work, why)
                                                                                 : ERR_OK;
    case TUI_JOB_TYPING: {
        enum err ignored = atomic_load(&work->is_away) ? ERR_OK : fc_chat_typing(work->chat, job->room, NULL);
        (void)ignored;
        return ERR_OK;
    }
    case TUI_JOB_JOIN:
    case TUI_JOB_DM:
        return join(work, job, why);
    case TUI_JOB_LEAVE:
        return leave(work, job, why);
    case TUI_JOB_CREATE:
        return create(work, job, why);
    case TUI_JOB_INVITE:
    case TUI_JOB_TOPIC:
        return amend(work, job, why);
    case TUI_JOB_MEMBERS:
        return members(work, job, why);
    case TUI_JOB_VERIFY:
        return verify(work, job, why);
    case TUI_JOB_CONNECT:
        tui_work_connect_soon(work);
        return ERR_OK;
    case TUI_JOB_REFRESH:
        return tui_work_refresh(work, why);
    case TUI_JOB_FLUSH:
        return tui_work_flush(work, why);
    }
    return ERR_OK;
}

void
tui_job_run(struct tui_work *work, const struct tui_job *job)
{
    struct err_detail why = {0};
    enum err code = run(work, job, &why);
    if (code != ERR_OK) {
        tui_work_post_status(work, code, err_message(&why, code));
    }
    if (code != ERR_OK && job->kind == TUI_JOB_OLDER) {
        tui_work_post(work, tui_event_new(TUI_EVENT_OLDER, job->room_id, NULL)); // it may be asked for again
    }
}
