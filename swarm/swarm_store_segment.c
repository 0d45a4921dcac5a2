// Segments of the store: reading, writing, checking, and giving them up for others.
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "swarm/swarm_bits.h"
#include "swarm/swarm_store_priv.h"

enum {
    NS_PER_S = 1000 * 1000 * 1000,
};

// --- Where the bytes are --------------------------------------------------------------------------------------------

void
swarm_identity_of(const struct stat *status, struct swarm_identity *out)
{
    out->device = (uint64_t)status->st_dev;
    out->inode = (uint64_t)status->st_ino;
    out->modified_ns = (uint64_t)status->st_mtim.tv_sec * NS_PER_S + (uint64_t)status->st_mtim.tv_nsec;
}

// Whether a descriptor is the shared file as it was said to be.
static bool
is_same(const struct swarm_identity *identity, uint64_t size_bytes, int fd)
{
    struct stat status;
    struct swarm_identity now;
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || (uint64_t)status.st_size != size_bytes) {
        return false;
    }
    swarm_identity_of(&status, &now);
    return now.device == identity->device && now.inode == identity->inode &&
           (identity->modified_ns == 0 || now.modified_ns == identity->modified_ns);
}

static int
open_if_same(const struct swarm_entry *entry, const char *path)
{
    // O_NONBLOCK: a pipe may have taken the file's place.
    int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
    if (fd >= 0 && !is_same(&entry->identity, entry->file.size_bytes, fd)) {
        (void)close(fd);
        fd = -1;
    }
    return fd;
}

// Opens a shared file: its download may give it its final name just now. What is said of it changes under the lock
// only. ERR_CONFLICT: it is not as it was.
static enum err
open_shared(struct swarm_store *store, struct swarm_entry *entry, int *fd_out, struct swarm_identity *identity_out)
{
    pthread_mutex_lock(&store->locked.mutex);
    *identity_out = entry->identity;
    int fd = open_if_same(entry, entry->path);
    if (fd < 0) {
        fd = open_if_same(entry, entry->final_path);
    }
    pthread_mutex_unlock(&store->locked.mutex);
    if (fd < 0) {
        return ERR_CONFLICT;
    }
    *fd_out = fd;
    return ERR_OK;
}

void
swarm_store_look_again(struct swarm_store *store)
{
    pthread_mutex_lock(&store->locked.mutex);
    struct swarm_entry *entry = TAILQ_FIRST(&store->locked.entries);
    while (entry != NULL) {
        struct swarm_entry *next = TAILQ_NEXT(entry, link);
        int fd = entry->is_shared ? open_if_same(entry, entry->path) : -1;
        if (entry->is_shared && fd < 0) {
            fd = open_if_same(entry, entry->final_path);
        }
        if (fd >= 0) {
            (void)close(fd);
        } else if (entry->is_shared) {
            log_info("SWARM-CHANGED", NULL, "%s is not as it was: it is shared no more", entry->path);
            swarm_store_remove_locked(store, entry);
        }
        entry = next;
    }
    pthread_mutex_unlock(&store->locked.mutex);
}

static enum err
open_owned(const struct swarm_store *store, const struct swarm_entry *entry, bool is_writing, int *fd_out)
{
    char path[SWARM_PATH_MAX_BYTES];
    swarm_index_path(store, entry->file.id, ".data", path);
    *fd_out = open(path, (is_writing ? O_RDWR | O_CREAT : O_RDONLY) | O_CLOEXEC, S_IRUSR | S_IWUSR);
    return *fd_out >= 0 ? ERR_OK : err_from_errno(errno);
}

// --- Which are here -------------------------------------------------------------------------------------------------

void
swarm_store_note_locked(struct swarm_store *store, struct swarm_entry *entry, uint64_t index, bool is_held)
{
    if (swarm_bits_has(entry->held, index) == is_held) {
        return;
    }
    uint32_t size = swarm_file_segment_size(&entry->file, index);
    swarm_bits_set(entry->held, index, is_held);
    entry->held_count += is_held ? 1 : UINT64_MAX;
    store->locked.segment_count += is_held ? 1 : UINT64_MAX;
    store->locked.held_bytes += is_held ? size : 0 - (uint64_t)size;
    enum err err = swarm_index_mark(store, entry, index, is_held);
    if (err != ERR_OK) {
        // What is here and not marked is fetched again after a restart; what is marked and not here fails its check.
        log_warn("SWARM-INDEX", NULL, "which segments are here could not be noted: %s", err_sentence(err));
    }
    swarm_store_tell_locked(store, entry, index, 1, !is_held);
}

static bool
is_pinned_locked(const struct swarm_store *store, const struct swarm_entry *entry, uint64_t index)
{
    const struct swarm_pin *pin;
    LIST_FOREACH(pin, &store->locked.pins, link)
    {
        if (pin->entry == entry && pin->index == index) {
            return true;
        }
    }
    return false;
}

static void
punch(int fd, const struct swarm_entry *entry, uint64_t index)
{
    if (fd >= 0 && fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(index * entry->file.segment_bytes),
                       swarm_file_segment_size(&entry->file, index)) != 0) {
        log_debug("SWARM-PUNCH", NULL, "the file system keeps the room of segments that were given up");
    }
}

