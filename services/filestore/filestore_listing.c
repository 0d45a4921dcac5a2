// Listing. Each source (the user's own files, each room, what is shared with the user) gives its first limit + 1 files
// in order; after each they are merged with what was there and cut to limit + 1, so memory does not grow with the
// number of rooms.
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "services/filestore/filestore_access.h"
#include "services/filestore/filestore_core_priv.h"
#include "services/filestore/filestore_names.h"

struct listing {
    const struct filestore_list *list;
    struct filestore_file *files; // room for twice keep_max
    size_t count;
    size_t keep_max; // one more than what is wanted, which tells whether there are others
    int64_t now_unix_ms;
    const uint8_t *owner_id; // NULL: any
};

static int
compare_files(const void *left, const void *right)
{
    const struct filestore_file *a = left;
    const struct filestore_file *b = right;
    int order = strcmp(a->name, b->name);

    return order != 0 ? order : (a->version < b->version) - (a->version > b->version);
}

static void
listing_merge(struct listing *listing)
{
    size_t kept = 0;

    qsort(listing->files, listing->count, sizeof(listing->files[0]), compare_files);
    for (size_t i = 0; i < listing->count && kept < listing->keep_max; i++) {
        // The user's own file in one of the user's rooms comes from both sources.
        if (kept > 0 && listing->files[kept - 1].version == listing->files[i].version) {
            if (!listing->files[kept - 1].has_room) {
                listing->files[kept - 1] = listing->files[i];
            }
            continue;
        }
        if (kept != i) {
            listing->files[kept] = listing->files[i];
        }
        kept++;
    }
    listing->count = kept;
}

// The parameters of each query: $1 whose, $2 and $3 the name and version to go on after, $4 now, $5 the owner (empty:
// any), $6 how many.
#define AFTER(name) " AND " name " >= $2 AND (" name " > $2 OR f.version < $3)"
#define IS_THERE(f)                                                                                                    \
    f ".version IS NOT NULL AND " f ".deleted_ms = 0 AND (" f ".expires_ms = 0 OR " f ".expires_ms > $4)"
#define IS_NEWEST                                                                                                      \
    " AND NOT EXISTS (SELECT 1 FROM filestore_files n WHERE n.owner_id = f.owner_id AND n.name = f.name AND "          \
    "n.version > f.version AND " IS_THERE("n") ")"
#define FROM_OWN "SELECT " FILESTORE_F_COLUMNS " FROM filestore_files f WHERE f.owner_id = $1" AFTER("f.name")
#define FROM_SHARES(kind)                                                                                              \
    "SELECT " FILESTORE_F_COLUMNS " FROM filestore_shares s JOIN filestore_files f ON f.owner_id = s.owner_id AND "    \
    "f.name = s.name WHERE s.subject_id = $1 AND s.kind = " kind AFTER("s.name")
#define OF_OWNER " AND (LENGTH($5) = 0 OR f.owner_id = $5)"
#define END_OWN OF_OWNER " ORDER BY f.name, f.version DESC LIMIT $6"
#define END_SHARES OF_OWNER " ORDER BY s.name, f.version DESC LIMIT $6"

enum source { OWN, ROOM, USER };

static const char *
source_sql(enum source source, const struct filestore_list *list)
{
    static const char *const newest[] = {
        FROM_OWN " AND " IS_THERE("f") IS_NEWEST END_OWN,
        FROM_SHARES("1") " AND " IS_THERE("f") IS_NEWEST END_SHARES,
        FROM_SHARES("2") " AND " IS_THERE("f") IS_NEWEST END_SHARES,
    };
    static const char *const all[] = {
        FROM_OWN " AND " IS_THERE("f") END_OWN,
        FROM_SHARES("1") " AND " IS_THERE("f") END_SHARES,
        FROM_SHARES("2") " AND " IS_THERE("f") END_SHARES,
    };
    if (list->is_deleted) {
        return FROM_OWN " AND f.deleted_ms > 0 AND f.version IS NOT NULL AND $4 > 0" END_OWN;
    }
    return list->has_all_versions ? all[source] : newest[source];
}

