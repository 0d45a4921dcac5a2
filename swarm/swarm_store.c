// The store's files: which there are, and their coming and going.
#include "swarm/swarm_store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "swarm/swarm_bits.h"
#include "swarm/swarm_store_priv.h"

enum {
    BOOT_ID_MAX_BYTES = 64,
    HEX_ID_BYTES = 2 * E2E_GRANT_ID_BYTES,
};

// --- Files ----------------------------------------------------------------------------------------------------------

uint64_t
swarm_file_segment_count(const struct swarm_file *file)
{
    return file->size_bytes == 0 ? 0 : (file->size_bytes - 1) / file->segment_bytes + 1;
}

uint32_t
swarm_file_segment_size(const struct swarm_file *file, uint64_t index)
{
    uint64_t left = file->size_bytes - index * file->segment_bytes;
    return left < file->segment_bytes ? (uint32_t)left : file->segment_bytes;
}

enum err
swarm_entry_new(const struct swarm_file *file, struct swarm_entry **out)
{
    if (file->size_bytes != 0 && (file->segment_bytes == 0 || file->segment_bytes > SWARM_SEGMENT_MAX_BYTES)) {
        return ERR_INVALID;
    }
    uint64_t count = swarm_file_segment_count(file);
    if (count > SWARM_SEGMENTS_MAX) {
        return ERR_TOO_BIG;
    }
    struct swarm_entry *entry = calloc(1, sizeof(*entry));
    if (entry == NULL) {
        return ERR_NO_MEMORY;
    }
    entry->file = *file;
    entry->segment_count = count;
    entry->held = calloc(1, swarm_bits_bytes(count) + 1);
    entry->checked = calloc(1, swarm_bits_bytes(count) + 1);
    if (entry->held == NULL || entry->checked == NULL) {
        swarm_entry_free(&entry);
        return ERR_NO_MEMORY;
    }
    *out = entry;
    return ERR_OK;
}

void
swarm_entry_free(struct swarm_entry **entry_ref)
{
    struct swarm_entry *entry = *entry_ref;
    if (entry == NULL) {
        return;
    }
    free(entry->held);
    free(entry->checked);
    free(entry->name);
    free(entry->path);
    free(entry->final_path);
    free(entry);
    *entry_ref = NULL;
}

static size_t
bucket_of(const uint8_t id[E2E_GRANT_ID_BYTES])
{
    return bytes_load_be32(id) % SWARM_BUCKETS; // ids are random
}

struct swarm_entry *
swarm_store_find_locked(struct swarm_store *store, const uint8_t id[E2E_GRANT_ID_BYTES])
{
    struct swarm_entry *entry;
    LIST_FOREACH(entry, &store->locked.buckets[bucket_of(id)], bucket)
    {
        if (memcmp(entry->file.id, id, E2E_GRANT_ID_BYTES) == 0) {
            return entry;
        }
    }
    return NULL;
}

struct swarm_entry *
swarm_store_hold(struct swarm_store *store, const uint8_t id[E2E_GRANT_ID_BYTES], bool is_use)
{
    pthread_mutex_lock(&store->locked.mutex);
    struct swarm_entry *entry = swarm_store_find_locked(store, id);
    if (entry != NULL) {
        entry->holds++;
    }
    if (entry != NULL && is_use) {
        TAILQ_REMOVE(&store->locked.entries, entry, link);
        TAILQ_INSERT_TAIL(&store->locked.entries, entry, link);
    }
    pthread_mutex_unlock(&store->locked.mutex);
    return entry;
}

void
swarm_store_release(struct swarm_store *store, struct swarm_entry *entry)
{
    pthread_mutex_lock(&store->locked.mutex);
    entry->holds--;
    bool is_last = entry->is_gone && entry->holds == 0;
    pthread_mutex_unlock(&store->locked.mutex);
    if (is_last) {
        swarm_entry_free(&entry);
    }
}