// give_up_locked gives up segments of one file until there is room for `needed` more bytes.
static void
give_up_locked(struct swarm_store *store, struct swarm_entry *entry, uint64_t needed)
{
    int fd = -1;
    if (open_owned(store, entry, true, &fd) != ERR_OK) {
        fd = -1;
    }
    for (uint64_t i = 0; i < entry->segment_count && store->locked.owned_bytes + needed > store->budget_bytes; i++) {
        uint64_t index = (entry->cursor + i) % entry->segment_count;
        if (swarm_bits_has(entry->held, index) && !is_pinned_locked(store, entry, index)) {
            swarm_store_note_locked(store, entry, index, false);
            store->locked.owned_bytes -= swarm_file_segment_size(&entry->file, index);
            punch(fd, entry, index);
            entry->cursor = index + 1;
        }
    }
    if (fd >= 0) {
        (void)close(fd);
    }
}

// The files that were not asked for the longest go first.
enum err
swarm_store_make_room_locked(struct swarm_store *store, uint64_t needed)
{
    struct swarm_entry *entry = TAILQ_FIRST(&store->locked.entries);
    if (store->budget_bytes == 0) {
        return ERR_OK;
    }
    while (entry != NULL && store->locked.owned_bytes + needed > store->budget_bytes) {
        struct swarm_entry *next = TAILQ_NEXT(entry, link);
        if (!entry->is_shared && entry->held_count != 0) {
            give_up_locked(store, entry, needed);
            if (entry->held_count == 0 && entry->holds == 0) {
                swarm_store_remove_locked(store, entry);
            }
        }
        entry = next;
    }
    return store->locked.owned_bytes + needed <= store->budget_bytes ? ERR_OK : ERR_LIMIT;
}

// --- Reading and checking -------------------------------------------------------------------------------------------

static enum err
read_bytes(struct swarm_store *store, struct swarm_entry *entry, uint64_t index, struct bytes *out)
{
    uint32_t size = swarm_file_segment_size(&entry->file, index);
    int fd = -1;
    struct swarm_identity identity = {0};
    enum err err = bytes_reserve(out, size);
    if (err == ERR_OK && entry->is_shared) {
        err = open_shared(store, entry, &fd, &identity);
    } else if (err == ERR_OK) {
        err = open_owned(store, entry, false, &fd);
    }
    if (err != ERR_OK) {
        return err;
    }
    err = file_read_at(fd, out->data + out->size, size, (off_t)(index * entry->file.segment_bytes));
    if (err == ERR_OK && entry->is_shared && !is_same(&identity, entry->file.size_bytes, fd)) {
        err = ERR_CONFLICT; // somebody has written to it
    }
    (void)close(fd);
    if (err == ERR_OK) {
        out->size += size;
    }
    return err;
}

static enum err
check_digest(struct swarm_store *store, const struct swarm_entry *entry, uint64_t index, struct bytes_view data)
{
    struct bytes expected = {0};
    uint8_t sha256[DIGEST_SHA256_BYTES];
    enum err err = swarm_index_digests(store, entry, index, 1, &expected);
    if (err == ERR_OK) {
        err = digest_of(DIGEST_SHA256, data, sha256);
    }
    if (err == ERR_OK && memcmp(sha256, expected.data, sizeof(sha256)) != 0) {
        err = ERR_CORRUPT;
    }
    bytes_free(&expected);
    return err;
}

// settle_locked draws the consequences of how a segment was read. Returns what the caller is told.
static enum err
settle_locked(struct swarm_store *store, struct swarm_entry *entry, uint64_t index, enum err err)
{
    if (entry->is_gone || err == ERR_NO_MEMORY) {
        return err;
    }
    if (err == ERR_OK) {
        swarm_store_note_locked(store, entry, index, true);
        // Whoever is still writing to a file may write over what it has written.
        swarm_bits_set(entry->checked, index, !entry->is_shared || entry->final_path == NULL);
        return ERR_OK;
    }
    if (entry->is_shared && err == ERR_CONFLICT) {
        log_info("SWARM-CHANGED", NULL, "%s is not as it was: it is shared no more", entry->path);
        swarm_store_remove_locked(store, entry);
        return ERR_NOT_FOUND;
    }
    bool was_held = swarm_bits_has(entry->held, index);
    swarm_store_note_locked(store, entry, index, false);
    if (was_held && !entry->is_shared) {
        store->locked.owned_bytes -= swarm_file_segment_size(&entry->file, index);
    }
    return err == ERR_CORRUPT || err == ERR_OUT_OF_RANGE ? ERR_CORRUPT : err;
}

