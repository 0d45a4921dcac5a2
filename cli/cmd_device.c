// fc device ls, offer, add, remove.
#include <poll.h>
#include <string.h>

#include "base/clock.h"
#include "cli/cli_command.h"
#include "cli/cli_identity.h"
#include "cli/cli_interrupt.h"
#include "cli/cli_output.h"

enum {
    OFFER_LIFETIME_MS = 3600 * 1000, // proto/fc/auth/v1/keys.proto
    OFFER_PAUSE_MS = 1000,
    SECRETS_TIMEOUT_MS = 60 * 1000, // an old device sends them right after the entry
};

// --- ls -----------------------------------------------------------------------------------------------------------

struct listing {
    bool is_json;
    enum err code; // of printing
    struct err_detail *why;
};

static void
add_row(struct cli_text *text, const struct fc_device *device)
{
    cli_text_add(text, "%c ", device->is_this ? '*' : ' ');
    cli_text_add_hex(text, device->id, sizeof device->id);
    cli_text_add(text, "  ");
    cli_text_add_printable(text, device->name);
    cli_text_add(text, "\n");
}

static bool
on_device(void *context, const struct fc_device *device)
{
    struct listing *listing = context;
    struct cli_text text = {0};
    if (listing->is_json) {
        cli_json_open(&text, NULL);
        cli_json_hex(&text, "id", device->id, sizeof device->id);
        cli_json_text(&text, "name", device->name);
        cli_json_bool(&text, "is_this", device->is_this);
        cli_json_bool(&text, "is_recovery", device->is_recovery);
        cli_json_bool(&text, "is_removed", device->is_revoked);
        cli_json_close_line(&text);
    } else if (!device->is_revoked) {
        add_row(&text, device);
    }
    listing->code = cli_text_print(&text, listing->why);
    return listing->code == ERR_OK;
}

static enum err
run_ls(struct cli *cli, struct err_detail *why)
{
    struct listing listing = {.is_json = cli_options_has(&cli->options, CLI_OPTION_JSON), .why = why};
    struct fc_identity *identity = NULL;
    enum err code = cli_identity_open(cli, &identity, why);
    if (code == ERR_OK) {
        code = fc_device_each(identity, on_device, &listing, why);
    }
    fc_identity_close(&identity);
    return listing.code != ERR_OK ? listing.code : code;
}

// --- offer --------------------------------------------------------------------------------------------------------

static enum err
print_code(struct cli *cli, const char *device_code, struct err_detail *why)
{
    struct cli_text text = {0};
    if (cli_options_has(&cli->options, CLI_OPTION_JSON)) {
        cli_json_open(&text, NULL);
        cli_json_text(&text, "code", device_code);
        cli_json_close_line(&text);
    } else {
        cli_text_add(&text,
            "On a computer that has your keys, run\n\n    fc device add %s\n\nWaiting for it; Ctrl-C gives up.\n",
            device_code);
    }
    return cli_text_print(&text, why);
}

// pause_offer waits a moment. ERR_CANCELLED: a signal came.
static enum err
pause_offer(void)
{
    struct pollfd wake = {.fd = cli_interrupt_fd(), .events = POLLIN};
    (void)poll(&wake, 1, OFFER_PAUSE_MS);
    return cli_interrupt_signal() != 0 ? ERR_CANCELLED : ERR_OK;
}

// wait_for_add asks until the device has been let in and has what was left for it.
static enum err
wait_for_add(struct fc_identity *identity, enum fc_device_offer_state *state, struct err_detail *why)
{
    uint64_t end_ms = clock_monotonic_ms() + OFFER_LIFETIME_MS;
    uint64_t secrets_end_ms = 0;
    for (;;) {
        enum err code = fc_device_offer_poll(identity, state, why);
        // A server that is away for a moment is waited for.
        if (code != ERR_OK && code != ERR_UNAVAILABLE && code != ERR_TIMEOUT) {
            return code;
        }
        uint64_t now_ms = clock_monotonic_ms();
        if (code == ERR_OK && (*state == FC_DEVICE_READY || *state == FC_DEVICE_NO_SIGN)) {
            return ERR_OK;
        }
        if (code == ERR_OK && *state == FC_DEVICE_ADDED) {
            secrets_end_ms = secrets_end_ms == 0 ? now_ms + SECRETS_TIMEOUT_MS : secrets_end_ms;
            if (now_ms >= secrets_end_ms) {
                return ERR_OK;
            }
        }
        if (now_ms >= end_ms) {
            return err_fail(why, ERR_TIMEOUT, "nobody let this computer in within an hour; start again");
        }
        code = pause_offer();
        if (code != ERR_OK) {
            return code;
        }
    }
}

// add_number shows what both computers have to agree on.
static void
add_number(struct cli_text *text, const char *number)
{
    cli_text_add(text, "Both computers have to show this number; if not, remove the device again:\n\n    %s\n", number);
}

