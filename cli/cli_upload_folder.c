// fc upload -r: small files many to a call, large ones one after the other.
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "cli/cli_interrupt.h"
#include "cli/cli_message.h"
#include "cli/cli_progress.h"
#include "cli/cli_upload.h"
#include "client/fc_chat_file.h"
#include "client/fc_tree.h"

enum {
    NAME_MAX_BYTES = 2048, // longer than any that the server takes
    NS_PER_MS = 1000 * 1000,
};

struct folder {
    struct cli *cli;
    const char *path;
    const char *prefix; // of the names on the server, without the '/'
    const char *room;
    struct fc_rate *rate;
    struct fc_remote_list remotes;
    struct fc_put *put;
    struct fc_chat_put *room_put; // with a room
    uint64_t sent;
    uint64_t failed;
    enum err first; // failure
    struct err_detail first_why;
};

static void
note_failure(struct folder *folder, const char *name, enum err code, const char *message)
{
    folder->failed++;
    if (folder->first == ERR_OK) {
        folder->first = code;
        err_fail(&folder->first_why, code, "\"%.200s\": %.250s", name, message);
    }
}

static void
on_result(void *context, const char *name, const struct fc_file *file, enum err code, const char *message)
{
    struct folder *folder = context;
    struct err_detail why = {0};

    if (file == NULL) {
        note_failure(folder, name, code, message[0] != '\0' ? message : err_sentence(code));
        return;
    }
    folder->sent++;
    code = cli_upload_print(folder->cli, file, &why);
    if (code != ERR_OK) {
        note_failure(folder, name, code, why.message);
    }
}

static void
on_skipped(void *context, const char *name, const char *reason)
{
    const struct folder *folder = context;
    struct cli_text text = {0};

    cli_text_add_printable(&text, name);
    cli_output_error("fc upload: note: %s/%.*s is left out: %s", folder->path, (int)text.bytes.size,
        (const char *)text.bytes.data, reason);
    bytes_free(&text.bytes);
}

static enum err
send_large(struct folder *folder, const struct fc_upload *what, struct err_detail *why)
{
    struct cli_progress progress;
    struct fc_transfer_options transfer;
    struct fc_file file = {0};

    cli_progress_begin(&progress, what->path, &transfer);
    transfer.rate = folder->rate;
    enum err code = cli_progress_patience(&folder->cli->options, &transfer, why);
    if (code == ERR_OK) {
        code = cli_progress_follow(&progress, folder->cli->command->name, &folder->cli->options, &transfer, why);
    }
    if (code == ERR_OK) {
        code = folder->room != NULL
                   ? fc_chat_upload(folder->cli->chat, folder->room, what->path, what->name, &transfer, &file, why)
                   : fc_file_send(folder->cli->session, what, &transfer, &file, why);
    }
    cli_progress_end(&progress);
    if (code == ERR_OK) {
        folder->sent++;
        return cli_upload_print(folder->cli, &file, why);
    }
    return code;
}

static bool
is_unchanged(const struct folder *folder, const char *name, const struct fc_tree_entry *entry)
{
    const struct fc_remote *remote = fc_remote_list_find(&folder->remotes, name);
    return remote != NULL && remote->size_bytes == entry->size_bytes &&
           remote->modified_unix_ms == entry->modified_ns / NS_PER_MS;
}

static enum err
send(struct folder *folder, const struct fc_upload *what, uint64_t size_bytes, struct err_detail *why)
{
    if (folder->room != NULL && size_bytes <= FC_CHAT_PUT_FILE_MAX_BYTES) {
        return fc_chat_put_add(folder->room_put, what, why);
    }
    if (folder->room == NULL && size_bytes <= FC_PUT_FILE_MAX_BYTES) {
        return fc_put_add(folder->put, what, why);
    }
    return send_large(folder, what, why);
}

