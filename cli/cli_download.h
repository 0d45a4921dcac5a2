// The parts of fc download.
#ifndef CLI_CLI_DOWNLOAD_H
#define CLI_CLI_DOWNLOAD_H

#include "cli/cli_command.h"
#include "client/fc_file.h"

// cli_download_folder fetches all files below a name.
enum err cli_download_folder(struct cli *cli, const char *name, struct fc_rate *rate,
    struct err_detail *why) ERR_CHECKED;

#endif
