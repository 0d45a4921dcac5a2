// Committed files: their names and versions, and who may read them.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "services/filestore/filestore_core.h"
#include "services/filestore/filestore_core_priv.h"

enum err
filestore_core_copy_blob(struct store_rows *rows, int column, uint8_t *out, size_t size)
{
    struct bytes_view blob = store_rows_blob(rows, column);

    if (blob.size != size) {
        return ERR_CORRUPT;
    }
    memcpy(out, blob.data, size);
    return ERR_OK;
}

static enum err
copy_text(struct store_rows *rows, int column, char *out, size_t capacity)
{
    const char *text = store_rows_text(rows, column);
    size_t size = strlen(text) + 1;

    if (size > capacity) {
        return ERR_CORRUPT;
    }
    memcpy(out, text, size);
    return ERR_OK;
}

enum err
filestore_core_read_row(struct store_rows *rows, struct filestore_file *file_out)
{
    struct filestore_file *file = file_out;
    int64_t size_bytes = store_rows_int(rows, 5);
    int64_t chunk_bytes = store_rows_int(rows, 6);

    memset(file, 0, sizeof(*file));
    if (size_bytes < 0 || (uint64_t)size_bytes > FILESTORE_FILE_MAX_BYTES || chunk_bytes < FILESTORE_CHUNK_MIN_BYTES ||
        chunk_bytes > FILESTORE_CHUNK_MAX_BYTES) {
        return ERR_CORRUPT;
    }
    file->size_bytes = (uint64_t)size_bytes;
    file->chunk_bytes = (uint32_t)chunk_bytes;
    file->created_unix_ms = store_rows_int(rows, 7);
    file->has_room = !store_rows_is_null(rows, 4);
    file->is_committed = !store_rows_is_null(rows, 10);

    enum err err = filestore_core_copy_blob(rows, 0, file->id, sizeof(file->id));
    if (err == ERR_OK) {
        err = filestore_core_copy_blob(rows, 1, file->owner_id, sizeof(file->owner_id));
    }
    if (err == ERR_OK) {
        err = copy_text(rows, 2, file->owner_name, sizeof(file->owner_name));
    }
    if (err == ERR_OK) {
        err = copy_text(rows, 3, file->name, sizeof(file->name));
    }
    if (err == ERR_OK && file->has_room) {
        err = filestore_core_copy_blob(rows, 4, file->room.room_id, sizeof(file->room.room_id));
    }
    if (err == ERR_OK && file->is_committed) {
        err = filestore_core_copy_blob(rows, 8, file->md5, sizeof(file->md5));
    }
    if (err == ERR_OK && file->is_committed) {
        err = filestore_core_copy_blob(rows, 9, file->sha256, sizeof(file->sha256));
    }
    return err;
}

enum err
filestore_core_query_file(struct store_tx *tx, const char *sql, const struct store_value *args, size_t arg_count,
    struct filestore_file *file_out)
{
    struct store_rows *rows = NULL;

    enum err err = store_query(tx, sql, args, arg_count, &rows);
    if (err == ERR_OK) {
        err = store_rows_next(rows);
    }
    if (err == ERR_OK) {
        err = filestore_core_read_row(rows, file_out);
    }
    store_rows_free(&rows);
    return err;
}

// find_room_of_id is find_member_room by id: ERR_NOT_FOUND for a room that the user is not in, whatever the reason.
static enum err
find_room_of_id(struct store_tx *tx, const struct filestore_rooms *rooms, const uint8_t room_id[FILESTORE_ID_BYTES],
    const uint8_t user_id[FILESTORE_ID_BYTES], struct filestore_room *room_out)
{
    char hex[2 * FILESTORE_ID_BYTES + 1];

    bytes_to_hex(bytes_view_of(room_id, FILESTORE_ID_BYTES), hex);
    enum err err = rooms->find_member_room(rooms->context, tx, hex, user_id, room_out, NULL);
    return err == ERR_DENIED ? ERR_NOT_FOUND : err;
}

