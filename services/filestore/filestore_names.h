// What the owner of a name does to it, lists of names, and how much is stored.
#ifndef FILESTORE_FILESTORE_NAMES_H
#define FILESTORE_FILESTORE_NAMES_H

#include "services/filestore/filestore_core.h"

// filestore_names_rename gives a name of this owner and all its versions another. ERR_EXISTS: there is one.
enum err filestore_names_rename(struct store_tx *tx, const struct filestore_file *file, const char *new_name,
    struct err_detail *why) ERR_CHECKED;

// filestore_names_delete deletes the versions of the file's name that are there; of version 0 all, which ends what it
// was shared with. ERR_NOT_FOUND: no such version.
enum err filestore_names_delete(struct store_tx *tx, const struct filestore_file *file, uint64_t version,
    int64_t now_unix_ms, size_t *count_out, struct err_detail *why) ERR_CHECKED;

// filestore_names_find_deleted finds a deleted file of this user by id in hexadecimal, or by name the one that was
// deleted last. ERR_NOT_FOUND.
enum err filestore_names_find_deleted(struct store_tx *tx, const char *text, const uint8_t user_id[FILESTORE_ID_BYTES],
    struct filestore_file *file_out) ERR_CHECKED;

enum err filestore_names_restore(struct store_tx *tx, const uint8_t id[FILESTORE_ID_BYTES]) ERR_CHECKED;

struct filestore_list {
    const char *prefix;
    const char *after_name; // NULL: the first page
    uint64_t after_version;
    size_t limit;
    bool has_all_versions;
    bool is_deleted;
    bool is_mine_only;
    const struct filestore_room *room; // NULL: all
};

// filestore_names_list finds the newest version of every name (or what the list says) that begins with the prefix,
// among the user's own files, those shared with each of the user's rooms, and those shared with the user; ordered by
// name, and then by version, the newest first. It goes on after (after_name, after_version). At most limit files are
// written to files_out, which the caller frees; *has_more_out says whether there are others.
enum err filestore_names_list(struct store_tx *tx, const struct filestore_rooms *rooms,
    const uint8_t user_id[FILESTORE_ID_BYTES], const struct filestore_list *list, struct filestore_file **files_out,
    size_t *count_out, bool *has_more_out) ERR_CHECKED;

struct filestore_usage {
    uint64_t used_bytes; // of files that are there, all versions; what several have counts for each
    uint64_t file_count;
    uint64_t open_bytes; // of unfinished uploads
};

enum err filestore_names_user_usage(struct store_tx *tx, const uint8_t user_id[FILESTORE_ID_BYTES],
    struct filestore_usage *out) ERR_CHECKED;

enum err filestore_names_room_usage(struct store_tx *tx, const uint8_t room_id[FILESTORE_ID_BYTES],
    struct filestore_usage *out) ERR_CHECKED;

// filestore_names_size_of_new_share says how much a room would get by being shared this name: nothing if it has it.
enum err filestore_names_size_of_new_share(struct store_tx *tx, const struct filestore_file *file,
    const uint8_t room_id[FILESTORE_ID_BYTES], int64_t *bytes_out) ERR_CHECKED;

// What users and rooms may store; 0: any amount.
struct filestore_quotas {
    uint64_t user_bytes;
    uint64_t room_bytes;
};

// filestore_names_check_quota: ERR_LIMIT when `more_bytes` of a user, shared with a room (NULL: none), do not fit.
// Unfinished uploads count when a new one is planned, not when one of them ends.
enum err filestore_names_check_quota(struct store_tx *tx, const struct filestore_quotas *quotas,
    const uint8_t user_id[FILESTORE_ID_BYTES], const uint8_t *room_id, uint64_t more_bytes, bool counts_open,
    struct err_detail *why) ERR_CHECKED;

// filestore_names_yield_deleted lets go of a user's deleted files, those first that were deleted first, until they fit
// into the quota together with those that are there. So what can be restored never keeps a user from storing, and never
// takes more than the quota.
enum err filestore_names_yield_deleted(struct store_tx *tx, const struct filestore_quotas *quotas,
    const uint8_t user_id[FILESTORE_ID_BYTES]) ERR_CHECKED;

// filestore_names_quota_left says how much a user may still store, shared with a room (NULL: none); UINT64_MAX: any
// amount.
enum err filestore_names_quota_left(struct store_tx *tx, const struct filestore_quotas *quotas,
    const uint8_t user_id[FILESTORE_ID_BYTES], const uint8_t *room_id, uint64_t *left_out) ERR_CHECKED;

#endif
