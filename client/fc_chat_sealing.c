// Sealed files on this machine: spools, and what is remembered of them.
//
// The memory of one is $FC_DATA_DIR/sealing/<hash>, named after the account, the room, the file and its name there,
// with lines of text: "fc-sealing 1", what the source was like, the spool's name, secrets and digests in hexadecimal,
// and numbers with the type and the id on the server. It is written in place: one that was torn by a crash is not
// understood, and the file is sealed anew.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/random.h"
#include "client/fc_chat_sealing_priv.h"
#include "client/fc_image_priv.h"
#include "client/fc_jpeg_priv.h"
#include "client/fc_preview_priv.h"
#include "client/fc_store_priv.h"
#include "e2e/e2e_message.h"

#define MAGIC "fc-sealing 1\n"
#define SPOOL_PREFIX "sealed-"
#define FETCH_PREFIX "fetched-"

enum {
    SEGMENT_PLAIN_BYTES = 1024 * 1024,
    ID_BYTES = 16,
    ID_HEX_BYTES = 33,
    NOTE_MAX_BYTES = 2048,
    SECRETS_BYTES = 32 + 24 + 32 + 16 + 2 * (DIGEST_MD5_BYTES + DIGEST_SHA256_BYTES),
    LEFTOVER_MAX_S = 7 * 24 * 3600, // as long as the server keeps an upload
};

enum err
fc_digests_new(struct fc_digests *out)
{
    enum err err = digest_new(DIGEST_MD5, &out->md5);
    return err == ERR_OK ? digest_new(DIGEST_SHA256, &out->sha256) : err;
}

enum err
fc_digests_update(struct fc_digests *digests, struct bytes_view data)
{
    enum err err = digest_update(digests->md5, data);
    return err == ERR_OK ? digest_update(digests->sha256, data) : err;
}

enum err
fc_digests_final(struct fc_digests *digests, uint8_t md5_out[DIGEST_MD5_BYTES], uint8_t sha256_out[DIGEST_SHA256_BYTES])
{
    enum err err = digest_final(digests->md5, md5_out);
    return err == ERR_OK ? digest_final(digests->sha256, sha256_out) : err;
}

void
fc_digests_free(struct fc_digests *digests)
{
    digest_free(&digests->md5);
    digest_free(&digests->sha256);
}

// --- The file -------------------------------------------------------------------------------------------------------

void
fc_chat_file_look(int fd, uint64_t size, struct fc_chat_file *out, struct bytes *preview)
{
    struct fc_image image;
    size_t wanted = size < FC_IMAGE_HEAD_BYTES ? (size_t)size : FC_IMAGE_HEAD_BYTES;
    uint8_t *head = malloc(wanted + 1);
    if (head != NULL && file_read_at(fd, head, wanted, 0) == ERR_OK &&
        fc_image_look(bytes_view_of(head, wanted), &image)) {
        out->mime_type = image.mime_type;
        out->width_px = image.width_px;
        out->height_px = image.height_px;
        if (preview != NULL && fc_preview_make(fd, size, &image, preview)) {
            out->preview = bytes_as_view(preview);
        }
    }
    free(head);
}

enum err
fc_chat_file_strip(bool keeps_metadata, const char *path, int *fd, uint64_t *size, struct err_detail *why)
{
    int stripped_fd = -1;
    uint64_t stripped_size = 0;

    if (keeps_metadata) {
        return ERR_OK;
    }
    enum err err = fc_jpeg_strip_file(*fd, *size, path, &stripped_fd, &stripped_size, why);
    if (err == ERR_OK && stripped_fd >= 0) {
        (void)close(*fd);
        *fd = stripped_fd;
        *size = stripped_size;
    }
    return err;
}

enum err
fc_chat_file_open(const char *path, int *fd_out, uint64_t *size_out, struct err_detail *why)
{
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &status) != 0) {
        int error_number = errno;
        if (fd >= 0) {
            (void)close(fd);
        }
        return err_fail(why, err_from_errno(error_number), "cannot open \"%s\": %s", path, strerror(error_number));
    }
    if (!S_ISREG(status.st_mode)) {
        (void)close(fd);
        return err_fail(why, ERR_INVALID, "\"%s\" is not a regular file", path);
    }
    *fd_out = fd;
    *size_out = (uint64_t)status.st_size;
    return ERR_OK;
}

