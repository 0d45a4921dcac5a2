// Opening the local store, its transactions, and what goes wrong in it; the account's keys and notes.
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/file.h"
#include "client/fc_config_priv.h"
#include "client/fc_store_db_priv.h"
#include "client/fc_store_priv.h"

enum {
    // Of the readable part of a file's name; the digest behind it tells accounts apart.
    SERVER_IN_NAME_MAX_BYTES = 64,
    DIGEST_IN_NAME_BYTES = 8,
};

#define REDO "move it away and run fc recover"

enum err
fc_store_dir(char path_out[FC_CONFIG_PATH_MAX_BYTES], struct err_detail *why)
{
    static const struct fc_config_place place = {
        .what = "data",
        .own_variable = "FC_DATA_DIR",
        .xdg_variable = "XDG_DATA_HOME",
        .below_home = ".local/share",
    };
    return fc_config_find_dir(&place, path_out, why);
}

const char *
fc_store_path(const struct fc_store *store)
{
    return store->path;
}

static enum err
explain(const char *path, enum err err, const char *cause, struct err_detail *why)
{
    switch ((int)err) {
    case ERR_CORRUPT:
        return err_fail(why, err,
            "%s is damaged: run mv '%s' '%s.damaged', then fc recover. The server still has the messages; the keys "
            "come back with the password or the recovery key",
            path, path, path);
    case ERR_NO_SPACE:
        return err_fail(why, err, "there is no space left on the disk for %s: make some and try again", path);
    case ERR_BUSY:
        return err_fail(why, err, "another process keeps %s busy: try again", path);
    case ERR_DENIED:
        return err_fail(why, err, "%s cannot be written: see to it that you may write it and its folder", path);
    case ERR_NO_MEMORY:
        return err_fail(why, err, "no memory to use %s", path);
    default:
        return err_fail(why, err, "%s cannot be used: %s", path, cause[0] != '\0' ? cause : err_sentence(err));
    }
}

enum err
fc_store_fail(const struct fc_store *store, enum err err, struct err_detail *why)
{
    return explain(store->path, err, db_message(store->db), why);
}

// USER@SERVER-DIGEST, where people recognise the first part.
static enum err
make_paths(struct fc_store *store, const char *dir, const char *server_url, struct err_detail *why)
{
    struct bytes account = {0};
    uint8_t digest[DIGEST_SHA256_BYTES];
    enum err err = bytes_append(&account, bytes_view_of(server_url, strlen(server_url) + 1));
    if (err == ERR_OK) {
        err = bytes_append(&account, bytes_view_of_text(store->user_name));
    }
    if (err == ERR_OK) {
        err = digest_of(DIGEST_SHA256, bytes_as_view(&account), digest);
    }
    bytes_free(&account);
    if (err != ERR_OK) {
        return err_fail(why, err, "the local store cannot be named: %s", err_sentence(err));
    }
    char hex[2 * DIGEST_IN_NAME_BYTES + 1];
    bytes_to_hex(bytes_view_of(digest, DIGEST_IN_NAME_BYTES), hex);

    char server[SERVER_IN_NAME_MAX_BYTES];
    const char *host = strstr(server_url, "://");
    (void)snprintf(server, sizeof(server), "%s", host != NULL ? host + 3 : server_url);
    for (char *at = server; *at != '\0'; at++) {
        if (!isalnum((unsigned char)*at) && *at != '.' && *at != '-') {
            *at = '_';
        }
    }
    if (asprintf(&store->path, "%s/%s@%s-%s.db", dir, store->user_name, server, hex) < 0) {
        store->path = NULL; // undefined after a failure
        return err_fail(why, ERR_NO_MEMORY, "no memory to open the local store");
    }
    if (asprintf(&store->lock_path, "%s/%s@%s-%s.lock", dir, store->user_name, server, hex) < 0) {
        store->lock_path = NULL;
        return err_fail(why, ERR_NO_MEMORY, "no memory to open the local store");
    }
    return ERR_OK;
}

