// Sealed files: the sealed bytes are spooled to a file of their own beside the local store, so that an upload that is
// repeated sends the same bytes, and a download is only opened when all of it has arrived.
#include "client/fc_chat_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/file.h"
#include "base/random.h"
#include "base/text.h"
#include "client/fc_chat_priv.h"
#include "client/fc_image_priv.h"

enum {
    SEGMENT_PLAIN_BYTES = 1024 * 1024,
    SPOOL_NAME_BYTES = 16,
    HAS_FILE_QUERY_BYTES = 128,
    OUTPUT_MODE = 0666, // less the umask, as of any new file
};

// spool is a file that holds sealed bytes for a while.
struct spool {
    char path[FC_CONFIG_PATH_MAX_BYTES + 64];
    int fd;
};

static enum err
make_spool(struct spool *spool, struct err_detail *why)
{
    char dir[FC_CONFIG_PATH_MAX_BYTES];
    uint8_t id[SPOOL_NAME_BYTES];
    char id_text[2 * SPOOL_NAME_BYTES + 1];
    spool->fd = -1;
    enum err err = fc_store_dir(dir, why);
    if (err == ERR_OK) {
        err = file_make_dirs(dir, S_IRWXU);
    }
    if (err != ERR_OK) {
        return err;
    }
    random_bytes(id, sizeof(id));
    bytes_to_hex(bytes_view_of(id, sizeof(id)), id_text);
    (void)snprintf(spool->path, sizeof(spool->path), "%s/sealed-%s", dir, id_text);
    spool->fd = open(spool->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR);
    if (spool->fd < 0) {
        int error_number = errno;
        spool->path[0] = '\0';
        return err_fail(why, err_from_errno(error_number), "cannot write to %s: %s", dir, strerror(error_number));
    }
    return ERR_OK;
}

static void
drop_spool(struct spool *spool)
{
    if (spool->fd >= 0) {
        (void)close(spool->fd);
    }
    if (spool->path[0] != '\0') {
        (void)unlink(spool->path);
    }
    spool->fd = -1;
}

// digests are those of one file while it passes by.
struct digests {
    struct digest *md5;
    struct digest *sha256;
};

static enum err
digests_new(struct digests *out)
{
    enum err err = digest_new(DIGEST_MD5, &out->md5);
    return err == ERR_OK ? digest_new(DIGEST_SHA256, &out->sha256) : err;
}

static enum err
digests_update(struct digests *digests, struct bytes_view data)
{
    enum err err = digest_update(digests->md5, data);
    return err == ERR_OK ? digest_update(digests->sha256, data) : err;
}

static enum err
digests_final(struct digests *digests, uint8_t md5_out[DIGEST_MD5_BYTES], uint8_t sha256_out[DIGEST_SHA256_BYTES])
{
    enum err err = digest_final(digests->md5, md5_out);
    return err == ERR_OK ? digest_final(digests->sha256, sha256_out) : err;
}

static void
digests_free(struct digests *digests)
{
    digest_free(&digests->md5);
    digest_free(&digests->sha256);
}

// look_at notes what kind of picture a file is, if it is one.
static void
look_at(int fd, uint64_t size, struct fc_chat_file *out)
{
    struct fc_image image;
    size_t wanted = size < FC_IMAGE_HEAD_BYTES ? (size_t)size : FC_IMAGE_HEAD_BYTES;
    uint8_t *head = malloc(wanted + 1);
    if (head != NULL && file_read_at(fd, head, wanted, 0) == ERR_OK &&
        fc_image_look(bytes_view_of(head, wanted), &image)) {
        out->mime_type = image.mime_type;
        out->width_px = image.width_px;
        out->height_px = image.height_px;
    }
    free(head);
}

// --- Sealing --------------------------------------------------------------------------------------------------------

static enum err
open_source(const char *path, int *fd_out, uint64_t *size_out, struct err_detail *why)
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

// sealing is one file on its way into a spool.
struct sealing {
    struct e2e_file_key key;
    struct e2e_file_secret secret;
    struct digests plain;
    struct digests sealed;
    uint8_t *buffer; // a segment
    struct bytes out;
    const struct fc_transfer_options *options;
};

