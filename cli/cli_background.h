// Going on in the background: the terminal is given back when the work has begun well.
#ifndef CLI_CLI_BACKGROUND_H
#define CLI_CLI_BACKGROUND_H

#include <stdbool.h>

#include "base/bytes.h"
#include "base/err.h"

// cli_background_split makes a second process, before this one has any threads. In the new one *is_worker_out is true,
// and the terminal is still there, so that questions can be asked; it goes on with the work, and then calls
// cli_background_tell. In the old one it waits for that, writes what was told to standard output, and returns how the
// work began; the command then ends.
enum err cli_background_split(bool *is_worker_out, struct err_detail *why) ERR_CHECKED;

// cli_background_tell tells the old process how the work has begun. After ERR_OK this one leaves the terminal, and what
// it logs goes to the file at log_path. After an error it ends at once.
enum err cli_background_tell(enum err code, struct bytes_view text, const char *log_path,
    struct err_detail *why) ERR_CHECKED;

#endif