// Whoever can write the folder can put another file in the place of ours.
static enum err
make_dir(const char *dir, struct err_detail *why)
{
    struct stat status;
    enum err err = file_make_dirs(dir, S_IRWXU);
    if (err != ERR_OK) {
        return err_fail(why, err, "the folder %s cannot be made: %s", dir, err_sentence(err));
    }
    if (stat(dir, &status) != 0) {
        return err_fail(why, err_from_errno(errno), "the folder %s cannot be read: %s", dir, strerror(errno));
    }
    if (status.st_uid != geteuid()) {
        return err_fail(why, ERR_DENIED, "the folder %s belongs to another user and is not used: set FC_DATA_DIR", dir);
    }
    if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
        return err_fail(why, ERR_DENIED, "the folder %s can be written by others and is not used: run chmod 700 '%s'",
            dir, dir);
    }
    return ERR_OK;
}

// Makes the file unless it is there. What was beside one that somebody has moved away would be taken for the new one's.
static enum err
make_file(const char *dir, const char *path)
{
    static const char *const beside[] = {"-wal", "-shm"};
    struct stat status;
    if (lstat(path, &status) == 0) {
        return ERR_OK;
    }
    for (size_t i = 0; i < sizeof(beside) / sizeof(beside[0]); i++) {
        char old[FC_CONFIG_PATH_MAX_BYTES + 512];
        int length = snprintf(old, sizeof(old), "%s%s", path, beside[i]);
        if (length < 0 || length >= (int)sizeof(old)) {
            return ERR_INVALID;
        }
        if (unlink(old) != 0 && errno != ENOENT) {
            return err_from_errno(errno);
        }
    }
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (fd < 0) {
        return err_from_errno(errno);
    }
    (void)close(fd);
    return file_sync_dir(dir);
}

// By its name: if the file were opened beside SQLite, closing it would end the locks that another store of this process
// has on it.
static enum err
check_file(const char *path, struct err_detail *why)
{
    struct stat status;
    if (lstat(path, &status) != 0) {
        int error = errno;
        return err_fail(why, err_from_errno(error), "%s cannot be made: %s", path, strerror(error));
    }
    return fc_config_check_private(&status, path, REDO, why);
}

static enum err
connect_to(struct fc_store *store, struct err_detail *why)
{
    enum err err = check_file(store->path, why);
    if (err != ERR_OK) {
        return err;
    }
    err = db_open(store->path, DB_PRIVATE, &store->db, why);
    if (err != ERR_OK) {
        struct err_detail cause = {0};
        (void)snprintf(cause.message, sizeof(cause.message), "%s", why != NULL ? why->message : "");
        return explain(store->path, err, cause.message, why);
    }
    err = db_migrate(store->db, fc_store_steps, fc_store_step_count, why);
    if (err == ERR_VERSION) {
        return err_fail(why, err, "%s was written by a newer fc: install that one again", store->path);
    }
    return err == ERR_OK ? ERR_OK : fc_store_fail(store, err, why);
}

// Several processes that find no database do not get in each other's way while it becomes one: the folder is locked.
static enum err
connect_first(struct fc_store *store, const char *dir, struct err_detail *why)
{
    int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0) {
        return err_fail(why, err_from_errno(errno), "the folder %s cannot be opened: %s", dir, strerror(errno));
    }
    while (flock(dir_fd, LOCK_EX) != 0) {
        if (errno != EINTR) {
            enum err err =
                err_fail(why, err_from_errno(errno), "the folder %s cannot be locked: %s", dir, strerror(errno));
            (void)close(dir_fd);
            return err;
        }
    }
    enum err err = make_file(dir, store->path);
    err = err == ERR_OK ? connect_to(store, why) : explain(store->path, err, "", why);
    (void)close(dir_fd);
    return err;
}

enum err
fc_store_open(const char *server_url, const char *user_name, struct fc_store **out, struct err_detail *why)
{
    char dir[FC_CONFIG_PATH_MAX_BYTES];
    struct stat status;
    enum err err = text_check_user_name(user_name, why);
    if (err == ERR_OK) {
        err = fc_store_dir(dir, why);
    }
    if (err != ERR_OK) {
        return err;
    }
    struct fc_store *store = calloc(1, sizeof(*store));
    if (store == NULL) {
        return err_fail(why, ERR_NO_MEMORY, "no memory to open the local store");
    }
    (void)snprintf(store->user_name, sizeof(store->user_name), "%s", user_name);
    err = make_paths(store, dir, server_url, why);
    if (err == ERR_OK) {
        err = make_dir(dir, why);
    }
    if (err == ERR_OK) {
        bool is_there = lstat(store->path, &status) == 0 && status.st_size > 0;
        err = is_there ? connect_to(store, why) : connect_first(store, dir, why);
    }
    if (err != ERR_OK) {
        fc_store_close(&store);
        return err;
    }
    *out = store;
    return ERR_OK;
}