static enum err
print_added(struct cli *cli, struct fc_identity *identity, enum fc_device_offer_state state, struct err_detail *why)
{
    struct cli_text text = {0};
    char number[FC_OWN_NUMBER_BYTES];
    bool can_sign = state == FC_DEVICE_READY;
    enum err code = fc_device_own_number(identity, number, why);
    if (code != ERR_OK) {
        return code;
    }
    if (cli_options_has(&cli->options, CLI_OPTION_JSON)) {
        cli_json_open(&text, NULL);
        cli_json_text(&text, "user", fc_identity_user_name(identity));
        cli_json_bool(&text, "can_sign", can_sign);
        cli_json_text(&text, "number", number);
        cli_json_close_line(&text);
    } else {
        cli_text_add(&text, "This computer is a device of %s's now%s.\n", fc_identity_user_name(identity),
            can_sign ? "" : "; it may not add or remove others");
        add_number(&text, number);
    }
    return cli_text_print(&text, why);
}

static enum err
run_offer(struct cli *cli, struct err_detail *why)
{
    struct fc_identity *identity = NULL;
    char device_code[FC_DEVICE_CODE_BYTES];
    enum fc_device_offer_state state = FC_DEVICE_OFFERED;
    enum err code = cli_interrupt_watch(why);
    if (code == ERR_OK) {
        code = cli_identity_open(cli, &identity, why);
    }
    if (code == ERR_OK) {
        code = fc_device_offer(identity, cli->options.values[CLI_OPTION_NAME], device_code, why);
    }
    if (code == ERR_OK) {
        code = print_code(cli, device_code, why);
    }
    if (code == ERR_OK) {
        code = wait_for_add(identity, &state, why);
    }
    if (code == ERR_OK) {
        code = print_added(cli, identity, state, why);
    }
    fc_identity_close(&identity);
    return code;
}

// --- add and remove -----------------------------------------------------------------------------------------------

// number: of the account, or NULL.
static enum err
print_name(struct cli *cli, const char *what, const char *name, const char *number, struct err_detail *why)
{
    struct cli_text text = {0};
    if (cli_options_has(&cli->options, CLI_OPTION_JSON)) {
        cli_json_open(&text, NULL);
        cli_json_text(&text, "name", name);
        if (number != NULL) {
            cli_json_text(&text, "number", number);
        }
        cli_json_close_line(&text);
    } else {
        cli_text_add(&text, "%s ", what);
        cli_text_add_printable(&text, name);
        cli_text_add(&text, "\n");
        if (number != NULL) {
            add_number(&text, number);
        }
    }
    return cli_text_print(&text, why);
}

static enum err
run_add(struct cli *cli, struct err_detail *why)
{
    struct fc_identity *identity = NULL;
    char name[FC_DEVICE_NAME_BYTES];
    char number[FC_OWN_NUMBER_BYTES];
    enum err code = cli_identity_open(cli, &identity, why);
    if (code == ERR_OK) {
        code =
            fc_device_add(identity, cli->arguments[0], !cli_options_has(&cli->options, CLI_OPTION_NO_SIGN), name, why);
    }
    if (code == ERR_OK) {
        code = fc_device_own_number(identity, number, why);
    }
    if (code == ERR_OK) {
        code = print_name(cli, "let in", name, number, why);
    }
    fc_identity_close(&identity);
    return code;
}

static enum err
run_remove(struct cli *cli, struct err_detail *why)
{
    struct fc_identity *identity = NULL;
    char name[FC_DEVICE_NAME_BYTES];
    enum err code = cli_identity_open(cli, &identity, why);
    if (code == ERR_OK) {
        code = fc_device_remove(identity, cli->arguments[0], name, why);
    }
    if (code == ERR_OK) {
        code = print_name(cli, "removed", name, NULL, why);
    }
    fc_identity_close(&identity);
    return code;
}

const struct cli_command cmd_device_ls = {
    .name = "device ls",
    .synopsis = "",
    .summary = "list the devices that speak for you",
    .details = "Shows a * where it is this computer, the id, and the name. The recovery key is\n"
               "one of them: whoever has it is let in.\n",
    .run = run_ls,
};

const struct cli_command cmd_device_offer = {
    .name = "device offer",
    .synopsis = "[--name NAME]",
    .summary = "ask to be let in, on a computer that has none of your keys",
    .details = "Prints a code, and waits until 'fc device add CODE' is run on a computer that\n"
               "has them. Carry the code there yourself: it is what keeps others out.\n",
    .options = CLI_ALLOWS(CLI_OPTION_NAME),
    .run = run_offer,
};

const struct cli_command cmd_device_add = {
    .name = "device add",
    .synopsis = "CODE [--no-sign]",
    .summary = "let in the computer that shows this code",
    .details = "The other computer runs 'fc device offer'. It can read what this one can, from\n"
               "then on; and let in and remove devices, unless --no-sign is given.\n",
    .options = CLI_ALLOWS(CLI_OPTION_NO_SIGN),
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_add,
};

const struct cli_command cmd_device_remove = {
    .name = "device remove",
    .synopsis = "ID|NAME",
    .summary = "end a device for good, as when it is lost",
    .details = "What is sent from then on is closed to it. ID may be the beginning of an id of\n"
               "'fc device ls', at least 4 digits. Its login is ended by 'fc session revoke'.\n",
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_remove,
};