void
swarm_store_tell_locked(const struct swarm_store *store, const struct swarm_entry *entry, uint64_t first,
    uint64_t count, bool is_gone)
{
    if (store->on_change != NULL && count != 0) {
        store->on_change(store->context, &entry->file, first, count, is_gone);
    }
}

// count_locked counts what an entry has, or discounts it.
static void
count_locked(struct swarm_store *store, const struct swarm_entry *entry, bool is_coming)
{
    uint64_t bytes = 0;
    for (uint64_t i = 0; i < entry->segment_count; i++) {
        bytes += swarm_bits_has(entry->held, i) ? swarm_file_segment_size(&entry->file, i) : 0;
    }
    store->locked.held_bytes += is_coming ? bytes : 0 - bytes;
    store->locked.owned_bytes += entry->is_shared ? 0 : is_coming ? bytes : 0 - bytes;
    store->locked.segment_count += is_coming ? entry->held_count : 0 - entry->held_count;
    store->locked.file_count += is_coming ? 1 : UINT64_MAX;
}

static void
insert_locked(struct swarm_store *store, struct swarm_entry *entry)
{
    TAILQ_INSERT_TAIL(&store->locked.entries, entry, link);
    LIST_INSERT_HEAD(&store->locked.buckets[bucket_of(entry->file.id)], entry, bucket);
    count_locked(store, entry, true);
    for (uint64_t first = 0; first < entry->segment_count;) {
        uint64_t end = first;
        while (end < entry->segment_count && swarm_bits_has(entry->held, end)) {
            end++;
        }
        swarm_store_tell_locked(store, entry, first, end - first, false);
        first = end + 1;
    }
}

void
swarm_store_remove_locked(struct swarm_store *store, struct swarm_entry *entry)
{
    char path[SWARM_PATH_MAX_BYTES];
    TAILQ_REMOVE(&store->locked.entries, entry, link);
    LIST_REMOVE(entry, bucket);
    count_locked(store, entry, false);
    swarm_index_path(store, entry->file.id, ".index", path);
    (void)unlink(path);
    if (!entry->is_shared) {
        swarm_index_path(store, entry->file.id, ".data", path);
        (void)unlink(path);
    }
    if (entry->held_count != 0) {
        swarm_store_tell_locked(store, entry, 0, entry->segment_count, true);
    }
    entry->is_gone = true;
    if (entry->holds == 0) {
        swarm_entry_free(&entry);
    }
}

// --- Coming and going -----------------------------------------------------------------------------------------------

static enum err
check_sha256s(const struct swarm_file *file, struct bytes_view sha256s)
{
    struct e2e_tree tree = {0};
    uint8_t root[DIGEST_SHA256_BYTES];
    enum err err = sha256s.size == swarm_file_segment_count(file) * DIGEST_SHA256_BYTES ? ERR_OK : ERR_CORRUPT;
    for (size_t at = 0; err == ERR_OK && at < sha256s.size; at += DIGEST_SHA256_BYTES) {
        err = e2e_tree_add(&tree, sha256s.data + at);
    }
    if (err == ERR_OK) {
        err = e2e_tree_root(&tree, root);
    }
    return err == ERR_OK && memcmp(root, file->root, sizeof(root)) != 0 ? ERR_CORRUPT : err;
}

// make_way_locked forgets the file that was not used for the longest when there are too many.
static enum err
make_way_locked(struct swarm_store *store)
{
    struct swarm_entry *entry;
    if (store->locked.file_count < SWARM_FILES_MAX) {
        return ERR_OK;
    }
    TAILQ_FOREACH(entry, &store->locked.entries, link)
    {
        if (!entry->is_shared && entry->holds == 0) {
            swarm_store_remove_locked(store, entry);
            return ERR_OK;
        }
    }
    return ERR_LIMIT;
}