// work is a file on its way into the spool.
struct work {
    struct e2e_file_key key;
    struct e2e_file_secret secret;
    struct fc_digests plain;
    struct fc_digests sealed;
    uint8_t *buffer; // a segment
    struct bytes out;
    const struct fc_transfer_options *options;
};

static enum err
seal_segments(struct work *work, int from, int to, const char *path, struct err_detail *why)
{
    uint64_t count = e2e_file_segment_count(&work->key);
    off_t written = 0;
    enum err err = ERR_OK;
    for (uint64_t i = 0; i < count && err == ERR_OK; i++) {
        uint64_t begin = i * SEGMENT_PLAIN_BYTES;
        uint64_t left = work->key.plain_size_bytes - begin;
        size_t size = left < SEGMENT_PLAIN_BYTES ? (size_t)left : SEGMENT_PLAIN_BYTES;
        if (work->options != NULL && work->options->is_cancelled != NULL &&
            work->options->is_cancelled(work->options->context)) {
            return ERR_CANCELLED;
        }
        err = file_read_at(from, work->buffer, size, (off_t)begin);
        if (err == ERR_OUT_OF_RANGE) {
            return err_fail(why, ERR_CONFLICT, "\"%s\" became shorter while it was read", path);
        }
        bytes_clear(&work->out);
        if (err == ERR_OK) {
            err = fc_digests_update(&work->plain, bytes_view_of(work->buffer, size));
        }
        if (err == ERR_OK) {
            err = e2e_file_seal_segment(&work->key, i, bytes_view_of(work->buffer, size), &work->out);
        }
        if (err == ERR_OK) {
            err = fc_digests_update(&work->sealed, bytes_as_view(&work->out));
        }
        if (err == ERR_OK) {
            err = file_write_at(to, bytes_as_view(&work->out), written);
            written += (off_t)work->out.size;
        }
    }
    return err;
}

static enum err
seal_file(struct fc_sealing *sealing, int fd, uint64_t size, const char *path,
    const struct fc_transfer_options *options, struct err_detail *why)
{
    struct work work = {.options = options};
    struct fc_chat_file *sealed = &sealing->sealed;

    enum err err = e2e_file_key_generate(SEGMENT_PLAIN_BYTES, size, &work.secret, &work.key);
    if (err == ERR_OK) {
        work.buffer = malloc(SEGMENT_PLAIN_BYTES);
        err = work.buffer == NULL ? ERR_NO_MEMORY : fc_digests_new(&work.plain);
    }
    if (err == ERR_OK) {
        err = fc_digests_new(&work.sealed);
    }
    if (err == ERR_OK) {
        err = seal_segments(&work, fd, sealing->fd, path, why);
    }
    if (err == ERR_OK) {
        err = fc_digests_final(&work.plain, sealing->plain.md5, sealing->plain.sha256);
    }
    if (err == ERR_OK) {
        err = fc_digests_final(&work.sealed, sealed->sealed_md5, sealed->sealed_sha256);
    }
    if (err == ERR_OK) {
        sealed->sealed_size_bytes = e2e_file_sealed_size(&work.key);
        sealed->segment_plain_bytes = SEGMENT_PLAIN_BYTES;
        sealed->plain_size_bytes = size;
        memcpy(sealed->secret, work.secret.secret, sizeof(sealed->secret));
        memcpy(sealed->salt, work.secret.salt, sizeof(sealed->salt));
        memcpy(sealed->commitment, work.secret.commitment, sizeof(sealed->commitment));
        memcpy(sealed->seal_id, work.secret.seal_id, sizeof(sealed->seal_id));
        sealing->plain.size_bytes = size;
        fc_chat_file_look(fd, size, sealed, NULL);
    }
    fc_digests_free(&work.plain);
    fc_digests_free(&work.sealed);
    bytes_free(&work.out);
    free(work.buffer);
    digest_wipe(&work, sizeof(work));
    return err;
}

// --- Spools ---------------------------------------------------------------------------------------------------------

