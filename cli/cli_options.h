// The options of fc: each means the same, and takes the same kind of value, wherever it is allowed. So they can stand
// before the command's name, after it, and between its arguments.
#ifndef CLI_CLI_OPTIONS_H
#define CLI_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

// X(enumerator, name, letter or 0, value's name or NULL, summary).
#define CLI_OPTION_MAP(X)                                                                                              \
    X(CLI_OPTION_SERVER, "server", 0, "URL", "the server to use, such as tls+tcp://HOST")                              \
    X(CLI_OPTION_TRUST, "trust", 0, "FINGERPRINT", "trust a new server with this certificate")                         \
    X(CLI_OPTION_TLS_CA, "tls-ca", 0, "FILE", "trust servers that these authorities signed")                           \
    X(CLI_OPTION_TLS_CERT, "tls-cert", 0, "FILE", "our certificate, for servers that ask for one")                     \
    X(CLI_OPTION_TLS_KEY, "tls-key", 0, "FILE", "its key")                                                             \
    X(CLI_OPTION_JSON, "json", 0, NULL, "print JSON, one object a line")                                               \
    X(CLI_OPTION_HELP, "help", 'h', NULL, "show this help and do nothing else")                                        \
    X(CLI_OPTION_VERSION, "version", 0, NULL, "show the version and do nothing else")                                  \
    X(CLI_OPTION_PASSWORD_STDIN, "password-stdin", 0, NULL, "read the password from standard input")                   \
    X(CLI_OPTION_RECOVERY, "recovery", 0, "WHERE", "keep the recovery key on the server or offline")                   \
    X(CLI_OPTION_RESET, "reset", 0, NULL, "begin anew without the old keys and messages")                              \
    X(CLI_OPTION_TEST, "test", 0, NULL, "only check the recovery key")                                                 \
    X(CLI_OPTION_FORGET, "forget", 0, NULL, "also delete keys and messages from this machine")                         \
    X(CLI_OPTION_YES, "yes", 0, NULL, "do not ask")                                                                    \
    X(CLI_OPTION_NO_SIGN, "no-sign", 0, NULL, "it may not add or remove devices itself")                               \
    X(CLI_OPTION_QR, "qr", 0, NULL, "show it as a QR code, too")                                                       \
    X(CLI_OPTION_CODE, "code", 0, "DIGITS", "compare with the safety number that they see")                            \
    X(CLI_OPTION_ACCEPT, "accept", 0, NULL, "go on with the keys that they have now")                                  \
    X(CLI_OPTION_PLAIN, "plain", 0, NULL, "accept that the server can read the messages")                              \
    X(CLI_OPTION_SINCE, "since", 0, "SEQ", "begin after message number SEQ (0: from the first)")                       \
    X(CLI_OPTION_COUNT, "count", 0, "N", "end after printing N messages")                                              \
    X(CLI_OPTION_LIMIT, "limit", 0, "N", "print at most N messages (0: all)")                                          \
    X(CLI_OPTION_NAME, "name", 0, "NAME", "the name on the server, or another one for a room")                         \
    X(CLI_OPTION_ROOM, "room", 0, "ROOM", "share it with this room, or look in this one only")                         \
    X(CLI_OPTION_OUTPUT, "output", 'o', "PATH", "write to PATH and replace what is there; - is stdout")                \
    X(CLI_OPTION_FORCE, "force", 0, NULL, "replace an existing file; write to a terminal")                             \
    X(CLI_OPTION_TIMEOUT, "timeout", 0, "S", "wait at most S seconds for an answer, or a server")                      \
    X(CLI_OPTION_DEFAULTS, "defaults", 0, NULL, "show fields that have their default value")                           \
    X(CLI_OPTION_PRIVATE, "private", 0, NULL, "only who is invited or added can enter")                                \
    X(CLI_OPTION_MEMBER, "member", 0, "USER,...", "who is in it from the beginning")                                   \
    X(CLI_OPTION_TOPIC, "topic", 0, "TOPIC", "what the room, or the thread in it, is about")                           \
    X(CLI_OPTION_HISTORY, "history", 0, "all|joined", "what new members can read: all, or what follows")               \
    X(CLI_OPTION_ALL, "all", 0, NULL, "also the public rooms that you are not in")                                     \
    X(CLI_OPTION_ADD, "add", 0, "USER,...", "make them members")                                                       \
    X(CLI_OPTION_REMOVE, "remove", 0, "USER,...", "end their membership")                                              \
    X(CLI_OPTION_INVITE, "invite", 0, "USER,...", "let them join")                                                     \
    X(CLI_OPTION_ROLE, "role", 0, "ROLE", "member, admin or owner; or USER=ROLE,...")                                  \
    X(CLI_OPTION_ARCHIVE, "archive", 0, NULL, "end the sending of messages")                                           \
    X(CLI_OPTION_REVIVE, "revive", 0, NULL, "undo --archive")                                                          \
    X(CLI_OPTION_REKEY, "rekey", 0, NULL, "take new keys for what follows")                                            \
    X(CLI_OPTION_LINK, "link", 0, NULL, "make a link that lets whoever has it join")                                   \
    X(CLI_OPTION_USES, "uses", 0, "N", "how many can join by it (any number)")                                         \
    X(CLI_OPTION_EXPIRES, "expires", 0, "TIME", "when it ends, such as 30m, 12h or 7d (never)")                        \
    X(CLI_OPTION_REPLY, "reply", 0, "SEQ", "answer message number SEQ")                                                \
    X(CLI_OPTION_ME, "me", 0, NULL, "say what you do: * alice waves")                                                  \
    X(CLI_OPTION_UNDO, "undo", 0, NULL, "take it back")                                                                \
    X(CLI_OPTION_BEFORE, "before", 0, "SEQ", "end before message number SEQ")                                          \
    X(CLI_OPTION_AROUND, "around", 0, "SEQ", "message number SEQ and those around it")                                 \
    X(CLI_OPTION_AFTER_TIME, "after-time", 0, "TIME", "begin at this time, or so long ago: 2h, 7d")                    \
    X(CLI_OPTION_EVENTS, "events", 0, NULL, "show edits, deletions and reactions by themselves")                       \
    X(CLI_OPTION_NUMBER, "number", 'n', NULL, "show the numbers of the messages")                                      \
    X(CLI_OPTION_OFFLINE, "offline", 0, NULL, "take what is on this machine; ask no server")                           \
    X(CLI_OPTION_NO_FOLLOW, "no-follow", 0, NULL, "enter the room and end")                                            \
    X(CLI_OPTION_EXEC, "exec", 0, "COMMAND", "run this for each message instead of printing it")                       \
    X(CLI_OPTION_OWN, "own", 0, NULL, "run it for your own messages, too")                                             \
    X(CLI_OPTION_REVEAL, "reveal", 0, NULL, "let them read this message, and no other")                                \
    X(CLI_OPTION_RESUME, "resume", 0, NULL, "go on with what has not been sent")                                       \
    X(CLI_OPTION_RECURSIVE, "recursive", 'r', NULL, "folders with all that is in them")                                \
    X(CLI_OPTION_DRY_RUN, "dry-run", 0, NULL, "only say what would be done")                                           \
    X(CLI_OPTION_LIMIT_RATE, "limit-rate", 0, "RATE", "bytes a second at most, such as 500K or 10M")                   \
    X(CLI_OPTION_SKIP, "skip", 0, NULL, "leave files alone that are there already")                                    \
    X(CLI_OPTION_NEWER, "newer", 0, NULL, "replace files that are older only")                                         \
    X(CLI_OPTION_NO_TIMES, "no-times", 0, NULL, "do not take over times and permissions")                              \
    X(CLI_OPTION_KEEP_METADATA, "keep-metadata", 0, NULL, "leave location and camera data in pictures")                \
    X(CLI_OPTION_LONG, "long", 'l', NULL, "show permissions and types, too")                                           \
    X(CLI_OPTION_VERSIONS, "versions", 0, NULL, "all versions of each name")                                           \
    X(CLI_OPTION_DELETED, "deleted", 0, NULL, "those that were deleted and can be restored")                           \
    X(CLI_OPTION_DELETE, "delete", 0, NULL, "delete here what was deleted on the other side")                          \
    X(CLI_OPTION_INTERVAL, "interval", 'i', "S", "seconds between two lines (1)")                                      \
    X(CLI_OPTION_LISTEN, "listen", 0, "URL", "where others reach it, such as tls+tcp://0.0.0.0:0")                     \
    X(CLI_OPTION_FOREGROUND, "foreground", 0, NULL, "do not go to the background")                                     \
    X(CLI_OPTION_FROM, "from", 0, "URL", "get it from this server, and only those so named")                           \
    X(CLI_OPTION_CONNECTIONS, "connections", 0, "N", "connections to each server (2)")                                 \
    X(CLI_OPTION_BALANCE, "balance", 0, "NAME", "how to choose among servers (adaptive)")                              \
    X(CLI_OPTION_VERBOSE, "verbose", 'v', NULL, "say at the end which server gave what")

