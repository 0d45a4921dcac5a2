// fc download -r.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "cli/cli_download.h"
#include "cli/cli_interrupt.h"
#include "cli/cli_message.h"
#include "cli/cli_progress.h"
#include "client/fc_tree.h"

enum {
    NAME_MAX_BYTES = 2048,
    ID_HEX_BYTES = 33,
    NEW_DIR_MODE = 0777,
    MS_PER_S = 1000,
    NS_PER_MS = 1000 * 1000,
};

struct folder {
    struct cli *cli;
    const char *path;
    int fd;
    struct fc_rate *rate;
    uint64_t failed;
    enum err first; // failure
    struct err_detail first_why;
};

// is_unchanged tells whether a file is there as it would be fetched.
static bool
is_unchanged(int dir_fd, const char *leaf, const struct fc_remote *remote)
{
    struct stat there;

    return fstatat(dir_fd, leaf, &there, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(there.st_mode) &&
           (uint64_t)there.st_size == remote->size_bytes && remote->modified_unix_ms != 0 &&
           (int64_t)there.st_mtim.tv_sec * MS_PER_S + there.st_mtim.tv_nsec / NS_PER_MS == remote->modified_unix_ms;
}

static enum err
print(const struct folder *folder, const struct fc_file *file, const char *name, struct err_detail *why)
{
    char path[NAME_MAX_BYTES];

    if (cli_options_has(&folder->cli->options, CLI_OPTION_JSON)) {
        return cli_file_print_json(file, why);
    }
    (void)snprintf(path, sizeof path, "%s/%s", folder->path, name);
    return cli_file_print_md5(file, path, why);
}

static enum fc_download_policy
policy_of(const struct cli_options *options)
{
    if (cli_options_has(options, CLI_OPTION_SKIP)) {
        return FC_DOWNLOAD_SKIP;
    }
    if (cli_options_has(options, CLI_OPTION_NEWER)) {
        return FC_DOWNLOAD_NEWER;
    }
    return cli_options_has(options, CLI_OPTION_FORCE) ? FC_DOWNLOAD_REPLACE : FC_DOWNLOAD_FAIL;
}

static enum err
fetch(struct folder *folder, const struct fc_remote *remote, int dir_fd, const char *leaf, const char *name,
    struct err_detail *why)
{
    struct cli_progress progress;
    struct fc_transfer_options transfer;
    struct fc_file file = {0};
    char id[ID_HEX_BYTES];
    bool is_skipped = false;
    const struct fc_download what = {
        .file = id,
        .path = leaf,
        .has_dir_fd = true,
        .dir_fd = dir_fd,
        .policy = policy_of(&folder->cli->options),
        .is_without_times = cli_options_has(&folder->cli->options, CLI_OPTION_NO_TIMES),
    };

    bytes_to_hex(bytes_view_of(remote->id, sizeof remote->id), id);
    cli_progress_begin(&progress, name, &transfer);
    transfer.rate = folder->rate;
    struct cli_list from = {0};
    enum err code = cli_download_options(folder->cli, &from, &progress, &transfer, why);
    if (code == ERR_OK) {
        code = fc_file_fetch(folder->cli->session, &what, &transfer, &file, &is_skipped, why);
    }
    cli_progress_end(&progress);
    cli_list_free(&from);
    return code == ERR_OK && !is_skipped ? print(folder, &file, name, why) : code;
}

static enum err
fetch_one(struct folder *folder, const struct fc_remote *remote, const char *name, struct err_detail *why)
{
    bool is_dry = cli_options_has(&folder->cli->options, CLI_OPTION_DRY_RUN);
    const char *leaf = NULL;
    int dir_fd = -1;
    enum err code = ERR_NOT_FOUND;

    if (folder->fd >= 0) {
        code = fc_tree_open_parent(folder->fd, name, !is_dry, &dir_fd, &leaf, why);
    }
    if (is_dry && code == ERR_NOT_FOUND) {
        code = ERR_OK;
    }
    if (code == ERR_OK && (dir_fd < 0 || !is_unchanged(dir_fd, leaf, remote))) {
        if (is_dry) {
            struct cli_text text = {0};
            cli_text_add(&text, "%14llu  ", (unsigned long long)remote->size_bytes);
            cli_text_add_printable(&text, name);
            cli_text_add(&text, "\n");
            code = cli_text_print(&text, why);
        } else {
            code = fetch(folder, remote, dir_fd, leaf, name, why);
        }
    }
    if (dir_fd >= 0) {
        (void)close(dir_fd);
    }
    return code;
}

// is_its_own tells failures of one file, after which the others can be fetched.
static bool
is_its_own(enum err code)
{
    return code == ERR_EXISTS || code == ERR_CONFLICT || code == ERR_INVALID || code == ERR_NOT_FOUND ||
           code == ERR_BUSY || code == ERR_CORRUPT || code == ERR_DENIED;
}

static enum err
fetch_all(struct folder *folder, const struct fc_remote_list *remotes, size_t prefix_size, struct err_detail *why)
{
    enum err code = ERR_OK;

    for (size_t i = 0; i < remotes->count && code == ERR_OK; i++) {
        const struct fc_remote *remote = &remotes->files[i];
        const char *name = remote->name + prefix_size;
        struct err_detail detail = {0};
        if (cli_interrupt_signal() != 0) {
            return ERR_CANCELLED;
        }
        code = fetch_one(folder, remote, name, &detail);
        if (is_its_own(code)) {
            folder->failed++;
            if (folder->first == ERR_OK) {
                folder->first = code;
                err_fail(&folder->first_why, code, "\"%.200s\": %.250s", name,
                    code == ERR_EXISTS ? "there is a file already, and none of --force, --skip and --newer was given"
                                       : err_message(&detail, code));
            }
            code = ERR_OK;
        } else if (code != ERR_OK) {
            *why = detail;
        }
    }
    if (code == ERR_OK && folder->failed != 0) {
        return err_fail(why, folder->first, "%llu files were not fetched, the first being %s",
            (unsigned long long)folder->failed, folder->first_why.message);
    }
    return code;
}

static enum err
open_folder(struct folder *folder, struct err_detail *why)
{
    bool is_dry = cli_options_has(&folder->cli->options, CLI_OPTION_DRY_RUN);
    bool is_made = is_dry || mkdir(folder->path, NEW_DIR_MODE) == 0 || errno == EEXIST;

    folder->fd = open(folder->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder->fd < 0 && is_dry && errno == ENOENT) {
        return ERR_OK; // nothing of it is there
    }
    if (!is_made || folder->fd < 0) {
        int error_number = errno;
        return err_fail(why, err_from_errno(error_number), "cannot open the folder \"%s\": %s", folder->path,
            strerror(error_number));
    }
    return ERR_OK;
}

enum err
cli_download_folder(struct cli *cli, const char *name, struct fc_rate *rate, struct err_detail *why)
{
    struct folder folder = {.cli = cli, .path = cli->options.values[CLI_OPTION_OUTPUT], .fd = -1, .rate = rate};
    struct fc_remote_list remotes = {0};
    char prefix[NAME_MAX_BYTES];
    size_t size = strlen(name);

    while (size > 0 && name[size - 1] == '/') {
        size--;
    }
    if (snprintf(prefix, sizeof prefix, "%.*s%s", (int)size, name, size > 0 ? "/" : "") >= (int)sizeof prefix) {
        return err_fail(why, ERR_INVALID, "the name is too long");
    }
    char own[NAME_MAX_BYTES];
    (void)snprintf(own, sizeof own, "%.*s", (int)size, name);
    if (folder.path == NULL) {
        const char *slash = strrchr(own, '/');
        folder.path = slash != NULL ? slash + 1 : own;
    }
    if (folder.path[0] == '\0' || (cli->options.values[CLI_OPTION_OUTPUT] == NULL && folder.path[0] == '.')) {
        return err_fail(why, ERR_INVALID, "say with -o into which folder");
    }
    enum err code = fc_remote_list_fill(&remotes, cli->session, prefix, cli->options.values[CLI_OPTION_ROOM], why);
    if (code == ERR_OK && remotes.count == 0) {
        code = err_fail(why, ERR_NOT_FOUND, "there are no files below \"%s\"", own);
    }
    if (code == ERR_OK) {
        code = open_folder(&folder, why);
    }
    if (code == ERR_OK) {
        code = fetch_all(&folder, &remotes, strlen(prefix), why);
    }
    if (folder.fd >= 0) {
        (void)close(folder.fd);
    }
    fc_remote_list_free(&remotes);
    return code;
}
