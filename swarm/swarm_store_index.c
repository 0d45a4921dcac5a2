// The index files of the store: what is known of each file, and which of its segments are here.
//
// They describe themselves: the header has a digest over itself, and the digests lead to the root in it. So one that a
// loss of power has left half written is noticed, and forgotten.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "swarm/swarm_bits.h"
#include "swarm/swarm_store_priv.h"

#define MAGIC "fcswarm1"

// Where in the header what stands. Numbers are big-endian.
enum {
    AT_MAGIC = 0,
    AT_DIGEST = 8, // of all that follows in the header
    AT_ID = 40,
    AT_SIZE = 56,
    AT_SEGMENT_BYTES = 64,
    AT_FLAGS = 68,
    AT_ROOT = 72,
    AT_DEVICE = 104,
    AT_INODE = 112,
    AT_MODIFIED = 120,
    AT_LENGTHS = 128, // of name, path and final path
    AT_TEXTS = 140,

    // A segment is not here; it is; it was before the system was last started, and may not have reached the disk.
    MARK_NONE = 0,
    MARK_HELD = 1,
    MARK_HEARSAY = 2,

    FLAG_SHARED = 1,
    FLAG_FINAL = 2, // there is no final path: it is at its path
    TEXT_COUNT = 3,
};

_Static_assert(SWARM_INDEX_HEADER_BYTES >= AT_TEXTS + TEXT_FILE_NAME_MAX_BYTES + 2 * SWARM_PATH_MAX_BYTES,
    "the longest name and paths fit");

void
swarm_index_path(const struct swarm_store *store, const uint8_t id[E2E_GRANT_ID_BYTES], const char *ending,
    char out[SWARM_PATH_MAX_BYTES])
{
    char hex[2 * E2E_GRANT_ID_BYTES + 1];
    bytes_to_hex(bytes_view_of(id, E2E_GRANT_ID_BYTES), hex);
    (void)snprintf(out, SWARM_PATH_MAX_BYTES, "%s/%s%s", store->dir, hex, ending);
}

static enum err
digest_header(const uint8_t header[SWARM_INDEX_HEADER_BYTES], uint8_t out[DIGEST_SHA256_BYTES])
{
    return digest_of(DIGEST_SHA256, bytes_view_of(header + AT_ID, SWARM_INDEX_HEADER_BYTES - AT_ID), out);
}

static enum err
fill_header(const struct swarm_entry *entry, uint8_t out[SWARM_INDEX_HEADER_BYTES])
{
    const char *texts[TEXT_COUNT] = {entry->name, entry->path, entry->final_path};
    uint32_t flags = (entry->is_shared ? FLAG_SHARED : 0) | (entry->final_path == NULL ? FLAG_FINAL : 0);
    size_t at = AT_TEXTS;
    memset(out, 0, SWARM_INDEX_HEADER_BYTES);
    memcpy(out + AT_MAGIC, MAGIC, strlen(MAGIC));
    memcpy(out + AT_ID, entry->file.id, sizeof(entry->file.id));
    bytes_store_be64(out + AT_SIZE, entry->file.size_bytes);
    bytes_store_be32(out + AT_SEGMENT_BYTES, entry->file.segment_bytes);
    bytes_store_be32(out + AT_FLAGS, flags);
    memcpy(out + AT_ROOT, entry->file.root, sizeof(entry->file.root));
    bytes_store_be64(out + AT_DEVICE, entry->identity.device);
    bytes_store_be64(out + AT_INODE, entry->identity.inode);
    bytes_store_be64(out + AT_MODIFIED, entry->identity.modified_ns);
    for (size_t i = 0; i < TEXT_COUNT; i++) {
        size_t size = texts[i] != NULL ? strlen(texts[i]) : 0;
        if (size > SWARM_INDEX_HEADER_BYTES - at) {
            return ERR_TOO_BIG;
        }
        bytes_store_be32(out + AT_LENGTHS + i * sizeof(uint32_t), (uint32_t)size);
        memcpy(out + at, texts[i] != NULL ? texts[i] : "", size);
        at += size;
    }
    return digest_header(out, out + AT_DIGEST);
}

// --- Writing --------------------------------------------------------------------------------------------------------

