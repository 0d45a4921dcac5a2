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
    X(CLI_OPTION_NAME, "name", 0, "NAME", "the name on the server instead of the file's own")                          \
    X(CLI_OPTION_ROOM, "room", 0, "ROOM", "share it with this room and announce it there")                             \
    X(CLI_OPTION_OUTPUT, "output", 'o', "PATH", "write to PATH and replace what is there; - is stdout")                \
    X(CLI_OPTION_FORCE, "force", 0, NULL, "replace an existing file; write to a terminal")                             \
    X(CLI_OPTION_TIMEOUT, "timeout", 0, "S", "wait at most S seconds for the answer (30)")                             \
    X(CLI_OPTION_DEFAULTS, "defaults", 0, NULL, "show fields that have their default value")

enum cli_option {
#define CLI_OPTION_ENUM(option, name, letter, value, summary) option,
    CLI_OPTION_MAP(CLI_OPTION_ENUM)
#undef CLI_OPTION_ENUM
        CLI_OPTION_NUMBER_OF
};

#define CLI_ALLOWS(option) (UINT64_C(1) << (option))

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

// cli_options is what was given. Values are borrowed from argv.
struct cli_options {
    uint64_t given; // CLI_ALLOWS() of each
    const char *values[CLI_OPTION_NUMBER_OF];
};

// cli_options_parse takes the options out of argv[1..], and leaves the other words in words_out (room for argc
// pointers). A lone "-" is a word; after "--" everything is. Of an option given twice the last counts. ERR_INVALID.
enum err cli_options_parse(int argc, char **argv, struct cli_options *options_out, char **words_out,
    size_t *word_count_out, struct err_detail *why) ERR_CHECKED;

bool cli_options_has(const struct cli_options *options, enum cli_option option);

// cli_options_u64 reads the option's value as a decimal number of at least min; fallback when it was not given.
enum err cli_options_u64(const struct cli_options *options, enum cli_option option, uint64_t min, uint64_t fallback,
    uint64_t *out, struct err_detail *why) ERR_CHECKED;

#endif
