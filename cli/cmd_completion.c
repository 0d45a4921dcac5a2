// fc completion: what a shell needs to complete fc's command line, written from the command table.
#include <string.h>

#include "cli/cli_command.h"
#include "cli/cli_output.h"

// add_quoted writes text in single quotes, which bash, zsh and fish read alike. colon is what a colon becomes: zsh's
// lists want it escaped.
static void
add_quoted(struct cli_text *out, const char *text, const char *colon)
{
    cli_text_add(out, "'");
    for (; *text != '\0'; text++) {
        if (*text == '\'') {
            cli_text_add(out, "'\\''");
        } else if (*text == ':') {
            cli_text_add(out, "%s", colon);
        } else {
            cli_text_add(out, "%c", *text);
        }
    }
    cli_text_add(out, "'");
}

// A word that may come first: a command's, or the common one of several.
struct first_word {
    const char *text;
    size_t size;
    const char *second; // NULL: the command has one word
};

static struct first_word
first_word_of(const struct cli_command *command)
{
    const char *space = strchr(command->name, ' ');
    return (struct first_word){
        .text = command->name,
        .size = space != NULL ? (size_t)(space - command->name) : strlen(command->name),
        .second = space != NULL ? space + 1 : NULL,
    };
}

// is_repeated tells that the command above it in the table has the same first word.
static bool
is_repeated(const struct cli_command *const *command)
{
    if (command == cli_commands) {
        return false;
    }
    struct first_word here = first_word_of(command[0]);
    struct first_word above = first_word_of(command[-1]);
    return here.size == above.size && memcmp(here.text, above.text, here.size) == 0;
}

// add_value_patterns writes the options that take a value, as alternatives of a case.
static void
add_value_patterns(struct cli_text *out, bool is_path)
{
    const char *separator = "";
    for (unsigned i = 0; i < CLI_OPTION_NUMBER_OF; i++) {
        const struct cli_option_row *row = &cli_option_rows[i];
        if (row->value == NULL || (i == CLI_OPTION_OUTPUT) != is_path) {
            continue;
        }
        cli_text_add(out, "%s--%s", separator, row->name);
        separator = "|";
        if (row->letter != 0) {
            cli_text_add(out, "|-%c", row->letter);
        }
    }
}

// add_scan writes the loop, the same in bash and zsh, that gathers in `seen` the words before the current one without
// the options and their values.
static void
add_scan(struct cli_text *out, const char *array, const char *first, const char *current)
{
    cli_text_add(out,
        "    local seen='' i\n"
        "    for ((i = %s; i < %s; i++)); do\n"
        "        case ${%s[i]} in\n"
        "            ",
        first, current, array);
    add_value_patterns(out, false);
    cli_text_add(out, "|");
    add_value_patterns(out, true);
    cli_text_add(out,
        ") ((i += 1)) ;;\n"
        "            -*) ;;\n"
        "            *) seen+=\" ${%s[i]}\" ;;\n"
        "        esac\n"
        "    done\n",
        array);
}

// What is said of a first word that several commands share.
static const char *
summary_of_group(struct first_word word)
{
    static const struct {
        const char *name;
        const char *summary;
    } groups[] = {
        {"room", "make, show and change rooms"},
        {"session", "list and end logins"},
        {"device", "let devices in, list and end them"},
        {"peer", "share files from this machine"},
        {"segment", "list, stop and wake servers of segments"},
    };
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
        if (strlen(groups[i].name) == word.size && memcmp(groups[i].name, word.text, word.size) == 0) {
            return groups[i].summary;
        }
    }
    return "";
}

static bool
is_same_group(struct first_word a, struct first_word b)
{
    return a.second != NULL && b.second != NULL && a.size == b.size && memcmp(a.text, b.text, a.size) == 0;
}

static void
add_bash_first_words(struct cli_text *out)
{
    const char *separator = "";
    for (const struct cli_command *const *command = cli_commands; *command != NULL; command++) {
        struct first_word word = first_word_of(*command);
        if (!is_repeated(command)) {
            cli_text_add(out, "%s%.*s", separator, (int)word.size, word.text);
            separator = " ";
        }
    }
}

