// For services/store/ only: the files of a blob store, of which the recently used ones stay open.
#ifndef STORE_BLOB_FILES_PRIV_H
#define STORE_BLOB_FILES_PRIV_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/err.h"
#include "services/store/blob.h"

enum blob_kind {
    BLOB_UPLOAD,
    BLOB_OBJECT,
    BLOB_KIND_COUNT,
};

enum {
    BLOB_DIRECT_NOT_OPEN = -1,
    BLOB_DIRECT_CANNOT_BE_OPENED = -2,
    BLOB_NAME_BYTES = 2 + 1 + 2 * BLOB_ID_BYTES + 1, // "ab/", 32 digits and NUL
};

// blob_file is an open file. Valid from take to give_back.
struct blob_file {
    TAILQ_ENTRY(blob_file) link;
    uint8_t id[BLOB_ID_BYTES];
    enum blob_kind kind;
    int fd;
    uint64_t object_bytes;             // of an object, when it was opened
    atomic_uint_fast64_t direct_reads; // bytes of an object that were read past the system's cache
    pthread_mutex_t direct_mutex;
    int direct_fd; // guarded by direct_mutex; see blob_direct.c
    unsigned users;
    bool is_listed; // can be found; otherwise it is closed when the last user has given it back
    // The system reports lost data to one fdatasync only. A writer that finds sync_failures changed since before it
    // wrote has to assume that its data was lost.
    pthread_mutex_t sync_mutex; // held while syncing
    atomic_uint sync_failures;
};

// Embedded in the blob store. Any thread.
struct blob_files {
    int folders[BLOB_KIND_COUNT]; // descriptors of uploads/ and objects/; the owner's
    pthread_mutex_t mutex;
    struct {
        TAILQ_HEAD(blob_file_list, blob_file) recent; // most recently used first
        unsigned count;
    } locked; // guarded by mutex
};

void blob_files_init(struct blob_files *files, int uploads, int objects);

// blob_files_deinit closes all of them; none is in use.
void blob_files_deinit(struct blob_files *files);

// blob_files_take opens a file or finds it open. ERR_NOT_FOUND, ERR_NO_MEMORY, ERR_LIMIT, ERR_IO.
enum err blob_files_take(struct blob_files *files, enum blob_kind kind, const uint8_t id[BLOB_ID_BYTES],
    struct blob_file **out) ERR_CHECKED;

void blob_files_give_back(struct blob_files *files, struct blob_file *file);

// blob_files_forget is for a name that has just been removed or given to something else.
void blob_files_forget(struct blob_files *files, enum blob_kind kind, const uint8_t id[BLOB_ID_BYTES]);

// blob_file_name writes the name below the folder of the kind.
void blob_file_name(enum blob_kind kind, const uint8_t id[BLOB_ID_BYTES], char name_out[BLOB_NAME_BYTES]);

#endif
