// The user's credentials file. It is small and rarely written, so every change reads it whole, under a lock that is a
// file of its own (the credentials file itself is replaced and so cannot carry the lock), and replaces it in one step.
#include "client/fc_config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/file.h"
#include "client/fc_config_priv.h"

enum {
    FILE_MAX_BYTES = 256 * 1024, // some 600 logins at their longest
    LINE_MAX_BYTES = FC_SERVER_URL_MAX_BYTES + FC_USER_NAME_MAX_BYTES + FC_TOKEN_MAX_BYTES + 1,
};

#define CREDENTIALS_NAME "credentials"
#define LOCK_NAME "credentials.lock" // for all files of the folder
#define REDO "remove it and log in again"

static const char *
env_text(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0' ? value : NULL;
}

enum err
fc_config_find_dir(const struct fc_config_place *place, char path_out[FC_CONFIG_PATH_MAX_BYTES], struct err_detail *why)
{
    const char *own = env_text(place->own_variable);
    const char *xdg = env_text(place->xdg_variable);
    const char *home = env_text("HOME");
    int length = 0;
    if (own != NULL) {
        length = snprintf(path_out, FC_CONFIG_PATH_MAX_BYTES, "%s", own);
    } else if (xdg != NULL && xdg[0] == '/') {
        length = snprintf(path_out, FC_CONFIG_PATH_MAX_BYTES, "%s/fc", xdg);
    } else if (home != NULL) {
        length = snprintf(path_out, FC_CONFIG_PATH_MAX_BYTES, "%s/%s/fc", home, place->below_home);
    } else {
        return err_fail(why, ERR_PRECONDITION, "there is no home folder: set HOME or %s", place->own_variable);
    }
    if (length < 0 || length >= FC_CONFIG_PATH_MAX_BYTES) {
        return err_fail(why, ERR_PRECONDITION, "the path of the %s folder is too long: set %s", place->what,
            place->own_variable);
    }
    return ERR_OK;
}

enum err
fc_config_dir(char path_out[FC_CONFIG_PATH_MAX_BYTES], struct err_detail *why)
{
    static const struct fc_config_place place = {
        .what = "configuration",
        .own_variable = "FC_CONFIG_DIR",
        .xdg_variable = "XDG_CONFIG_HOME",
        .below_home = ".config",
    };
    return fc_config_find_dir(&place, path_out, why);
}

enum err
fc_config_path(const char *dir, const char *name, char path_out[FC_CONFIG_PATH_MAX_BYTES], struct err_detail *why)
{
    int length = snprintf(path_out, FC_CONFIG_PATH_MAX_BYTES, "%s/%s", dir, name);
    if (length < 0 || length >= FC_CONFIG_PATH_MAX_BYTES) {
        return err_fail(why, ERR_PRECONDITION, "the path of the configuration folder is too long: set FC_CONFIG_DIR");
    }
    return ERR_OK;
}

enum err
fc_config_check_private(const struct stat *status, const char *path, const char *redo, struct err_detail *why)
{
    if (!S_ISREG(status->st_mode)) {
        return err_fail(why, ERR_DENIED, "%s is not a regular file: %s", path, redo);
    }
    if (status->st_uid != geteuid()) {
        return err_fail(why, ERR_DENIED, "%s belongs to another user and is not used: %s", path, redo);
    }
    if ((status->st_mode & (S_IRWXG | S_IRWXO)) != 0) {
        return err_fail(why, ERR_DENIED, "%s can be read or written by others and is not used: run chmod 600 '%s'",
            path, path);
    }
    return ERR_OK;
}

static enum err
check_file(int fd, const char *path, const char *redo, struct stat *stat_out, struct err_detail *why)
{
    if (fstat(fd, stat_out) != 0) {
        return err_fail(why, ERR_IO, "%s cannot be read: %s", path, strerror(errno));
    }
    enum err err = fc_config_check_private(stat_out, path, redo, why);
    if (err == ERR_OK && stat_out->st_size > FILE_MAX_BYTES) {
        err = err_fail(why, ERR_TOO_BIG, "%s has %lld bytes, more than the %d that are possible: %s", path,
            (long long)stat_out->st_size, FILE_MAX_BYTES, redo);
    }
    return err;
}

enum err
fc_config_read(const char *dir, const char *name, const char *redo, struct bytes *out, struct err_detail *why)
{
    char path[FC_CONFIG_PATH_MAX_BYTES];
    struct stat status;
    enum err err = fc_config_path(dir, name, path, why);
    if (err != ERR_OK) {
        return err;
    }
    // O_NONBLOCK, so that a named pipe of that name cannot hold the program up before it is refused.
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        int error = errno;
        return error == ENOENT || error == ENOTDIR
                   ? ERR_OK
                   : err_fail(why, err_from_errno(error), "%s cannot be opened: %s", path, strerror(error));
    }
    err = check_file(fd, path, redo, &status, why);
    if (err == ERR_OK) {
        err = bytes_reserve(out, (size_t)status.st_size);
    }
    if (err == ERR_OK) {
        err = file_read_at(fd, out->data, (size_t)status.st_size, 0);
        if (err == ERR_OK) {
            out->size = (size_t)status.st_size;
        } else {
            err = err_fail(why, err, "%s cannot be read: %s", path, err_sentence(err));
        }
    }
    close(fd);
    return err;
}