// sweep removes spools that nobody has come back for.
static void
sweep(const char *dir_path)
{
    DIR *dir = opendir(dir_path);
    struct dirent *entry;
    struct stat status;

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        bool is_spool = strncmp(entry->d_name, SPOOL_PREFIX, strlen(SPOOL_PREFIX)) == 0 ||
                        strncmp(entry->d_name, FETCH_PREFIX, strlen(FETCH_PREFIX)) == 0;
        if (is_spool && fstatat(dirfd(dir), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISREG(status.st_mode) && status.st_mtim.tv_sec < time(NULL) - LEFTOVER_MAX_S) {
            (void)unlinkat(dirfd(dir), entry->d_name, 0);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
}

static enum err
make_store_dir(char dir[FC_CONFIG_PATH_MAX_BYTES], struct err_detail *why)
{
    enum err err = fc_store_dir(dir, why);
    if (err == ERR_OK) {
        err = file_make_dirs(dir, S_IRWXU);
    }
    return err;
}

enum err
fc_sealing_spool_path(const uint8_t *file_id, size_t size, char out[FC_SEALING_PATH_MAX_BYTES], struct err_detail *why)
{
    char dir[FC_CONFIG_PATH_MAX_BYTES];
    char id[ID_HEX_BYTES];

    if (size != ID_BYTES) {
        return err_fail(why, ERR_CORRUPT, "the file was announced without its id");
    }
    enum err err = make_store_dir(dir, why);
    if (err == ERR_OK) {
        sweep(dir);
        bytes_to_hex(bytes_view_of(file_id, size), id);
        (void)snprintf(out, FC_SEALING_PATH_MAX_BYTES, "%s/" FETCH_PREFIX "%s", dir, id);
    }
    return err;
}

static enum err
make_spool(struct fc_sealing *sealing, struct err_detail *why)
{
    char dir[FC_CONFIG_PATH_MAX_BYTES];
    uint8_t id[ID_BYTES];
    char id_text[ID_HEX_BYTES];

    enum err err = make_store_dir(dir, why);
    if (err != ERR_OK) {
        return err;
    }
    sweep(dir);
    random_bytes(id, sizeof(id));
    bytes_to_hex(bytes_view_of(id, sizeof(id)), id_text);
    (void)snprintf(sealing->path, sizeof(sealing->path), "%s/" SPOOL_PREFIX "%s", dir, id_text);
    sealing->fd = open(sealing->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR);
    if (sealing->fd < 0) {
        int error_number = errno;
        sealing->path[0] = '\0';
        return err_fail(why, err_from_errno(error_number), "cannot write to %s: %s", dir, strerror(error_number));
    }
    return ERR_OK;
}

// --- What is remembered ---------------------------------------------------------------------------------------------

// copy_secrets copies the secrets and digests into one piece of memory, or back.
static void
copy_secrets(struct fc_sealing *sealing, uint8_t block[SECRETS_BYTES], bool is_out)
{
    struct fc_chat_file *sealed = &sealing->sealed;
    struct {
        uint8_t *data;
        size_t size;
    } const parts[] = {
        {sealed->secret, sizeof(sealed->secret)},
        {sealed->salt, sizeof(sealed->salt)},
        {sealed->commitment, sizeof(sealed->commitment)},
        {sealed->seal_id, sizeof(sealed->seal_id)},
        {sealed->sealed_md5, sizeof(sealed->sealed_md5)},
        {sealed->sealed_sha256, sizeof(sealed->sealed_sha256)},
        {sealing->plain.md5, sizeof(sealing->plain.md5)},
        {sealing->plain.sha256, sizeof(sealing->plain.sha256)},
    };
    size_t at = 0;

    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        memcpy(is_out ? block + at : parts[i].data, is_out ? parts[i].data : block + at, parts[i].size);
        at += parts[i].size;
    }
}

static void
write_note(struct fc_sealing *sealing)
{
    const struct fc_chat_file *sealed = &sealing->sealed;
    uint8_t block[SECRETS_BYTES];
    char hex[2 * SECRETS_BYTES + 1];
    char id[ID_HEX_BYTES] = "-";
    char text[NOTE_MAX_BYTES];

    if (sealing->note_fd < 0) {
        return;
    }
    copy_secrets(sealing, block, true);
    bytes_to_hex(bytes_view_of(block, sizeof(block)), hex);
    if (sealing->is_stored) {
        bytes_to_hex(bytes_view_of(sealing->file_id, sizeof(sealing->file_id)), id);
    }
    (void)snprintf(text, sizeof(text), MAGIC "%s\n%s\n%s\n%" PRIu64 " %" PRIu64 " %" PRIu32 " %" PRIu32 " %s %s\n",
        sealing->source_stamp, strrchr(sealing->path, '/') + 1, hex, sealed->sealed_size_bytes,
        sealed->plain_size_bytes, sealed->width_px, sealed->height_px,
        sealed->mime_type != NULL ? sealed->mime_type : "-", id);
    if (ftruncate(sealing->note_fd, 0) == 0) {
        // A note that cannot be written is none.
        enum err ignored = file_write_at(sealing->note_fd, bytes_view_of_text(text), 0);
        (void)ignored;
    }
    digest_wipe(block, sizeof(block));
    digest_wipe(hex, sizeof(hex));
    digest_wipe(text, sizeof(text));
}

// parse_note takes over what is remembered of this very source.
static bool
parse_note(struct fc_sealing *sealing, char *text, char spool_out[ID_HEX_BYTES + sizeof(SPOOL_PREFIX)])
{
    struct fc_chat_file *sealed = &sealing->sealed;
    uint8_t block[SECRETS_BYTES];
    char *lines[5];
    char id[ID_HEX_BYTES];

    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        char *newline = strchr(text, '\n');
        if (newline == NULL) {
            return false;
        }
        *newline = '\0';
        lines[i] = text;
        text = newline + 1;
    }
    // NOLINTNEXTLINE(cert-err34-c): a wrong number shows when the file on the server is compared
    bool is_good =
        strncmp(lines[0], MAGIC, strlen(MAGIC) - 1) == 0 && strcmp(lines[1], sealing->source_stamp) == 0 &&
        strlen(lines[2]) == strlen(SPOOL_PREFIX) + ID_HEX_BYTES - 1 && strchr(lines[2], '/') == NULL &&
        strncmp(lines[2], SPOOL_PREFIX, strlen(SPOOL_PREFIX)) == 0 &&
        bytes_from_hex(lines[3], block, sizeof(block)) == ERR_OK &&
        sscanf(lines[4], "%" SCNu64 " %" SCNu64 " %" SCNu32 " %" SCNu32 " %63s %32s", &sealed->sealed_size_bytes,
            &sealed->plain_size_bytes, &sealed->width_px, &sealed->height_px, sealing->mime_type, id) == 6;
    if (is_good) {
        copy_secrets(sealing, block, false);
        sealed->segment_plain_bytes = SEGMENT_PLAIN_BYTES;
        sealed->mime_type = strcmp(sealing->mime_type, "-") != 0 ? sealing->mime_type : NULL;
        sealing->plain.size_bytes = sealed->plain_size_bytes;
        sealing->is_stored = bytes_from_hex(id, sealing->file_id, sizeof(sealing->file_id)) == ERR_OK;
        memcpy(spool_out, lines[2], strlen(lines[2]) + 1);
    }
    digest_wipe(block, sizeof(block));
    return is_good;
}