static enum err
fill_room_name(struct store_tx *tx, const struct filestore_rooms *rooms, const uint8_t user_id[FILESTORE_ID_BYTES],
    struct filestore_file *file)
{
    struct filestore_room room;

    if (!file->has_room) {
        return ERR_OK;
    }
    enum err err = find_room_of_id(tx, rooms, file->room.room_id, user_id, &room);
    if (err == ERR_OK) {
        memcpy(file->room.name, room.name, sizeof(room.name));
    }
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

enum err
filestore_core_find_readable(struct store_tx *tx, const struct filestore_rooms *rooms,
    const uint8_t id[FILESTORE_ID_BYTES], const uint8_t user_id[FILESTORE_ID_BYTES], struct filestore_file *file_out)
{
    struct filestore_file file;
    bool is_member = false;

    enum err err = filestore_core_find_any(tx, id, &file);
    if (err != ERR_OK) {
        return err;
    }
    if (!file.is_committed) {
        return ERR_NOT_FOUND;
    }
    if (memcmp(file.owner_id, user_id, FILESTORE_ID_BYTES) != 0) {
        if (file.has_room) {
            err = rooms->is_member(rooms->context, tx, file.room.room_id, user_id, &is_member);
        }
        if (err != ERR_OK) {
            return err;
        }
        if (!is_member) {
            return ERR_NOT_FOUND;
        }
    }
    *file_out = file;
    return ERR_OK;
}

enum err
filestore_core_find_shared(struct store_tx *tx, const uint8_t room_id[FILESTORE_ID_BYTES],
    const uint8_t id[FILESTORE_ID_BYTES], struct filestore_file *file_out)
{
    return filestore_core_query_file(tx,
        "SELECT " FILESTORE_COLUMNS " FROM filestore_files WHERE file_id = $1 AND room_id = $2 AND version IS NOT NULL",
        STORE_ARGS(store_blob(id, FILESTORE_ID_BYTES), store_blob(room_id, FILESTORE_ID_BYTES)), file_out);
}

// find_in_room finds the newest version of NAME, where text is "ROOM/NAME".
static enum err
find_in_room(struct store_tx *tx, const struct filestore_rooms *rooms, const char *text,
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
    return filestore_core_query_file(tx,
        "SELECT " FILESTORE_COLUMNS " FROM filestore_files "
        "WHERE room_id = $1 AND name = $2 AND version IS NOT NULL ORDER BY version DESC LIMIT 1",
        STORE_ARGS(store_blob(room.room_id, FILESTORE_ID_BYTES), store_text(slash + 1)), file_out);
}

enum err
filestore_core_find_file(struct store_tx *tx, const struct filestore_rooms *rooms, const char *text,
    const uint8_t user_id[FILESTORE_ID_BYTES], struct filestore_file *file_out)
{
    uint8_t id[FILESTORE_ID_BYTES];
    struct filestore_file file;
    enum err err = ERR_NOT_FOUND;

    if (bytes_from_hex(text, id, sizeof(id)) == ERR_OK) {
        err = filestore_core_find_readable(tx, rooms, id, user_id, &file);
    }
    if (err == ERR_NOT_FOUND) {
        err = filestore_core_query_file(tx,
            "SELECT " FILESTORE_COLUMNS " FROM filestore_files "
            "WHERE owner_id = $1 AND name = $2 AND version IS NOT NULL ORDER BY version DESC LIMIT 1",
            STORE_ARGS(store_blob(user_id, FILESTORE_ID_BYTES), store_text(text)), &file);
    }
    if (err == ERR_NOT_FOUND) {
        err = find_in_room(tx, rooms, text, user_id, &file);
    }
    if (err == ERR_OK) {
        err = fill_room_name(tx, rooms, user_id, &file);
    }
    if (err == ERR_OK) {
        *file_out = file;
    }
    return err;
}

enum err
filestore_core_digests(struct store_tx *tx, const uint8_t id[FILESTORE_ID_BYTES], uint64_t first, struct bytes *md5s,
    struct bytes *sha256s)
{
    struct store_rows *rows = NULL;

