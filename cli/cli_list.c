#include "cli/cli_list.h"

#include <stdlib.h>
#include <string.h>

static enum err
add_part(struct cli_list *list, const char *name, size_t size)
{
    char **grown = realloc(list->names, (list->count + 1) * sizeof(*grown));
    if (grown == NULL) {
        return ERR_NO_MEMORY;
    }
    list->names = grown;
    list->names[list->count] = strndup(name, size);
    if (list->names[list->count] == NULL) {
        return ERR_NO_MEMORY;
    }
    list->count++;
    return ERR_OK;
}

enum err
cli_list_add(struct cli_list *list, const char *name)
{
    return add_part(list, name, strlen(name));
}

static enum err
add_value(struct cli_list *list, enum cli_option option, const char *value, struct err_detail *why)
{
    for (;;) {
        size_t size = strcspn(value, ",");
        if (size == 0) {
            return err_fail(why, ERR_INVALID, "a name is missing in --%s", cli_option_rows[option].name);
        }
        enum err code = add_part(list, value, size);
        if (code != ERR_OK || value[size] == '\0') {
            return code;
        }
        value += size + 1;
    }
}

enum err
cli_list_add_option(struct cli_list *list, const struct cli_options *options, enum cli_option option,
    struct err_detail *why)
{
    enum err code = ERR_OK;
    for (size_t i = 0; i < options->count && code == ERR_OK; i++) {
        if (options->all[i].option == option) {
            code = add_value(list, option, options->all[i].value, why);
        }
    }
    return code;
}

const char *const *
cli_list_view(const struct cli_list *list)
{
    return (const char *const *)list->names;
}

void
cli_list_free(struct cli_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->names[i]);
    }
    free(list->names);
    *list = (struct cli_list){0};
}

static const char *const role_names[] = {
    [FC_ROLE_NONE] = "none",
    [FC_ROLE_MEMBER] = "member",
    [FC_ROLE_ADMIN] = "admin",
    [FC_ROLE_OWNER] = "owner",
};

enum err
cli_role_parse(const char *text, enum fc_role *out, struct err_detail *why)
{
    for (int role = FC_ROLE_MEMBER; role <= FC_ROLE_OWNER; role++) {
        if (strcmp(text, role_names[role]) == 0) {
            *out = (enum fc_role)role;
            return ERR_OK;
        }
    }
    return err_fail(why, ERR_INVALID, "there is no role \"%s\"; there are member, admin and owner", text);
}

const char *
cli_role_name(int role)
{
    return role >= FC_ROLE_NONE && role <= FC_ROLE_OWNER ? role_names[role] : role_names[FC_ROLE_NONE];
}
