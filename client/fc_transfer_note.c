// What is remembered of an upload until it has ended: $FC_DATA_DIR/uploads/<hash>, named after the account, the source
// and the name on the server, with lines of text:
//   fc-upload 1
//   SERVER-URL
//   USER
//   REQUEST-ID DEVICE INODE SIZE MTIME-NS CTIME-NS MD5 SHA256     (of the whole file; "-" when they are not known)
//   NAME
//   ROOM
//   PATH                                                          (to the end, without a newline)
// It is written in place: one that was torn by a crash is not understood, and the upload begins anew.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/file.h"
#include "base/random.h"
#include "client/fc_store_priv.h"
#include "client/fc_transfer_source_priv.h"

#define MAGIC "fc-upload 1"

enum {
    NOTE_MAX_BYTES = 16 * 1024,
    NAME_HEX_BYTES = 33, // of a note's file, with its NUL
    HEX_MAX_BYTES = 65,  // of a SHA-256, with its NUL
    NUMBERS_MAX_BYTES = 400,
    LINE_COUNT = 7,
};

#define NS_PER_S INT64_C(1000000000)

// stamp is what of a source must be the same for an upload to go on.
struct stamp {
    uint64_t device;
    uint64_t inode;
    uint64_t size;
    int64_t modified_ns;
    int64_t changed_ns;
};

static struct stamp
stamp_of(const struct stat *status)
{
    return (struct stamp){
        .device = (uint64_t)status->st_dev,
        .inode = (uint64_t)status->st_ino,
        .size = (uint64_t)status->st_size,
        .modified_ns = (int64_t)status->st_mtim.tv_sec * NS_PER_S + status->st_mtim.tv_nsec,
        .changed_ns = (int64_t)status->st_ctim.tv_sec * NS_PER_S + status->st_ctim.tv_nsec,
    };
}

static bool
is_same_stamp(const struct stamp *a, const struct stamp *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size && a->modified_ns == b->modified_ns &&
           a->changed_ns == b->changed_ns;
}

static enum err
find_dir(char out[FC_CONFIG_PATH_MAX_BYTES + 64])
{
    char dir[FC_CONFIG_PATH_MAX_BYTES];

    enum err err = fc_store_dir(dir, NULL);
    if (err == ERR_OK) {
        (void)snprintf(out, FC_CONFIG_PATH_MAX_BYTES + 64, "%s/uploads", dir);
    }
    return err;
}

static enum err
add_line(struct bytes *text, const char *line, const char *end)
{
    enum err err = bytes_append(text, bytes_view_of_text(line));
    return err == ERR_OK ? bytes_append(text, bytes_view_of_text(end)) : err;
}

// name_note hashes what tells one upload from another.
static enum err
name_note(const struct fc_note *note, struct fc_session *session, char out[NAME_HEX_BYTES])
{
    struct bytes key = {.data = NULL};
    uint8_t hash[DIGEST_SHA256_BYTES];
    const char *const parts[] = {fc_session_server_url(session), fc_session_user_name(session), note->room, note->name,
        note->source_path};

    enum err err = ERR_OK;
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]) && err == ERR_OK; i++) {
        err = add_line(&key, parts[i], "\n");
    }
    if (err == ERR_OK) {
        err = digest_of(DIGEST_SHA256, bytes_as_view(&key), hash);
    }
    if (err == ERR_OK) {
        bytes_to_hex(bytes_view_of(hash, NAME_HEX_BYTES / 2), out);
    }
    bytes_free(&key);
    return err;
}

