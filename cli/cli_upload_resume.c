// fc upload --resume: what was begun and has not ended, here and on other machines.
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "cli/cli_message.h"
#include "cli/cli_upload.h"

enum {
    ID_BYTES = 16,
    ID_HEX_BYTES = 33,
};

struct kept_upload {
    char id[ID_HEX_BYTES];
    char *path; // NULL: it was begun elsewhere
    char *name;
    char *room;
    uint64_t size_bytes;
    uint64_t arrived_bytes;
};

struct kept_list {
    struct kept_upload *uploads;
    size_t count;
    const char *only_id; // NULL: all
    enum err err;
};

static struct kept_upload *
find_kept(const struct kept_list *list, const char *id)
{
    for (size_t i = 0; i < list->count; i++) {
        if (strcmp(list->uploads[i].id, id) == 0) {
            return &list->uploads[i];
        }
    }
    return NULL;
}

// keep_one adds an upload, or what the server says of one that is known here.
static bool
keep_one(void *context, const struct fc_unfinished *unfinished)
{
    struct kept_list *list = context;
    char id[ID_HEX_BYTES];

    bytes_to_hex(bytes_view_of(unfinished->request_id, sizeof unfinished->request_id), id);
    if (list->only_id != NULL && strcmp(list->only_id, id) != 0) {
        return true;
    }
    struct kept_upload *known = find_kept(list, id);
    if (known != NULL) {
        known->arrived_bytes = unfinished->arrived_bytes;
        return true;
    }
    struct kept_upload *grown = realloc(list->uploads, (list->count + 1) * sizeof *grown);
    if (grown == NULL) {
        list->err = ERR_NO_MEMORY;
        return false;
    }
    list->uploads = grown;
    struct kept_upload *kept = &grown[list->count++];
    memcpy(kept->id, id, sizeof id);
    kept->path = unfinished->path != NULL ? strdup(unfinished->path) : NULL;
    kept->name = strdup(unfinished->name);
    kept->room = strdup(unfinished->room);
    kept->size_bytes = unfinished->size_bytes;
    kept->arrived_bytes = unfinished->arrived_bytes;
    if ((kept->path == NULL && unfinished->path != NULL) || kept->name == NULL || kept->room == NULL) {
        list->err = ERR_NO_MEMORY;
    }
    return list->err == ERR_OK;
}

static void
free_kept(struct kept_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->uploads[i].path);
        free(list->uploads[i].name);
        free(list->uploads[i].room);
    }
    free(list->uploads);
}

static enum err
print_kept(const struct cli *cli, const struct kept_upload *kept, struct err_detail *why)
{
    struct cli_text text = {0};

    if (cli_options_has(&cli->options, CLI_OPTION_JSON)) {
        cli_json_open(&text, NULL);
        cli_json_text(&text, "id", kept->id);
        cli_json_text(&text, "name", kept->name);
        if (kept->room[0] != '\0') {
            cli_json_text(&text, "room", kept->room);
        }
        cli_json_u64(&text, "size", kept->size_bytes);
        cli_json_u64(&text, "arrived", kept->arrived_bytes);
        if (kept->path != NULL) {
            cli_json_text(&text, "path", kept->path);
        }
        cli_json_close_line(&text);
        return cli_text_print(&text, why);
    }
    cli_text_add(&text, "%s  %14llu  ", kept->id, (unsigned long long)kept->size_bytes);
    cli_text_add_printable(&text, kept->name);
    cli_text_add(&text, "  ");
    cli_text_add_printable(&text, kept->path != NULL ? kept->path : "-");
    cli_text_add(&text, "\n");
    return cli_text_print(&text, why);
}

// go_on continues with one of this machine. Sealed files belong to a command with --room, which knows what to announce.
static enum err
go_on(struct cli *cli, const struct kept_upload *kept, struct fc_rate *rate, struct err_detail *why)
{
    const struct fc_upload what = {.path = kept->path, .name = kept->name};
    struct cli_text note = {0};

    if (kept->room[0] == '\0') {
        return cli_upload_send(cli, &what, rate, why);
    }
    cli_text_add_printable(&note, kept->path);
    cli_output_error("fc upload: note: %.*s is for a room: give its own command again", (int)note.bytes.size,
        (const char *)note.bytes.data);
    bytes_free(&note.bytes);
    return ERR_OK;
}

// resume_kept goes on with what this machine remembers, or lists that and what the server knows besides.
static enum err
resume_kept(struct cli *cli, const char *id, struct fc_rate *rate, struct err_detail *why)
{
    struct kept_list list = {.only_id = id};
    bool is_dry_run = cli_options_has(&cli->options, CLI_OPTION_DRY_RUN);

    enum err code = fc_file_each_unfinished(cli->session, keep_one, &list, why);
    if (code == ERR_OK && is_dry_run) {
        code = fc_file_each_upload(cli->session, keep_one, &list, why);
    }
    if (code == ERR_OK) {
        code = list.err;
    }
    if (code == ERR_OK && id != NULL && list.count == 0) {
        code = err_fail(why, ERR_NOT_FOUND,
            "no upload %s was begun here; name its file, too, if it was begun on another machine", id);
    }
    for (size_t i = 0; i < list.count && code == ERR_OK; i++) {
        const struct kept_upload *kept = &list.uploads[i];
        code = is_dry_run ? print_kept(cli, kept, why) : go_on(cli, kept, rate, why);
    }
    free_kept(&list);
    return code;
}

// resume_elsewhere goes on with an upload that was begun on another machine, under the name that it has there.
static enum err
resume_elsewhere(struct cli *cli, const uint8_t id[ID_BYTES], struct fc_rate *rate, struct err_detail *why)
{
    struct kept_list list = {.only_id = cli->arguments[0]};
    struct fc_upload what = {
        .path = cli->arguments[1],
        .name = cli->options.values[CLI_OPTION_NAME],
        .request_id = id,
    };

    enum err code = fc_file_each_upload(cli->session, keep_one, &list, why);
    if (code == ERR_OK) {
        code = list.err;
    }
    if (code == ERR_OK && list.count != 0 && what.name == NULL) {
        what.name = list.uploads[0].name;
    }
    if (code == ERR_OK && list.count == 0) {
        code =
            err_fail(why, ERR_NOT_FOUND, "you have no unfinished upload %s: it has ended or was dropped", list.only_id);
    } else if (code == ERR_OK && list.uploads[0].room[0] != '\0') {
        code = err_fail(why, ERR_INVALID,
            "the upload is for the room \"%s\": give its command again where it was begun", list.uploads[0].room);
    }
    if (code == ERR_OK) {
        code = cli_upload_send(cli, &what, rate, why);
    }
    free_kept(&list);
    return code;
}

enum err
cli_upload_resume(struct cli *cli, struct fc_rate *rate, struct err_detail *why)
{
    uint8_t id[ID_BYTES];

    if (cli->argument_count == 0) {
        return resume_kept(cli, NULL, rate, why);
    }
    if (cli->argument_count > 2 || bytes_from_hex(cli->arguments[0], id, sizeof id) != ERR_OK) {
        return err_fail(why, ERR_INVALID, "usage: fc upload --resume [ID [FILE]]; a file by itself needs no --resume");
    }
    return cli->argument_count == 1 ? resume_kept(cli, cli->arguments[0], rate, why)
                                    : resume_elsewhere(cli, id, rate, why);
}
