// Running a command of the user's for a message.
#ifndef CLI_CLI_EXEC_H
#define CLI_CLI_EXEC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"

// What the command finds in its environment: FC_ROOM, FC_SEQ and FC_SENDER.
struct cli_exec_about {
    char room[72];
    char sender[40];
    uint64_t seq;
};

// cli_exec_run runs the command by /bin/sh -c to its end, with the input on its standard input. That it fails is told
// on standard error and is no error. ERR_CANCELLED: *is_stopped, or a signal came, and it was ended with its children.
enum err cli_exec_run(const char *command, const struct cli_exec_about *about, struct bytes_view input,
    const atomic_bool *is_stopped, struct err_detail *why) ERR_CHECKED;

#endif
