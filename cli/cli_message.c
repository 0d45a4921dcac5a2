#include "cli/cli_message.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

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
    if (message->has_file) {
        cli_json_open(text, "file");
        cli_json_hex(text, "id", message->file_id, 16);
        cli_json_text(text, "name", message->file_name);
        cli_json_u64(text, "size", message->file_size_bytes);
        cli_json_hex(text, "md5", message->file_md5, 16);
        cli_json_close(text);
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

static void
add_line(struct cli_text *text, const struct fc_message *message)
{
    cli_text_add_local_time(text, message->sent_unix_ms);
    cli_text_add(text, "  ");
    cli_text_add_printable(text, message->sender);
    cli_text_add(text, ": ");
    add_text_lines(text, message->text);
    if (message->has_file) {
        cli_text_add(text, "%s[file ", message->text[0] != '\0' ? " " : "");
        cli_text_add_printable(text, message->room);
        cli_text_add(text, "/");
        cli_text_add_printable(text, message->file_name);
        cli_text_add(text, ", %" PRIu64 " bytes]", message->file_size_bytes);
    }
    cli_text_add(text, "\n");
}

enum err
cli_message_print(const struct fc_message *message, bool is_json, struct err_detail *why)
{
    struct cli_text text = {0};
    if (is_json) {
        add_json(&text, message);
    } else {
        add_line(&text, message);
    }
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