static enum err
seal_segments(struct sealing *sealing, int from, int to, const char *path, struct err_detail *why)
{
    uint64_t count = e2e_file_segment_count(&sealing->key);
    off_t written = 0;
    enum err err = ERR_OK;
    for (uint64_t i = 0; i < count && err == ERR_OK; i++) {
        uint64_t begin = i * SEGMENT_PLAIN_BYTES;
        uint64_t left = sealing->key.plain_size_bytes - begin;
        size_t size = left < SEGMENT_PLAIN_BYTES ? (size_t)left : SEGMENT_PLAIN_BYTES;
        if (sealing->options != NULL && sealing->options->is_cancelled != NULL &&
            sealing->options->is_cancelled(sealing->options->context)) {
            return ERR_CANCELLED;
        }
        err = file_read_at(from, sealing->buffer, size, (off_t)begin);
        if (err == ERR_OUT_OF_RANGE) {
            return err_fail(why, ERR_CONFLICT, "\"%s\" became shorter while it was read", path);
        }
        bytes_clear(&sealing->out);
        if (err == ERR_OK) {
            err = digests_update(&sealing->plain, bytes_view_of(sealing->buffer, size));
        }
        if (err == ERR_OK) {
            err = e2e_file_seal_segment(&sealing->key, i, bytes_view_of(sealing->buffer, size), &sealing->out);
        }
        if (err == ERR_OK) {
            err = digests_update(&sealing->sealed, bytes_as_view(&sealing->out));
        }
        if (err == ERR_OK) {
            err = file_write_at(to, bytes_as_view(&sealing->out), written);
            written += (off_t)sealing->out.size;
        }
    }
    return err;
}