static void
add_bash_second_words(struct cli_text *out, struct first_word group)
{
    const char *separator = "";
    for (const struct cli_command *const *command = cli_commands; *command != NULL; command++) {
        struct first_word word = first_word_of(*command);
        if (is_same_group(word, group)) {
            cli_text_add(out, "%s%s", separator, word.second);
            separator = " ";
        }
    }
}

static void
add_bash_options(struct cli_text *out, const struct cli_command *command)
{
    cli_text_add(out, "options='");
    for (unsigned i = 0; i < CLI_OPTION_NUMBER_OF; i++) {
        if (((command->options | CLI_ALLOWS_ALWAYS) & CLI_ALLOWS(i)) != 0) {
            cli_text_add(out, " --%s", cli_option_rows[i].name);
        }
    }
    cli_text_add(out, "'");
}

static void
add_zsh_options(struct cli_text *out, const struct cli_command *command)
{
    cli_text_add(out, "options=(");
    for (unsigned i = 0; i < CLI_OPTION_NUMBER_OF; i++) {
        if (((command->options | CLI_ALLOWS_ALWAYS) & CLI_ALLOWS(i)) != 0) {
            cli_text_add(out, " --%s:", cli_option_rows[i].name);
            add_quoted(out, cli_option_rows[i].summary, "\\:");
        }
    }
    cli_text_add(out, ")");
}

// command_of finds the command whose whole name is the first word of a group, as "invite" is of "invite ls"; or NULL.
static const struct cli_command *
command_of(struct first_word group)
{
    for (const struct cli_command *const *command = cli_commands; *command != NULL; command++) {
        if (strlen((*command)->name) == group.size && memcmp((*command)->name, group.text, group.size) == 0) {
            return *command;
        }
    }
    return NULL;
}

// add_group_cases writes what comes after the first word of several commands. open and close surround the words.
static void
add_group_cases(struct cli_text *out, void (*add_words)(struct cli_text *out, struct first_word group),
    void (*add_options)(struct cli_text *out, const struct cli_command *command), const char *open, const char *close)
{
    struct first_word above = {0};
    for (const struct cli_command *const *command = cli_commands; *command != NULL; command++) {
        struct first_word word = first_word_of(*command);
        if (word.second != NULL && !is_same_group(word, above)) {
            cli_text_add(out, "        ' %.*s'|' help %.*s') %s", (int)word.size, word.text, (int)word.size, word.text,
                open);
            add_words(out, word);
            cli_text_add(out, "%s ", close);
            if (command_of(word) != NULL) {
                add_options(out, command_of(word));
            }
            cli_text_add(out, " ;;\n");
        }
        above = word;
    }
}

// add_command_cases writes what comes after a command's name: those of two words first, since a case takes the first
// pattern that fits.
static void
add_command_cases(struct cli_text *out, void (*add)(struct cli_text *out, const struct cli_command *command))
{
    for (int words = 2; words > 0; words--) {
        for (const struct cli_command *const *command = cli_commands; *command != NULL; command++) {
            if ((first_word_of(*command).second != NULL) == (words == 2)) {
                add(out, *command);
            }
        }
    }
}

static void
add_bash_command(struct cli_text *out, const struct cli_command *command)
{
    cli_text_add(out, "        ' %s'|' %s '*) ", command->name, command->name);
    add_bash_options(out, command);
    if (command->argument == CLI_ARGUMENT_PATH) {
        cli_text_add(out, " kind=path");
    } else if (command->argument == CLI_ARGUMENT_SHELL) {
        cli_text_add(out, " words='bash zsh fish'");
    } else if (command->argument == CLI_ARGUMENT_COMMAND) {
        cli_text_add(out, " words='");
        add_bash_first_words(out);
        cli_text_add(out, "'");
    }
    cli_text_add(out, " ;;\n");
}

