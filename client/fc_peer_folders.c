// Which files below the shared folders the server knows: those of the same name whose segments have the digests that
// the server tells, and those of the same content.
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "client/fc_lend_priv.h"
#include "client/fc_peer_priv.h"
#include "client/fc_tree.h"

#include "fc/filestore/v1/filestore.stub.h"

enum {
    READ_BYTES = 1024 * 1024,
    ID_HEX_BYTES = 33, // with its NUL
};

// A file that the server knows and this user may read.
struct known {
    uint8_t id[16];
    uint8_t md5[DIGEST_MD5_BYTES];
    uint64_t size_bytes;
    char *name;
};

struct scan {
    struct fc_peer *peer;
    const char *folder;
    struct known *files; // by size
    size_t count;
    size_t capacity;
    enum err err; // of gathering
    uint8_t *buffer;
    uint32_t unknown_count;
};

// --- What the server knows ------------------------------------------------------------------------------------------

static bool
gather(void *context, const struct fc_file *file)
{
    struct scan *scan = context;
    if (file->size_bytes == 0) {
        return true; // there is nothing to serve
    }
    if (scan->count == scan->capacity) {
        size_t capacity = scan->capacity == 0 ? 64 : scan->capacity * 2;
        struct known *files = realloc(scan->files, capacity * sizeof(files[0]));
        if (files == NULL) {
            scan->err = ERR_NO_MEMORY;
            return false;
        }
        scan->files = files;
        scan->capacity = capacity;
    }
    struct known *known = &scan->files[scan->count];
    memcpy(known->id, file->id, sizeof(known->id));
    memcpy(known->md5, file->md5, sizeof(known->md5));
    known->size_bytes = file->size_bytes;
    known->name = strdup(file->name);
    scan->count += known->name != NULL;
    scan->err = known->name != NULL ? ERR_OK : ERR_NO_MEMORY;
    return known->name != NULL;
}

static int
compare_sizes(const void *a, const void *b)
{
    const struct known *left = a;
    const struct known *right = b;
    return left->size_bytes < right->size_bytes ? -1 : left->size_bytes > right->size_bytes;
}