// Whether text can stand in a line: printable ASCII without spaces, and it fits.
static bool
is_word(struct bytes_view text, size_t max_bytes)
{
    if (text.size == 0 || text.size >= max_bytes) {
        return false;
    }
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] <= ' ' || text.data[i] >= 0x7f) {
            return false;
        }
    }
    return true;
}

// Splits off what is before the next separator, or all of it.
static struct bytes_view
take_until(struct bytes_view *rest, char separator)
{
    const uint8_t *end = rest->size > 0 ? memchr(rest->data, separator, rest->size) : NULL;
    struct bytes_view head = bytes_view_of(rest->data, end != NULL ? (size_t)(end - rest->data) : rest->size);
    size_t used = head.size + (end != NULL ? 1 : 0);
    *rest = bytes_view_of(used > 0 ? rest->data + used : rest->data, rest->size - used);
    return head;
}

static void
copy_word(char *out, struct bytes_view word)
{
    memcpy(out, word.data, word.size);
    out[word.size] = '\0';
}

static enum err
parse_line(struct bytes_view line, struct fc_credential *out)
{
    struct bytes_view url = take_until(&line, ' ');
    struct bytes_view user = take_until(&line, ' ');
    if (!is_word(url, sizeof(out->server_url)) || !is_word(user, sizeof(out->user_name)) ||
        !is_word(line, sizeof(out->token))) {
        return ERR_INVALID;
    }
    copy_word(out->server_url, url);
    copy_word(out->user_name, user);
    copy_word(out->token, line);
    return ERR_OK;
}

// Takes the next login from what is left of the file. ERR_NOT_FOUND: there is none.
static enum err
next_credential(const char *dir, struct bytes_view *rest, struct fc_credential *out, struct err_detail *why)
{
    if (rest->size == 0) {
        return ERR_NOT_FOUND;
    }
    enum err err = parse_line(take_until(rest, '\n'), out);
    if (err != ERR_OK) {
        return err_fail(why, err,
            "a line of %s/" CREDENTIALS_NAME " is not \"SERVER USER TOKEN\": remove the file and log in again", dir);
    }
    return ERR_OK;
}

// Looks for a server's login; NULL takes the first. ERR_NOT_FOUND leaves out as it was.
static enum err
find_credential(const char *server_url, struct fc_credential *out, struct err_detail *why)
{
    char dir[FC_CONFIG_PATH_MAX_BYTES];
    struct bytes text = {0};
    struct fc_credential credential;
    enum err err = fc_config_dir(dir, why);
    if (err == ERR_OK) {
        err = fc_config_read(dir, CREDENTIALS_NAME, REDO, &text, why);
    }
    struct bytes_view rest = bytes_as_view(&text);
    while (err == ERR_OK) {
        err = next_credential(dir, &rest, &credential, why);
        if (err == ERR_OK && (server_url == NULL || strcmp(server_url, credential.server_url) == 0)) {
            *out = credential;
            break;
        }
    }
    digest_wipe(&credential, sizeof(credential));
    bytes_free_secret(&text);
    return err;
}

static enum err
check_url(const char *url, struct err_detail *why)
{
    if (!is_word(bytes_view_of_text(url), FC_SERVER_URL_MAX_BYTES)) {
        return err_fail(why, ERR_INVALID,
            "the server's URL has to be 1 to %d printable characters without spaces, for "
            "example " FC_DEFAULT_SERVER_URL,
            FC_SERVER_URL_MAX_BYTES - 1);
    }
    return ERR_OK;
}

enum err
fc_config_load(const char *server_url, struct fc_credential *out, struct err_detail *why)
{
    struct fc_credential credential = {0};
    const char *url = server_url != NULL ? server_url : env_text("FC_SERVER");
    const char *token = env_text("FC_TOKEN");
    enum err err = url != NULL ? check_url(url, why) : ERR_OK;
    if (err != ERR_OK) {
        return err;
    }
    if (token != NULL && !is_word(bytes_view_of_text(token), sizeof(credential.token))) {
        return err_fail(why, ERR_INVALID, "FC_TOKEN is not a token");
    }
    if (url == NULL || token == NULL) {
        err = find_credential(url, &credential, why);
        // Whoever has no home folder cannot have logged in before either.
        if (err != ERR_OK && err != ERR_NOT_FOUND && err != ERR_PRECONDITION) {
            return err;
        }
    }
    if (credential.server_url[0] == '\0') {
        (void)snprintf(credential.server_url, sizeof(credential.server_url), "%s",
            url != NULL ? url : FC_DEFAULT_SERVER_URL);
    }
    if (token != NULL) {
        credential.user_name[0] = '\0';
        (void)snprintf(credential.token, sizeof(credential.token), "%s", token);
    }
    *out = credential;
    digest_wipe(&credential, sizeof(credential));
    return ERR_OK;
}