void
fc_store_close(struct fc_store **store)
{
    if (*store == NULL) {
        return;
    }
    db_close(&(*store)->db);
    bytes_free(&(*store)->new_words);
    free((*store)->lock_path);
    free((*store)->path);
    free(*store);
    *store = NULL;
}

static enum err
has_begun(struct fc_store *store, enum err err, struct err_detail *why)
{
    if (err != ERR_OK) {
        return fc_store_fail(store, err, why);
    }
    store->is_in_transaction = true;
    return ERR_OK;
}

enum err
fc_store_begin(struct fc_store *store, struct err_detail *why)
{
    return has_begun(store, db_begin(store->db), why);
}

enum err
fc_store_begin_relaxed(struct fc_store *store, struct err_detail *why)
{
    return has_begun(store, db_begin_relaxed(store->db), why);
}

enum err
fc_store_commit(struct fc_store *store, struct err_detail *why)
{
    store->is_in_transaction = false;
    enum err err = db_commit(store->db);
    return err == ERR_OK ? ERR_OK : fc_store_fail(store, err, why);
}

void
fc_store_rollback(struct fc_store *store)
{
    store->is_in_transaction = false;
    db_rollback(store->db);
}

enum err
fc_store_enter(struct fc_store *store, struct err_detail *why)
{
    if (store->is_in_transaction) {
        return ERR_OK;
    }
    enum err err = db_begin(store->db);
    return err == ERR_OK ? ERR_OK : fc_store_fail(store, err, why);
}

enum err
fc_store_leave(struct fc_store *store, enum err err, struct err_detail *why)
{
    if (store->is_in_transaction) {
        return err;
    }
    if (err != ERR_OK) {
        db_rollback(store->db);
        return err;
    }
    err = db_commit(store->db);
    return err == ERR_OK ? ERR_OK : fc_store_fail(store, err, why);
}

enum err
fc_store_exec(struct fc_store *store, const char *sql, const struct db_value *args, size_t arg_count,
    int64_t *changed_out, struct err_detail *why)
{
    enum err err = db_exec(store->db, sql, args, arg_count, changed_out);
    return err == ERR_OK || err == ERR_EXISTS ? err : fc_store_fail(store, err, why);
}

enum err
fc_store_next(struct fc_store *store, struct db_rows *rows, struct err_detail *why)
{
    enum err err = db_rows_next(rows);
    return err == ERR_OK || err == ERR_NOT_FOUND ? err : fc_store_fail(store, err, why);
}

enum err
fc_store_select(struct fc_store *store, const char *sql, const struct db_value *args, size_t arg_count,
    struct db_rows **rows_out, struct err_detail *why)
{
    enum err err = db_query(store->db, sql, args, arg_count, rows_out);
    return err == ERR_OK ? fc_store_next(store, *rows_out, why) : fc_store_fail(store, err, why);
}

enum err
fc_store_copy_blob(struct db_rows *rows, int column, uint8_t *out, size_t size)
{
    struct bytes_view blob = db_rows_blob(rows, column);
    if (blob.size != size) {
        return ERR_CORRUPT;
    }
    memcpy(out, blob.data, size);
    return ERR_OK;
}

void
fc_store_copy_text(struct db_rows *rows, int column, char *out, size_t size)
{
    (void)snprintf(out, size, "%s", db_rows_text(rows, column));
}

enum err
fc_store_append_blob(struct db_rows *rows, int column, struct bytes *out)
{
    return bytes_append(out, db_rows_blob(rows, column));
}

struct db_value
fc_store_number(uint64_t number)
{
    return db_int(number > INT64_MAX ? INT64_MAX : (int64_t)number);
}

enum err
fc_store_check_number(uint64_t number, struct err_detail *why)
{
    if (number == 0 || number > INT64_MAX) {
        return err_fail(why, ERR_INVALID, "%llu is not a sequence number", (unsigned long long)number);
    }
    return ERR_OK;
}

