#include "cli/cli_message.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base64.h"

static const char *
type_name(enum fc_message_type type)
{
    static const char *const names[] = {
        [FC_MESSAGE_TEXT] = "text",
        [FC_MESSAGE_EMOTE] = "emote",
        [FC_MESSAGE_EDIT] = "edit",
        [FC_MESSAGE_DELETE] = "delete",
        [FC_MESSAGE_REACTION] = "reaction",
        [FC_MESSAGE_UNREACTION] = "unreaction",
    };
    // A server of a later day may know others.
    return (size_t)type < sizeof names / sizeof names[0] ? names[type] : "unknown";
}

static void
add_json_lists(struct cli_text *text, const struct fc_message *message)
{
    if (message->mention_count > 0) {
        cli_json_open_list(text, "mentions");
        for (size_t i = 0; i < message->mention_count; i++) {
            cli_json_text(text, NULL, message->mentions[i]);
        }
        cli_json_close_list(text);
    }
    if (message->reaction_count > 0) {
        cli_json_open_list(text, "reactions");
        for (size_t i = 0; i < message->reaction_count; i++) {
            cli_json_open(text, NULL);
            cli_json_text(text, "emoji", message->reactions[i].emoji);
            cli_json_text(text, "user", message->reactions[i].user_name);
            cli_json_close(text);
        }
        cli_json_close_list(text);
    }
}

// What a message has beside a text is left out where it has not.
static void
add_preview(struct cli_text *text, struct bytes_view preview)
{
    struct bytes base64 = {0};

    // One that there is no memory for is left out.
    if (base64_append(&base64, preview) == ERR_OK && bytes_append(&base64, bytes_view_of("", 1)) == ERR_OK) {
        cli_json_text(text, "preview", (const char *)base64.data);
    }
    bytes_free(&base64);
}

static void
add_json(struct cli_text *text, const struct fc_message *message)
{
    cli_json_open(text, NULL);
    cli_json_text(text, "room", message->room);
    cli_json_u64(text, "seq", message->seq);
    cli_json_text(text, "sender", message->sender);
    cli_json_text(text, "text", message->text);
    cli_json_time(text, "sent_at", message->sent_unix_ms);
    cli_json_hex(text, "id", message->id, 16);
    cli_json_text(text, "type", type_name(message->type));
    if (message->has_file) {
        cli_json_open(text, "file");
        cli_json_hex(text, "id", message->file_id, 16);
        cli_json_text(text, "name", message->file_name);
        cli_json_u64(text, "size", message->file_size_bytes);
        cli_json_hex(text, "md5", message->file_md5, 16);
        if (message->file_mime_type[0] != '\0') {
            cli_json_text(text, "mime_type", message->file_mime_type);
        }
        if (message->file_width_px > 0) {
            cli_json_u64(text, "width", message->file_width_px);
            cli_json_u64(text, "height", message->file_height_px);
        }
        if (message->file_preview.size > 0) {
            add_preview(text, message->file_preview);
        }
        cli_json_close(text);
    }
    if (message->target_seq > 0) {
        cli_json_u64(text, "target_seq", message->target_seq);
    }
    if (message->reply_to_seq > 0) {
        cli_json_u64(text, "reply_to_seq", message->reply_to_seq);
    }
    if (message->topic != NULL && message->topic[0] != '\0') {
        cli_json_text(text, "topic", message->topic);
    }
    add_json_lists(text, message);
    if (message->edited_unix_ms != 0) {
        cli_json_time(text, "edited_at", message->edited_unix_ms);
    }
    if (message->is_deleted) {
        cli_json_bool(text, "deleted", true);
    }
    if (message->is_encrypted) {
        cli_json_bool(text, "encrypted", true);
    }
    if (message->unreadable != NULL) {
        cli_json_text(text, "unreadable", message->unreadable);
    }
    cli_json_close_line(text);
}

// add_text_lines indents what follows a line break, so that no text can pretend to be a message of somebody else's.
static void
add_text_lines(struct cli_text *text, const char *lines)
{
    const char *end;
    while ((end = strchr(lines, '\n')) != NULL) {
        char *line = strndup(lines, (size_t)(end - lines));
        if (line == NULL) {
            text->code = ERR_NO_MEMORY;
            return;
        }
        cli_text_add_printable(text, line);
        free(line);
        cli_text_add(text, "\n    ");
        lines = end + 1;
    }
    cli_text_add_printable(text, lines);
}

