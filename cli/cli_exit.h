// What fc tells the shell. Scripts depend on these numbers; docs/man/fc.1 lists them.
#ifndef CLI_CLI_EXIT_H
#define CLI_CLI_EXIT_H

#include "base/err.h"

enum cli_exit {
    CLI_EXIT_DONE = 0,
    CLI_EXIT_FAILED = 1,
    CLI_EXIT_USAGE = 2, // an option, argument or name that is not valid
    CLI_EXIT_UNREACHABLE = 3,
    CLI_EXIT_NOT_LOGGED_IN = 4,
    CLI_EXIT_NOT_ALLOWED = 5,
    CLI_EXIT_INTEGRITY = 6, // damaged bytes, or an untrusted key
    CLI_EXIT_NO_KEY = 7,    // what is encrypted cannot be opened here, or not for somebody
    CLI_EXIT_CONFLICT = 8,  // exists already, or somebody else changed it
    CLI_EXIT_LIMITED = 9,   // try later; also no space on the server
    CLI_EXIT_QUEUED = 10,   // kept to be sent when the server can be reached
    CLI_EXIT_NOT_FOUND = 11,
    CLI_EXIT_SIGNAL = 128, // and the signal's number
};

// cli_exit_from_err is the status for a command that ended with this code. ERR_CANCELLED, which main replaces by
// CLI_EXIT_SIGNAL and the signal, is CLI_EXIT_FAILED here.
enum cli_exit cli_exit_from_err(enum err code);

// cli_exit_advice says what to do about an error whose message does not say it; NULL: nothing better than the message.
const char *cli_exit_advice(enum err code);

#endif
