// For fc_sync_run only: what is remembered of the last run.
#ifndef CLIENT_FC_SYNC_PRIV_H
#define CLIENT_FC_SYNC_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/err.h"
#include "client/fc_config.h"
#include "client/fc_session.h"

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

#endif
