// fc: the command. Finds what is meant in the table, runs it, and says how it ended.
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/digest.h"
#include "cli/cli_command.h"
#include "cli/cli_exit.h"
#include "cli/cli_interrupt.h"
#include "cli/cli_output.h"
#include "cli/cli_trust.h"

// In the order in which the help shows them.
const struct cli_command *const cli_commands[] = {
    &cmd_signup,
    &cmd_login,
    &cmd_logout,
    &cmd_whoami,
    &cmd_passwd,
    &cmd_session_ls,
    &cmd_session_revoke,
    &cmd_device_ls,
    &cmd_device_offer,
    &cmd_device_add,
    &cmd_device_remove,
    &cmd_recover,
    &cmd_verify,
    &cmd_room_create,
    &cmd_room_list,
    &cmd_room_show,
    &cmd_room_amend,
    &cmd_room_transfer,
    &cmd_room_fingerprint,
    &cmd_invite,
    &cmd_invite_ls,
    &cmd_invite_revoke,
    &cmd_chat,
    &cmd_join,
    &cmd_leave,
    &cmd_dm,
    &cmd_send,
    &cmd_react,
    &cmd_edit,
    &cmd_delete,
    &cmd_history,
    &cmd_search,
    &cmd_unread,
    &cmd_read,
    &cmd_outbox,
    &cmd_outbox_flush,
    &cmd_audit,
    &cmd_block,
    &cmd_unblock,
    &cmd_blocks,
    &cmd_presence,
    &cmd_who,
    &cmd_report,
    &cmd_reports,
    &cmd_upload,
    &cmd_download,
    &cmd_ls,
    &cmd_link,
    &cmd_link_ls,
    &cmd_link_revoke,
    &cmd_stat,
    &cmd_find,
    &cmd_cat,
    &cmd_mv,
    &cmd_rm,
    &cmd_restore,
    &cmd_share,
    &cmd_du,
    &cmd_sync,
    &cmd_peer_start,
    &cmd_peer_status,
    &cmd_peer_update,
    &cmd_peer_stop,
    &cmd_peer_end,
    &cmd_segment_ls,
    &cmd_segment_stop,
    &cmd_segment_wake,
    &cmd_segment_drain,
    &cmd_top,
    &cmd_health,
    &cmd_call,
    &cmd_describe,
    &cmd_shellenv,
    &cmd_completion,
    &cmd_help,
    NULL,
};

size_t
cli_command_match(const struct cli_command *command, char *const *words, size_t word_count)
{
    const char *name = command->name;
    size_t matched = 0;
    while (matched < word_count) {
        size_t size = strcspn(name, " ");
        if (strlen(words[matched]) != size || memcmp(words[matched], name, size) != 0) {
            break;
        }
        matched++;
        name += size;
        if (*name == '\0') {
            break;
        }
        name++;
    }
    return matched;
}

// find looks for the command that the first words name, the longest name first: "invite ls" is not an invitation to
// the room "ls". NULL: none. words_used_out: how many they are, or of the nearest one.
static const struct cli_command *
find(char *const *words, size_t word_count, size_t *words_used_out)
{
    const struct cli_command *found = NULL;
    *words_used_out = 0;
    for (const struct cli_command *const *command = cli_commands; *command != NULL; command++) {
        size_t matched = cli_command_match(*command, words, word_count);
        size_t needed = strchr((*command)->name, ' ') != NULL ? 2 : 1;
        if (matched == needed && (found == NULL || needed > 1)) {
            found = *command;
        }
        *words_used_out = matched > *words_used_out ? matched : *words_used_out;
    }
    return found;
}

enum err
cli_session_open(struct cli *cli, bool needs_login, struct err_detail *why)
{
    enum err code = fc_config_load(cli->options.values[CLI_OPTION_SERVER], &cli->credential, why);
    if (code == ERR_DENIED) {
        // The rights of a file here, which have nothing to do with what the server allows.
        return ERR_PRECONDITION;
    }
    if (code != ERR_OK) {
        return code;
    }
    if (needs_login && cli->credential.token[0] == '\0') {
        return err_fail(why, ERR_UNAUTHENTICATED, "not logged in on %s", cli->credential.server_url);
    }
    struct fc_trust trust;
    cli_trust_fill(&cli->options, &trust);
    return fc_session_open(&cli->credential, &trust, &cli->session, why);
}

static void
on_warning(void *context, const char *warning)
{
    const struct cli *cli = context;
    cli_output_error("fc %s: note: %s", cli->command->name, warning);
}

enum err
cli_chat_open(struct cli *cli, struct err_detail *why)
{
    enum err code = cli->session == NULL ? cli_session_open(cli, true, why) : ERR_OK;
    if (code == ERR_OK && cli->credential.user_name[0] == '\0') {
        // A token from the environment does not say whose it is.
        struct fc_account account;
        code = fc_session_who_am_i(cli->session, &account, why);
        if (code == ERR_OK) {
            memcpy(cli->credential.user_name, account.user_name, sizeof(account.user_name));
        }
    }
    struct fc_chat_options options = {
        .warn = on_warning,
        .context = cli,
        .keeps_metadata = cli_options_has(&cli->options, CLI_OPTION_KEEP_METADATA),
    };
    if (code == ERR_OK) {
        code = fc_chat_open(cli->session, &options, &cli->chat, why);
    }
    return code;
}