enum cli_option {
#define CLI_OPTION_ENUM(option, name, letter, value, summary) option,
    CLI_OPTION_MAP(CLI_OPTION_ENUM)
#undef CLI_OPTION_ENUM
        CLI_OPTION_NUMBER_OF
};

// A set of options: one bit each.
__extension__ typedef unsigned __int128 cli_option_set;

#define CLI_ALLOWS(option) ((cli_option_set)1 << (option))

// What every command takes.
#define CLI_ALLOWS_ALWAYS                                                                                              \
    (CLI_ALLOWS(CLI_OPTION_SERVER) | CLI_ALLOWS(CLI_OPTION_TRUST) | CLI_ALLOWS(CLI_OPTION_TLS_CA) |                    \
        CLI_ALLOWS(CLI_OPTION_TLS_CERT) | CLI_ALLOWS(CLI_OPTION_TLS_KEY) | CLI_ALLOWS(CLI_OPTION_JSON) |               \
        CLI_ALLOWS(CLI_OPTION_HELP))

struct cli_option_row {
    const char *name;
    char letter;       // 0: none
    const char *value; // NULL: takes none
    const char *summary;
};

extern const struct cli_option_row cli_option_rows[CLI_OPTION_NUMBER_OF];

// An option as it was given, and its value.
struct cli_occurrence {
    enum cli_option option;
    const char *value;
};

