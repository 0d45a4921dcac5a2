// Sending files to rooms: as they are to plain ones; to encrypted ones the sealed bytes, which are spooled to a file of
// their own beside the local store, so that an upload that is repeated sends the same.
//
// The id of the message that announces a file follows from the file's id on the server. So a file is announced once,
// also when this process dies between the announcement and the end of what it remembers of the file.
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/text.h"
#include "client/fc_chat_file.h"
#include "client/fc_chat_priv.h"
#include "client/fc_chat_sealing_priv.h"
#include "client/fc_transfer_priv.h"

#define ANNOUNCEMENT "fc announcement"

enum err
fc_chat_find_room(struct fc_chat *chat, const char *room, struct fc_chat_place *out, struct err_detail *why)
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

enum err
fc_chat_is_encrypted(struct fc_chat *chat, const char *room, bool *is_encrypted_out, struct err_detail *why)
{
    struct fc_chat_place place;
    enum err err = fc_chat_find_room(chat, room, &place, why);
    if (err == ERR_OK) {
        *is_encrypted_out = !place.row.is_plain;
    }
    return err;
}

enum err
fc_chat_announce(struct fc_chat *chat, const char *room, const uint8_t file_id[16], const struct fc_chat_file *file,
    const char *name, struct err_detail *why)
{
    uint8_t key[sizeof(ANNOUNCEMENT) + E2E_ID_BYTES];
    uint8_t message_id[DIGEST_SHA256_BYTES];
    struct fc_sent sent;
    struct err_detail cause = {0};
    const struct fc_chat_draft draft = {.file_id = file_id, .file = file, .message_id = message_id};

    memcpy(key, ANNOUNCEMENT, sizeof(ANNOUNCEMENT));
    memcpy(key + sizeof(ANNOUNCEMENT), file_id, E2E_ID_BYTES);
    enum err err = digest_of(DIGEST_SHA256, bytes_view_of(key, sizeof(key)), message_id);
    if (err == ERR_OK) {
        err = fc_chat_send(chat, room, &draft, &sent, &cause);
    }
    if (err != ERR_OK) {
        return err_fail(why, err, "\"%s\" is uploaded, but not announced in the room: %s", name,
            err_message(&cause, err));
    }
    return ERR_OK;
}

// store_sealed sends the spool, unless an earlier try has.
static enum err
store_sealed(struct fc_chat *chat, const struct fc_chat_place *place, struct fc_sealing *sealing,
    const struct fc_transfer_options *options, struct fc_file *stored_out, struct err_detail *why)
{
    if (sealing->is_stored) {
        char id[2 * E2E_ID_BYTES + 1];
        bytes_to_hex(bytes_view_of(sealing->file_id, sizeof(sealing->file_id)), id);
        return fc_file_stat(chat->session, id, stored_out, why);
    }
    enum err err = fc_file_upload(chat->session, sealing->path, text_last_component(sealing->path), place->id_text,
        options, stored_out, why);
    return err;
}

enum err
fc_chat_finish_sealed(struct fc_chat *chat, const struct fc_chat_place *place, struct fc_sealing *sealing,
    const struct fc_file *stored, struct fc_file *out, struct err_detail *why)
{
    const char *name = sealing->sealed.name;

    if (memcmp(stored->md5, sealing->sealed.sealed_md5, sizeof(stored->md5)) != 0) {
        return err_fail(why, ERR_CORRUPT, "the server has something else than was sent");
    }
    if (!sealing->is_stored) {
        fc_sealing_stored(sealing, stored->id);
    }
    enum err err = fc_chat_announce(chat, place->id_text, stored->id, &sealing->sealed, name, why);
    if (err == ERR_OK) {
        *out = *stored;
        out->size_bytes = sealing->plain.size_bytes;
        memcpy(out->md5, sealing->plain.md5, sizeof(out->md5));
        memcpy(out->sha256, sealing->plain.sha256, sizeof(out->sha256));
        (void)snprintf(out->name, sizeof(out->name), "%s", name);
    }
    return err;
}

bool
fc_chat_is_worth_keeping(enum err err)
{
    return fc_transfer_is_passing(err) || err == ERR_UNAUTHENTICATED;
}

static enum err
upload_sealed(struct fc_chat *chat, const struct fc_chat_place *place, const char *path, const char *name,
    const struct fc_transfer_options *options, struct fc_file *out, struct err_detail *why)
{
    struct fc_file stored = {0};
    struct fc_sealing sealing;
    enum err err = text_check_file_name(name, why);
    if (err != ERR_OK) {
        return err;
    }
    err = fc_sealing_begin(&sealing, chat->session, place->id_text, path, name, chat->options.keeps_metadata, options,
        why);
    if (err == ERR_OK) {
        err = store_sealed(chat, place, &sealing, options, &stored, why);
    }
    if (err == ERR_OK) {
        err = fc_chat_finish_sealed(chat, place, &sealing, &stored, out, why);
    }
    fc_sealing_end(&sealing, fc_chat_is_worth_keeping(err));
    return err;
}

enum err
fc_chat_announce_plain(struct fc_chat *chat, const struct fc_chat_place *place, int fd, uint64_t size,
    const uint8_t file_id[16], const char *name, struct err_detail *why)
{
    struct fc_chat_file file = {0};
    struct bytes preview = {0};

    fc_chat_file_look(fd, size, &file, &preview);
    enum err err = fc_chat_announce(chat, place->id_text, file_id, &file, name, why);
    bytes_free(&preview);
    return err;
}

// upload_plain sends the file at path itself, which can be gone on with, unless there is something to take out of it.
static enum err
upload_plain(struct fc_chat *chat, const struct fc_chat_place *place, const char *path, const char *name,
    const struct fc_transfer_options *options, struct fc_file *out, struct err_detail *why)
{
    struct fc_upload what = {.path = path, .name = name, .room = place->id_text};
    uint64_t size = 0;
    int fd = -1;

    enum err err = fc_chat_file_open(path, &fd, &size, why);
    int original_fd = fd;
    if (err == ERR_OK) {
        err = fc_chat_file_strip(chat->options.keeps_metadata, path, &fd, &size, why);
    }
    if (err == ERR_OK) {
        what.has_fd = fd != original_fd;
        what.fd = fd;
        err = fc_file_send(chat->session, &what, options, out, why);
    }
    if (err == ERR_OK) {
        err = fc_chat_announce_plain(chat, place, fd, size, out->id, name, why);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return err;
}

enum err
fc_chat_upload(struct fc_chat *chat, const char *room, const char *path, const char *name,
    const struct fc_transfer_options *options, struct fc_file *out, struct err_detail *why)
{
    struct fc_chat_place place;
    enum err err = fc_chat_find_room(chat, room, &place, why);
    if (err != ERR_OK) {
        return err;
    }
    name = name == NULL ? text_last_component(path) : name;
    if (!place.row.is_plain) {
        return upload_sealed(chat, &place, path, name, options, out, why);
    }
    return upload_plain(chat, &place, path, name, options, out, why);
}