static enum err
read_keys(struct db_rows *rows, struct fc_store_keys *out)
{
    struct {
        uint8_t *to;
        size_t size;
    } columns[] = {
        {out->user_id, sizeof(out->user_id)},
        {out->device.id, sizeof(out->device.id)},
        {out->device.sign_private, sizeof(out->device.sign_private)},
        {out->device.sign_public, sizeof(out->device.sign_public)},
        {out->device.box_private, sizeof(out->device.box_private)},
        {out->device.box_public, sizeof(out->device.box_public)},
        {out->identity_private, sizeof(out->identity_private)},
    };
    enum { IDENTITY = sizeof(columns) / sizeof(columns[0]) - 1 };
    memset(out, 0, sizeof(*out));
    out->has_identity = !db_rows_is_null(rows, IDENTITY);
    out->is_recovery_offline = db_rows_int(rows, IDENTITY + 1) != 0;
    enum err err = ERR_OK;
    for (int i = 0; err == ERR_OK && i <= IDENTITY; i++) {
        if (i < IDENTITY || out->has_identity) {
            err = fc_store_copy_blob(rows, i, columns[i].to, columns[i].size);
        }
    }
    return err;
}

enum err
fc_store_keys_get(struct fc_store *store, struct fc_store_keys *out, struct err_detail *why)
{
    struct db_rows *rows = NULL;
    enum err err = fc_store_select(store,
        "SELECT user_id, device_id, sign_private, sign_public, box_private, box_public, identity_private, "
        "is_recovery_offline FROM account",
        DB_NO_ARGS, &rows, why);
    if (err == ERR_NOT_FOUND) {
        err = err_fail(why, err, "this machine has no keys of %s", store->user_name);
    } else if (err == ERR_OK && read_keys(rows, out) != ERR_OK) {
        digest_wipe(out, sizeof(*out));
        err = fc_store_fail(store, ERR_CORRUPT, why);
    }
    db_rows_free(&rows);
    return err;
}

enum err
fc_store_keys_put(struct fc_store *store, const struct fc_store_keys *keys, struct err_detail *why)
{
    const struct e2e_keys *device = &keys->device;
    return fc_store_exec(store,
        "INSERT OR REPLACE INTO account (id, user_id, device_id, sign_private, sign_public, box_private, box_public, "
        "identity_private, is_recovery_offline) VALUES (1, $1, $2, $3, $4, $5, $6, $7, $8)",
        DB_ARGS(db_blob(keys->user_id, sizeof(keys->user_id)), db_blob(device->id, sizeof(device->id)),
            db_blob(device->sign_private, sizeof(device->sign_private)),
            db_blob(device->sign_public, sizeof(device->sign_public)),
            db_blob(device->box_private, sizeof(device->box_private)),
            db_blob(device->box_public, sizeof(device->box_public)),
            keys->has_identity ? db_blob(keys->identity_private, sizeof(keys->identity_private)) : db_null(),
            db_int(keys->is_recovery_offline)),
        NULL, why);
}

enum err
fc_store_keys_remove(struct fc_store *store, struct err_detail *why)
{
    enum err err = fc_store_enter(store, why);
    if (err != ERR_OK) {
        return err;
    }
    err = fc_store_exec(store, "DELETE FROM account", DB_NO_ARGS, NULL, why);
    if (err == ERR_OK) {
        err = fc_store_exec(store, "DELETE FROM epoch", DB_NO_ARGS, NULL, why);
    }
    return fc_store_leave(store, err, why);
}

enum err
fc_store_note_get(struct fc_store *store, const char *name, struct bytes *out, struct err_detail *why)
{
    struct db_rows *rows = NULL;
    enum err err = fc_store_select(store, "SELECT value FROM note WHERE name = $1", DB_ARGS(db_text(name)), &rows, why);
    if (err == ERR_OK) {
        err = fc_store_append_blob(rows, 0, out);
    }
    db_rows_free(&rows);
    return err;
}

enum err
fc_store_note_put(struct fc_store *store, const char *name, struct bytes_view value, struct err_detail *why)
{
    if (value.size == 0) {
        return fc_store_exec(store, "DELETE FROM note WHERE name = $1", DB_ARGS(db_text(name)), NULL, why);
    }
    return fc_store_exec(store, "INSERT OR REPLACE INTO note (name, value) VALUES ($1, $2)",
        DB_ARGS(db_text(name), db_blob(value.data, value.size)), NULL, why);
}
