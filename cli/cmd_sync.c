// fc sync.
#include <string.h>

#include "base/bytes.h"
#include "cli/cli_command.h"
#include "cli/cli_interrupt.h"
#include "cli/cli_output.h"
#include "client/fc_sync.h"

enum {
    NAME_BYTES = 1025, // with its NUL
};

static const char *const action_names[] = {
    [FC_SYNC_UPLOAD] = "upload",
    [FC_SYNC_DOWNLOAD] = "download",
    [FC_SYNC_DELETE_HERE] = "delete-here",
    [FC_SYNC_DELETE_THERE] = "delete-there",
    [FC_SYNC_CONFLICT] = "conflict",
    [FC_SYNC_DELETED_HERE] = "deleted-here",
    [FC_SYNC_DELETED_THERE] = "deleted-there",
    [FC_SYNC_SKIPPED] = "skipped",
    [FC_SYNC_FAILED] = "failed",
};

static void
tell(void *context, enum fc_sync_action action, const char *name, const char *reason)
{
    const struct cli *cli = context;
    struct cli_text text = {0};

    if (action == FC_SYNC_SKIPPED || action == FC_SYNC_FAILED) {
        cli_text_add_printable(&text, name);
        cli_output_error("fc sync: note: %.*s %s: %s", (int)text.bytes.size, (const char *)text.bytes.data,
            action == FC_SYNC_SKIPPED ? "is left out" : "is not alike yet", reason);
        bytes_free(&text.bytes);
        return;
    }
    if (cli_options_has(&cli->options, CLI_OPTION_JSON)) {
        cli_json_open(&text, NULL);
        cli_json_text(&text, "action", action_names[action]);
        cli_json_text(&text, "name", name);
        cli_json_close_line(&text);
    } else {
        cli_text_add(&text, "%-14s", action_names[action]);
        cli_text_add_printable(&text, name);
        cli_text_add(&text, "\n");
    }
    // A run that changes files goes on when nobody reads about it.
    enum err ignored = cli_text_print(&text, NULL);
    (void)ignored;
}

static bool
is_cancelled(void *context)
{
    (void)context;
    return cli_interrupt_signal() != 0;
}

static enum err
run_sync(struct cli *cli, struct err_detail *why)
{
    struct fc_rate rate = {0};
    char remote[NAME_BYTES];
    size_t size = strlen(cli->arguments[1]);
    while (size > 0 && cli->arguments[1][size - 1] == '/') {
        size--;
    }
    if (size >= sizeof remote) {
        return err_fail(why, ERR_INVALID, "the name is too long");
    }
    memcpy(remote, cli->arguments[1], size);
    remote[size] = '\0';
    const struct fc_sync sync = {
        .folder = cli->arguments[0],
        .remote = remote,
        .is_dry_run = cli_options_has(&cli->options, CLI_OPTION_DRY_RUN),
        .is_deleting = cli_options_has(&cli->options, CLI_OPTION_DELETE),
        .rate = &rate,
        .is_cancelled = is_cancelled,
        .tell = tell,
        .context = cli,
    };
    enum err code = cli_options_rate(&cli->options, &rate.bytes_per_s, why);
    if (code == ERR_OK) {
        code = cli_session_open(cli, true, why);
    }
    if (code == ERR_OK) {
        code = cli_interrupt_watch(why);
    }
    return code == ERR_OK ? fc_sync_run(cli->session, &sync, why) : code;
}

const struct cli_command cmd_sync = {
    .name = "sync",
    .synopsis = "FOLDER NAME [--dry-run] [--delete]",
    .summary = "make a folder and the files below NAME alike, both ways",
    .details = "What was changed on one side since the last run goes over to the other. What was\n"
               "changed on both is kept twice: the file of the server under its name, and the\n"
               "one from here as FILE.conflict-USER-DATE, on both sides. Nothing is deleted:\n"
               "files that are gone on one side are only listed, as deleted-here or\n"
               "deleted-there. With --delete they are deleted on the other side, too, unless\n"
               "they were changed there; on the server fc restore brings them back. Symbolic\n"
               "links are left out. Prints what it does, a line for each file.\n",
    .options = CLI_ALLOWS(CLI_OPTION_DRY_RUN) | CLI_ALLOWS(CLI_OPTION_DELETE) | CLI_ALLOWS(CLI_OPTION_LIMIT_RATE),
    .arguments_min = 2,
    .arguments_max = 2,
    .argument = CLI_ARGUMENT_PATH,
    .run = run_sync,
};