static enum err
find_note(struct fc_sealing *sealing, struct fc_session *session, const char *room, const char *path, const char *name)
{
    char dir[FC_CONFIG_PATH_MAX_BYTES];
    char hex[ID_HEX_BYTES];
    uint8_t hash[DIGEST_SHA256_BYTES];
    struct bytes key = {.data = NULL};
    char *real = realpath(path, NULL);
    const char *const parts[] = {fc_session_server_url(session), fc_session_user_name(session), room, name, real};

    enum err err = real == NULL ? ERR_NOT_FOUND : make_store_dir(dir, NULL);
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]) && err == ERR_OK; i++) {
        err = bytes_append(&key, bytes_view_of(parts[i], strlen(parts[i]) + 1));
    }
    if (err == ERR_OK) {
        err = digest_of(DIGEST_SHA256, bytes_as_view(&key), hash);
    }
    bytes_free(&key);
    free(real);
    if (err != ERR_OK) {
        return err;
    }
    bytes_to_hex(bytes_view_of(hash, ID_BYTES), hex);
    (void)snprintf(sealing->note_path, sizeof(sealing->note_path), "%s/sealing", dir);
    err = file_make_dirs(sealing->note_path, S_IRWXU);
    (void)snprintf(sealing->note_path, sizeof(sealing->note_path), "%s/sealing/%s", dir, hex);
    return err;
}

