// fc call and fc describe: what a server offers, without generated code.
#include <string.h>

#include "cli/cli_command.h"
#include "cli/cli_lines.h"
#include "cli/cli_output.h"
#include "client/fc_reflect.h"
#include "rpc/rpc_limits.h"

// read_timeout takes --timeout, in seconds.
static enum err
read_timeout(const struct cli *cli, uint32_t *timeout_ms_out, struct err_detail *why)
{
    enum {
        MAX_S = RPC_TIMEOUT_MAX_MS / 1000,
    };
    uint64_t timeout_s = 0;
    enum err code = cli_options_u64(&cli->options, CLI_OPTION_TIMEOUT, 1, 0, &timeout_s, why);
    if (code == ERR_OK && timeout_s > MAX_S) {
        code = err_fail(why, ERR_INVALID, "--timeout needs a number of at most %d", MAX_S);
    }
    *timeout_ms_out = (uint32_t)timeout_s * 1000;
    return code;
}

static enum err
print_response(void *context, struct bytes_view json, struct err_detail *why)
{
    struct bytes line = {0};
    (void)context;
    enum err code = bytes_append(&line, json);
    if (code == ERR_OK) {
        code = bytes_append(&line, bytes_view_of_text("\n"));
    }
    if (code == ERR_OK) {
        code = cli_output_write(bytes_as_view(&line), why);
    }
    bytes_free_secret(&line); // it may hold a token
    return code;
}

static enum err
run_call(struct cli *cli, struct err_detail *why)
{
    struct bytes input = {0};
    const char *json = cli->argument_count > 1 ? cli->arguments[1] : "{}";
    struct fc_reflect_call call = {
        .method = cli->arguments[0],
        .json = bytes_view_of_text(json),
        .with_defaults = cli_options_has(&cli->options, CLI_OPTION_DEFAULTS),
        .on_response = print_response,
    };
    enum err code = read_timeout(cli, &call.timeout_ms, why);
    if (code == ERR_OK) {
        code = cli_session_open(cli, false, why);
    }
    if (code == ERR_OK && strcmp(json, "-") == 0) {
        code = cli_lines_read_all(RPC_JSON_MAX_BYTES, &input, why);
        call.json = bytes_as_view(&input);
    }
    if (code == ERR_OK) {
        code = fc_reflect_call(cli->session, &call, why);
    }
    bytes_free_secret(&input);
    return code;
}

// print_json makes an object of each service in a list, or one of a description.
static enum err
print_json(const char *name, struct bytes *text, struct err_detail *why)
{
    struct cli_text out = {0};
    enum err code = bytes_append(text, bytes_view_of("", 1)); // the end of a C string
    if (code != ERR_OK) {
        return code;
    }
    char *rest = (char *)text->data;
    if (name != NULL) {
        cli_json_open(&out, NULL);
        cli_json_text(&out, "name", name);
        cli_json_text(&out, "text", rest);
        cli_json_close_line(&out);
        return cli_text_print(&out, why);
    }
    for (char *service; (service = strsep(&rest, "\n")) != NULL && *service != '\0';) {
        cli_json_open(&out, NULL);
        cli_json_text(&out, "service", service);
        cli_json_close_line(&out);
    }
    return cli_text_print(&out, why);
}

static enum err
run_describe(struct cli *cli, struct err_detail *why)
{
    struct bytes text = {0};
    const char *name = cli->argument_count > 0 ? cli->arguments[0] : NULL;
    enum err code = cli_session_open(cli, false, why);
    if (code == ERR_OK) {
        code = fc_reflect_describe(cli->session, name, &text, why);
    }
    if (code == ERR_OK && cli_options_has(&cli->options, CLI_OPTION_JSON)) {
        code = print_json(name, &text, why);
    } else if (code == ERR_OK) {
        code = cli_output_write(bytes_as_view(&text), why);
    }
    bytes_free(&text);
    return code;
}

const struct cli_command cmd_call = {
    .name = "call",
    .synopsis = "PACKAGE.Service/Method [JSON|-]",
    .summary = "call any method of the server",
    .details = "The request is JSON as protobuf maps it: bytes in base64, 64-bit integers as\n"
               "strings, enums by name. It is {} if not given, and read from standard input for\n"
               "-. The response is printed as JSON on one line, without fields that have their\n"
               "default value unless --defaults is given. Of a method that streams its requests\n"
               "each line is one; streamed responses are printed as they come, a line each.\n"
               "What a method takes is shown by 'fc describe PACKAGE.Service/Method'. The login\n"
               "is sent if there is one.\n",
    .options = CLI_ALLOWS(CLI_OPTION_TIMEOUT) | CLI_ALLOWS(CLI_OPTION_DEFAULTS),
    .arguments_min = 1,
    .arguments_max = 2,
    .run = run_call,
};

const struct cli_command cmd_describe = {
    .name = "describe",
    .synopsis = "[NAME]",
    .summary = "show what the server offers",
    .details = "Without NAME it lists the services. NAME is the full name of a service, a\n"
               "method, a message or an enum, such as fc.chat.v1.Chat/Send; it is shown as in\n"
               "its .proto file, with the comments.\n",
    .arguments_max = 1,
    .run = run_describe,
};