// check_words holds the command against what was given.
static enum err
check_words(const struct cli *cli, struct err_detail *why)
{
    const struct cli_command *command = cli->command;
    for (unsigned i = 0; i < CLI_OPTION_NUMBER_OF; i++) {
        cli_option_set bit = CLI_ALLOWS(i);
        if ((cli->options.given & bit) != 0 && ((command->options | CLI_ALLOWS_ALWAYS) & bit) == 0) {
            return err_fail(why, ERR_INVALID, "there is no option --%s here", cli_option_rows[i].name);
        }
    }
    if (cli->argument_count < command->arguments_min) {
        return err_fail(why, ERR_INVALID, "something is missing; usage: fc %s %s", command->name, command->synopsis);
    }
    if (cli->argument_count > command->arguments_max) {
        return err_fail(why, ERR_INVALID, "\"%s\" is too much; usage: fc %s %s", cli->arguments[command->arguments_max],
            command->name, command->synopsis);
    }
    return ERR_OK;
}

// choose finds the command that the words ask for. --help makes it the help of that command, or of all.
static enum err
choose(struct cli *cli, char **words, size_t word_count, struct err_detail *why)
{
    size_t words_used = 0;
    bool is_help = cli_options_has(&cli->options, CLI_OPTION_HELP);
    cli->command = find(words, word_count, &words_used);
    if (is_help && (words_used > 0 || word_count == 0)) {
        cli->command = &cmd_help;
        cli->arguments = words;
        cli->argument_count = words_used;
        return ERR_OK;
    }
    if (word_count == 0) {
        return err_fail(why, ERR_INVALID, "what is to be done? 'fc help' lists the commands");
    }
    if (cli->command == NULL && words_used > 0) {
        return err_fail(why, ERR_INVALID, "a word is missing or unknown after %s; see 'fc help %s'", words[0],
            words[0]);
    }
    if (cli->command == NULL) {
        return err_fail(why, ERR_INVALID, "there is no command \"%s\"; 'fc help' lists them", words[0]);
    }
    cli->arguments = words + words_used;
    cli->argument_count = word_count - words_used;
    return check_words(cli, why);
}

static enum err
run(struct cli *cli, int argc, char **argv, char **words, struct err_detail *why)
{
    size_t word_count = 0;
    enum err code = cli_options_parse(argc, argv, &cli->options, words, &word_count, why);
    if (code != ERR_OK) {
        return code;
    }
    if (cli_options_has(&cli->options, CLI_OPTION_VERSION) && word_count == 0) {
        return cli_output_write(bytes_view_of_text("fc " FC_VERSION "\n"), why);
    }
    code = choose(cli, words, word_count, why);
    if (code != ERR_OK) {
        return code;
    }
    return cli->command->run(cli, why);
}

// tell prints the one line about a failure and returns the exit status.
static int
tell(const struct cli *cli, enum err code, const struct err_detail *why)
{
    if (code == ERR_OK || cli_output_is_closed()) {
        return CLI_EXIT_DONE;
    }
    int status = (int)cli_exit_from_err(code);
    const char *message = err_message(why, code);
    if (code == ERR_CANCELLED && cli_interrupt_signal() != 0) {
        status = CLI_EXIT_SIGNAL + cli_interrupt_signal();
        message = "interrupted";
    }
    const char *advice = cli->command == &cmd_login || strchr(message, ';') != NULL ? NULL : cli_exit_advice(code);
    cli_output_error("fc%s%s: %s%s%s", cli->command != NULL ? " " : "", cli->command != NULL ? cli->command->name : "",
        message, advice != NULL ? "; " : "", advice != NULL ? advice : "");
    return status;
}

// hold_standard_fds puts something under 0, 1 and 2 when the parent closed them, so that no socket or file of ours gets
// their numbers and another's output. Writing to the stand-in fails, as it should.
static void
hold_standard_fds(void)
{
    int fd;
    do {
        fd = open("/dev/null", O_RDONLY);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0) {
        (void)close(fd);
    }
}

// keep_large_memory lets memory of a chunk's size be used again: taken from the system for each chunk, it would have to
// be cleared by it each time, which costs a download a third of its time. From one place, so that what one thread gave
// back serves the others.
static void
keep_large_memory(void)
{
    enum {
        REUSED_UP_TO_BYTES = 16 * 1024 * 1024,
        KEPT_BYTES = 32 * 1024 * 1024,
    };
    (void)mallopt(M_ARENA_MAX, 1);
    (void)mallopt(M_MMAP_THRESHOLD, REUSED_UP_TO_BYTES);
    (void)mallopt(M_TRIM_THRESHOLD, KEPT_BYTES);
}

int
main(int argc, char **argv)
{
    struct cli cli = {0};
    struct err_detail why = {0};
    hold_standard_fds();
    (void)signal(SIGPIPE, SIG_IGN);
    keep_large_memory();
    char **words = calloc((size_t)argc + 1, sizeof *words);
    enum err code = words != NULL ? run(&cli, argc, argv, words, &why) : ERR_NO_MEMORY;
    int status = tell(&cli, code, &why);
    fc_chat_close(&cli.chat);
    fc_session_close(&cli.session);
    digest_wipe(&cli.credential, sizeof cli.credential);
    cli_options_free(&cli.options);
    free(words);
    return status;
}
