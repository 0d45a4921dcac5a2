// A command of fc, and what it is given when it runs.
//
// Every command is one row: from it come the parsing of its options, its help, and the shells' completions.
#ifndef CLI_CLI_COMMAND_H
#define CLI_CLI_COMMAND_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "cli/cli_options.h"
#include "client/fc_chat.h"
#include "client/fc_session.h"

struct cli_command;

// cli is one run of fc. Commands read it; session and credential are theirs to fill through cli_session_open.
struct cli {
    const struct cli_command *command;
    struct cli_options options;
    char **arguments; // those after the command's name
    size_t argument_count;
    struct fc_credential credential;
    struct fc_session *session; // closed by main
    struct fc_chat *chat;       // from cli_chat_open; closed by main
};

// cli_run_fn does the work and prints the result. On failure main prints `why` as "fc COMMAND: ...", and the code
// becomes the exit status (cli_exit.h).
typedef enum err cli_run_fn(struct cli *cli, struct err_detail *why);

enum {
    CLI_ARGUMENTS_ANY = UINT_MAX, // no upper limit
};

// What an argument is, for completion.
enum cli_argument {
    CLI_ARGUMENT_OTHER,
    CLI_ARGUMENT_PATH,
    CLI_ARGUMENT_COMMAND,
    CLI_ARGUMENT_SHELL,
};

struct cli_command {
    const char *name;       // one word, or two: "room create"
    const char *synopsis;   // what follows the name
    const char *summary;    // a line without a full stop
    const char *details;    // paragraphs of lines up to 80 columns, each ended by a newline; or NULL
    cli_option_set options; // CLI_ALLOWS() of each, beside the global ones
    unsigned arguments_min;
    unsigned arguments_max;
    enum cli_argument argument;
    cli_run_fn *run;
};

// The table, ended by NULL; in main.c.
extern const struct cli_command *const cli_commands[];

// cli_command_match tells how many words of the command's name the first words given are.
size_t cli_command_match(const struct cli_command *command, char *const *words, size_t word_count);

// cli_session_open reads the configuration and opens cli->session. needs_login: fails with ERR_UNAUTHENTICATED when
// there is no token for the server.
enum err cli_session_open(struct cli *cli, bool needs_login, struct err_detail *why) ERR_CHECKED;

// cli_chat_open opens the session, and with it cli->chat. cli->credential then has the user's name.
enum err cli_chat_open(struct cli *cli, struct err_detail *why) ERR_CHECKED;

// One for each command or command group.
extern const struct cli_command cmd_signup, cmd_login, cmd_logout, cmd_whoami;
extern const struct cli_command cmd_passwd, cmd_session_ls, cmd_session_revoke;
extern const struct cli_command cmd_device_ls, cmd_device_offer, cmd_device_add, cmd_device_remove;
extern const struct cli_command cmd_recover, cmd_verify;
extern const struct cli_command cmd_room_create, cmd_room_list, cmd_leave;
extern const struct cli_command cmd_room_show, cmd_room_fingerprint, cmd_audit;
extern const struct cli_command cmd_room_amend, cmd_room_transfer;
extern const struct cli_command cmd_invite, cmd_invite_ls, cmd_invite_revoke;
extern const struct cli_command cmd_chat, cmd_join, cmd_dm, cmd_send, cmd_history, cmd_search;
extern const struct cli_command cmd_react, cmd_edit, cmd_delete;
extern const struct cli_command cmd_read, cmd_unread, cmd_outbox, cmd_outbox_flush;
extern const struct cli_command cmd_block, cmd_unblock, cmd_blocks, cmd_report, cmd_reports;
extern const struct cli_command cmd_presence, cmd_who;
extern const struct cli_command cmd_upload, cmd_download, cmd_ls, cmd_stat;
extern const struct cli_command cmd_cat, cmd_find, cmd_du, cmd_mv, cmd_rm, cmd_restore, cmd_share, cmd_sync;
extern const struct cli_command cmd_link, cmd_link_ls, cmd_link_revoke;
extern const struct cli_command cmd_peer_start, cmd_peer_status, cmd_peer_update, cmd_peer_stop, cmd_peer_end;
extern const struct cli_command cmd_segment_ls, cmd_segment_stop, cmd_segment_wake, cmd_segment_drain, cmd_top;
extern const struct cli_command cmd_health;
extern const struct cli_command cmd_call, cmd_describe;
extern const struct cli_command cmd_shellenv, cmd_completion, cmd_help;

#endif