enum err
swarm_store_add(struct swarm_store *store, const struct swarm_file *file, struct bytes_view sha256s)
{
    struct swarm_entry *entry = NULL;
    enum err err = swarm_entry_new(file, &entry);
    if (err == ERR_OK) {
        err = check_sha256s(file, sha256s);
    }
    pthread_mutex_lock(&store->locked.mutex);
    bool is_known = swarm_store_find_locked(store, file->id) != NULL;
    if (err == ERR_OK && !is_known) {
        err = make_way_locked(store);
    }
    if (err == ERR_OK && !is_known) {
        err = swarm_index_create(store, entry, sha256s);
    }
    if (err == ERR_OK && !is_known) {
        insert_locked(store, entry);
        entry = NULL; // transferred
    }
    pthread_mutex_unlock(&store->locked.mutex);
    swarm_entry_free(&entry);
    return err;
}

static char *
copy_text(const char *text, enum err *err)
{
    char *copy = text != NULL ? strdup(text) : NULL;
    *err = text != NULL && copy == NULL ? ERR_NO_MEMORY : *err;
    return copy;
}

// fill_shared writes down what a shared file is known by.
static enum err
fill_shared(struct swarm_entry *entry, const struct swarm_shared *shared)
{
    struct stat status;
    enum err err = ERR_OK;
    if (stat(shared->path, &status) != 0) {
        return err_from_errno(errno);
    }
    if (!S_ISREG(status.st_mode) || (uint64_t)status.st_size != entry->file.size_bytes) {
        return ERR_INVALID;
    }
    swarm_identity_of(&status, &entry->identity);
    if (shared->final_path != NULL) {
        entry->identity.modified_ns = 0;
    }
    entry->is_shared = true;
    entry->name = copy_text(shared->name, &err);
    entry->path = copy_text(shared->path, &err);
    entry->final_path = copy_text(shared->final_path, &err);
    for (uint64_t i = 0; i < entry->segment_count; i++) {
        bool is_said =
            shared->is_complete || (i / 8 < shared->segments.size && swarm_bits_has(shared->segments.data, i));
        swarm_bits_set(entry->held, i, is_said);
        entry->held_count += is_said;
    }
    return err;
}

static void
swap_texts(char **a, char **b)
{
    char *kept = *a;
    *a = *b;
    *b = kept;
}

// more_locked takes over what is new about a shared file that is known.
static enum err
more_locked(struct swarm_store *store, struct swarm_entry *entry, struct swarm_entry *said)
{
    bool is_elsewhere = entry->identity.device != said->identity.device ||
                        entry->identity.inode != said->identity.inode || strcmp(entry->path, said->path) != 0 ||
                        (entry->final_path == NULL) != (said->final_path == NULL);
    if (entry->identity.inode != said->identity.inode || entry->identity.device != said->identity.device) {
        memset(entry->checked, 0, swarm_bits_bytes(entry->segment_count)); // another copy
    }
    if (is_elsewhere || entry->identity.modified_ns != said->identity.modified_ns) {
        entry->identity = said->identity;
        swap_texts(&entry->name, &said->name);
        swap_texts(&entry->path, &said->path);
        swap_texts(&entry->final_path, &said->final_path);
        enum err err = swarm_index_rewrite(store, entry);
        if (err != ERR_OK) {
            return err;
        }
    }
    for (uint64_t i = 0; i < entry->segment_count; i++) {
        if (swarm_bits_has(said->held, i)) {
            swarm_store_note_locked(store, entry, i, true);
        }
    }
    return ERR_OK;
}