// first_of_size is the first known file that is not smaller.
static size_t
first_of_size(const struct scan *scan, uint64_t size_bytes)
{
    size_t low = 0;
    size_t high = scan->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (scan->files[middle].size_bytes < size_bytes) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static enum err
learn_page(struct fc_session *session, const char *hex, uint64_t first, struct swarm_file *out, struct bytes *sha256s,
    struct err_detail *why)
{
    Fc__Filestore__V1__StatRequest request = FC__FILESTORE__V1__STAT_REQUEST__INIT;
    const Fc__Filestore__V1__StatResponse *response = NULL;
    struct rpc_unary call;
    request.file = fc_lend_text(hex);
    request.first_segment = first;
    fc_filestore_v1_file_store_init(&call, fc_session_channel(session));
    call.is_idempotent = true;
    enum err err = fc_session_explain(&call, fc_filestore_v1_file_store_stat(&call, &request, &response), why);
    if (err == ERR_OK && (response->file == NULL || response->file->id.len != sizeof(out->id) ||
                             response->segment_sha256s.len % DIGEST_SHA256_BYTES != 0 ||
                             (response->file->size_bytes != 0 && response->file->chunk_size_bytes == 0))) {
        err = err_fail(why, ERR_PROTOCOL, "what the server says of a file makes no sense");
    }
    if (err == ERR_OK) {
        memcpy(out->id, response->file->id.data, sizeof(out->id));
        out->size_bytes = response->file->size_bytes;
        out->segment_bytes = response->file->chunk_size_bytes;
        err = bytes_append(sha256s, bytes_view_of(response->segment_sha256s.data, response->segment_sha256s.len));
    }
    rpc_unary_deinit(&call);
    return err;
}

enum err
fc_peer_learn(struct fc_session *session, const uint8_t id[16], struct swarm_file *out, struct bytes *sha256s,
    struct err_detail *why)
{
    struct e2e_tree tree = {0};
    struct swarm_file file = {.segment_bytes = 1};
    char hex[ID_HEX_BYTES];
    size_t before = 0;
    bytes_to_hex(bytes_view_of(id, sizeof(file.id)), hex);
    bytes_clear(sha256s);
    enum err err = learn_page(session, hex, 0, &file, sha256s, why);
    while (err == ERR_OK && sha256s->size / DIGEST_SHA256_BYTES < swarm_file_segment_count(&file)) {
        if (sha256s->size == before) {
            return err_fail(why, ERR_PROTOCOL, "the server does not tell the digests of a file");
        }
        before = sha256s->size;
        err = learn_page(session, hex, before / DIGEST_SHA256_BYTES, &file, sha256s, why);
    }
    for (size_t at = 0; err == ERR_OK && at < sha256s->size; at += DIGEST_SHA256_BYTES) {
        err = e2e_tree_add(&tree, sha256s->data + at);
    }
    if (err == ERR_OK) {
        err = e2e_tree_root(&tree, file.root);
    }
    if (err == ERR_OK) {
        *out = file;
    }
    return err;
}

// --- What is in the folders -----------------------------------------------------------------------------------------

struct shared_path {
    const char *path;
    bool is_this;
};

static void
compare_path(void *context, const struct swarm_store_item *item)
{
    struct shared_path *shared = context;
    shared->is_this = item->path != NULL && strcmp(item->path, shared->path) == 0 &&
                      item->held_count == swarm_file_segment_count(item->file);
}

static bool
is_shared_already(struct fc_peer *peer, const struct known *known, const char *path)
{
    struct shared_path shared = {.path = path};
    (void)swarm_store_look(swarm_node_store(peer->node), known->id, compare_path, &shared);
    return shared.is_this;
}

static enum err
share(struct scan *scan, const struct known *known, const char *path, bool is_complete, struct swarm_file *file_out)
{
    struct swarm_store *store = swarm_node_store(scan->peer->node);
    const struct swarm_shared shared = {.name = known->name, .path = path, .is_complete = is_complete};
    struct bytes sha256s = {0};
    struct err_detail why = {0};
    enum err err = fc_peer_learn(scan->peer->session, known->id, file_out, &sha256s, &why);
    if (err == ERR_OK) {
        err = swarm_store_share(store, file_out, bytes_as_view(&sha256s), &shared);
    }
    bytes_free(&sha256s);
    return err;
}

// share_checked shares what has the digests that the server tells; the first segment that has not ends it.
static bool
share_checked(struct scan *scan, const struct known *known, const char *path)
{
    struct swarm_store *store = swarm_node_store(scan->peer->node);
    struct swarm_file file;
    if (swarm_store_find(store, known->id, &file)) {
        return false; // what is shared of it already is as good
    }
    enum err err = share(scan, known, path, false, &file);
    if (err != ERR_OK) {
        return false;
    }
    for (uint64_t i = 0; err == ERR_OK && i < swarm_file_segment_count(&file); i++) {
        err = fc_peer_is_stopping(scan->peer) ? ERR_CANCELLED : swarm_store_check(store, known->id, i);
    }
    if (err != ERR_OK) {
        swarm_store_remove(store, known->id);
    }
    return err == ERR_OK;
}

static enum err
compute_md5(struct scan *scan, const struct fc_tree_entry *entry, uint8_t md5_out[DIGEST_MD5_BYTES])
{
    struct digest *digest = NULL;
    enum err err = digest_new(DIGEST_MD5, &digest);
    for (uint64_t at = 0; err == ERR_OK && at < entry->size_bytes; at += READ_BYTES) {
        uint64_t left = entry->size_bytes - at;
        size_t size = left < READ_BYTES ? (size_t)left : (size_t)READ_BYTES;
        err = fc_peer_is_stopping(scan->peer) ? ERR_CANCELLED : file_read_at(entry->fd, scan->buffer, size, (off_t)at);
        if (err == ERR_OK) {
            err = digest_update(digest, bytes_view_of(scan->buffer, size));
        }
    }
    if (err == ERR_OK) {
        err = digest_final(digest, md5_out);
    }
    digest_free(&digest);
    return err;
}

static bool
share_same_content(struct scan *scan, const struct fc_tree_entry *entry, const char *path, size_t first)
{
    uint8_t md5[DIGEST_MD5_BYTES];
    struct swarm_file file;
    bool is_shared = false;
    if (compute_md5(scan, entry, md5) != ERR_OK) {
        return false;
    }
    for (size_t i = first; i < scan->count && scan->files[i].size_bytes == entry->size_bytes; i++) {
        const struct known *known = &scan->files[i];
        if (memcmp(known->md5, md5, sizeof(md5)) != 0) {
            continue;
        }
        is_shared = true;
        if (!swarm_store_find(swarm_node_store(scan->peer->node), known->id, &file)) {
            enum err err = share(scan, known, path, true, &file);
            is_shared = err == ERR_OK;
        }
    }
    return is_shared;
}

static bool
look_at(struct scan *scan, const struct fc_tree_entry *entry, const char *path)
{
    size_t first = first_of_size(scan, entry->size_bytes);
    size_t end = first;
    while (end < scan->count && scan->files[end].size_bytes == entry->size_bytes) {
        if (is_shared_already(scan->peer, &scan->files[end], path)) {
            return true;
        }
        end++;
    }
    for (size_t i = first; i < end; i++) {
        if (strcmp(scan->files[i].name, entry->name) == 0 && share_checked(scan, &scan->files[i], path)) {
            return true;
        }
    }
    return first != end && share_same_content(scan, entry, path, first);
}

static enum err
visit(void *context, const struct fc_tree_entry *entry, struct err_detail *why)
{
    struct scan *scan = context;
    struct bytes path = {0};
    (void)why;
    if (fc_peer_is_stopping(scan->peer)) {
        return ERR_CANCELLED;
    }
    enum err err = bytes_append(&path, bytes_view_of_text(scan->folder));
    if (err == ERR_OK) {
        err = bytes_append(&path, bytes_view_of_text("/"));
    }
    if (err == ERR_OK) {
        err = bytes_append(&path, bytes_view_of(entry->name, strlen(entry->name) + 1));
    }
    if (err == ERR_OK && path.size < FC_CONFIG_PATH_MAX_BYTES && !look_at(scan, entry, (const char *)path.data)) {
        scan->unknown_count++;
    }
    bytes_free(&path);
    return err;
}

static enum err
scan_folders(struct scan *scan, struct err_detail *why)
{
    const struct fc_file_query all = {.has_all_versions = true};
    struct fc_peer *peer = scan->peer;
    swarm_store_look_again(swarm_node_store(peer->node));
    enum err err = fc_file_query_each(peer->session, &all, gather, scan, why);
    err = err == ERR_OK ? scan->err : err;
    if (err == ERR_OK && scan->count != 0) {
        qsort(scan->files, scan->count, sizeof(scan->files[0]), compare_sizes);
    }
    for (size_t i = 0; err == ERR_OK && i < peer->folder_count; i++) {
        struct err_detail cause = {0};
        scan->folder = peer->folders[i];
        enum err walked = fc_tree_walk(scan->folder, visit, NULL, scan, &cause);
        if (walked == ERR_NO_MEMORY || walked == ERR_CANCELLED) {
            err = walked;
        } else if (walked != ERR_OK) {
            log_warn("PEER-FOLDER", NULL, "%s could not be looked through: %s", scan->folder,
                err_message(&cause, walked));
        }
    }
    return err;
}

enum err
fc_peer_scan(struct fc_peer *peer, uint32_t *unknown_out, struct err_detail *why)
{
    struct scan scan = {.peer = peer, .buffer = malloc(READ_BYTES)};
    pthread_mutex_lock(&peer->scan_mutex);
    enum err err = scan.buffer != NULL ? scan_folders(&scan, why) : ERR_NO_MEMORY;
    pthread_mutex_unlock(&peer->scan_mutex);
    for (size_t i = 0; i < scan.count; i++) {
        free(scan.files[i].name);
    }
    free(scan.files);
    free(scan.buffer);
    *unknown_out = scan.unknown_count;
    return err;
}
