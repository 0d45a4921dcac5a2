// The parts of fc upload.
#ifndef CLI_CLI_UPLOAD_H
#define CLI_CLI_UPLOAD_H

#include "cli/cli_command.h"
#include "client/fc_file.h"

// cli_upload_folder sends a folder with all that is in it.
enum err cli_upload_folder(struct cli *cli, const char *folder, struct fc_rate *rate,
    struct err_detail *why) ERR_CHECKED;

// cli_upload_send sends one file, with progress, and tells of it.
enum err cli_upload_send(struct cli *cli, const struct fc_upload *what, struct fc_rate *rate,
    struct err_detail *why) ERR_CHECKED;

// cli_upload_resume is fc upload --resume, with the command's arguments.
enum err cli_upload_resume(struct cli *cli, struct fc_rate *rate, struct err_detail *why) ERR_CHECKED;

// cli_upload_print tells of a file that was sent, cli_upload_print_plan of one that would be.
enum err cli_upload_print(const struct cli *cli, const struct fc_file *file, struct err_detail *why) ERR_CHECKED;
enum err cli_upload_print_plan(const struct cli *cli, const char *name, uint64_t size_bytes,
    struct err_detail *why) ERR_CHECKED;

#endif