// remember opens the note, unless another process has it, and reads it. Returns whether the file is sealed already.
static bool
remember(struct fc_sealing *sealing, struct fc_session *session, const char *room, const char *path, const char *name)
{
    char spool[ID_HEX_BYTES + sizeof(SPOOL_PREFIX)];
    char dir[FC_CONFIG_PATH_MAX_BYTES];
    char text[NOTE_MAX_BYTES];
    struct stat status;
    bool is_sealed = false;

    if (find_note(sealing, session, room, path, name) != ERR_OK) {
        return false;
    }
    sealing->note_fd = open(sealing->note_path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (sealing->note_fd >= 0 && flock(sealing->note_fd, LOCK_EX | LOCK_NB) != 0) {
        close(sealing->note_fd);
        sealing->note_fd = -1;
    }
    if (sealing->note_fd >= 0 && fstat(sealing->note_fd, &status) == 0 && status.st_size > 0 &&
        status.st_size < NOTE_MAX_BYTES && file_read_at(sealing->note_fd, text, (size_t)status.st_size, 0) == ERR_OK) {
        text[status.st_size] = '\0';
        is_sealed = parse_note(sealing, text, spool) && fc_store_dir(dir, NULL) == ERR_OK;
        digest_wipe(text, sizeof(text));
    }
    if (is_sealed) {
        (void)snprintf(sealing->path, sizeof(sealing->path), "%s/%s", dir, spool);
        sealing->fd = open(sealing->path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        is_sealed = sealing->fd >= 0 && fstat(sealing->fd, &status) == 0 &&
                    (uint64_t)status.st_size == sealing->sealed.sealed_size_bytes;
    }
    return is_sealed;
}

static void
forget_found(struct fc_sealing *sealing)
{
    if (sealing->fd >= 0) {
        close(sealing->fd);
    }
    sealing->fd = -1;
    sealing->is_stored = false;
    sealing->path[0] = '\0';
    digest_wipe(&sealing->sealed, sizeof(sealing->sealed));
}

enum err
fc_sealing_begin(struct fc_sealing *sealing, struct fc_session *session, const char *room, const char *path,
    const char *name, bool keeps_metadata, const struct fc_transfer_options *options, struct err_detail *why)
{
    struct stat status;
    uint64_t size = 0;
    int fd = -1;

    memset(sealing, 0, sizeof(*sealing));
    sealing->fd = -1;
    sealing->note_fd = -1;
    enum err err = fc_chat_file_open(path, &fd, &size, why);
    if (err == ERR_OK && fstat(fd, &status) != 0) {
        err = err_from_errno(errno);
    }
    if (err == ERR_OK) {
        (void)snprintf(sealing->source_stamp, sizeof(sealing->source_stamp),
            "%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRId64 ".%09ld %" PRId64 ".%09ld%s", (uint64_t)status.st_dev,
            (uint64_t)status.st_ino, size, (int64_t)status.st_mtim.tv_sec, status.st_mtim.tv_nsec,
            (int64_t)status.st_ctim.tv_sec, status.st_ctim.tv_nsec, keeps_metadata ? " kept" : "");
        err = fc_chat_file_strip(keeps_metadata, path, &fd, &size, why);
    }
    if (err == ERR_OK) {
        if (!remember(sealing, session, room, path, name)) {
            forget_found(sealing);
            err = make_spool(sealing, why);
            if (err == ERR_OK) {
                err = seal_file(sealing, fd, size, path, options, why);
            }
            if (err == ERR_OK) {
                write_note(sealing);
            }
        }
        sealing->sealed.name = name;
    }
    if (err == ERR_OK) {
        fc_chat_file_look(fd, size, &sealing->sealed, &sealing->preview);
    }
    if (fd >= 0) {
        close(fd);
    }
    return err;
}

void
fc_sealing_stored(struct fc_sealing *sealing, const uint8_t file_id[16])
{
    sealing->is_stored = true;
    memcpy(sealing->file_id, file_id, sizeof(sealing->file_id));
    write_note(sealing);
}

void
fc_sealing_end(struct fc_sealing *sealing, bool is_kept)
{
    is_kept = is_kept && sealing->note_fd >= 0;
    if (sealing->fd >= 0) {
        close(sealing->fd);
    }
    if (!is_kept && sealing->path[0] != '\0') {
        (void)unlink(sealing->path);
    }
    if (sealing->note_fd >= 0) {
        if (!is_kept) {
            (void)unlink(sealing->note_path);
        }
        close(sealing->note_fd);
    }
    bytes_free_secret(&sealing->preview);
    digest_wipe(sealing, sizeof(*sealing));
    sealing->fd = -1;
    sealing->note_fd = -1;
}
