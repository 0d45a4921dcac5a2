#include "cli/cli_trust.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

// Like ssh it wants the whole word, so that nobody agrees by accident.
static bool
ask(void *context, const char *server, const char *fingerprint)
{
    char answer[16] = "";
    FILE *terminal = fopen("/dev/tty", "r+e");
    (void)context;
    if (terminal == NULL) {
        return false;
    }
    (void)fprintf(terminal,
        "The server %s is not known yet. The SHA-256 fingerprint of its certificate is\n"
        "    %s\n"
        "Compare it with what 'fcd --fingerprint' prints there. Trust this server from now on (yes/no)? ",
        server, fingerprint);
    (void)fflush(terminal);
    bool is_read = fgets(answer, sizeof(answer), terminal) != NULL;
    (void)fclose(terminal);
    answer[strcspn(answer, "\r\n")] = '\0';
    return is_read && strcasecmp(answer, "yes") == 0;
}

static bool
has_terminal(void)
{
    FILE *terminal = isatty(STDERR_FILENO) == 1 ? fopen("/dev/tty", "re") : NULL;
    if (terminal != NULL) {
        (void)fclose(terminal);
    }
    return terminal != NULL;
}

void
cli_trust_fill(const struct cli_options *options, struct fc_trust *out)
{
    *out = (struct fc_trust){
        .fingerprint = options->values[CLI_OPTION_TRUST],
        .ca_path = options->values[CLI_OPTION_TLS_CA],
        .certificate_path = options->values[CLI_OPTION_TLS_CERT],
        .key_path = options->values[CLI_OPTION_TLS_KEY],
        .confirm = !cli_options_has(options, CLI_OPTION_JSON) && has_terminal() ? ask : NULL,
    };
}