static enum err
write_text(const struct fc_note *note, struct fc_session *session, const struct stamp *stamp, struct bytes *text)
{
    char numbers[NUMBERS_MAX_BYTES];
    char id[NAME_HEX_BYTES];
    char md5[HEX_MAX_BYTES] = "-";
    char sha256[HEX_MAX_BYTES] = "-";

    bytes_to_hex(bytes_view_of(note->request_id, sizeof(note->request_id)), id);
    if (note->has_digests) {
        bytes_to_hex(bytes_view_of(note->md5, sizeof(note->md5)), md5);
        bytes_to_hex(bytes_view_of(note->sha256, sizeof(note->sha256)), sha256);
    }
    (void)snprintf(numbers, sizeof(numbers), "%s %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRId64 " %" PRId64 " %s %s", id,
        stamp->device, stamp->inode, stamp->size, stamp->modified_ns, stamp->changed_ns, md5, sha256);
    const char *const lines[LINE_COUNT] = {MAGIC, fc_session_server_url(session), fc_session_user_name(session),
        numbers, note->name, note->room, note->source_path};
    enum err err = ERR_OK;
    for (size_t i = 0; i < LINE_COUNT && err == ERR_OK; i++) {
        err = add_line(text, lines[i], i + 1 < LINE_COUNT ? "\n" : "");
    }
    return err;
}

// note_text is a note taken apart: its lines, in memory that `text` owns.
struct note_text {
    struct bytes text;
    char *lines[LINE_COUNT];
    uint8_t request_id[16];
    struct stamp stamp;
    bool has_digests;
    uint8_t md5[DIGEST_MD5_BYTES];
    uint8_t sha256[DIGEST_SHA256_BYTES];
};

static bool
parse_numbers(struct note_text *out, const char *line)
{
    char id[NAME_HEX_BYTES];
    char md5[HEX_MAX_BYTES];
    char sha256[HEX_MAX_BYTES];
    struct stamp *stamp = &out->stamp;

    // NOLINTNEXTLINE(cert-err34-c): a number out of range is another number than the source's
    if (sscanf(line, "%32s %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNd64 " %" SCNd64 " %64s %64s", id, &stamp->device,
            &stamp->inode, &stamp->size, &stamp->modified_ns, &stamp->changed_ns, md5, sha256) != 8 ||
        bytes_from_hex(id, out->request_id, sizeof(out->request_id)) != ERR_OK) {
        return false;
    }
    out->has_digests = bytes_from_hex(md5, out->md5, sizeof(out->md5)) == ERR_OK &&
                       bytes_from_hex(sha256, out->sha256, sizeof(out->sha256)) == ERR_OK;
    return true;
}

// read_note takes a note apart, if it is this account's. Freed by bytes_free of the text in every case.
static bool
read_note(int fd, struct fc_session *session, struct note_text *out)
{
    struct stat status;

    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || status.st_size <= 0 || status.st_size > NOTE_MAX_BYTES ||
        bytes_reserve(&out->text, (size_t)status.st_size + 1) != ERR_OK ||
        file_read_at(fd, out->text.data, (size_t)status.st_size, 0) != ERR_OK) {
        return false;
    }
    char *at = (char *)out->text.data;
    at[status.st_size] = '\0';
    for (size_t i = 0; i + 1 < LINE_COUNT; i++) {
        char *newline = strchr(at, '\n');
        if (newline == NULL) {
            return false;
        }
        *newline = '\0';
        out->lines[i] = at;
        at = newline + 1;
    }
    out->lines[LINE_COUNT - 1] = at;
    return strcmp(out->lines[0], MAGIC) == 0 && strcmp(out->lines[1], fc_session_server_url(session)) == 0 &&
           strcmp(out->lines[2], fc_session_user_name(session)) == 0 && parse_numbers(out, out->lines[3]);
}

static void
forget(struct fc_note *note)
{
    if (note->fd >= 0) {
        close(note->fd);
    }
    note->fd = -1;
}

static enum err
open_locked(struct fc_note *note, struct fc_session *session)
{
    char dir[FC_CONFIG_PATH_MAX_BYTES + 64];
    char name[NAME_HEX_BYTES];

    enum err err = find_dir(dir);
    if (err == ERR_OK) {
        err = name_note(note, session, name);
    }
    if (err == ERR_OK) {
        err = file_make_dirs(dir, S_IRWXU);
    }
    if (err != ERR_OK) {
        return err;
    }
    if (snprintf(note->path, sizeof(note->path), "%s/%s", dir, name) >= (int)sizeof(note->path)) {
        return ERR_TOO_BIG;
    }
    note->fd = open(note->path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, S_IRUSR | S_IWUSR);
    return note->fd >= 0 && flock(note->fd, LOCK_EX | LOCK_NB) == 0 ? ERR_OK : ERR_BUSY;
}