static enum err
write_new(int fd, const struct swarm_entry *entry, struct bytes_view sha256s)
{
    uint8_t header[SWARM_INDEX_HEADER_BYTES];
    off_t marks = SWARM_INDEX_HEADER_BYTES + (off_t)sha256s.size;
    enum err err = fill_header(entry, header);
    if (err == ERR_OK) {
        err = file_write_at(fd, bytes_view_of(header, sizeof(header)), 0);
    }
    if (err == ERR_OK) {
        err = file_write_at(fd, sha256s, SWARM_INDEX_HEADER_BYTES);
    }
    if (err == ERR_OK && ftruncate(fd, marks + (off_t)entry->segment_count) != 0) {
        err = ERR_IO;
    }
    for (uint64_t i = 0; err == ERR_OK && i < entry->segment_count; i++) {
        if (swarm_bits_has(entry->held, i)) {
            const uint8_t mark = MARK_HELD;
            err = file_write_at(fd, bytes_view_of(&mark, 1), marks + (off_t)i);
        }
    }
    return err;
}

enum err
swarm_index_create(const struct swarm_store *store, const struct swarm_entry *entry, struct bytes_view sha256s)
{
    char path[SWARM_PATH_MAX_BYTES];
    char temporary[SWARM_PATH_MAX_BYTES];
    swarm_index_path(store, entry->file.id, ".index", path);
    swarm_index_path(store, entry->file.id, ".new", temporary);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (fd < 0) {
        return err_from_errno(errno);
    }
    enum err err = write_new(fd, entry, sha256s);
    (void)close(fd);
    if (err == ERR_OK && rename(temporary, path) != 0) {
        err = err_from_errno(errno);
    }
    if (err != ERR_OK) {
        (void)unlink(temporary);
    }
    return err;
}

// Writes into the index that is there.
static enum err
write_at(const struct swarm_store *store, const struct swarm_entry *entry, struct bytes_view data, off_t at)
{
    char path[SWARM_PATH_MAX_BYTES];
    swarm_index_path(store, entry->file.id, ".index", path);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        return err_from_errno(errno);
    }
    enum err err = file_write_at(fd, data, at);
    (void)close(fd);
    return err;
}

enum err
swarm_index_rewrite(const struct swarm_store *store, const struct swarm_entry *entry)
{
    uint8_t header[SWARM_INDEX_HEADER_BYTES];
    enum err err = fill_header(entry, header);
    return err == ERR_OK ? write_at(store, entry, bytes_view_of(header, sizeof(header)), 0) : err;
}

enum err
swarm_index_mark(const struct swarm_store *store, const struct swarm_entry *entry, uint64_t index, bool is_held)
{
    uint8_t mark = is_held ? MARK_HELD : MARK_NONE;
    off_t at = SWARM_INDEX_HEADER_BYTES + (off_t)(entry->segment_count * DIGEST_SHA256_BYTES + index);
    return write_at(store, entry, bytes_view_of(&mark, 1), at);
}

// --- Reading --------------------------------------------------------------------------------------------------------

static enum err
read_texts(const uint8_t header[SWARM_INDEX_HEADER_BYTES], struct swarm_entry *entry, uint32_t flags)
{
    char **texts[TEXT_COUNT] = {&entry->name, &entry->path, &entry->final_path};
    size_t at = AT_TEXTS;
    for (size_t i = 0; i < TEXT_COUNT; i++) {
        size_t size = bytes_load_be32(header + AT_LENGTHS + i * sizeof(uint32_t));
        if (size > SWARM_INDEX_HEADER_BYTES - at) {
            return ERR_CORRUPT;
        }
        if ((flags & FLAG_SHARED) != 0 && (texts[i] != &entry->final_path || (flags & FLAG_FINAL) == 0)) {
            *texts[i] = strndup((const char *)header + at, size);
            if (*texts[i] == NULL) {
                return ERR_NO_MEMORY;
            }
        }
        at += size;
    }
    return ERR_OK;
}