enum err
swarm_store_share(struct swarm_store *store, const struct swarm_file *file, struct bytes_view sha256s,
    const struct swarm_shared *shared)
{
    struct swarm_entry *said = NULL;
    enum err err = swarm_entry_new(file, &said);
    if (err == ERR_OK) {
        err = fill_shared(said, shared);
    }
    pthread_mutex_lock(&store->locked.mutex);
    struct swarm_entry *entry = swarm_store_find_locked(store, file->id);
    if (err == ERR_OK && entry != NULL && entry->is_shared) {
        err = more_locked(store, entry, said);
        pthread_mutex_unlock(&store->locked.mutex);
        swarm_entry_free(&said);
        return err;
    }
    if (err == ERR_OK) {
        err = check_sha256s(file, sha256s);
    }
    if (err == ERR_OK && entry != NULL) {
        swarm_store_remove_locked(store, entry);
    }
    if (err == ERR_OK) {
        err = make_way_locked(store);
    }
    if (err == ERR_OK) {
        err = swarm_index_create(store, said, sha256s);
    }
    if (err == ERR_OK) {
        insert_locked(store, said);
        said = NULL; // transferred
    }
    pthread_mutex_unlock(&store->locked.mutex);
    swarm_entry_free(&said);
    return err;
}

void
swarm_store_remove(struct swarm_store *store, const uint8_t file_id[E2E_GRANT_ID_BYTES])
{
    pthread_mutex_lock(&store->locked.mutex);
    struct swarm_entry *entry = swarm_store_find_locked(store, file_id);
    if (entry != NULL) {
        swarm_store_remove_locked(store, entry);
    }
    pthread_mutex_unlock(&store->locked.mutex);
}

// --- Asking ---------------------------------------------------------------------------------------------------------

bool
swarm_store_find(struct swarm_store *store, const uint8_t file_id[E2E_GRANT_ID_BYTES], struct swarm_file *out)
{
    pthread_mutex_lock(&store->locked.mutex);
    const struct swarm_entry *entry = swarm_store_find_locked(store, file_id);
    if (entry != NULL) {
        *out = entry->file;
    }
    pthread_mutex_unlock(&store->locked.mutex);
    return entry != NULL;
}

bool
swarm_store_has(struct swarm_store *store, const uint8_t file_id[E2E_GRANT_ID_BYTES], uint64_t index)
{
    pthread_mutex_lock(&store->locked.mutex);
    const struct swarm_entry *entry = swarm_store_find_locked(store, file_id);
    bool has = entry != NULL && index < entry->segment_count && swarm_bits_has(entry->held, index);
    pthread_mutex_unlock(&store->locked.mutex);
    return has;
}

uint64_t
swarm_store_next_missing(struct swarm_store *store, const uint8_t file_id[E2E_GRANT_ID_BYTES], uint64_t from)
{
    pthread_mutex_lock(&store->locked.mutex);
    const struct swarm_entry *entry = swarm_store_find_locked(store, file_id);
    while (entry != NULL && from < entry->segment_count && swarm_bits_has(entry->held, from)) {
        from++;
    }
    pthread_mutex_unlock(&store->locked.mutex);
    return from;
}

enum err
swarm_store_digests(struct swarm_store *store, const uint8_t file_id[E2E_GRANT_ID_BYTES], uint64_t first, uint64_t most,
    struct bytes *out)
{
    struct swarm_entry *entry = swarm_store_hold(store, file_id, false);
    if (entry == NULL) {
        return ERR_NOT_FOUND;
    }
    uint64_t left = first < entry->segment_count ? entry->segment_count - first : 0;
    enum err err = swarm_index_digests(store, entry, first, left < most ? left : most, out);
    swarm_store_release(store, entry);
    return err;
}

static void
show_locked(const struct swarm_entry *entry, swarm_store_item_fn *fn, void *context)
{
    const struct swarm_store_item item = {
        .file = &entry->file,
        .held_count = entry->held_count,
        .held = entry->held,
        .name = entry->name,
        .path = entry->final_path != NULL ? entry->final_path : entry->path,
        .sent_segments = entry->sent_segments,
    };
    fn(context, &item);
}