static void
add_bash(struct cli_text *out)
{
    cli_text_add(out, "# bash completion for fc, written by 'fc completion bash'.\n"
                      "_fc_cli() {\n"
                      "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
                      "    local kind='' words='' options='--server --json --help --version'\n");
    add_scan(out, "COMP_WORDS", "1", "COMP_CWORD");
    cli_text_add(out, "    case $seen in\n        '') words='");
    add_bash_first_words(out);
    cli_text_add(out, "' ;;\n");
    add_group_cases(out, add_bash_second_words, add_bash_options, "words='", "'");
    add_command_cases(out, add_bash_command);
    cli_text_add(out, "    esac\n    case $prev in\n        ");
    add_value_patterns(out, true);
    cli_text_add(out, ") kind=path words='' ;;\n        ");
    add_value_patterns(out, false);
    cli_text_add(out, ") return ;;\n"
                      "        *) [[ $cur == -* ]] && kind='' words=$options ;;\n"
                      "    esac\n"
                      "    if [[ $kind == path ]]; then\n"
                      "        compopt -o filenames 2>/dev/null\n"
                      "        mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n"
                      "    else\n"
                      "        mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
                      "    fi\n"
                      "}\n"
                      "complete -F _fc_cli fc fc-cli\n");
}

static void
add_zsh_entry(struct cli_text *out, const char *word, size_t word_size, const char *summary)
{
    cli_text_add(out, " '%.*s':", (int)word_size, word);
    add_quoted(out, summary, "\\:");
}

static void
add_zsh_first_words(struct cli_text *out)
{
    for (const struct cli_command *const *command = cli_commands; *command != NULL; command++) {
        struct first_word word = first_word_of(*command);
        if (!is_repeated(command)) {
            add_zsh_entry(out, word.text, word.size,
                word.second == NULL ? (*command)->summary : summary_of_group(word));
        }
    }
}

static void
add_zsh_second_words(struct cli_text *out, struct first_word group)
{
    for (const struct cli_command *const *command = cli_commands; *command != NULL; command++) {
        struct first_word word = first_word_of(*command);
        if (is_same_group(word, group)) {
            add_zsh_entry(out, word.second, strlen(word.second), (*command)->summary);
        }
    }
}

static void
add_zsh_command(struct cli_text *out, const struct cli_command *command)
{
    cli_text_add(out, "        ' %s'|' %s '*) ", command->name, command->name);
    add_zsh_options(out, command);
    if (command->argument == CLI_ARGUMENT_PATH) {
        cli_text_add(out, " kind=path");
    } else if (command->argument == CLI_ARGUMENT_SHELL) {
        cli_text_add(out, " entries=(bash zsh fish)");
    } else if (command->argument == CLI_ARGUMENT_COMMAND) {
        cli_text_add(out, " entries=(");
        add_zsh_first_words(out);
        cli_text_add(out, ")");
    }
    cli_text_add(out, " ;;\n");
}

// The function is not called _fc: that is zsh's own, for its builtin.
static void
add_zsh(struct cli_text *out)
{
    cli_text_add(out, "#compdef fc-cli fc\n"
                      "# zsh completion for fc, written by 'fc completion zsh'.\n"
                      "_fc-cli() {\n"
                      "    local kind='' prev=${words[CURRENT-1]} cur=${words[CURRENT]}\n"
                      "    local -a entries options\n");
    add_scan(out, "words", "2", "CURRENT");
    cli_text_add(out, "    case $seen in\n        '') entries=(");
    add_zsh_first_words(out);
    cli_text_add(out, ") ;;\n");
    add_group_cases(out, add_zsh_second_words, add_zsh_options, "entries=(", ")");
    add_command_cases(out, add_zsh_command);
    cli_text_add(out, "    esac\n    case $prev in\n        ");
    add_value_patterns(out, true);
    cli_text_add(out, ") _files; return ;;\n        ");
    add_value_patterns(out, false);
    cli_text_add(out, ") return ;;\n"
                      "    esac\n"
                      "    if [[ $cur == -* ]]; then\n"
                      "        _describe option options\n"
                      "    elif [[ $kind == path ]]; then\n"
                      "        _files\n"
                      "    else\n"
                      "        _describe argument entries\n"
                      "    fi\n"
                      "}\n"
                      "if [[ $funcstack[1] == _fc-cli ]]; then _fc-cli \"$@\"; else compdef _fc-cli fc fc-cli; fi\n");
}

// add_fish_condition writes when the command is the one being completed.
static void
add_fish_condition(struct cli_text *out, const struct cli_command *command)
{
    struct first_word word = first_word_of(command);
    cli_text_add(out, "complete -c fc -n '__fish_seen_subcommand_from %.*s", (int)word.size, word.text);
    if (word.second != NULL) {
        cli_text_add(out, "; and __fish_seen_subcommand_from %s", word.second);
    }
    cli_text_add(out, "'");
}

