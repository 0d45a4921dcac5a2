// Asking for a password.
#ifndef CLI_CLI_PASSWORD_H
#define CLI_CLI_PASSWORD_H

#include <stdbool.h>

#include "base/bytes.h"
#include "base/err.h"

enum {
    CLI_PASSWORD_MAX_BYTES = 1024,
};

// cli_password_read gets a password of 1 to CLI_PASSWORD_MAX_BYTES bytes: from standard input up to its end, without a
// final newline; or from the terminal without echo, twice if is_new. The caller frees it with bytes_free_secret.
// ERR_INVALID: empty, too long, or the two differ; ERR_PRECONDITION: there is no terminal.
enum err cli_password_read(bool is_from_stdin, bool is_new, struct bytes *out, struct err_detail *why) ERR_CHECKED;

// cli_password_read_change gets the old password and a new one: the first line and the rest of standard input, or from
// the terminal, the new one twice.
enum err cli_password_read_change(bool is_from_stdin, struct bytes *old_out, struct bytes *new_out,
    struct err_detail *why) ERR_CHECKED;

// cli_password_read_recovery_key gets a recovery key as text with a NUL: from the terminal without echo, or from
// standard input when that is none.
enum err cli_password_read_recovery_key(struct bytes *out, struct err_detail *why) ERR_CHECKED;

#endif
