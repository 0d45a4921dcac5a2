#include "services/filestore/filestore_access.h"

#include <string.h>

#include "base/clock.h"
#include "services/filestore/filestore_core_priv.h"

// A file's row of a table or alias that is there, as filestore_access_is_there has it.
#define IS_THERE "f.version IS NOT NULL AND f.deleted_ms = 0 AND (f.expires_ms = 0 OR f.expires_ms > $1)"

enum {
    // Of the files with the same content as many are looked at: what is missed only means that the content is sent.
    SAME_CONTENT_LOOKS_MAX = 64,
};

bool
filestore_access_is_there(const struct filestore_file *file)
{
    return file->is_committed && file->deleted_unix_ms == 0 &&
           (file->expires_unix_ms == 0 || file->expires_unix_ms > clock_unix_ms());
}

// is_shared_with_member looks for a room of the name that the user is in.
static enum err
is_shared_with_member(struct store_tx *tx, const struct filestore_rooms *rooms, const struct filestore_file *file,
    const uint8_t user_id[FILESTORE_ID_BYTES], bool *is_member_out)
{
    struct store_rows *rows = NULL;
    uint8_t room_id[FILESTORE_ID_BYTES];

    enum err err =
        store_query(tx, "SELECT subject_id FROM filestore_shares WHERE owner_id = $1 AND name = $2 AND kind = $3",
            STORE_ARGS(store_blob(file->owner_id, FILESTORE_ID_BYTES), store_text(file->name),
                store_int(FILESTORE_SHARE_ROOM)),
            &rows);
    *is_member_out = false;
    while (err == ERR_OK && !*is_member_out) {
        err = store_rows_next(rows);
        if (err == ERR_OK) {
            err = filestore_core_copy_blob(rows, 0, room_id, sizeof(room_id));
        }
        if (err == ERR_OK) {
            err = rooms->is_member(rooms->context, tx, room_id, user_id, is_member_out);
        }
    }
    store_rows_free(&rows);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

enum err
filestore_access_check_read(struct store_tx *tx, const struct filestore_rooms *rooms, const struct filestore_file *file,
    const uint8_t user_id[FILESTORE_ID_BYTES])
{
    int64_t share_count = 0;
    bool is_member = false;

    if (!filestore_access_is_there(file)) {
        return ERR_NOT_FOUND;
    }
    if (memcmp(file->owner_id, user_id, FILESTORE_ID_BYTES) == 0) {
        return ERR_OK;
    }
    enum err err = filestore_core_query_int(tx,
        "SELECT COUNT(*) FROM filestore_shares WHERE owner_id = $1 AND name = $2 AND kind = $3 AND subject_id = $4",
        STORE_ARGS(store_blob(file->owner_id, FILESTORE_ID_BYTES), store_text(file->name),
            store_int(FILESTORE_SHARE_USER), store_blob(user_id, FILESTORE_ID_BYTES)),
        &share_count);
    if (err != ERR_OK || share_count != 0) {
        return err;
    }
    err = is_shared_with_member(tx, rooms, file, user_id, &is_member);
    return err == ERR_OK && !is_member ? ERR_NOT_FOUND : err;
}

enum err
filestore_access_room(struct store_tx *tx, const struct filestore_rooms *rooms,
    const uint8_t room_id[FILESTORE_ID_BYTES], const uint8_t user_id[FILESTORE_ID_BYTES],
    struct filestore_room *room_out)
{
    char hex[2 * FILESTORE_ID_BYTES + 1];

    bytes_to_hex(bytes_view_of(room_id, FILESTORE_ID_BYTES), hex);
    enum err err = rooms->find_member_room(rooms->context, tx, hex, user_id, room_out, NULL);
    return err == ERR_DENIED ? ERR_NOT_FOUND : err;
}

enum err
filestore_access_fill_room(struct store_tx *tx, const struct filestore_rooms *rooms,
    const uint8_t user_id[FILESTORE_ID_BYTES], struct filestore_file *file)
{
    struct store_rows *rows = NULL;
    uint8_t room_id[FILESTORE_ID_BYTES];
    bool is_found = false;

    file->has_room = false;
    memset(&file->room, 0, sizeof(file->room));
    enum err err =
        store_query(tx, "SELECT subject_id FROM filestore_shares WHERE owner_id = $1 AND name = $2 AND kind = $3",
            STORE_ARGS(store_blob(file->owner_id, FILESTORE_ID_BYTES), store_text(file->name),
                store_int(FILESTORE_SHARE_ROOM)),
            &rows);
    while (err == ERR_OK && !is_found) {
        err = store_rows_next(rows);
        if (err == ERR_OK) {
            err = filestore_core_copy_blob(rows, 0, room_id, sizeof(room_id));
        }
        if (err == ERR_OK) {
            enum err found = filestore_access_room(tx, rooms, room_id, user_id, &file->room);
            is_found = found == ERR_OK;
            err = found == ERR_NOT_FOUND ? ERR_OK : found;
        }
    }
    store_rows_free(&rows);
    file->has_room = is_found;
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

enum err
filestore_access_find_id(struct store_tx *tx, const struct filestore_rooms *rooms, const uint8_t id[FILESTORE_ID_BYTES],
    const uint8_t user_id[FILESTORE_ID_BYTES], struct filestore_file *file_out)
{
    struct filestore_file file;

    enum err err = filestore_core_find_any(tx, id, &file);
    if (err == ERR_OK) {
        err = filestore_access_check_read(tx, rooms, &file, user_id);
    }
    if (err == ERR_OK) {
        *file_out = file;
    }
    return err;
}

enum err
filestore_access_find_in_room(struct store_tx *tx, const uint8_t room_id[FILESTORE_ID_BYTES],
    const uint8_t id[FILESTORE_ID_BYTES], struct filestore_file *file_out)
{
    return filestore_core_query_file(tx,
        "SELECT " FILESTORE_F_COLUMNS " FROM filestore_files f JOIN filestore_shares s "
        "ON s.owner_id = f.owner_id AND s.name = f.name WHERE " IS_THERE
        " AND f.file_id = $2 AND s.kind = $3 AND s.subject_id = $4",
        STORE_ARGS(store_int(clock_unix_ms()), store_blob(id, FILESTORE_ID_BYTES), store_int(FILESTORE_SHARE_ROOM),
            store_blob(room_id, FILESTORE_ID_BYTES)),
        file_out);
}

// find_by_room_name finds the newest version of NAME, where text is "ROOM/NAME".
static enum err
find_by_room_name(struct store_tx *tx, const struct filestore_rooms *rooms, const char *text,
    const uint8_t user_id[FILESTORE_ID_BYTES], struct filestore_file *file_out)
{
    struct filestore_room room;
    char room_name[sizeof(room.name)];
    const char *slash = strchr(text, '/');

    if (slash == NULL || slash == text || (size_t)(slash - text) >= sizeof(room_name)) {
        return ERR_NOT_FOUND;
    }
    memcpy(room_name, text, (size_t)(slash - text));
    room_name[slash - text] = '\0';
    enum err err = rooms->find_member_room(rooms->context, tx, room_name, user_id, &room, NULL);
    if (err != ERR_OK) {
        return err == ERR_DENIED ? ERR_NOT_FOUND : err;
    }
    err = filestore_core_query_file(tx,
        "SELECT " FILESTORE_F_COLUMNS " FROM filestore_shares s JOIN filestore_files f "
        "ON f.owner_id = s.owner_id AND f.name = s.name WHERE " IS_THERE
        " AND s.kind = $2 AND s.subject_id = $3 AND s.name = $4 ORDER BY f.version DESC LIMIT 1",
        STORE_ARGS(store_int(clock_unix_ms()), store_int(FILESTORE_SHARE_ROOM),
            store_blob(room.room_id, FILESTORE_ID_BYTES), store_text(slash + 1)),
        file_out);
    if (err == ERR_OK) {
        file_out->has_room = true;
        file_out->room = room;
    }
    return err;
}

// find_by_owner_name finds the newest version of NAME among the files shared with the user, where text is
// "@OWNER/NAME".
static enum err
find_by_owner_name(struct store_tx *tx, const char *text, const uint8_t user_id[FILESTORE_ID_BYTES],
    struct filestore_file *file_out)
{
    char owner_name[FILESTORE_OWNER_NAME_BYTES];
    const char *slash = strchr(text, '/');

    if (text[0] != '@' || slash == NULL || (size_t)(slash - text - 1) >= sizeof(owner_name)) {
        return ERR_NOT_FOUND;
    }
    memcpy(owner_name, text + 1, (size_t)(slash - text - 1));
    owner_name[slash - text - 1] = '\0';
    return filestore_core_query_file(tx,
        "SELECT " FILESTORE_F_COLUMNS " FROM filestore_shares s JOIN filestore_files f "
        "ON f.owner_id = s.owner_id AND f.name = s.name WHERE " IS_THERE
        " AND s.kind = $2 AND s.subject_id = $3 AND s.name = $4 AND f.owner_name = $5 ORDER BY f.version DESC LIMIT 1",
        STORE_ARGS(store_int(clock_unix_ms()), store_int(FILESTORE_SHARE_USER), store_blob(user_id, FILESTORE_ID_BYTES),
            store_text(slash + 1), store_text(owner_name)),
        file_out);
}

enum err
filestore_access_find(struct store_tx *tx, const struct filestore_rooms *rooms, const char *text,
    const uint8_t user_id[FILESTORE_ID_BYTES], struct filestore_file *file_out)
{
    uint8_t id[FILESTORE_ID_BYTES];
    struct filestore_file file;
    enum err err = ERR_NOT_FOUND;

    if (bytes_from_hex(text, id, sizeof(id)) == ERR_OK) {
        err = filestore_access_find_id(tx, rooms, id, user_id, &file);
    }
    if (err == ERR_NOT_FOUND) {
        err = filestore_core_query_file(tx,
            "SELECT " FILESTORE_F_COLUMNS " FROM filestore_files f WHERE " IS_THERE
            " AND f.owner_id = $2 AND f.name = $3 ORDER BY f.version DESC LIMIT 1",
            STORE_ARGS(store_int(clock_unix_ms()), store_blob(user_id, FILESTORE_ID_BYTES), store_text(text)), &file);
    }
    if (err == ERR_NOT_FOUND) {
        err = find_by_owner_name(tx, text, user_id, &file);
    }
    if (err == ERR_OK) {
        err = filestore_access_fill_room(tx, rooms, user_id, &file);
    } else if (err == ERR_NOT_FOUND) {
        err = find_by_room_name(tx, rooms, text, user_id, &file);
    }
    if (err == ERR_OK) {
        *file_out = file;
    }
    return err;
}

enum err
filestore_access_find_own(struct store_tx *tx, const struct filestore_rooms *rooms, const char *text,
    const uint8_t user_id[FILESTORE_ID_BYTES], struct filestore_file *file_out, struct err_detail *why)
{
    struct filestore_file file;

    enum err err = filestore_access_find(tx, rooms, text, user_id, &file);
    if (err == ERR_NOT_FOUND) {
        return err_fail(why, err, "there is no file \"%s\"", text);
    }
    if (err == ERR_OK && memcmp(file.owner_id, user_id, FILESTORE_ID_BYTES) != 0) {
        return err_fail(why, ERR_DENIED, "\"%s\" belongs to %s, who alone may change it", file.name, file.owner_name);
    }
    if (err == ERR_OK) {
        *file_out = file;
    }
    return err;
}

enum err
filestore_access_find_content(struct store_tx *tx, const struct filestore_rooms *rooms,
    const uint8_t blob_id[FILESTORE_ID_BYTES], const uint8_t user_id[FILESTORE_ID_BYTES])
{
    struct store_rows *rows = NULL;
    struct filestore_file file;
    bool is_readable = false;

    // The user's own first.
    enum err err = store_query(tx,
        "SELECT " FILESTORE_COLUMNS " FROM filestore_files WHERE blob_id = $1 AND version IS NOT NULL "
        "ORDER BY owner_id <> $2 LIMIT $3",
        STORE_ARGS(store_blob(blob_id, FILESTORE_ID_BYTES), store_blob(user_id, FILESTORE_ID_BYTES),
            store_int(SAME_CONTENT_LOOKS_MAX)),
        &rows);
    while (err == ERR_OK && !is_readable) {
        err = store_rows_next(rows);
        if (err == ERR_OK) {
            err = filestore_core_read_row(rows, &file);
        }
        if (err == ERR_OK) {
            enum err allowed = filestore_access_check_read(tx, rooms, &file, user_id);
            is_readable = allowed == ERR_OK;
            err = allowed == ERR_NOT_FOUND ? ERR_OK : allowed;
        }
    }
    store_rows_free(&rows);
    return err;
}

enum err
filestore_access_add_share(struct store_tx *tx, const uint8_t owner_id[FILESTORE_ID_BYTES], const char *name,
    enum filestore_share_kind kind, const uint8_t subject_id[FILESTORE_ID_BYTES], struct err_detail *why)
{
    int64_t count = 0;
    int64_t changed = 0;

    enum err err = store_exec(tx,
        "INSERT INTO filestore_shares (owner_id, name, kind, subject_id) VALUES ($1, $2, $3, $4) ON CONFLICT DO "
        "NOTHING",
        STORE_ARGS(store_blob(owner_id, FILESTORE_ID_BYTES), store_text(name), store_int(kind),
            store_blob(subject_id, FILESTORE_ID_BYTES)),
        &changed);
    if (err != ERR_OK || changed == 0) {
        return err;
    }
    err = filestore_core_query_int(tx, "SELECT COUNT(*) FROM filestore_shares WHERE owner_id = $1 AND name = $2",
        STORE_ARGS(store_blob(owner_id, FILESTORE_ID_BYTES), store_text(name)), &count);
    if (err == ERR_OK && count > FILESTORE_SHARES_MAX) {
        return err_fail(why, ERR_LIMIT, "\"%s\" is shared with %d rooms and users, which is the most", name,
            FILESTORE_SHARES_MAX);
    }
    return err;
}

enum err
filestore_access_remove_share(struct store_tx *tx, const uint8_t owner_id[FILESTORE_ID_BYTES], const char *name,
    enum filestore_share_kind kind, const uint8_t subject_id[FILESTORE_ID_BYTES])
{
    int64_t changed = 0;

    enum err err = store_exec(tx,
        "DELETE FROM filestore_shares WHERE owner_id = $1 AND name = $2 AND kind = $3 AND subject_id = $4",
        STORE_ARGS(store_blob(owner_id, FILESTORE_ID_BYTES), store_text(name), store_int(kind),
            store_blob(subject_id, FILESTORE_ID_BYTES)),
        &changed);
    return err == ERR_OK && changed == 0 ? ERR_NOT_FOUND : err;
}

enum err
filestore_access_remove_shares(struct store_tx *tx, const uint8_t owner_id[FILESTORE_ID_BYTES], const char *name)
{
    return store_exec(tx, "DELETE FROM filestore_shares WHERE owner_id = $1 AND name = $2",
        STORE_ARGS(store_blob(owner_id, FILESTORE_ID_BYTES), store_text(name)), NULL);
}

enum err
filestore_access_rename_shares(struct store_tx *tx, const uint8_t owner_id[FILESTORE_ID_BYTES], const char *name,
    const char *new_name)
{
    enum err err = filestore_access_remove_shares(tx, owner_id, new_name);
    if (err != ERR_OK) {
        return err;
    }
    return store_exec(tx, "UPDATE filestore_shares SET name = $1 WHERE owner_id = $2 AND name = $3",
        STORE_ARGS(store_text(new_name), store_blob(owner_id, FILESTORE_ID_BYTES), store_text(name)), NULL);
}
