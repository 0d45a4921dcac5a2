#include "cli/cli_words.h"

enum err
cli_words_join(const struct cli *cli, size_t first, const char *what, struct bytes *out, struct err_detail *why)
{
    struct bytes text = {0};
    enum err code = ERR_OK;
    for (size_t i = first; i < cli->argument_count && code == ERR_OK; i++) {
        if (i > first) {
            code = bytes_append(&text, bytes_view_of_text(" "));
        }
        if (code == ERR_OK) {
            code = bytes_append(&text, bytes_view_of_text(cli->arguments[i]));
        }
    }
    if (code == ERR_OK && text.size == 0) {
        code = err_fail(why, ERR_INVALID, "%s is empty", what);
    }
    if (code == ERR_OK) {
        code = bytes_append(&text, bytes_view_of("", 1));
    }
    if (code != ERR_OK) {
        bytes_free(&text);
        return code;
    }
    text.size--;
    *out = text;
    return ERR_OK;
}

enum err
cli_words_seq(const char *text, uint64_t *out, struct err_detail *why)
{
    const char *digits = *text == '#' ? text + 1 : text;
    uint64_t number = 0;
    for (const char *c = digits; *c != '\0'; c++) {
        uint64_t digit = (uint64_t)*c - '0';
        if (*c < '0' || *c > '9' || number > (UINT64_MAX - digit) / 10) {
            return err_fail(why, ERR_INVALID, "\"%s\" is not the number of a message; fc history -n shows them", text);
        }
        number = number * 10 + digit;
    }
    if (number == 0) {
        return err_fail(why, ERR_INVALID, "\"%s\" is not the number of a message; fc history -n shows them", text);
    }
    *out = number;
    return ERR_OK;
}
