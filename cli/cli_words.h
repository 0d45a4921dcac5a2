// Arguments that are a text or a number.
#ifndef CLI_CLI_WORDS_H
#define CLI_CLI_WORDS_H

#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "cli/cli_command.h"

// cli_words_join joins the arguments from `first` on with spaces, as echo does, and ends them with a NUL that
// out->size does not count. ERR_INVALID: they are empty; `what` is what they would be.
enum err cli_words_join(const struct cli *cli, size_t first, const char *what, struct bytes *out,
    struct err_detail *why) ERR_CHECKED;

// cli_words_seq reads an argument as the number of a message, with or without # before it.
enum err cli_words_seq(const char *text, uint64_t *out, struct err_detail *why) ERR_CHECKED;

#endif
