// Running a command of the user's for each message.
#ifndef CLI_CLI_EXEC_H
#define CLI_CLI_EXEC_H

#include <pthread.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"
#include "client/fc_room.h"

struct cli_exec {
    const char *command; // for /bin/sh -c
    pthread_mutex_t mutex;
    struct {
        pid_t child; // 0: none runs
        bool is_stopped;
    } locked;
};

void cli_exec_init(struct cli_exec *exec, const char *command);
void cli_exec_deinit(struct cli_exec *exec);

// cli_exec_run runs the command to its end with the message as a JSON object on its standard input, and FC_ROOM, FC_SEQ
// and FC_SENDER in its environment. That it fails is told on standard error and is no error.
enum err cli_exec_run(struct cli_exec *exec, const struct fc_message *message, struct err_detail *why) ERR_CHECKED;

// cli_exec_stop ends the command that runs, with its children, and lets no other begin. Any thread.
void cli_exec_stop(struct cli_exec *exec);

#endif