void
fc_note_open(struct fc_note *note, struct fc_session *session, const struct fc_source *source, const char *name,
    const char *room)
{
    struct note_text found = {.text = {.data = NULL}};
    struct stamp stamp = stamp_of(&source->before);

    note->fd = -1;
    note->source_path = realpath(source->path, NULL);
    note->name = strdup(name);
    note->room = strdup(room != NULL ? room : "");
    random_bytes(note->request_id, sizeof(note->request_id));
    if (note->source_path == NULL || note->name == NULL || note->room == NULL || open_locked(note, session) != ERR_OK) {
        forget(note);
        return;
    }
    if (read_note(note->fd, session, &found) && is_same_stamp(&found.stamp, &stamp)) {
        memcpy(note->request_id, found.request_id, sizeof(note->request_id));
        memcpy(note->md5, found.md5, sizeof(note->md5));
        memcpy(note->sha256, found.sha256, sizeof(note->sha256));
        note->has_digests = found.has_digests;
        note->is_continued = true;
    }
    bytes_free(&found.text);
}

void
fc_note_write(const struct fc_note *note, struct fc_session *session, const struct fc_source *source)
{
    struct bytes text = {.data = NULL};
    struct stamp stamp = stamp_of(&source->before);

    if (note->fd < 0) {
        return;
    }
    if (write_text(note, session, &stamp, &text) == ERR_OK && ftruncate(note->fd, 0) == 0) {
        // A note that cannot be written is none: then nothing can be continued.
        enum err ignored = file_write_at(note->fd, bytes_as_view(&text), 0);
        (void)ignored;
    }
    bytes_free(&text);
}

void
fc_note_end(struct fc_note *note, bool is_kept)
{
    if (note->fd >= 0 && !is_kept) {
        (void)unlink(note->path);
    }
    forget(note);
    free(note->source_path);
    free(note->name);
    free(note->room);
    *note = (struct fc_note){.fd = -1};
}

static bool
tell_one(int dir_fd, const char *file_name, struct fc_session *session,
    bool (*fn)(void *context, const struct fc_unfinished *unfinished), void *context)
{
    struct note_text note = {.text = {.data = NULL}};
    struct fc_unfinished unfinished;
    bool is_wanted = true;

    int fd = openat(dir_fd, file_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0 && read_note(fd, session, &note)) {
        memcpy(unfinished.request_id, note.request_id, sizeof(unfinished.request_id));
        unfinished.size_bytes = note.stamp.size;
        unfinished.name = note.lines[4];
        unfinished.room = note.lines[5];
        unfinished.path = note.lines[6];
        unfinished.arrived_bytes = 0;
        is_wanted = fn(context, &unfinished);
    }
    if (fd >= 0) {
        close(fd);
    }
    bytes_free(&note.text);
    return is_wanted;
}

enum err
fc_file_each_unfinished(struct fc_session *session, bool (*fn)(void *context, const struct fc_unfinished *unfinished),
    void *context, struct err_detail *why)
{
    char path[FC_CONFIG_PATH_MAX_BYTES + 64];
    struct dirent *entry;
    bool is_wanted = true;

    enum err err = find_dir(path);
    DIR *dir = err == ERR_OK ? opendir(path) : NULL;
    if (err == ERR_OK && dir == NULL && errno != ENOENT) {
        err = err_fail(why, err_from_errno(errno), "cannot read %s", path);
    }
    while (dir != NULL && is_wanted && (entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] != '.') {
            is_wanted = tell_one(dirfd(dir), entry->d_name, session, fn, context);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return err;
}
