#include "cli/cli_options.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    RATE_SPARE_BITS = 20, // so that sums of rates and microseconds do not overflow
};

const struct cli_option_row cli_option_rows[CLI_OPTION_NUMBER_OF] = {
#define CLI_OPTION_ROW(option, name, letter, value, summary) [option] = {name, letter, value, summary},
    CLI_OPTION_MAP(CLI_OPTION_ROW)
#undef CLI_OPTION_ROW
};

_Static_assert(CLI_OPTION_NUMBER_OF <= 128, "an option is a bit of a cli_option_set");

// find_long accepts a full name only: what an abbreviation means would change with every new option.
static bool
find_long(const char *name, size_t name_size, enum cli_option *out)
{
    for (unsigned i = 0; i < CLI_OPTION_NUMBER_OF; i++) {
        if (strlen(cli_option_rows[i].name) == name_size && memcmp(cli_option_rows[i].name, name, name_size) == 0) {
            *out = (enum cli_option)i;
            return true;
        }
    }
    return false;
}

static bool
find_letter(char letter, enum cli_option *out)
{
    for (unsigned i = 0; i < CLI_OPTION_NUMBER_OF; i++) {
        if (cli_option_rows[i].letter == letter) {
            *out = (enum cli_option)i;
            return true;
        }
    }
    return false;
}

// split finds which option a word is, and the value that is part of the word itself ("--since=3", "-oPATH"), or NULL.
static enum err
split(const char *word, enum cli_option *option_out, const char **value_out, struct err_detail *why)
{
    if (word[1] == '-') {
        const char *equals = strchr(word, '=');
        size_t name_size = equals != NULL ? (size_t)(equals - word) - 2 : strlen(word) - 2;
        if (!find_long(word + 2, name_size, option_out)) {
            return err_fail(why, ERR_INVALID, "there is no option %s; put -- before words that begin with -", word);
        }
        *value_out = equals != NULL ? equals + 1 : NULL;
        return ERR_OK;
    }
    if (!find_letter(word[1], option_out)) {
        return err_fail(why, ERR_INVALID, "there is no option %s; put -- before words that begin with -", word);
    }
    *value_out = word[2] != '\0' ? word + 2 : NULL;
    return ERR_OK;
}

enum err
cli_options_parse(int argc, char **argv, struct cli_options *options_out, char **words_out, size_t *word_count_out,
    struct err_detail *why)
{
    struct cli_options options = {.all = calloc((size_t)argc + 1, sizeof(*options.all))};
    size_t word_count = 0;
    bool is_all_words = false;
    if (options.all == NULL) {
        return ERR_NO_MEMORY;
    }
    *options_out = options;
    for (int i = 1; i < argc; i++) {
        if (is_all_words || argv[i][0] != '-' || argv[i][1] == '\0') {
            words_out[word_count++] = argv[i];
            continue;
        }
        if (strcmp(argv[i], "--") == 0) {
            is_all_words = true;
            continue;
        }
        enum cli_option option = CLI_OPTION_HELP;
        const char *value = NULL;
        enum err code = split(argv[i], &option, &value, why);
        if (code != ERR_OK) {
            return code;
        }
        const struct cli_option_row *row = &cli_option_rows[option];
        if (row->value == NULL && value != NULL) {
            return err_fail(why, ERR_INVALID, "--%s takes no value", row->name);
        }
        if (row->value != NULL && value == NULL) {
            if (i + 1 >= argc) {
                return err_fail(why, ERR_INVALID, "--%s needs a value: --%s %s", row->name, row->name, row->value);
            }
            value = argv[++i];
        }
        options.given |= CLI_ALLOWS(option);
        options.values[option] = value;
        options.all[options.count++] = (struct cli_occurrence){.option = option, .value = value};
    }
    *options_out = options;
    *word_count_out = word_count;
    return ERR_OK;
}

void
cli_options_free(struct cli_options *options)
{
    free(options->all);
    *options = (struct cli_options){0};
}

bool
cli_options_has(const struct cli_options *options, enum cli_option option)
{
    return (options->given & CLI_ALLOWS(option)) != 0;
}

enum err
cli_options_u64(const struct cli_options *options, enum cli_option option, uint64_t min, uint64_t fallback,
    uint64_t *out, struct err_detail *why)
{
    if (!cli_options_has(options, option)) {
        *out = fallback;
        return ERR_OK;
    }
    const char *text = options->values[option];
    const char *name = cli_option_rows[option].name;
    uint64_t number = 0;
    if (*text == '\0') {
        return err_fail(why, ERR_INVALID, "--%s needs a number", name);
    }
    for (const char *c = text; *c != '\0'; c++) {
        uint64_t digit = (uint64_t)*c - '0';
        if (*c < '0' || *c > '9' || number > (UINT64_MAX - digit) / 10) {
            return err_fail(why, ERR_INVALID, "--%s needs a number, not \"%s\"", name, text);
        }
        number = number * 10 + digit;
    }
    if (number < min) {
        return err_fail(why, ERR_INVALID, "--%s needs a number of at least %" PRIu64, name, min);
    }
    *out = number;
    return ERR_OK;
}

enum err
cli_options_rate(const struct cli_options *options, uint64_t *out, struct err_detail *why)
{
    static const char units[] = "KMG";
    const char *text = options->values[CLI_OPTION_LIMIT_RATE];
    char *end = NULL;

    *out = 0;
    if (text == NULL) {
        return ERR_OK;
    }
    errno = 0;
    unsigned long long number = *text >= '0' && *text <= '9' ? strtoull(text, &end, 10) : 0;
    const char *unit = end != NULL && *end != '\0' ? strchr(units, *end) : NULL;
    unsigned shift = unit != NULL ? 10 * (unsigned)(unit - units + 1) : 0;
    if (number == 0 || errno != 0 || end[unit != NULL] != '\0' || number > UINT64_MAX >> (shift + RATE_SPARE_BITS)) {
        return err_fail(why, ERR_INVALID, "--limit-rate needs a number of bytes such as 500K or 10M, not \"%s\"", text);
    }
    *out = (uint64_t)number << shift;
    return ERR_OK;
}
