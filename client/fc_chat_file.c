// Fetching sealed files: the sealed bytes are spooled to a file of their own beside the local store, and only opened
// when all of them have arrived.
#include "client/fc_chat_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/file.h"
#include "base/text.h"
#include "client/fc_chat_priv.h"
#include "client/fc_chat_sealing_priv.h"
#include "client/fc_part_priv.h"
#include "client/fc_transfer_priv.h"

enum {
    HAS_FILE_QUERY_BYTES = 128,
    CHECK_BYTES = 1024 * 1024, // read at once while a sealed file is checked
};

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
open_segments(const struct e2e_file_key *key, int from, int to, bool is_pipe, struct fc_digests *digests,
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
            err = fc_digests_update(digests, bytes_as_view(&plain));
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

// fetch_sealed downloads the sealed bytes, or goes on with what an earlier try has left, and opens them.
static enum err
fetch_sealed(struct fc_chat *chat, const Fc__Chat__V1__FileAnnouncement *file, const char *spool_path, int *fd_out,
    const struct fc_transfer_options *options, struct fc_file *stored_out, struct err_detail *why)
{
    char id_text[2 * E2E_ID_BYTES + 1];
    bytes_to_hex(bytes_view_of(file->file_id.data, file->file_id.len), id_text);
    enum err err = fc_file_download(chat->session, id_text, spool_path, true, options, stored_out, why);
    if (err == ERR_OK) {
        *fd_out = open(spool_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        err = *fd_out < 0 ? err_from_errno(errno) : ERR_OK;
    }
    return err;
}

// output is where an opened file goes: a descriptor of the caller's, or a path by way of PATH.part.
struct output {
    int fd;
    const char *path; // NULL: a descriptor
    struct fc_part part;
};

// check_sealed compares all that has arrived with what was announced, before anything of it is passed on.
static enum err
check_sealed(const Fc__E2e__V1__FileKey *announced, const struct e2e_file_key *key, int fd, struct err_detail *why)
{
    uint8_t sha256[DIGEST_SHA256_BYTES];
    uint64_t size = e2e_file_sealed_size(key);
    uint8_t *buffer = malloc(CHECK_BYTES);
    struct digest *digest = NULL;
    enum err err = buffer == NULL ? ERR_NO_MEMORY : digest_new(DIGEST_SHA256, &digest);
    for (uint64_t at = 0; at < size && err == ERR_OK; at += CHECK_BYTES) {
        size_t part = size - at < CHECK_BYTES ? (size_t)(size - at) : CHECK_BYTES;
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
open_spool(const struct announced *announced, const struct e2e_file_key *key, int spool_fd,
    const struct fc_file *stored, struct output *output, struct fc_file *out, struct err_detail *why)
{
    struct fc_digests digests = {0};
    int to = output->path == NULL ? output->fd : output->part.fd;
    if (e2e_file_sealed_size(key) != stored->size_bytes) {
        return err_fail(why, ERR_CORRUPT, "\"%s\" is not what was announced", announced->name);
    }
    enum err err = check_sealed(announced->file->key, key, spool_fd, why);
    if (err == ERR_OK) {
        err = fc_digests_new(&digests);
    }
    if (err == ERR_OK) {
        err = open_segments(key, spool_fd, to, output->path == NULL, &digests, why);
    }
    if (err == ERR_OK) {
        *out = *stored;
        out->size_bytes = key->plain_size_bytes;
        (void)snprintf(out->name, sizeof(out->name), "%s", announced->name);
        err = fc_digests_final(&digests, out->md5, out->sha256);
    }
    fc_digests_free(&digests);
    return err;
}

static enum err
open_key(const struct announced *announced, struct e2e_file_key *out, struct err_detail *why)
{
    if (announced->file->key == NULL) {
        return err_fail(why, ERR_INVALID, "\"%s\" was announced without a key", announced->name);
    }
    enum err err = e2e_file_key_open(announced->file->key, out);
    if (err == ERR_INVALID || err == ERR_CORRUPT) {
        return err_fail(why, ERR_CORRUPT, "\"%s\" is not what was announced", announced->name);
    }
    return err;
}

// fetch_and_open makes the output before anything is fetched, so that trouble with it shows at once.
static enum err
fetch_and_open(struct fc_chat *chat, const struct announced *announced, const struct e2e_file_key *key,
    struct output *output, bool is_replacing, const struct fc_transfer_options *options, struct fc_file *out,
    struct err_detail *why)
{
    const Fc__Chat__V1__FileAnnouncement *file = announced->file;
    const struct fc_file plain = {.size_bytes = key->plain_size_bytes};
    struct fc_file stored = {0};
    char spool_path[FC_SEALING_PATH_MAX_BYTES];
    int spool_fd = -1;
    enum err err = fc_sealing_spool_path(file->file_id.data, file->file_id.len, spool_path, why);
    if (err == ERR_OK && output->path != NULL) {
        err = fc_part_create(&output->part, AT_FDCWD, output->path, &plain, is_replacing, why);
    }
    if (err == ERR_OK) {
        err = fetch_sealed(chat, file, spool_path, &spool_fd, options, &stored, why);
    }
    if (err == ERR_OK) {
        err = open_spool(announced, key, spool_fd, &stored, output, out, why);
    }
    if (err == ERR_OK && output->path != NULL) {
        err = fc_part_finish(&output->part, why);
    }
    if (spool_fd >= 0) {
        (void)close(spool_fd);
        (void)unlink(spool_path);
    }
    if (output->path != NULL) {
        fc_part_abort(&output->part);
    }
    return err;
}

static enum err
download(struct fc_chat *chat, const char *room, const char *name, struct output *output, bool is_replacing,
    const struct fc_transfer_options *options, struct fc_file *out, struct err_detail *why)
{
    struct announced announced = {.name = name};
    struct e2e_file_key key = {0};
    enum err err = find_announcement(chat, room, &announced, why);
    if (err == ERR_OK) {
        err = open_key(&announced, &key, why);
    }
    if (err == ERR_OK) {
        (void)snprintf(out->name, sizeof(out->name), "%s", name);
        output->part.fd = -1;
        output->part.journal.fd = -1;
        err = fetch_and_open(chat, &announced, &key, output, is_replacing, options, out, why);
    }
    if (announced.file != NULL) {
        fc__chat__v1__file_announcement__free_unpacked(announced.file, NULL);
    }
    digest_wipe(&key, sizeof(key));
    return err;
}

enum err
fc_chat_download(struct fc_chat *chat, const char *room, const char *name, const char *path, bool is_replacing,
    const struct fc_transfer_options *options, struct fc_file *out, struct err_detail *why)
{
    const char *own_name = text_last_component(name);
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