static enum err
seal_file(const char *path, const char *name, struct spool *spool, const struct fc_transfer_options *options,
    struct fc_chat_file *sealed_out, struct fc_file *plain_out, struct err_detail *why)
{
    struct sealing sealing = {.options = options};
    int fd = -1;
    uint64_t size = 0;
    enum err err = open_source(path, &fd, &size, why);
    if (err == ERR_OK) {
        err = e2e_file_key_generate(SEGMENT_PLAIN_BYTES, size, &sealing.secret, &sealing.key);
    }
    if (err == ERR_OK) {
        sealing.buffer = malloc(SEGMENT_PLAIN_BYTES);
        err = sealing.buffer == NULL ? ERR_NO_MEMORY : digests_new(&sealing.plain);
    }
    if (err == ERR_OK) {
        err = digests_new(&sealing.sealed);
    }
    if (err == ERR_OK) {
        err = seal_segments(&sealing, fd, spool->fd, path, why);
    }
    if (err == ERR_OK) {
        err = digests_final(&sealing.plain, plain_out->md5, plain_out->sha256);
    }
    if (err == ERR_OK) {
        err = digests_final(&sealing.sealed, sealed_out->sealed_md5, sealed_out->sealed_sha256);
    }
    if (err == ERR_OK) {
        sealed_out->name = name;
        sealed_out->sealed_size_bytes = e2e_file_sealed_size(&sealing.key);
        sealed_out->segment_plain_bytes = SEGMENT_PLAIN_BYTES;
        sealed_out->plain_size_bytes = size;
        memcpy(sealed_out->secret, sealing.secret.secret, sizeof(sealed_out->secret));
        memcpy(sealed_out->salt, sealing.secret.salt, sizeof(sealed_out->salt));
        memcpy(sealed_out->commitment, sealing.secret.commitment, sizeof(sealed_out->commitment));
        memcpy(sealed_out->seal_id, sealing.secret.seal_id, sizeof(sealed_out->seal_id));
        plain_out->size_bytes = size;
        look_at(fd, size, sealed_out);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    digests_free(&sealing.plain);
    digests_free(&sealing.sealed);
    bytes_free(&sealing.out);
    free(sealing.buffer);
    digest_wipe(&sealing, sizeof(sealing));
    return err;
}

// --- Uploading ------------------------------------------------------------------------------------------------------

static const char *
last_component(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

static enum err
announce(struct fc_chat *chat, const char *room, const uint8_t file_id[16], const struct fc_chat_file *file,
    const char *name, struct err_detail *why)
{
    struct fc_sent sent;
    struct err_detail cause = {0};
    const struct fc_chat_draft draft = {.file_id = file_id, .file = file};
    enum err err = fc_chat_send(chat, room, &draft, &sent, &cause);
    if (err != ERR_OK) {
        return err_fail(why, err, "\"%s\" is uploaded, but not announced in the room: %s", name,
            err_message(&cause, err));
    }
    return ERR_OK;
}

static enum err
upload_sealed(struct fc_chat *chat, const struct fc_chat_place *place, const char *path, const char *name,
    const struct fc_transfer_options *options, struct fc_file *out, struct err_detail *why)
{
    struct fc_chat_file sealed = {0};
    struct fc_file stored = {0};
    struct spool spool = {.fd = -1};
    struct fc_file plain = {0};
    enum err err = text_check_file_name(name, why);
    if (err == ERR_OK) {
        err = make_spool(&spool, why);
    }
    if (err == ERR_OK) {
        err = seal_file(path, name, &spool, options, &sealed, &plain, why);
    }
    if (err == ERR_OK) {
        err = fc_file_upload(chat->session, spool.path, last_component(spool.path), place->id_text, options, &stored,
            why);
    }
    drop_spool(&spool);
    if (err == ERR_OK && memcmp(stored.md5, sealed.sealed_md5, sizeof(stored.md5)) != 0) {
        err = err_fail(why, ERR_CORRUPT, "the server has something else than was sent");
    }
    if (err == ERR_OK) {
        err = announce(chat, place->id_text, stored.id, &sealed, name, why);
    }
    if (err == ERR_OK) {
        *out = stored;
        out->size_bytes = plain.size_bytes;
        memcpy(out->md5, plain.md5, sizeof(out->md5));
        memcpy(out->sha256, plain.sha256, sizeof(out->sha256));
        (void)snprintf(out->name, sizeof(out->name), "%s", name);
    }
    digest_wipe(&sealed, sizeof(sealed));
    return err;
}

// find_room finds a room under the lock, and copies what the transfer needs of it, which goes on without.
static enum err
find_room(struct fc_chat *chat, const char *room, struct fc_chat_place *out, struct err_detail *why)
{
    struct fc_chat_place *place = NULL;
    fc_chat_lock(chat);
    enum err err = fc_chat_find_place(chat, room, &place, why);
    if (err == ERR_OK) {
        memset(out, 0, sizeof(*out));
        out->row = place->row;
        memcpy(out->id_text, place->id_text, sizeof(out->id_text));
    }
    fc_chat_unlock(chat);
    return err;
}

static enum err
announce_plain(struct fc_chat *chat, const struct fc_chat_place *place, const char *path, const uint8_t file_id[16],
    const char *name, struct err_detail *why)
{
    struct fc_chat_file file = {0};
    int fd = -1;
    uint64_t size = 0;
    if (open_source(path, &fd, &size, NULL) == ERR_OK) {
        look_at(fd, size, &file);
        (void)close(fd);
    }
    return announce(chat, place->id_text, file_id, &file, name, why);
}

enum err
fc_chat_is_encrypted(struct fc_chat *chat, const char *room, bool *is_encrypted_out, struct err_detail *why)
{
    struct fc_chat_place place;
    enum err err = find_room(chat, room, &place, why);
    if (err == ERR_OK) {
        *is_encrypted_out = !place.row.is_plain;
    }
    return err;
}

enum err
fc_chat_upload(struct fc_chat *chat, const char *room, const char *path, const char *name,
    const struct fc_transfer_options *options, struct fc_file *out, struct err_detail *why)
{
    struct fc_chat_place place;
    enum err err = find_room(chat, room, &place, why);
    if (err != ERR_OK) {
        return err;
    }
    name = name == NULL ? last_component(path) : name;
    if (!place.row.is_plain) {
        return upload_sealed(chat, &place, path, name, options, out, why);
    }
    err = fc_file_upload(chat->session, path, name, place.id_text, options, out, why);
    return err == ERR_OK ? announce_plain(chat, &place, path, out->id, name, why) : err;
}

// --- Downloading ----------------------------------------------------------------------------------------------------

// announced is the newest announcement of a name.
struct announced {
    const char *name;
    Fc__Chat__V1__FileAnnouncement *file; // owned
};

static bool
match_name(void *context, const struct fc_store_message *message)
{
    struct announced *announced = context;
    if (message->is_deleted || message->file_name == NULL || strcmp(message->file_name, announced->name) != 0) {
        return true;
    }
    announced->file = fc__chat__v1__file_announcement__unpack(NULL, message->file.size, message->file.data);
    return announced->file == NULL;
}

static enum err
find_announcement(struct fc_chat *chat, const char *room, struct announced *out, struct err_detail *why)
{
    char query[HAS_FILE_QUERY_BYTES];
    struct fc_chat_place *place = NULL;
    fc_chat_lock(chat);
    enum err err = fc_chat_find_place(chat, room, &place, why);
    if (err == ERR_OK) {
        err = fc_chat_sync_place(chat, place, why);
    }
    if (err == ERR_OK) {
        (void)snprintf(query, sizeof(query), "has:file in:%s", place->row.name);
        err = fc_store_messages_search(chat->store, query, 0, 0, match_name, out, NULL, why);
    }
    fc_chat_unlock(chat);
    if (err == ERR_OK && out->file == NULL) {
        return err_fail(why, ERR_NOT_FOUND, "nobody announced a file \"%s\" in \"%s\"", out->name, room);
    }
    return err;
}

static enum err
open_segments(const struct e2e_file_key *key, int from, int to, bool is_pipe, struct digests *digests,
    struct err_detail *why)
{
    uint8_t *sealed = malloc(key->segment_plain_bytes + CRYPTO_TAG_BYTES);
    struct bytes plain = {0};
    uint64_t count = e2e_file_segment_count(key);
    uint64_t left = e2e_file_sealed_size(key);
    off_t at = 0;
    off_t written = 0;
    enum err err = sealed == NULL ? ERR_NO_MEMORY : ERR_OK;
    for (uint64_t i = 0; i < count && err == ERR_OK; i++) {
        size_t full = key->segment_plain_bytes + CRYPTO_TAG_BYTES;
        size_t size = left < full ? (size_t)left : full;
        bytes_clear(&plain);
        err = file_read_at(from, sealed, size, at);
        if (err == ERR_OK) {
            err = e2e_file_open_segment(key, i, bytes_view_of(sealed, size), &plain);
        }
        if (err == ERR_OK) {
            err = digests_update(digests, bytes_as_view(&plain));
        }
        if (err == ERR_OK && is_pipe) {
            err = file_write_all(to, bytes_as_view(&plain));
        } else if (err == ERR_OK) {
            err = file_write_at(to, bytes_as_view(&plain), written);
        }
        at += (off_t)size;
        left -= size;
        written += (off_t)plain.size;
    }
    bytes_free_secret(&plain);
    free(sealed);
    if (err == ERR_CORRUPT || err == ERR_OUT_OF_RANGE) {
        return err_fail(why, ERR_CORRUPT, "the file is not what was announced: it was changed or cut");
    }
    return err;
}

// fetch_sealed downloads the sealed bytes into the spool.
static enum err
fetch_sealed(struct fc_chat *chat, const Fc__Chat__V1__FileAnnouncement *file, struct spool *spool,
    const struct fc_transfer_options *options, struct fc_file *stored_out, struct err_detail *why)
{
    char id_text[2 * E2E_ID_BYTES + 1];
    bytes_to_hex(bytes_view_of(file->file_id.data, file->file_id.len), id_text);
    (void)close(spool->fd);
    spool->fd = -1;
    enum err err = fc_file_download(chat->session, id_text, spool->path, true, options, stored_out, why);
    if (err == ERR_OK) {
        spool->fd = open(spool->path, O_RDONLY | O_CLOEXEC);
        err = spool->fd < 0 ? err_from_errno(errno) : ERR_OK;
    }
    return err;
}

// output is where an opened file goes: a descriptor of the caller's, or a path by way of PATH.part.
struct output {
    int fd;
    const char *path; // NULL: a descriptor
    char part[FC_CONFIG_PATH_MAX_BYTES];
};

static enum err
open_output(struct output *output, bool is_replacing, struct err_detail *why)
{
    if (output->path == NULL) {
        return ERR_OK;
    }
    if (!is_replacing && access(output->path, F_OK) == 0) {
        return ERR_EXISTS;
    }
    (void)snprintf(output->part, sizeof(output->part), "%s.part", output->path);
    output->fd = open(output->part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, OUTPUT_MODE);
    if (output->fd < 0) {
        int error_number = errno;
        output->part[0] = '\0';
        return err_fail(why, err_from_errno(error_number), "cannot write \"%s.part\": %s", output->path,
            strerror(error_number));
    }
    return ERR_OK;
}

static enum err
finish_output(struct output *output, enum err err, struct err_detail *why)
{
    if (output->path == NULL) {
        return err;
    }
    if (err == ERR_OK && (fsync(output->fd) != 0 || rename(output->part, output->path) != 0)) {
        int error_number = errno;
        err = err_fail(why, err_from_errno(error_number), "cannot write \"%s\": %s", output->path,
            strerror(error_number));
    }
    if (output->fd >= 0) {
        (void)close(output->fd);
    }
    if (err != ERR_OK && output->part[0] != '\0') {
        (void)unlink(output->part);
    }
    return err;
}

// check_sealed compares all that has arrived with what was announced, before anything of it is passed on.
static enum err
check_sealed(const Fc__E2e__V1__FileKey *announced, const struct e2e_file_key *key, int fd, struct err_detail *why)
{
    uint8_t sha256[DIGEST_SHA256_BYTES];
    uint64_t size = e2e_file_sealed_size(key);
    uint8_t *buffer = malloc(SEGMENT_PLAIN_BYTES);
    struct digest *digest = NULL;
    enum err err = buffer == NULL ? ERR_NO_MEMORY : digest_new(DIGEST_SHA256, &digest);
    for (uint64_t at = 0; at < size && err == ERR_OK; at += SEGMENT_PLAIN_BYTES) {
        size_t part = size - at < SEGMENT_PLAIN_BYTES ? (size_t)(size - at) : SEGMENT_PLAIN_BYTES;
        err = file_read_at(fd, buffer, part, (off_t)at);
        if (err == ERR_OK) {
            err = digest_update(digest, bytes_view_of(buffer, part));
        }
    }
    if (err == ERR_OK) {
        err = digest_final(digest, sha256);
    }
    bool is_other = err == ERR_OK && !bytes_view_equal(bytes_view_of(sha256, sizeof(sha256)),
                                         bytes_view_of(announced->sealed_sha256.data, announced->sealed_sha256.len));
    if (is_other || err == ERR_OUT_OF_RANGE) {
        err = err_fail(why, ERR_CORRUPT, "the file is not what was announced: it was changed or cut");
    }
    digest_free(&digest);
    free(buffer);
    return err;
}

static enum err
open_spool(const struct announced *announced, const struct spool *spool, const struct fc_file *stored,
    struct output *output, struct fc_file *out, struct err_detail *why)
{
    struct e2e_file_key key;
    struct digests digests = {0};
    enum err err = e2e_file_key_open(announced->file->key, &key);
    if (err == ERR_INVALID || err == ERR_CORRUPT ||
        (err == ERR_OK && e2e_file_sealed_size(&key) != stored->size_bytes)) {
        return err_fail(why, ERR_CORRUPT, "\"%s\" is not what was announced", announced->name);
    }
    if (err == ERR_OK) {
        err = check_sealed(announced->file->key, &key, spool->fd, why);
    }
    if (err == ERR_OK) {
        err = digests_new(&digests);
    }
    if (err == ERR_OK) {
        err = open_segments(&key, spool->fd, output->fd, output->path == NULL, &digests, why);
    }
    if (err == ERR_OK) {
        *out = *stored;
        out->size_bytes = key.plain_size_bytes;
        (void)snprintf(out->name, sizeof(out->name), "%s", announced->name);
        err = digests_final(&digests, out->md5, out->sha256);
    }
    digests_free(&digests);
    digest_wipe(&key, sizeof(key));
    return err;
}

static enum err
download(struct fc_chat *chat, const char *room, const char *name, struct output *output, bool is_replacing,
    const struct fc_transfer_options *options, struct fc_file *out, struct err_detail *why)
{
    struct announced announced = {.name = name};
    struct spool spool = {.fd = -1};
    struct fc_file stored = {0};
    enum err err = find_announcement(chat, room, &announced, why);
    if (err == ERR_OK && announced.file->key == NULL) {
        err = err_fail(why, ERR_INVALID, "\"%s\" was announced without a key", name);
    }
    if (err == ERR_OK) {
        (void)snprintf(out->name, sizeof(out->name), "%s", name);
        err = open_output(output, is_replacing, why);
    }
    if (err == ERR_OK) {
        err = make_spool(&spool, why);
    }
    if (err == ERR_OK) {
        err = fetch_sealed(chat, announced.file, &spool, options, &stored, why);
    }
    if (err == ERR_OK) {
        err = open_spool(&announced, &spool, &stored, output, out, why);
    }
    err = finish_output(output, err, why);
    drop_spool(&spool);
    if (announced.file != NULL) {
        fc__chat__v1__file_announcement__free_unpacked(announced.file, NULL);
    }
    return err;
}

enum err
fc_chat_download(struct fc_chat *chat, const char *room, const char *name, const char *path, bool is_replacing,
    const struct fc_transfer_options *options, struct fc_file *out, struct err_detail *why)
{
    const char *own_name = last_component(name);
    struct output output = {.fd = -1, .path = path == NULL ? own_name : path};
    if (path == NULL && (own_name[0] == '.' || own_name[0] == '\0')) {
        return err_fail(why, ERR_INVALID, "\"%s\" would be a hidden file; say with -o where it is to go", own_name);
    }
    return download(chat, room, name, &output, is_replacing, options, out, why);
}

enum err
fc_chat_download_to(struct fc_chat *chat, const char *room, const char *name, int fd,
    const struct fc_transfer_options *options, struct fc_file *out, struct err_detail *why)
{
    struct output output = {.fd = fd};
    return download(chat, room, name, &output, true, options, out, why);
}
