// Options and arguments that are lists of names: "a,b", given once or several times.
#ifndef CLI_CLI_LIST_H
#define CLI_CLI_LIST_H

#include <stddef.h>

#include "base/err.h"
#include "cli/cli_options.h"
#include "client/fc_chat.h"

// cli_list holds names. All zero is an empty one.
struct cli_list {
    char **names;
    size_t count;
};

// cli_list_add copies one name to the end.
enum err cli_list_add(struct cli_list *list, const char *name) ERR_CHECKED;

// cli_list_add_option adds what all occurrences of an option say. ERR_INVALID: an empty name.
enum err cli_list_add_option(struct cli_list *list, const struct cli_options *options, enum cli_option option,
    struct err_detail *why) ERR_CHECKED;

// cli_list_view is what functions take that do not change the names.
const char *const *cli_list_view(const struct cli_list *list);

void cli_list_free(struct cli_list *list);

// cli_role_parse reads "member", "admin" or "owner".
enum err cli_role_parse(const char *text, enum fc_role *out, struct err_detail *why) ERR_CHECKED;
const char *cli_role_name(int role);

#endif
