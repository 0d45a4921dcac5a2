// How a message of a room is printed, and a file described.
#ifndef CLI_CLI_MESSAGE_H
#define CLI_CLI_MESSAGE_H

#include <stdbool.h>

#include "cli/cli_output.h"
#include "client/fc_file.h"
#include "client/fc_room.h"

// cli_message_print writes one message at once: a line, or with is_json an object on a line.
enum err cli_message_print(const struct fc_message *message, bool is_json, struct err_detail *why) ERR_CHECKED;

// cli_file_print_json writes one file as an object on a line.
enum err cli_file_print_json(const struct fc_file *file, struct err_detail *why) ERR_CHECKED;

// cli_file_print_md5 writes the line that md5sum prints for a file of this name.
enum err cli_file_print_md5(const struct fc_file *file, const char *name, struct err_detail *why) ERR_CHECKED;

#endif