static enum err
visit(void *context, const struct fc_tree_entry *entry, struct err_detail *why)
{
    struct folder *folder = context;
    char name[NAME_MAX_BYTES];
    char path[PATH_MAX];

    if (cli_interrupt_signal() != 0) {
        return ERR_CANCELLED;
    }
    if (snprintf(name, sizeof name, "%s/%s", folder->prefix, entry->name) >= (int)sizeof name ||
        snprintf(path, sizeof path, "%s/%s", folder->path, entry->name) >= (int)sizeof path) {
        on_skipped(folder, entry->name, "its path is too long");
        return ERR_OK;
    }
    if (is_unchanged(folder, name, entry)) {
        return ERR_OK;
    }
    if (cli_options_has(&folder->cli->options, CLI_OPTION_DRY_RUN)) {
        return cli_upload_print_plan(folder->cli, name, entry->size_bytes, why);
    }
    const struct fc_upload what = {.path = path, .has_fd = true, .fd = entry->fd, .name = name};
    enum err code = send(folder, &what, entry->size_bytes, why);
    if (code == ERR_CONFLICT || code == ERR_INVALID || code == ERR_DENIED) {
        // One file's own trouble: the others can be sent.
        note_failure(folder, name, code, err_message(why, code));
        return ERR_OK;
    }
    return code;
}

// begin_room also finds what a plain room has already; the names in an encrypted one are not the server's to tell.
static enum err
begin_room(struct folder *folder, const char *prefix, struct err_detail *why)
{
    bool is_encrypted = true;

    enum err code = fc_chat_is_encrypted(folder->cli->chat, folder->room, &is_encrypted, why);
    if (code == ERR_OK && !is_encrypted) {
        code = fc_remote_list_fill(&folder->remotes, folder->cli->session, prefix, folder->room, why);
    }
    return code == ERR_OK ? fc_chat_put_new(folder->cli->chat, folder->room, on_result, folder, &folder->room_put, why)
                          : code;
}

static enum err
send_all(struct folder *folder, struct err_detail *why)
{
    char prefix[NAME_MAX_BYTES];
    enum err code = ERR_OK;

    if (snprintf(prefix, sizeof prefix, "%s/", folder->prefix) >= (int)sizeof prefix) {
        return err_fail(why, ERR_INVALID, "the name is too long");
    }
    if (folder->room == NULL) {
        code = fc_remote_list_fill(&folder->remotes, folder->cli->session, prefix, NULL, why);
        if (code == ERR_OK) {
            code = fc_put_new(folder->cli->session, NULL, on_result, folder, &folder->put, why);
        }
    } else {
        code = begin_room(folder, prefix, why);
    }
    if (code == ERR_OK) {
        code = fc_tree_walk(folder->path, visit, on_skipped, folder, why);
    }
    if (code == ERR_OK && folder->put != NULL) {
        code = fc_put_finish(folder->put, why);
    }
    if (code == ERR_OK && folder->room_put != NULL) {
        code = fc_chat_put_finish(folder->room_put, why);
    }
    if (code == ERR_OK && folder->failed != 0) {
        code = err_fail(why, folder->first, "%llu files were not sent, the first being %s",
            (unsigned long long)folder->failed, folder->first_why.message);
    }
    return code;
}

enum err
cli_upload_folder(struct cli *cli, const char *folder, struct fc_rate *rate, struct err_detail *why)
{
    char *real = realpath(folder, NULL);
    struct folder work = {
        .cli = cli,
        .path = folder,
        .prefix = cli->options.values[CLI_OPTION_NAME],
        .room = cli->options.values[CLI_OPTION_ROOM],
        .rate = rate,
    };
    enum err code = ERR_OK;

    if (real == NULL) {
        return err_fail(why, ERR_NOT_FOUND, "there is no folder \"%s\"", folder);
    }
    if (work.prefix == NULL) {
        work.prefix = strrchr(real, '/') + 1;
    }
    if (work.prefix[0] == '\0') {
        code = err_fail(why, ERR_INVALID, "\"%s\" has no name: say --name NAME", folder);
    } else {
        code = send_all(&work, why);
    }
    fc_put_free(&work.put);
    fc_chat_put_free(&work.room_put);
    fc_remote_list_free(&work.remotes);
    free(real);
    return code;
}