static enum err
read_header(int fd, const uint8_t id[E2E_GRANT_ID_BYTES], struct swarm_entry **out)
{
    uint8_t header[SWARM_INDEX_HEADER_BYTES];
    uint8_t digest[DIGEST_SHA256_BYTES];
    struct swarm_file file;
    struct swarm_entry *entry = NULL;
    if (file_read_at(fd, header, sizeof(header), 0) != ERR_OK || memcmp(header, MAGIC, strlen(MAGIC)) != 0) {
        return ERR_CORRUPT;
    }
    enum err err = digest_header(header, digest);
    if (err == ERR_OK && (memcmp(digest, header + AT_DIGEST, sizeof(digest)) != 0 ||
                             memcmp(header + AT_ID, id, E2E_GRANT_ID_BYTES) != 0)) {
        err = ERR_CORRUPT;
    }
    memcpy(file.id, id, sizeof(file.id));
    file.size_bytes = bytes_load_be64(header + AT_SIZE);
    file.segment_bytes = bytes_load_be32(header + AT_SEGMENT_BYTES);
    memcpy(file.root, header + AT_ROOT, sizeof(file.root));
    if (err == ERR_OK) {
        err = swarm_entry_new(&file, &entry);
    }
    if (err == ERR_OK) {
        uint32_t flags = bytes_load_be32(header + AT_FLAGS);
        entry->is_shared = (flags & FLAG_SHARED) != 0;
        entry->identity.device = bytes_load_be64(header + AT_DEVICE);
        entry->identity.inode = bytes_load_be64(header + AT_INODE);
        entry->identity.modified_ns = bytes_load_be64(header + AT_MODIFIED);
        err = read_texts(header, entry, flags);
    }
    if (err != ERR_OK) {
        swarm_entry_free(&entry);
        return err;
    }
    *out = entry;
    return ERR_OK;
}

static enum err
read_marks(int fd, const struct swarm_store *store, struct swarm_entry *entry)
{
    size_t count = (size_t)entry->segment_count;
    uint8_t *marks = malloc(count + 1);
    if (marks == NULL) {
        return ERR_NO_MEMORY;
    }
    off_t at = SWARM_INDEX_HEADER_BYTES + (off_t)(count * DIGEST_SHA256_BYTES);
    enum err err = file_read_at(fd, marks, count, at) == ERR_OK ? ERR_OK : ERR_CORRUPT;
    for (uint64_t i = 0; err == ERR_OK && i < count; i++) {
        if (marks[i] != MARK_NONE) {
            marks[i] = store->is_same_boot ? marks[i] : MARK_HEARSAY;
            swarm_bits_set(entry->held, i, true);
            swarm_bits_set(entry->checked, i, marks[i] == MARK_HELD);
            entry->held_count++;
        }
    }
    if (err == ERR_OK && !store->is_same_boot) {
        err = file_write_at(fd, bytes_view_of(marks, count), at);
    }
    free(marks);
    return err;
}

// After an end of the system the digests may be those that never reached the disk.
static enum err
check_digests(const struct swarm_store *store, const struct swarm_entry *entry)
{
    struct e2e_tree tree = {0};
    struct bytes sha256s = {0};
    uint8_t root[DIGEST_SHA256_BYTES];
    enum err err = swarm_index_digests(store, entry, 0, entry->segment_count, &sha256s);
    for (size_t at = 0; err == ERR_OK && at < sha256s.size; at += DIGEST_SHA256_BYTES) {
        err = e2e_tree_add(&tree, sha256s.data + at);
    }
    bytes_free(&sha256s);
    if (err == ERR_OK) {
        err = e2e_tree_root(&tree, root);
    }
    return err == ERR_OK && memcmp(root, entry->file.root, sizeof(root)) != 0 ? ERR_CORRUPT : err;
}

enum err
swarm_index_load(const struct swarm_store *store, const uint8_t id[E2E_GRANT_ID_BYTES], struct swarm_entry **out)
{
    char path[SWARM_PATH_MAX_BYTES];
    struct swarm_entry *entry = NULL;
    swarm_index_path(store, id, ".index", path);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        return err_from_errno(errno);
    }
    enum err err = read_header(fd, id, &entry);
    if (err == ERR_OK) {
        err = read_marks(fd, store, entry);
    }
    (void)close(fd);
    if (err == ERR_OK && !store->is_same_boot) {
        err = check_digests(store, entry);
    }
    if (err != ERR_OK) {
        swarm_entry_free(&entry);
        return err;
    }
    *out = entry;
    return ERR_OK;
}

enum err
swarm_index_digests(const struct swarm_store *store, const struct swarm_entry *entry, uint64_t first, uint64_t count,
    struct bytes *out)
{
    char path[SWARM_PATH_MAX_BYTES];
    size_t size = (size_t)count * DIGEST_SHA256_BYTES;
    swarm_index_path(store, entry->file.id, ".index", path);
    enum err err = bytes_reserve(out, size);
    if (err != ERR_OK) {
        return err;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return err_from_errno(errno);
    }
    err =
        file_read_at(fd, out->data + out->size, size, SWARM_INDEX_HEADER_BYTES + (off_t)(first * DIGEST_SHA256_BYTES));
    (void)close(fd);
    if (err == ERR_OK) {
        out->size += size;
    }
    return err;
}
