// What is done with messages as they come, on a thread of its own: printing them, or running a command for each. So
// neither a slow reader nor a slow command keeps back what is sent meanwhile.
#ifndef CLI_CLI_DELIVERY_H
#define CLI_CLI_DELIVERY_H

#include <stdbool.h>

#include "base/err.h"
#include "cli/cli_message.h"

struct cli_delivery;

struct cli_delivery_options {
    struct cli_message_style style;
    const char *command; // for cli_exec_run; NULL: print
    // On the delivery's thread, once: nothing more can be printed or run.
    void (*on_failure)(void *context, enum err code, const struct err_detail *why);
    void *context;
};

enum err cli_delivery_new(const struct cli_delivery_options *options, struct cli_delivery **out,
    struct err_detail *why) ERR_CHECKED;

// cli_delivery_put queues a message; it waits while there is too much already. false: nothing more is taken. One thread
// at a time.
bool cli_delivery_put(struct cli_delivery *delivery, const struct fc_message *message);

// cli_delivery_stop drops what waits and ends a command that runs. Any thread.
void cli_delivery_stop(struct cli_delivery *delivery);

// cli_delivery_free waits for what was put, unless it was stopped, or a signal comes. NULL is fine.
void cli_delivery_free(struct cli_delivery **delivery);

#endif
