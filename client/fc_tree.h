// Whole folders: walking one, and putting files into one by names that came from elsewhere. No symbolic link is
// followed on the way.
#ifndef CLIENT_FC_TREE_H
#define CLIENT_FC_TREE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "client/fc_file.h"
#include "client/fc_session.h"

// fc_tree_entry is a regular file below the folder. Borrowed.
struct fc_tree_entry {
    const char *name; // relative to the folder, with '/'
    int fd;           // opened for reading
    uint64_t size_bytes;
    int64_t modified_ns;
    int64_t changed_ns;
    uint64_t inode;
};

// fc_tree_walk calls visit for the regular files below `folder`, by name in each folder. skip (may be NULL) is told of
// what is neither file nor folder or cannot be sent under its name, and why not. An error of visit ends the walk.
enum err fc_tree_walk(const char *folder,
    enum err (*visit)(void *context, const struct fc_tree_entry *entry, struct err_detail *why),
    void (*skip)(void *context, const char *name, const char *reason), void *context,
    struct err_detail *why) ERR_CHECKED;

// fc_tree_open_parent opens the folder that `name` is in below root_fd, and makes it when is_made. *leaf_out points
// into name. ERR_INVALID: not a name that a file may have (text_check_file_name); ERR_CONFLICT: something that is no
// folder is in the way, a symbolic link for example. ERR_NOT_FOUND.
enum err fc_tree_open_parent(int root_fd, const char *name, bool is_made, int *fd_out, const char **leaf_out,
    struct err_detail *why) ERR_CHECKED;

// fc_remote is what a list keeps of a file on the server.
struct fc_remote {
    char *name;
    uint8_t id[16];
    uint8_t md5[16];
    uint64_t size_bytes;
    int64_t modified_unix_ms;
    uint32_t mode;
    uint64_t version;
};

// fc_remote_list is sorted by name. Zero it first.
struct fc_remote_list {
    struct fc_remote *files;
    size_t count;
    size_t capacity;
};

// fc_remote_list_fill lists the caller's own files whose names begin with prefix, or those of a room.
enum err fc_remote_list_fill(struct fc_remote_list *list, struct fc_session *session, const char *prefix,
    const char *room, struct err_detail *why) ERR_CHECKED;
// fc_remote_list_find: NULL when there is none.
const struct fc_remote *fc_remote_list_find(const struct fc_remote_list *list, const char *name);
void fc_remote_list_free(struct fc_remote_list *list);

#endif
