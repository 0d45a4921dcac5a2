// fc shellenv.
#include "cli/cli_command.h"
#include "cli/cli_output.h"

// Each line is a command of its own: ksh's alias has to be gone before a line with the word fc is parsed. The function
// is for shells that cannot switch a builtin off; env finds programs only.
static const char script[] = "unalias fc 2>/dev/null || :\n"
                             "if [ -n \"${BASH_VERSION-}\" ]; then enable -n fc; "
                             "elif [ -n \"${ZSH_VERSION-}\" ]; then disable fc 2>/dev/null || :; "
                             "else eval 'fc() { env fc \"$@\"; }'; fi\n";

static enum err
run_shellenv(struct cli *cli, struct err_detail *why)
{
    (void)cli;
    return cli_output_write(bytes_view_of_text(script), why);
}

const struct cli_command cmd_shellenv = {
    .name = "shellenv",
    .synopsis = "",
    .summary = "print what makes a shell run this fc instead of its builtin",
    .details = "bash, zsh and ksh have a builtin of the same name. In the shell, or in its start\n"
               "file:\n"
               "\n"
               "    eval \"$(fc-cli shellenv)\"\n"
               "\n"
               "fc-cli is this program's second name. 'command fc' would find the builtin.\n",
    .run = run_shellenv,
};
