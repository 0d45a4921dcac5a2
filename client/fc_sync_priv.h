// For fc_sync_run only: its parts. What is remembered of the last run is in fc_sync_base.c, and what is done with one
// file in fc_sync_act.c.
#ifndef CLIENT_FC_SYNC_PRIV_H
#define CLIENT_FC_SYNC_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/err.h"
#include "client/fc_config.h"
#include "client/fc_session.h"
#include "client/fc_sync.h"
#include "client/fc_tree.h"

enum {
    FC_SYNC_NAME_MAX_BYTES = 2048, // longer than any that the server takes
};

// fc_sync_file is a file that was alike on both sides, or one that is here.
struct fc_sync_file {
    char *name;
    uint64_t size_bytes;
    int64_t modified_ns; // here
    uint64_t inode;      // here; not remembered
    uint64_t version;    // on the server
    uint8_t md5[DIGEST_MD5_BYTES];
    bool is_pending; // being sent: not alike yet
};

struct fc_sync_files {
    struct fc_sync_file *files;
    size_t count;
    size_t capacity;
};

// fc_sync_files_add copies the name.
enum err fc_sync_files_add(struct fc_sync_files *files, const struct fc_sync_file *file) ERR_CHECKED;
void fc_sync_files_sort(struct fc_sync_files *files);
// fc_sync_files_find: NULL when there is none. They are sorted.
struct fc_sync_file *fc_sync_files_find(const struct fc_sync_files *files, const char *name);
void fc_sync_files_free(struct fc_sync_files *files);

struct fc_sync_base {
    int lock_fd;
    char path[FC_CONFIG_PATH_MAX_BYTES + 64];
    char *folder; // absolute
    const char *remote;
    struct fc_sync_files files;
};

// fc_sync_base_open reads what is remembered of this folder and name. Nothing, when it is damaged: then all that
// differs counts as changed on both sides. ERR_BUSY.
enum err fc_sync_base_open(struct fc_sync_base *base, struct fc_session *session, const char *folder,
    const char *remote, struct err_detail *why) ERR_CHECKED;
// fc_sync_base_write replaces it, durably, but for those that are pending.
enum err fc_sync_base_write(const struct fc_sync_base *base, const struct fc_sync_files *files,
    struct err_detail *why) ERR_CHECKED;
void fc_sync_base_close(struct fc_sync_base *base);

// fc_sync_state is one run.
struct fc_sync_state {
    struct fc_session *session;
    const struct fc_sync *sync;
    struct err_detail *why;
    int root_fd;
    struct fc_sync_base base;
    struct fc_sync_files local;
    struct fc_remote_list remote;
    struct fc_sync_files next;   // what will be remembered, in the order of the names
    struct fc_sync_files copies; // of conflicts; remembered, too
    struct fc_put *put;
    struct fc_transfer_options options;
    uint64_t failed;
    enum err first;
    struct err_detail first_why;
};

// item is one name on all sides; NULL where it is not.
struct fc_sync_item {
    const char *name;
    const struct fc_sync_file *local;
    const struct fc_remote *remote;
    const struct fc_sync_file *base;
    bool is_local_changed; // since the base; also: made or deleted
    bool is_remote_changed;
};

void fc_sync_tell(const struct fc_sync_state *run, enum fc_sync_action action, const char *name, const char *reason);

// fc_sync_note_failure tells of a file that is not alike, and lets the run go on with the others.
enum err fc_sync_note_failure(struct fc_sync_state *run, const char *name, enum err err,
    const char *reason) ERR_CHECKED;

// fc_sync_remember adds a file in this state, under a name that is copied.
enum err fc_sync_remember(struct fc_sync_files *files, const char *name, const struct fc_sync_file *state) ERR_CHECKED;

// The following are for files that are as they were seen. ERR_CONFLICT: it changed meanwhile.
enum err fc_sync_hash(struct fc_sync_state *run, const struct fc_sync_file *seen, uint8_t md5_out[DIGEST_MD5_BYTES],
    struct err_detail *why) ERR_CHECKED;

// fc_sync_send sends a file from here as `name`, only if the server has that version there. It is remembered in
// `files`.
enum err fc_sync_send(struct fc_sync_state *run, const struct fc_sync_file *local, const char *name,
    uint64_t expected_version, struct fc_sync_files *files, struct err_detail *why) ERR_CHECKED;
// fc_sync_on_put is told of small files that were sent.
void fc_sync_on_put(void *context, const char *name, const struct fc_file *file, enum err err, const char *message);

// fc_sync_fetch brings a file here and replaces what was seen.
enum err fc_sync_fetch(struct fc_sync_state *run, const char *name, const struct fc_remote *remote,
    const struct fc_sync_file *seen, struct err_detail *why) ERR_CHECKED;
enum err fc_sync_delete_here(struct fc_sync_state *run, const struct fc_sync_file *local,
    struct err_detail *why) ERR_CHECKED;
enum err fc_sync_delete_there(struct fc_sync_state *run, const struct fc_remote *remote,
    struct err_detail *why) ERR_CHECKED;
// fc_sync_keep_both makes two files of one that has changed on both sides.
enum err fc_sync_keep_both(struct fc_sync_state *run, const struct fc_sync_item *item,
    struct err_detail *why) ERR_CHECKED;

#endif
