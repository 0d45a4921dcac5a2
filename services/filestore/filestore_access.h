// Who may read a file, and who may change it. Every reader asks here.
//
// A file that the user may not read is ERR_NOT_FOUND, as one that does not exist.
#ifndef FILESTORE_FILESTORE_ACCESS_H
#define FILESTORE_FILESTORE_ACCESS_H

#include "services/filestore/filestore_core.h"

enum {
    FILESTORE_SHARES_MAX = 100, // rooms and users that one name is shared with
};

enum filestore_share_kind {
    FILESTORE_SHARE_ROOM = 1,
    FILESTORE_SHARE_USER = 2,
};

// filestore_access_is_there: committed, not deleted and not expired.
bool filestore_access_is_there(const struct filestore_file *file);

// filestore_access_check_read is the decision: ERR_OK for the owner, for members of the rooms and for the users that
// the file's name is shared with, as long as the file is there. ERR_NOT_FOUND for all others.
enum err filestore_access_check_read(struct store_tx *tx, const struct filestore_rooms *rooms,
    const struct filestore_file *file, const uint8_t user_id[FILESTORE_ID_BYTES]) ERR_CHECKED;

// filestore_access_find finds a file by id in hexadecimal, by name among the user's own, by "@OWNER/NAME" among
// those shared with the user, or by "ROOM/NAME", in this order; names mean the newest version. The room's name is
// filled in.
enum err filestore_access_find(struct store_tx *tx, const struct filestore_rooms *rooms, const char *text,
    const uint8_t user_id[FILESTORE_ID_BYTES], struct filestore_file *file_out) ERR_CHECKED;

// filestore_access_find_id finds a file by its id. The room's name is left empty.
enum err filestore_access_find_id(struct store_tx *tx, const struct filestore_rooms *rooms,
    const uint8_t id[FILESTORE_ID_BYTES], const uint8_t user_id[FILESTORE_ID_BYTES],
    struct filestore_file *file_out) ERR_CHECKED;

// filestore_access_find_own is filestore_access_find for who wants to change the file: ERR_DENIED if it is somebody
// else's, ERR_NOT_FOUND if it cannot even be read; both explained.
enum err filestore_access_find_own(struct store_tx *tx, const struct filestore_rooms *rooms, const char *text,
    const uint8_t user_id[FILESTORE_ID_BYTES], struct filestore_file *file_out, struct err_detail *why) ERR_CHECKED;

// filestore_access_find_in_room finds a file that is shared with this room, by its id.
enum err filestore_access_find_in_room(struct store_tx *tx, const uint8_t room_id[FILESTORE_ID_BYTES],
    const uint8_t id[FILESTORE_ID_BYTES], struct filestore_file *file_out) ERR_CHECKED;

// filestore_access_find_content looks for a file with this content that the user may read. ERR_NOT_FOUND.
enum err filestore_access_find_content(struct store_tx *tx, const struct filestore_rooms *rooms,
    const uint8_t blob_id[FILESTORE_ID_BYTES], const uint8_t user_id[FILESTORE_ID_BYTES]) ERR_CHECKED;

// filestore_access_room finds a room that the user is in by its id; ERR_NOT_FOUND otherwise, whatever the reason.
enum err filestore_access_room(struct store_tx *tx, const struct filestore_rooms *rooms,
    const uint8_t room_id[FILESTORE_ID_BYTES], const uint8_t user_id[FILESTORE_ID_BYTES],
    struct filestore_room *room_out) ERR_CHECKED;

// filestore_access_fill_room says in file->room with which room that the user is in the file is shared, if with any.
enum err filestore_access_fill_room(struct store_tx *tx, const struct filestore_rooms *rooms,
    const uint8_t user_id[FILESTORE_ID_BYTES], struct filestore_file *file) ERR_CHECKED;

// filestore_access_add_share shares a name. Done twice it changes nothing. ERR_LIMIT: it is shared with too many.
enum err filestore_access_add_share(struct store_tx *tx, const uint8_t owner_id[FILESTORE_ID_BYTES], const char *name,
    enum filestore_share_kind kind, const uint8_t subject_id[FILESTORE_ID_BYTES], struct err_detail *why) ERR_CHECKED;

// filestore_access_remove_share ends one. ERR_NOT_FOUND: there was none.
enum err filestore_access_remove_share(struct store_tx *tx, const uint8_t owner_id[FILESTORE_ID_BYTES],
    const char *name, enum filestore_share_kind kind, const uint8_t subject_id[FILESTORE_ID_BYTES]) ERR_CHECKED;

// filestore_access_remove_shares ends all of a name.
enum err filestore_access_remove_shares(struct store_tx *tx, const uint8_t owner_id[FILESTORE_ID_BYTES],
    const char *name) ERR_CHECKED;

// filestore_access_rename_shares gives them to another name.
enum err filestore_access_rename_shares(struct store_tx *tx, const uint8_t owner_id[FILESTORE_ID_BYTES],
    const char *name, const char *new_name) ERR_CHECKED;

#endif