enum err
fc_config_lock(const char *dir, int *fd_out, struct err_detail *why)
{
    char path[FC_CONFIG_PATH_MAX_BYTES];
    enum err err = fc_config_path(dir, LOCK_NAME, path, why);
    if (err != ERR_OK) {
        return err;
    }
    err = file_make_dirs(dir, S_IRWXU);
    if (err != ERR_OK) {
        return err_fail(why, err, "the folder %s cannot be made: %s", dir, err_sentence(err));
    }
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (fd < 0) {
        return err_fail(why, err_from_errno(errno), "%s cannot be opened: %s", path, strerror(errno));
    }
    while (flock(fd, LOCK_EX) != 0) {
        if (errno != EINTR) {
            err = err_fail(why, err_from_errno(errno), "%s cannot be locked: %s", path, strerror(errno));
            close(fd);
            return err;
        }
    }
    *fd_out = fd;
    return ERR_OK;
}

static enum err
append_line(struct bytes *out, const struct fc_credential *credential)
{
    char line[LINE_MAX_BYTES];
    int length =
        snprintf(line, sizeof(line), "%s %s %s\n", credential->server_url, credential->user_name, credential->token);
    enum err err = bytes_append(out, bytes_view_of(line, (size_t)length));
    digest_wipe(line, sizeof(line));
    return err;
}

// Rewrites the file: `first` (if not NULL) first, then what there was for other servers than server_url.
static enum err
rewrite_locked(const char *dir, const char *server_url, const struct fc_credential *first, struct err_detail *why)
{
    char path[FC_CONFIG_PATH_MAX_BYTES];
    struct bytes old = {0};
    struct bytes new = {0};
    struct fc_credential credential = {0};
    enum err err = fc_config_path(dir, CREDENTIALS_NAME, path, why);
    if (err == ERR_OK) {
        err = fc_config_read(dir, CREDENTIALS_NAME, REDO, &old, why);
    }
    if (err == ERR_OK && first != NULL) {
        err = append_line(&new, first);
    }
    struct bytes_view rest = bytes_as_view(&old);
    while (err == ERR_OK) {
        err = next_credential(dir, &rest, &credential, why);
        if (err == ERR_OK && strcmp(credential.server_url, server_url) != 0) {
            err = append_line(&new, &credential);
        }
    }
    if (err == ERR_NOT_FOUND) {
        err = file_replace(path, bytes_as_view(&new), S_IRUSR | S_IWUSR);
        if (err != ERR_OK) {
            err = err_fail(why, err, "%s cannot be written: %s", path, err_sentence(err));
        }
    }
    digest_wipe(&credential, sizeof(credential));
    bytes_free_secret(&new);
    bytes_free_secret(&old);
    return err;
}

static enum err
rewrite(const char *dir, const char *server_url, const struct fc_credential *first, struct err_detail *why)
{
    int lock_fd = -1;
    enum err err = fc_config_lock(dir, &lock_fd, why);
    if (err == ERR_OK) {
        err = rewrite_locked(dir, server_url, first, why);
        close(lock_fd);
    }
    return err;
}

enum err
fc_config_save(const struct fc_credential *credential, struct err_detail *why)
{
    char dir[FC_CONFIG_PATH_MAX_BYTES];
    enum err err = check_url(credential->server_url, why);
    if (err != ERR_OK) {
        return err;
    }
    if (!is_word(bytes_view_of_text(credential->user_name), sizeof(credential->user_name)) ||
        !is_word(bytes_view_of_text(credential->token), sizeof(credential->token))) {
        return err_fail(why, ERR_INVALID, "a login without user name or token cannot be kept");
    }
    err = fc_config_dir(dir, why);
    return err == ERR_OK ? rewrite(dir, credential->server_url, credential, why) : err;
}

enum err
fc_config_forget(const char *server_url, struct err_detail *why)
{
    char dir[FC_CONFIG_PATH_MAX_BYTES];
    struct fc_credential known;
    enum err err = find_credential(server_url, &known, why);
    if (err == ERR_NOT_FOUND) {
        return ERR_OK; // and a folder that was never made stays so
    }
    if (err != ERR_OK) {
        return err;
    }
    digest_wipe(&known, sizeof(known));
    err = fc_config_dir(dir, why);
    return err == ERR_OK ? rewrite(dir, server_url, NULL, why) : err;
}