enum look {
    LOOK_DIM,
    LOOK_ITALIC,
    LOOK_SENDER, // one of several, the same for the same name
};

static void
add_look(struct cli_text *text, const struct cli_message_style *style, enum look look, const char *name)
{
    // Readable on a light and on a dark background.
    static const int colours[] = {31, 32, 33, 34, 35, 36};
    unsigned sum = 0;
    if (!style->has_colours) {
        return;
    }
    switch (look) {
    case LOOK_DIM:
        cli_text_add(text, "\033[2m");
        return;
    case LOOK_ITALIC:
        cli_text_add(text, "\033[3m");
        return;
    case LOOK_SENDER:
        for (; *name != '\0'; name++) {
            sum = sum * 31 + (unsigned char)*name;
        }
        cli_text_add(text, "\033[%dm", colours[sum % (sizeof colours / sizeof colours[0])]);
        return;
    }
}

static void
end_look(struct cli_text *text, const struct cli_message_style *style)
{
    if (style->has_colours) {
        cli_text_add(text, "\033[0m");
    }
}

static void
add_file(struct cli_text *text, const struct fc_message *message)
{
    bool is_picture = strncmp(message->file_mime_type, "image/", strlen("image/")) == 0;
    cli_text_add(text, "%s[%s ", message->text[0] != '\0' ? " " : "", is_picture ? "picture" : "file");
    cli_text_add_printable(text, message->room);
    cli_text_add(text, "/");
    cli_text_add_printable(text, message->file_name);
    if (message->file_width_px > 0) {
        cli_text_add(text, ", %" PRIu32 "x%" PRIu32, message->file_width_px, message->file_height_px);
    }
    cli_text_add(text, ", %" PRIu64 " bytes]", message->file_size_bytes);
}

// add_words writes what the sender says or does. It stands after the name, which has no space or colon in it, so that
// nothing in it can pretend to be by somebody else.
static void
add_words(struct cli_text *text, const struct cli_message_style *style, const struct fc_message *message)
{
    bool is_unreadable = message->unreadable != NULL;
    switch (message->type) {
    case FC_MESSAGE_EDIT:
        cli_text_add(text, " edited #%" PRIu64 ": ", message->target_seq);
        break;
    case FC_MESSAGE_DELETE:
        cli_text_add(text, " deleted #%" PRIu64, message->target_seq);
        return;
    case FC_MESSAGE_REACTION:
        cli_text_add(text, " reacted to #%" PRIu64 " with ", message->target_seq);
        break;
    case FC_MESSAGE_UNREACTION:
        cli_text_add(text, " took back from #%" PRIu64 " ", message->target_seq);
        break;
    case FC_MESSAGE_EMOTE:
        cli_text_add(text, " ");
        add_look(text, style, LOOK_ITALIC, NULL);
        break;
    case FC_MESSAGE_TEXT:
    default:
        if (message->reply_to_seq > 0) {
            cli_text_add(text, " > #%" PRIu64, message->reply_to_seq);
        }
        cli_text_add(text, ": ");
        break;
    }
    if (is_unreadable || message->is_deleted) {
        add_look(text, style, LOOK_DIM, NULL);
        cli_text_add(text, "%s", is_unreadable ? "[cannot be read: " : "[deleted");
        cli_text_add_printable(text, is_unreadable ? message->unreadable : "");
        cli_text_add(text, "]");
        end_look(text, style);
        return;
    }
    add_text_lines(text, message->text);
    if (message->type == FC_MESSAGE_EMOTE) {
        end_look(text, style);
    }
    if (message->has_file) {
        add_file(text, message);
    }
}

// add_reactions writes a line for those to one message, equal ones together.
static void
add_reactions(struct cli_text *text, const struct fc_message *message)
{
    const char *emoji = NULL;
    for (size_t i = 0; i < message->reaction_count; i++) {
        const struct fc_reaction *reaction = &message->reactions[i];
        bool is_same = emoji != NULL && strcmp(emoji, reaction->emoji) == 0;
        cli_text_add(text, "%s", is_same ? ", " : (emoji == NULL ? "\n      [" : "] ["));
        if (!is_same) {
            cli_text_add_printable(text, reaction->emoji);
            cli_text_add(text, " ");
        }
        cli_text_add_printable(text, reaction->user_name);
        emoji = reaction->emoji;
    }
    cli_text_add(text, "%s", emoji != NULL ? "]" : "");
}

