// How a message of a room is printed, and a file described.
#ifndef CLI_CLI_MESSAGE_H
#define CLI_CLI_MESSAGE_H

#include <stdbool.h>

#include "cli/cli_options.h"
#include "cli/cli_output.h"
#include "client/fc_file.h"
#include "client/fc_room.h"

struct cli_message_style {
    bool is_json;
    bool has_colours;
    bool has_number;
    bool has_room;
};

// cli_message_style_from reads --json and --number, and colours what goes to a terminal unless NO_COLOR forbids it.
struct cli_message_style cli_message_style_from(const struct cli_options *options);

// cli_message_print writes one message at once: a line, with further ones indented, or an object on a line.
enum err cli_message_print(const struct fc_message *message, const struct cli_message_style *style,
    struct err_detail *why) ERR_CHECKED;

// cli_message_add appends the same to a text.
void cli_message_add(struct cli_text *text, const struct fc_message *message, const struct cli_message_style *style);

// cli_file_print_json writes one file as an object on a line.
enum err cli_file_print_json(const struct fc_file *file, struct err_detail *why) ERR_CHECKED;

// cli_file_print_md5 writes the line that md5sum prints for a file of this name.
enum err cli_file_print_md5(const struct fc_file *file, const char *name, struct err_detail *why) ERR_CHECKED;

#endif