// read_held reads a segment, and checks it when it is to be, or has not been yet.
static enum err
read_held(struct swarm_store *store, struct swarm_entry *entry, uint64_t index, bool is_checking, struct bytes *out)
{
    struct swarm_pin pin = {.entry = entry, .index = index};
    size_t before = out->size;
    pthread_mutex_lock(&store->locked.mutex);
    bool is_held = swarm_bits_has(entry->held, index);
    bool may_look = !entry->is_gone && (is_held || (is_checking && entry->is_shared));
    is_checking = is_checking || !swarm_bits_has(entry->checked, index);
    if (may_look) {
        LIST_INSERT_HEAD(&store->locked.pins, &pin, link);
    }
    pthread_mutex_unlock(&store->locked.mutex);
    if (!may_look) {
        return ERR_NOT_FOUND;
    }
    enum err err = read_bytes(store, entry, index, out);
    if (err == ERR_OK && is_checking) {
        err = check_digest(store, entry, index, bytes_view_of(out->data + before, out->size - before));
    }
    pthread_mutex_lock(&store->locked.mutex);
    LIST_REMOVE(&pin, link);
    if (err != ERR_OK || is_checking) {
        err = settle_locked(store, entry, index, err);
    }
    pthread_mutex_unlock(&store->locked.mutex);
    if (err != ERR_OK) {
        out->size = before;
    }
    return err;
}

enum err
swarm_store_read(struct swarm_store *store, const uint8_t file_id[E2E_GRANT_ID_BYTES], uint64_t index,
    struct bytes *out)
{
    struct swarm_entry *entry = swarm_store_hold(store, file_id, true);
    if (entry == NULL) {
        return ERR_NOT_FOUND;
    }
    enum err err = index < entry->segment_count ? read_held(store, entry, index, false, out) : ERR_NOT_FOUND;
    if (err == ERR_CORRUPT) {
        log_warn("SWARM-DAMAGED", NULL, "a segment was damaged on disk and is dropped");
        err = ERR_NOT_FOUND;
    }
    if (err == ERR_OK) {
        pthread_mutex_lock(&store->locked.mutex);
        entry->sent_segments++;
        pthread_mutex_unlock(&store->locked.mutex);
    }
    swarm_store_release(store, entry);
    return err;
}

enum err
swarm_store_check(struct swarm_store *store, const uint8_t file_id[E2E_GRANT_ID_BYTES], uint64_t index)
{
    struct bytes data = {0};
    struct swarm_entry *entry = swarm_store_hold(store, file_id, false);
    if (entry == NULL) {
        return ERR_NOT_FOUND;
    }
    enum err err = index < entry->segment_count ? read_held(store, entry, index, true, &data) : ERR_NOT_FOUND;
    bytes_free(&data);
    swarm_store_release(store, entry);
    return err;
}

// --- Writing --------------------------------------------------------------------------------------------------------

static enum err
write_bytes(const struct swarm_store *store, const struct swarm_entry *entry, uint64_t index, struct bytes_view data)
{
    int fd = -1;
    enum err err = open_owned(store, entry, true, &fd);
    if (err == ERR_OK) {
        err = file_write_at(fd, data, (off_t)(index * entry->file.segment_bytes));
        (void)close(fd);
    }
    return err;
}

// keep writes a segment whose room is taken before, so that the budget holds at every moment. It is pinned, so that
// nobody punches a hole where it is being written.
static enum err
keep(struct swarm_store *store, struct swarm_entry *entry, uint64_t index, struct bytes_view data)
{
    struct swarm_pin pin = {.entry = entry, .index = index};
    pthread_mutex_lock(&store->locked.mutex);
    bool is_here = swarm_bits_has(entry->held, index);
    enum err err = entry->is_gone || entry->is_shared ? ERR_NOT_FOUND : ERR_OK;
    if (err == ERR_OK && !is_here) {
        err = swarm_store_make_room_locked(store, data.size);
    }
    if (err == ERR_OK && !is_here) {
        store->locked.owned_bytes += data.size;
        LIST_INSERT_HEAD(&store->locked.pins, &pin, link);
    }
    pthread_mutex_unlock(&store->locked.mutex);
    if (err != ERR_OK || is_here) {
        return err;
    }
    err = write_bytes(store, entry, index, data);
    pthread_mutex_lock(&store->locked.mutex);
    LIST_REMOVE(&pin, link);
    // Another may have written the same one meanwhile.
    if (err == ERR_OK && !entry->is_gone && !swarm_bits_has(entry->held, index)) {
        swarm_store_note_locked(store, entry, index, true);
        swarm_bits_set(entry->checked, index, true);
    } else {
        store->locked.owned_bytes -= data.size;
    }
    pthread_mutex_unlock(&store->locked.mutex);
    return err;
}

enum err
swarm_store_write(struct swarm_store *store, const uint8_t file_id[E2E_GRANT_ID_BYTES], uint64_t index,
    struct bytes_view data)
{
    struct swarm_entry *entry = swarm_store_hold(store, file_id, true);
    if (entry == NULL) {
        return ERR_NOT_FOUND;
    }
    enum err err = index < entry->segment_count ? ERR_OK : ERR_NOT_FOUND;
    if (err == ERR_OK && data.size != swarm_file_segment_size(&entry->file, index)) {
        err = ERR_CORRUPT;
    }
    if (err == ERR_OK) {
        err = check_digest(store, entry, index, data);
    }
    if (err == ERR_OK) {
        err = keep(store, entry, index, data);
    }
    swarm_store_release(store, entry);
    return err;
}