bool
swarm_store_look(struct swarm_store *store, const uint8_t file_id[E2E_GRANT_ID_BYTES], swarm_store_item_fn *fn,
    void *context)
{
    pthread_mutex_lock(&store->locked.mutex);
    const struct swarm_entry *entry = swarm_store_find_locked(store, file_id);
    if (entry != NULL) {
        show_locked(entry, fn, context);
    }
    pthread_mutex_unlock(&store->locked.mutex);
    return entry != NULL;
}

void
swarm_store_each(struct swarm_store *store, swarm_store_item_fn *fn, void *context)
{
    const struct swarm_entry *entry;
    pthread_mutex_lock(&store->locked.mutex);
    TAILQ_FOREACH(entry, &store->locked.entries, link)
    {
        show_locked(entry, fn, context);
    }
    pthread_mutex_unlock(&store->locked.mutex);
}

void
swarm_store_read_stored(struct swarm_store *store, struct swarm_stored *out)
{
    pthread_mutex_lock(&store->locked.mutex);
    *out = (struct swarm_stored){
        .bytes = store->locked.held_bytes,
        .budget_bytes = store->budget_bytes,
        .file_count = store->locked.file_count,
        .segment_count = store->locked.segment_count,
    };
    pthread_mutex_unlock(&store->locked.mutex);
}

// --- Lifecycle ------------------------------------------------------------------------------------------------------

