// fc verify: whether somebody is who they seem to be.
#include <stdio.h>
#include <string.h>

#include "cli/cli_command.h"
#include "cli/cli_identity.h"
#include "cli/cli_output.h"
#include "cli/cli_qr.h"

struct listing {
    bool is_json;
    enum err code; // of printing
    struct err_detail *why;
};

static const char *
state_of(const struct fc_contact *contact)
{
    return contact->is_changed ? "changed" : contact->is_verified ? "verified" : "seen";
}

static void
add_json(struct cli_text *text, const struct fc_contact *contact, const char *number)
{
    cli_json_open(text, NULL);
    cli_json_text(text, "user", contact->name);
    cli_json_hex(text, "user_id", contact->user_id, sizeof contact->user_id);
    cli_json_text(text, "state", state_of(contact));
    cli_json_time(text, "first_seen_at", contact->first_seen_unix_ms);
    if (number != NULL) {
        cli_json_text(text, "safety_number", number);
    }
    cli_json_close_line(text);
}

static bool
on_contact(void *context, const struct fc_contact *contact)
{
    struct listing *listing = context;
    struct cli_text text = {0};
    if (listing->is_json) {
        add_json(&text, contact, NULL);
    } else {
        cli_text_add(&text, "%-8s  ", state_of(contact));
        cli_text_add_local_time(&text, contact->first_seen_unix_ms);
        cli_text_add(&text, "  ");
        cli_text_add_printable(&text, contact->name);
        cli_text_add(&text, "\n");
    }
    listing->code = cli_text_print(&text, listing->why);
    return listing->code == ERR_OK;
}

static enum err
list(struct cli *cli, struct fc_identity *identity, struct err_detail *why)
{
    struct listing listing = {.is_json = cli_options_has(&cli->options, CLI_OPTION_JSON), .why = why};
    enum err code = fc_identity_each_contact(identity, on_contact, &listing, why);
    return listing.code != ERR_OK ? listing.code : code;
}

// What a QR code says: the digits without the spaces.
static enum err
add_qr(struct cli_text *text, const char *user_name, const char *number)
{
    char content[160];
    char digits[FC_SAFETY_NUMBER_BYTES];
    size_t used = 0;
    for (; *number != '\0'; number++) {
        if (*number != ' ') {
            digits[used++] = *number;
        }
    }
    digits[used] = '\0';
    (void)snprintf(content, sizeof content, "fc-verify:%s:%s", user_name, digits);
    return cli_qr_add(text, content);
}

static enum err
show(struct cli *cli, struct fc_identity *identity, struct err_detail *why)
{
    struct fc_contact contact;
    struct cli_text text = {0};
    char number[FC_SAFETY_NUMBER_BYTES];
    enum err code = fc_identity_safety_number(identity, cli->arguments[0], number, &contact, why);
    if (code != ERR_OK) {
        return code;
    }
    if (cli_options_has(&cli->options, CLI_OPTION_JSON)) {
        add_json(&text, &contact, number);
    } else {
        cli_text_add(&text, "%.35s\n%s\n", number, number + 36); // six groups a line
        if (cli_options_has(&cli->options, CLI_OPTION_QR)) {
            code = add_qr(&text, fc_identity_user_name(identity), number);
        }
        cli_text_add(&text, "%s\n",
            contact.is_changed    ? "The keys are others than those that you verified."
            : contact.is_verified ? "Verified."
                                  : "Not verified yet: compare it with what they see.");
    }
    enum err printed = cli_text_print(&text, why);
    return code != ERR_OK ? code : printed;
}

static enum err
run_verify(struct cli *cli, struct err_detail *why)
{
    struct fc_identity *identity = NULL;
    const char *digits = cli->options.values[CLI_OPTION_CODE];
    bool is_accept = cli_options_has(&cli->options, CLI_OPTION_ACCEPT);
    if (cli->argument_count == 0 && (digits != NULL || is_accept || cli_options_has(&cli->options, CLI_OPTION_QR))) {
        return err_fail(why, ERR_INVALID, "whose? usage: fc verify USER --code DIGITS");
    }
    enum err code = cli_identity_open(cli, &identity, why);
    if (code == ERR_OK && cli->argument_count == 0) {
        code = list(cli, identity, why);
    } else if (code == ERR_OK) {
        if (is_accept) {
            code = fc_identity_accept(identity, cli->arguments[0], why);
        }
        if (code == ERR_OK && digits != NULL) {
            code = fc_identity_verify(identity, cli->arguments[0], digits, why);
        }
        if (code == ERR_OK && digits == NULL) {
            code = show(cli, identity, why);
        }
    }
    fc_identity_close(&identity);
    return code;
}

const struct cli_command cmd_verify = {
    .name = "verify",
    .synopsis = "[USER [--qr] [--code DIGITS] [--accept]]",
    .summary = "compare keys with somebody",
    .details = "Shows the safety number of you and USER: 60 digits, the same on both sides if\n"
               "and only if nobody is in between. Compare them by voice or face to face. --code\n"
               "tells by its exit status whether DIGITS are the same, and marks USER as\n"
               "verified; 6 if they differ. --accept goes on with new keys of somebody who was\n"
               "verified.\n"
               "\n"
               "Without USER lists those whose keys were seen: seen, verified or changed.\n",
    .options = CLI_ALLOWS(CLI_OPTION_QR) | CLI_ALLOWS(CLI_OPTION_CODE) | CLI_ALLOWS(CLI_OPTION_ACCEPT),
    .arguments_max = 1,
    .run = run_verify,
};