static void
add_line(struct cli_text *text, const struct cli_message_style *style, const struct fc_message *message)
{
    add_look(text, style, LOOK_DIM, NULL);
    cli_text_add_local_time(text, message->sent_unix_ms);
    end_look(text, style);
    cli_text_add(text, "  ");
    if (style->has_room) {
        cli_text_add_printable(text, message->room);
        cli_text_add(text, " ");
    }
    if (style->has_number) {
        cli_text_add(text, "#%" PRIu64 " ", message->seq);
    }
    cli_text_add(text, "%s", message->type == FC_MESSAGE_EMOTE ? "* " : "");
    add_look(text, style, LOOK_SENDER, message->sender);
    cli_text_add_printable(text, message->sender);
    end_look(text, style);
    if (message->topic != NULL && message->topic[0] != '\0') {
        cli_text_add(text, " [");
        cli_text_add_printable(text, message->topic);
        cli_text_add(text, "]");
    }
    add_words(text, style, message);
    if (message->edited_unix_ms != 0 && !message->is_deleted) {
        cli_text_add(text, " (edited)");
    }
    add_reactions(text, message);
    cli_text_add(text, "\n");
}

struct cli_message_style
cli_message_style_from(const struct cli_options *options)
{
    const char *no_color = getenv("NO_COLOR");
    const char *term = getenv("TERM");
    bool is_json = cli_options_has(options, CLI_OPTION_JSON);
    return (struct cli_message_style){
        .is_json = is_json,
        .has_number = cli_options_has(options, CLI_OPTION_NUMBER),
        .has_colours = !is_json && isatty(STDOUT_FILENO) == 1 && (no_color == NULL || no_color[0] == '\0') &&
                       term != NULL && strcmp(term, "dumb") != 0,
    };
}

void
cli_message_add(struct cli_text *text, const struct fc_message *message, const struct cli_message_style *style)
{
    if (style->is_json) {
        add_json(text, message);
    } else {
        add_line(text, style, message);
    }
}

enum err
cli_message_print(const struct fc_message *message, const struct cli_message_style *style, struct err_detail *why)
{
    struct cli_text text = {0};
    cli_message_add(&text, message, style);
    return cli_text_print(&text, why);
}

enum err
cli_file_print_json(const struct fc_file *file, struct err_detail *why)
{
    struct cli_text text = {0};
    cli_json_open(&text, NULL);
    cli_json_hex(&text, "id", file->id, sizeof file->id);
    cli_json_text(&text, "name", file->name);
    cli_json_u64(&text, "size", file->size_bytes);
    cli_json_hex(&text, "md5", file->md5, sizeof file->md5);
    cli_json_hex(&text, "sha256", file->sha256, sizeof file->sha256);
    cli_json_u64(&text, "chunk_size", file->chunk_size_bytes);
    cli_json_text(&text, "owner", file->owner);
    if (file->room[0] != '\0') {
        cli_json_text(&text, "room", file->room);
    }
    cli_json_time(&text, "created_at", file->created_unix_ms);
    if (file->mime_type[0] != '\0') {
        cli_json_text(&text, "mime_type", file->mime_type);
    }
    if (file->modified_unix_ms != 0) {
        cli_json_time(&text, "modified_at", file->modified_unix_ms);
    }
    if (file->mode != 0) {
        char mode[16];
        (void)snprintf(mode, sizeof mode, "%04o", (unsigned)file->mode);
        cli_json_text(&text, "mode", mode);
    }
    if (file->version != 0) {
        cli_json_u64(&text, "version", file->version);
    }
    if (file->deleted_unix_ms != 0) {
        cli_json_time(&text, "deleted_at", file->deleted_unix_ms);
    }
    if (file->expires_unix_ms != 0) {
        cli_json_time(&text, "expires_at", file->expires_unix_ms);
    }
    cli_json_close_line(&text);
    return cli_text_print(&text, why);
}

enum err
cli_file_print_md5(const struct fc_file *file, const char *name, struct err_detail *why)
{
    struct cli_text text = {0};
    cli_text_add_hex(&text, file->md5, sizeof file->md5);
    cli_text_add(&text, "  ");
    cli_text_add_printable(&text, name);
    cli_text_add(&text, "\n");
    return cli_text_print(&text, why);
}
