// The parts of fc download.
#ifndef CLI_CLI_DOWNLOAD_H
#define CLI_CLI_DOWNLOAD_H

#include "cli/cli_command.h"
#include "cli/cli_list.h"
#include "cli/cli_progress.h"
#include "client/fc_file.h"

// cli_download_options sets a transfer up as the options of fc download say. The transfer borrows from `from`, which
// the caller frees. ERR_INVALID.
enum err cli_download_options(struct cli *cli, struct cli_list *from, struct cli_progress *progress,
    struct fc_transfer_options *transfer, struct err_detail *why) ERR_CHECKED;

// cli_download_folder fetches all files below a name.
enum err cli_download_folder(struct cli *cli, const char *name, struct fc_rate *rate,
    struct err_detail *why) ERR_CHECKED;

#endif