static enum err
listing_add_source(struct listing *listing, struct store_tx *tx, enum source source,
    const uint8_t whose[FILESTORE_ID_BYTES], const struct filestore_room *room)
{
    const struct filestore_list *list = listing->list;
    struct store_rows *rows = NULL;
    size_t prefix_size = strlen(list->prefix);
    size_t before = listing->count;
    bool is_first_page = list->after_name == NULL;

    enum err err = store_query(tx, source_sql(source, list),
        STORE_ARGS(store_blob(whose, FILESTORE_ID_BYTES), store_text(is_first_page ? list->prefix : list->after_name),
            store_int(is_first_page ? INT64_MAX : (int64_t)list->after_version), store_int(listing->now_unix_ms),
            store_blob(listing->owner_id, listing->owner_id != NULL ? FILESTORE_ID_BYTES : 0),
            store_int((int64_t)listing->keep_max)),
        &rows);
    while (err == ERR_OK) {
        struct filestore_file *file = &listing->files[listing->count];

        err = store_rows_next(rows);
        if (err != ERR_OK) {
            break;
        }
        err = filestore_core_read_row(rows, file);
        if (err == ERR_OK && strncmp(file->name, list->prefix, prefix_size) != 0) {
            break; // the names are in order, so no later one has the prefix
        }
        if (err == ERR_OK) {
            file->has_room = room != NULL;
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

// next_room steps through the rooms that have files, each found by one look into the index.
static enum err
next_room(struct store_tx *tx, uint8_t room_id[FILESTORE_ID_BYTES], size_t *room_id_size)
{
    struct store_rows *rows = NULL;

    enum err err = store_query(tx,
        "SELECT subject_id FROM filestore_shares WHERE kind = $1 AND subject_id > $2 ORDER BY subject_id LIMIT 1",
        STORE_ARGS(store_int(FILESTORE_SHARE_ROOM), store_blob(room_id, *room_id_size)), &rows);
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
        err = filestore_access_room(tx, rooms, room_id, user_id, &room);
        if (err == ERR_NOT_FOUND) {
            continue;
        }
        if (err == ERR_OK) {
            err = listing_add_source(listing, tx, ROOM, room_id, &room);
        }
        if (err != ERR_OK) {
            return err;
        }
    }
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

static enum err
listing_add_all(struct listing *listing, struct store_tx *tx, const struct filestore_rooms *rooms,
    const uint8_t user_id[FILESTORE_ID_BYTES])
{
    const struct filestore_list *list = listing->list;

    if (list->room != NULL && !list->is_deleted) {
        return listing_add_source(listing, tx, ROOM, list->room->room_id, list->room);
    }
    enum err err = listing_add_source(listing, tx, OWN, user_id, NULL);
    if (list->is_mine_only || list->is_deleted) {
        return err;
    }
    if (err == ERR_OK) {
        err = listing_add_source(listing, tx, USER, user_id, NULL);
    }
    return err == ERR_OK ? listing_add_rooms(listing, tx, rooms, user_id) : err;
}

enum err
filestore_names_list(struct store_tx *tx, const struct filestore_rooms *rooms,
    const uint8_t user_id[FILESTORE_ID_BYTES], const struct filestore_list *list, struct filestore_file **files_out,
    size_t *count_out, bool *has_more_out)
{
    struct listing listing = {.list = list,
        .keep_max = list->limit + 1,
        .now_unix_ms = clock_unix_ms(),
        .owner_id = list->is_mine_only ? user_id : NULL};

    listing.files = calloc(2 * listing.keep_max, sizeof(listing.files[0]));
    if (listing.files == NULL) {
        return ERR_NO_MEMORY;
    }
    enum err err = listing_add_all(&listing, tx, rooms, user_id);
    for (size_t i = 0; err == ERR_OK && list->is_mine_only && !list->is_deleted && i < listing.count; i++) {
        if (!listing.files[i].has_room) {
            err = filestore_access_fill_room(tx, rooms, user_id, &listing.files[i]);
        }
    }
    if (err != ERR_OK) {
        free(listing.files);
        return err;
    }
    *has_more_out = listing.count > list->limit;
    *count_out = *has_more_out ? list->limit : listing.count;
    *files_out = listing.files;
    return ERR_OK;
}
