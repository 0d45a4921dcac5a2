#include "cli/cli_identity.h"

#include <stdio.h>
#include <string.h>

static void
on_warning(void *context, const char *sentence)
{
    const struct cli *cli = context;
    cli_output_error("fc %s: note: %s", cli->command->name, sentence);
}

enum err
cli_identity_open(struct cli *cli, struct fc_identity **out, struct err_detail *why)
{
    const struct fc_identity_options options = {.warn = on_warning, .context = cli};
    enum err code = cli->session == NULL ? cli_session_open(cli, true, why) : ERR_OK;
    return code == ERR_OK ? fc_identity_open(cli->session, &options, out, why) : code;
}

enum err
cli_identity_is_offline(const struct cli *cli, bool *out, struct err_detail *why)
{
    const char *where = cli->options.values[CLI_OPTION_RECOVERY];
    *out = where != NULL && strcmp(where, "offline") == 0;
    if (where != NULL && !*out && strcmp(where, "server") != 0) {
        return err_fail(why, ERR_INVALID, "--recovery is server or offline, not \"%s\"", where);
    }
    return ERR_OK;
}

void
cli_recovery_add(struct cli_text *text, const char *recovery_text)
{
    if (recovery_text[0] != '\0') {
        cli_text_add(text,
            "\nYour recovery key:\n\n    %s\n\n"
            "It is shown only now. Write it down and keep it safe: it brings your keys and\n"
            "messages to another computer, with 'fc recover', and nobody can give you another.\n"
            "'fc recover --test' checks what you wrote down.\n",
            recovery_text);
    }
}

enum err
cli_confirm(const struct cli *cli, const char *question, const char *word, struct err_detail *why)
{
    char answer[80] = "";
    if (cli_options_has(&cli->options, CLI_OPTION_YES)) {
        return ERR_OK;
    }
    FILE *terminal = fopen("/dev/tty", "r+e");
    if (terminal == NULL) {
        return err_fail(why, ERR_PRECONDITION, "there is no terminal to ask on; --yes answers beforehand");
    }
    (void)fprintf(terminal, "%s\nTo go on type %s: ", question, word);
    (void)fflush(terminal);
    bool is_read = fgets(answer, sizeof(answer), terminal) != NULL;
    (void)fclose(terminal);
    answer[strcspn(answer, "\r\n")] = '\0';
    if (!is_read || strcmp(answer, word) != 0) {
        return err_fail(why, ERR_PRECONDITION, "nothing was done, since the answer was not %s", word);
    }
    return ERR_OK;
}