static enum err
lock_dir(struct swarm_store *store, struct err_detail *why)
{
    char path[SWARM_PATH_MAX_BYTES];
    (void)snprintf(path, sizeof(path), "%s/lock", store->dir);
    store->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (store->lock_fd < 0) {
        return err_fail(why, err_from_errno(errno), "the folder %s cannot be written: %s", store->dir, strerror(errno));
    }
    if (flock(store->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        return err_fail(why, ERR_BUSY, "the folder %s is in use by another process", store->dir);
    }
    return ERR_OK;
}

static void
boot_path(const struct swarm_store *store, char out[SWARM_PATH_MAX_BYTES])
{
    (void)snprintf(out, SWARM_PATH_MAX_BYTES, "%s/boot", store->dir);
}

// Whether the system was started anew since the marks were made.
static void
read_boot(struct swarm_store *store, struct bytes *boot_id)
{
    char path[SWARM_PATH_MAX_BYTES];
    struct bytes before = {0};
    boot_path(store, path);
    store->is_same_boot = file_read("/proc/sys/kernel/random/boot_id", BOOT_ID_MAX_BYTES, boot_id) == ERR_OK &&
                          file_read(path, BOOT_ID_MAX_BYTES, &before) == ERR_OK &&
                          bytes_view_equal(bytes_as_view(boot_id), bytes_as_view(&before));
    bytes_free(&before);
}

// load_one takes over one name in the folder. What is half written or belongs to nothing is removed.
static enum err
load_one(struct swarm_store *store, const char *name)
{
    char path[SWARM_PATH_MAX_BYTES];
    char hex[HEX_ID_BYTES + 1] = "";
    uint8_t id[E2E_GRANT_ID_BYTES];
    struct swarm_entry *entry = NULL;
    memcpy(hex, name, strnlen(name, HEX_ID_BYTES));
    if (bytes_from_hex(hex, id, sizeof(id)) != ERR_OK) {
        return ERR_OK;
    }
    const char *ending = name + HEX_ID_BYTES;
    if (strcmp(ending, ".index") == 0) {
        enum err err = swarm_index_load(store, id, &entry);
        if (err == ERR_OK) {
            insert_locked(store, entry);
            return ERR_OK;
        }
        if (err != ERR_CORRUPT && err != ERR_INVALID && err != ERR_TOO_BIG) {
            return err;
        }
        log_warn("SWARM-INDEX-BAD", NULL, "%s/%s is damaged and is removed", store->dir, name);
        swarm_index_path(store, id, ".data", path);
        (void)unlink(path);
    } else if (strcmp(ending, ".data") == 0) {
        swarm_index_path(store, id, ".index", path);
        if (access(path, F_OK) == 0) {
            return ERR_OK;
        }
    } else if (strcmp(ending, ".new") != 0) {
        return ERR_OK;
    }
    swarm_index_path(store, id, ending, path);
    (void)unlink(path);
    return ERR_OK;
}

static enum err
load(struct swarm_store *store, struct err_detail *why)
{
    enum err err = ERR_OK;
    DIR *dir = opendir(store->dir);
    if (dir == NULL) {
        return err_fail(why, err_from_errno(errno), "the folder %s cannot be read: %s", store->dir, strerror(errno));
    }
    for (const struct dirent *one = readdir(dir); err == ERR_OK && one != NULL; one = readdir(dir)) {
        err = load_one(store, one->d_name);
    }
    (void)closedir(dir);
    return err == ERR_OK ? ERR_OK
                         : err_fail(why, err, "the folder %s cannot be read: %s", store->dir, err_sentence(err));
}

// load_all takes over what is there, and only then says that its marks are of this start of the system.
static enum err
load_all(struct swarm_store *store, struct err_detail *why)
{
    char path[SWARM_PATH_MAX_BYTES];
    struct bytes boot_id = {0};
    read_boot(store, &boot_id);
    enum err err = load(store, why);
    if (err == ERR_OK && !store->is_same_boot) {
        boot_path(store, path);
        err = file_replace(path, bytes_as_view(&boot_id), S_IRUSR | S_IWUSR);
        if (err != ERR_OK) {
            err = err_fail(why, err, "%s cannot be written: %s", path, err_sentence(err));
        }
    }
    bytes_free(&boot_id);
    return err;
}

enum err
swarm_store_open(const struct swarm_store_options *options, struct swarm_store **out, struct err_detail *why)
{
    struct swarm_store *store = calloc(1, sizeof(*store));
    if (store == NULL) {
        return ERR_NO_MEMORY;
    }
    store->lock_fd = -1;
    store->budget_bytes = options->budget_bytes;
    pthread_mutex_init(&store->locked.mutex, NULL);
    TAILQ_INIT(&store->locked.entries);
    enum err err = strlen(options->dir) + HEX_ID_BYTES + sizeof(".index") < SWARM_PATH_MAX_BYTES
                       ? file_make_dirs(options->dir, S_IRWXU)
                       : ERR_INVALID;
    if (err != ERR_OK) {
        err = err_fail(why, err, "the folder %s cannot be made: %s", options->dir, err_sentence(err));
    }
    if (err == ERR_OK) {
        store->dir = strdup(options->dir);
        err = store->dir != NULL ? lock_dir(store, why) : ERR_NO_MEMORY;
    }
    if (err == ERR_OK) {
        err = load_all(store, why);
    }
    if (err == ERR_OK) {
        err = swarm_store_make_room_locked(store, 0); // the budget may be another one; nobody else knows the store yet
    }
    // Nobody is told of what was there: who wants to know asks.
    store->on_change = options->on_change;
    store->context = options->context;
    if (err != ERR_OK) {
        swarm_store_close(&store);
        return err;
    }
    *out = store;
    return ERR_OK;
}

void
swarm_store_close(struct swarm_store **store_ref)
{
    struct swarm_store *store = *store_ref;
    if (store == NULL) {
        return;
    }
    while (!TAILQ_EMPTY(&store->locked.entries)) {
        struct swarm_entry *entry = TAILQ_FIRST(&store->locked.entries);
        TAILQ_REMOVE(&store->locked.entries, entry, link);
        swarm_entry_free(&entry);
    }
    if (store->lock_fd >= 0) {
        (void)close(store->lock_fd);
    }
    pthread_mutex_destroy(&store->locked.mutex);
    free(store->dir);
    free(store);
    *store_ref = NULL;
}
