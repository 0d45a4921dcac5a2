#include "cli/cli_exit.h"

enum cli_exit
cli_exit_from_err(enum err code)
{
    switch (code) {
    case ERR_OK:
        return CLI_EXIT_DONE;
    case ERR_INVALID:
        return CLI_EXIT_USAGE;
    case ERR_UNAVAILABLE:
    case ERR_CLOSED:
    case ERR_TIMEOUT:
        return CLI_EXIT_UNREACHABLE;
    case ERR_UNAUTHENTICATED:
        return CLI_EXIT_NOT_LOGGED_IN;
    case ERR_DENIED:
        return CLI_EXIT_NOT_ALLOWED;
    case ERR_CORRUPT:
    case ERR_UNTRUSTED:
        return CLI_EXIT_INTEGRITY;
    case ERR_NO_KEY:
        return CLI_EXIT_NO_KEY;
    case ERR_QUEUED:
        return CLI_EXIT_QUEUED;
    case ERR_EXISTS:
    case ERR_CONFLICT:
        return CLI_EXIT_CONFLICT;
    case ERR_LIMIT:
    case ERR_NO_SPACE:
    case ERR_BUSY:
        return CLI_EXIT_LIMITED;
    case ERR_NOT_FOUND:
        return CLI_EXIT_NOT_FOUND;
    case ERR_NO_MEMORY:
    case ERR_PROTOCOL:
    case ERR_VERSION:
    case ERR_TOO_BIG:
    case ERR_OUT_OF_RANGE:
    case ERR_PRECONDITION:
    case ERR_IO:
    case ERR_UNIMPLEMENTED:
    case ERR_CANCELLED:
    case ERR_INTERNAL:
    case ERR_COUNT:
        break;
    }
    return CLI_EXIT_FAILED;
}

const char *
cli_exit_advice(enum err code)
{
    if (code == ERR_UNAVAILABLE || code == ERR_CLOSED || code == ERR_TIMEOUT) {
        return "check that fcd runs there, or name another server with --server URL";
    }
    if (code == ERR_UNAUTHENTICATED) {
        return "log in with 'fc login USER'";
    }
    return NULL;
}