// cli_options is what was given. Values are borrowed from argv.
struct cli_options {
    cli_option_set given; // CLI_ALLOWS() of each
    const char *values[CLI_OPTION_NUMBER_OF];
    struct cli_occurrence *all; // in order; those that are given several times, several times
    size_t count;
};

// cli_options_parse takes the options out of argv[1..], and leaves the other words in words_out (room for argc
// pointers). A lone "-" is a word; after "--" everything is. Of an option given twice the last value counts,
// unless it takes a list (cli_list.h). ERR_INVALID. Freed by cli_options_free.
enum err cli_options_parse(int argc, char **argv, struct cli_options *options_out, char **words_out,
    size_t *word_count_out, struct err_detail *why) ERR_CHECKED;

void cli_options_free(struct cli_options *options);

bool cli_options_has(const struct cli_options *options, enum cli_option option);

// cli_options_u64 reads the option's value as a decimal number of at least min; fallback when it was not given.
enum err cli_options_u64(const struct cli_options *options, enum cli_option option, uint64_t min, uint64_t fallback,
    uint64_t *out, struct err_detail *why) ERR_CHECKED;

// cli_options_rate reads --limit-rate: a number of bytes with K, M or G after it or not. 0: not given.
enum err cli_options_rate(const struct cli_options *options, uint64_t *out, struct err_detail *why) ERR_CHECKED;

#endif