    enum err err = store_query(tx,
        "SELECT md5, sha256 FROM filestore_chunks WHERE file_id = $1 AND chunk >= $2 ORDER BY chunk LIMIT $3",
        STORE_ARGS(store_blob(id, FILESTORE_ID_BYTES), store_int((int64_t)first), store_int(FILESTORE_DIGESTS_MAX)),
        &rows);
    while (err == ERR_OK) {
        err = store_rows_next(rows);
        if (err == ERR_OK) {
            err = bytes_append(md5s, store_rows_blob(rows, 0));
        }
        if (err == ERR_OK) {
            err = bytes_append(sha256s, store_rows_blob(rows, 1));
        }
    }
    store_rows_free(&rows);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

// Listing. Each source (the user's own files, then each room) gives its first limit + 1 files in order; after each they
// are merged with what was there and cut to limit + 1, so memory does not grow with the number of rooms.

struct listing {
    struct filestore_file *files; // room for twice keep_max
    size_t count;
    size_t keep_max; // one more than what is wanted, which tells whether there are others
    const char *prefix;
    struct store_value after_name;
    struct store_value after_id;
};

static int
compare_files(const void *left, const void *right)
{
    const struct filestore_file *a = left;
    const struct filestore_file *b = right;
    int order = strcmp(a->name, b->name);

    return order != 0 ? order : memcmp(a->id, b->id, sizeof(a->id));
}

static void
listing_merge(struct listing *listing)
{
    size_t kept = 0;

    qsort(listing->files, listing->count, sizeof(listing->files[0]), compare_files);
    for (size_t i = 0; i < listing->count && kept < listing->keep_max; i++) {
        // The user's own file in one of the user's rooms comes from both sources.
        if (kept > 0 && memcmp(listing->files[kept - 1].id, listing->files[i].id, FILESTORE_ID_BYTES) == 0) {
            continue;
        }
        if (kept != i) {
            listing->files[kept] = listing->files[i];
        }
        kept++;
    }
    listing->count = kept;
}

// listing_add_source runs a query with the parameters: whose, after which name and id, how many.
static enum err
listing_add_source(struct listing *listing, struct store_tx *tx, const char *sql,
    const uint8_t whose[FILESTORE_ID_BYTES], const struct filestore_room *room)
{
    struct store_rows *rows = NULL;
    size_t prefix_size = strlen(listing->prefix);
    size_t before = listing->count;

    enum err err = store_query(tx, sql,
        STORE_ARGS(store_blob(whose, FILESTORE_ID_BYTES), listing->after_name, listing->after_id,
            store_int((int64_t)listing->keep_max)),
        &rows);
    while (err == ERR_OK) {
        struct filestore_file *file = &listing->files[listing->count];

        err = store_rows_next(rows);
        if (err != ERR_OK) {
            break;
        }
        err = filestore_core_read_row(rows, file);
        if (err == ERR_OK && strncmp(file->name, listing->prefix, prefix_size) != 0) {
            break; // the names are in order, so no later one has the prefix
        }
        if (err == ERR_OK) {
            if (room != NULL) {
                file->room = *room;
            }
            listing->count++;
        }
    }
    store_rows_free(&rows);
    if (err != ERR_OK && err != ERR_NOT_FOUND) {
        return err;
    }
    if (listing->count != before) {
        listing_merge(listing);
    }
    return ERR_OK;
}

static enum err
listing_add_own(struct listing *listing, struct store_tx *tx, const struct filestore_rooms *rooms,
    const uint8_t user_id[FILESTORE_ID_BYTES])
{
    enum err err = listing_add_source(listing, tx,
        "SELECT " FILESTORE_COLUMNS " FROM filestore_files f "
        "WHERE owner_id = $1 AND version IS NOT NULL AND (name, file_id) > ($2, $3) AND NOT EXISTS "
        "(SELECT 1 FROM filestore_files n WHERE n.owner_id = f.owner_id AND n.name = f.name AND n.version > f.version) "
        "ORDER BY name, file_id LIMIT $4",
        user_id, NULL);

    for (size_t i = 0; err == ERR_OK && i < listing->count; i++) {
        err = fill_room_name(tx, rooms, user_id, &listing->files[i]);
    }
    return err;
}

// next_room steps through the rooms that have files, each found by one look into the index.
static enum err
next_room(struct store_tx *tx, uint8_t room_id[FILESTORE_ID_BYTES], size_t *room_id_size)
{
    struct store_rows *rows = NULL;

    enum err err = store_query(tx,
        "SELECT room_id FROM filestore_files WHERE room_id IS NOT NULL AND room_id > $1 ORDER BY room_id LIMIT 1",
        STORE_ARGS(store_blob(room_id, *room_id_size)), &rows);
    if (err == ERR_OK) {
        err = store_rows_next(rows);
    }
    if (err == ERR_OK) {
        err = filestore_core_copy_blob(rows, 0, room_id, FILESTORE_ID_BYTES);
        *room_id_size = FILESTORE_ID_BYTES;
    }
    store_rows_free(&rows);
    return err;
}

static enum err
listing_add_rooms(struct listing *listing, struct store_tx *tx, const struct filestore_rooms *rooms,
    const uint8_t user_id[FILESTORE_ID_BYTES])
{
    uint8_t room_id[FILESTORE_ID_BYTES] = {0};
    size_t room_id_size = 0; // the empty blob is before all ids
    struct filestore_room room;
    enum err err;

    while ((err = next_room(tx, room_id, &room_id_size)) == ERR_OK) {
        err = find_room_of_id(tx, rooms, room_id, user_id, &room);
        if (err == ERR_NOT_FOUND) {
            continue;
        }
        if (err == ERR_OK) {
            err = listing_add_source(listing, tx,
                "SELECT " FILESTORE_COLUMNS " FROM filestore_files f "
                "WHERE room_id = $1 AND version IS NOT NULL AND (name, file_id) > ($2, $3) AND NOT EXISTS "
                "(SELECT 1 FROM filestore_files n WHERE n.room_id = f.room_id AND n.name = f.name AND "
                "n.version > f.version) ORDER BY name, file_id LIMIT $4",
                room_id, &room);
        }
        if (err != ERR_OK) {
            return err;
        }
    }
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

enum err
filestore_core_list(struct store_tx *tx, const struct filestore_rooms *rooms, const uint8_t user_id[FILESTORE_ID_BYTES],
    const char *prefix, const char *after_name, const uint8_t *after_id, size_t limit,
    struct filestore_file **files_out, size_t *count_out, bool *has_more_out)
{
    struct listing listing = {
        .keep_max = limit + 1,
        .prefix = prefix,
        // Every id is greater than the empty one, so this begins with the name that is just the prefix.
        .after_name = store_text(after_name != NULL ? after_name : prefix),
        .after_id =
            store_blob(after_id != NULL ? (const void *)after_id : "", after_id != NULL ? FILESTORE_ID_BYTES : 0),
    };

    listing.files = calloc(2 * listing.keep_max, sizeof(listing.files[0]));
    if (listing.files == NULL) {
        return ERR_NO_MEMORY;
    }
    enum err err = listing_add_own(&listing, tx, rooms, user_id);
    if (err == ERR_OK) {
        err = listing_add_rooms(&listing, tx, rooms, user_id);
    }
    if (err != ERR_OK) {
        free(listing.files);
        return err;
    }
    *has_more_out = listing.count > limit;
    *count_out = *has_more_out ? limit : listing.count;
    *files_out = listing.files;
    return ERR_OK;
}
