// What is typed: a message, or a command that begins with a slash. Pure.
#ifndef CLI_TUI_COMMANDS_H
#define CLI_TUI_COMMANDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"

// X(enumerator, name, synopsis, summary, parts): the arguments that a command takes.
#define TUI_COMMAND_MAP(X)                                                                                             \
    X(TUI_CREATE, "create", "NAME [plain|public]", "make a room: encrypted, unless it says otherwise", TUI_WORD_REST)  \
    X(TUI_DELETE, "delete", "SEQ", "take a message back", TUI_SEQ)                                                     \
    X(TUI_DM, "dm", "USER", "talk with one user", TUI_USER)                                                            \
    X(TUI_EDIT, "edit", "SEQ TEXT", "change a message", TUI_SEQ_REST)                                                  \
    X(TUI_FILE, "file", "PATH", "send a file into the room", TUI_REST)                                                 \
    X(TUI_GET, "get", "NAME", "fetch a file of the room into the current folder", TUI_REST)                            \
    X(TUI_HELP, "help", "", "show this", TUI_NONE)                                                                     \
    X(TUI_INVITE, "invite", "USER", "invite a user to the room", TUI_USER)                                             \
    X(TUI_JOIN, "join", "ROOM", "enter a room", TUI_ROOM)                                                              \
    X(TUI_LEAVE, "leave", "", "leave the room", TUI_NONE)                                                              \
    X(TUI_ME, "me", "TEXT", "say what you do", TUI_REST)                                                               \
    X(TUI_MEMBERS, "members", "", "list who is in the room", TUI_NONE)                                                 \
    X(TUI_QUIT, "quit", "", "leave fc chat", TUI_NONE)                                                                 \
    X(TUI_REACT, "react", "SEQ EMOJI", "react to a message; once more takes it back", TUI_SEQ_REST)                    \
    X(TUI_REPLY, "reply", "SEQ TEXT", "answer a message", TUI_SEQ_REST)                                                \
    X(TUI_SEARCH, "search", "WORDS", "find messages: also from:USER, in:ROOM, has:file", TUI_REST)                     \
    X(TUI_TOPIC, "topic", "TEXT", "say what the room is about", TUI_REST)                                              \
    X(TUI_VERIFY, "verify", "USER", "show the number to compare with a user", TUI_USER)

enum tui_command_kind {
#define TUI_COMMAND_ENUM(kind, name, synopsis, summary, parts) kind,
    TUI_COMMAND_MAP(TUI_COMMAND_ENUM)
#undef TUI_COMMAND_ENUM
        TUI_COMMAND_NUMBER_OF,
    TUI_TEXT = TUI_COMMAND_NUMBER_OF // a message
};

enum tui_parts {
    TUI_NONE,
    TUI_ROOM,
    TUI_USER,
    TUI_REST,      // all of it
    TUI_WORD_REST, // a word, and maybe more
    TUI_SEQ,       // a message's number
    TUI_SEQ_REST,
};

struct tui_command_row {
    const char *name;
    const char *synopsis;
    const char *summary;
    enum tui_parts parts;
};

extern const struct tui_command_row tui_command_rows[TUI_COMMAND_NUMBER_OF];

// tui_command is what was typed, borrowed from the line.
struct tui_command {
    enum tui_command_kind kind;
    struct bytes_view word; // a room, user or name, without its @ for users
    struct bytes_view rest;
    uint64_t seq;
};

// tui_command_parse reads a line. "//x" is the message "/x"; ERR_INVALID:
// `why` says which command there is none of, or what is missing.
enum err tui_command_parse(struct bytes_view line, struct tui_command *out, struct err_detail *why) ERR_CHECKED;

#endif