static void
add_fish_name(struct cli_text *out, const struct cli_command *const *command)
{
    struct first_word word = first_word_of(*command);
    if (!is_repeated(command)) {
        cli_text_add(out, "complete -c fc -n __fish_use_subcommand -a %.*s -d ", (int)word.size, word.text);
        add_quoted(out, word.second == NULL ? (*command)->summary : summary_of_group(word), ":");
        cli_text_add(out, "\n");
    }
    if (word.second != NULL) {
        cli_text_add(out, "complete -c fc -n '__fish_seen_subcommand_from %.*s; and not __fish_seen_subcommand_from ",
            (int)word.size, word.text);
        add_bash_second_words(out, word);
        cli_text_add(out, "' -a %s -d ", word.second);
        add_quoted(out, (*command)->summary, ":");
        cli_text_add(out, "\n");
    }
}

static void
add_fish_option(struct cli_text *out, enum cli_option option)
{
    const struct cli_option_row *row = &cli_option_rows[option];
    cli_text_add(out, " -l %s", row->name);
    if (row->letter != 0) {
        cli_text_add(out, " -s %c", row->letter);
    }
    if (row->value != NULL) {
        cli_text_add(out, option == CLI_OPTION_OUTPUT ? " -rF" : " -x");
    }
    cli_text_add(out, " -d ");
    add_quoted(out, row->summary, ":");
    cli_text_add(out, "\n");
}

static void
add_fish(struct cli_text *out)
{
    cli_text_add(out, "# fish completion for fc, written by 'fc completion fish'.\ncomplete -c fc -f\n");
    for (unsigned i = 0; i < CLI_OPTION_NUMBER_OF; i++) {
        if ((CLI_ALLOWS_ALWAYS & CLI_ALLOWS(i)) != 0) {
            cli_text_add(out, "complete -c fc");
            add_fish_option(out, (enum cli_option)i);
        }
    }
    for (const struct cli_command *const *command = cli_commands; *command != NULL; command++) {
        add_fish_name(out, command);
        for (unsigned i = 0; i < CLI_OPTION_NUMBER_OF; i++) {
            if (((*command)->options & CLI_ALLOWS(i)) != 0) {
                add_fish_condition(out, *command);
                add_fish_option(out, (enum cli_option)i);
            }
        }
        if ((*command)->argument == CLI_ARGUMENT_PATH) {
            add_fish_condition(out, *command);
            cli_text_add(out, " -F\n");
        } else if ((*command)->argument == CLI_ARGUMENT_SHELL) {
            add_fish_condition(out, *command);
            cli_text_add(out, " -a 'bash zsh fish'\n");
        } else if ((*command)->argument == CLI_ARGUMENT_COMMAND) {
            add_fish_condition(out, *command);
            cli_text_add(out, " -a '");
            add_bash_first_words(out);
            cli_text_add(out, "'\n");
        }
    }
    cli_text_add(out, "complete -c fc-cli -w fc\n");
}

static enum err
run_completion(struct cli *cli, struct err_detail *why)
{
    static const struct {
        const char *name;
        void (*add)(struct cli_text *out);
    } shells[] = {{"bash", add_bash}, {"zsh", add_zsh}, {"fish", add_fish}};
    for (size_t i = 0; i < sizeof shells / sizeof shells[0]; i++) {
        if (strcmp(cli->arguments[0], shells[i].name) == 0) {
            struct cli_text text = {0};
            shells[i].add(&text);
            return cli_text_print(&text, why);
        }
    }
    return err_fail(why, ERR_INVALID, "there is no completion for \"%s\"; there is for bash, zsh and fish",
        cli->arguments[0]);
}

const struct cli_command cmd_completion = {
    .name = "completion",
    .synopsis = "bash|zsh|fish",
    .summary = "print the completion of fc for a shell",
    .details = "It is installed with fc. Otherwise, in bash or zsh:\n"
               "\n"
               "    source <(fc-cli completion bash)\n",
    .arguments_min = 1,
    .arguments_max = 1,
    .argument = CLI_ARGUMENT_SHELL,
    .run = run_completion,
};
