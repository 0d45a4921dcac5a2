// Appending messages: a row each. What makes them appear once and in order is told in chat_core.c.
#include "services/chat/chat_messages.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/digest.h"
#include "e2e/e2e_message.h"
#include "services/chat/chat_blocks.h"
#include "services/chat/chat_mentions.h"
#include "services/chat/chat_rows.h"
#include "services/chat/chat_sealed.h"

_Static_assert((int)CHAT_HASH_BYTES == (int)E2E_HASH_BYTES, "the chain is made of the suite's hashes");

// gate is what an encrypted room says about what is sealed for it.
struct gate {
    bool is_rekey_needed;
    uint64_t epoch;
    uint8_t chain[CHAT_HASH_BYTES]; // after the newest message
};

// target is the message that another one is about.
struct target {
    uint64_t seq;
    bool is_own;
    int64_t type;
    bool is_deleted;
};

static enum err
check_request_id(const struct chat_outgoing *outgoing, struct err_detail *why)
{
    if (outgoing->request_id.size != CHAT_ID_BYTES) {
        return err_fail(why, ERR_INVALID,
            "sending needs a request_id of %d random bytes in the call's header, so that the message appears once only",
            CHAT_ID_BYTES);
    }
    return ERR_OK;
}

// find_sent looks for what this request id appended before to the room of out->room_id. ERR_NOT_FOUND: nothing.
// ERR_CONFLICT: it was somebody else.
static enum err
find_sent(struct store_tx *tx, const uint8_t sender_id[CHAT_ID_BYTES], struct bytes_view request_id,
    struct chat_sent *out, struct err_detail *why)
{
    struct store_rows *rows = NULL;
    enum err err = store_query(tx,
        "SELECT seq, sent_at_ms, sender_id, chain FROM chat_messages WHERE room_id = $1 AND message_id = $2",
        STORE_ARGS(chat_rows_id(out->room_id), store_blob(request_id.data, request_id.size)), &rows);
    if (err == ERR_OK) {
        err = store_rows_next(rows);
    }
    if (err == ERR_OK) {
        struct bytes_view found_id = store_rows_blob(rows, 2);
        if (bytes_view_equal(found_id, bytes_view_of(sender_id, CHAT_ID_BYTES))) {
            out->seq = (uint64_t)store_rows_int(rows, 0);
            out->sent_at_ms = store_rows_int(rows, 1);
            out->is_resend = true;
            if (!store_rows_is_null(rows, 3)) {
                err = chat_rows_read_fixed(rows, 3, out->chain, sizeof(out->chain));
            }
        } else {
            err = err_fail(why, ERR_CONFLICT,
                "this request_id is the id of somebody else's message; use 16 random bytes for each message");
        }
    }
    store_rows_free(&rows);
    return err;
}

// find_hidden looks up a room that the sender may have left, and may no longer see.
static enum err
find_hidden(struct store_tx *tx, const char *room, uint8_t room_id_out[CHAT_ID_BYTES])
{
    struct store_rows *rows = NULL;
    if (chat_core_is_room_id(room, room_id_out)) {
        return ERR_OK;
    }
    enum err err =
        store_query(tx, "SELECT room_id FROM chat_rooms WHERE name = $1", STORE_ARGS(store_text(room)), &rows);
    if (err == ERR_OK) {
        err = store_rows_next(rows);
    }
    if (err == ERR_OK) {
        err = chat_rows_read_fixed(rows, 0, room_id_out, CHAT_ID_BYTES);
    }
    store_rows_free(&rows);
    return err;
}

enum err
chat_messages_find_room(struct store_tx *tx, const struct chat_user *sender, struct bytes_view request_id,
    const char *room, struct chat_room *room_out, struct chat_sent *out, struct err_detail *why)
{
    enum err err = chat_core_find_room(tx, room, sender->id, room_out, why);
    if (err == ERR_OK) {
        memcpy(out->room_id, room_out->id, sizeof(out->room_id));
        err = find_sent(tx, sender->id, request_id, out, why);
        return err == ERR_NOT_FOUND ? ERR_OK : err;
    }
    if (err == ERR_NOT_FOUND) {
        enum err found = find_hidden(tx, room, out->room_id);
        found = found == ERR_OK ? find_sent(tx, sender->id, request_id, out, NULL) : found;
        // Nothing else about the room is told.
        return found == ERR_OK || (found != ERR_NOT_FOUND && found != ERR_CONFLICT) ? found : err;
    }
    return err;
}

static enum err
read_gate(struct store_tx *tx, const struct chat_room *room, struct gate *out)
{
    struct store_rows *rows = NULL;
    memset(out, 0, sizeof(*out));
    if (room->is_plain) {
        return ERR_OK;
    }
    enum err err = store_query(tx, "SELECT epoch, is_rekey_needed, chain FROM chat_rooms WHERE room_id = $1",
        STORE_ARGS(chat_rows_id(room->id)), &rows);
    if (err == ERR_OK) {
        err = store_rows_next(rows);
    }
    if (err == ERR_OK) {
        out->epoch = (uint64_t)store_rows_int(rows, 0);
        out->is_rekey_needed = store_rows_int(rows, 1) != 0;
        if (!store_rows_is_null(rows, 2)) {
            err = chat_rows_read_fixed(rows, 2, out->chain, sizeof(out->chain));
        }
    }
    store_rows_free(&rows);
    return err;
}

// check_block is for direct rooms, whose other member may not want to hear from the sender.
static enum err
check_block(struct store_tx *tx, const struct chat_outgoing *outgoing, const struct chat_room *room,
    struct err_detail *why)
{
    bool is_blocked = false;
    if (room->kind != FC__E2E__V1__ROOM_KIND__DIRECT) {
        return ERR_OK;
    }
    enum err err = chat_blocks_silences(tx, room->id, outgoing->sender.id, &is_blocked);
    return err == ERR_OK && is_blocked ? err_fail(why, ERR_DENIED, "messages to %s cannot be delivered", room->name)
                                       : err;
}

// check_epoch says whether a message is sealed with the keys that the room has now.
static enum err
check_epoch(const struct chat_outgoing *outgoing, const struct chat_room *room, const struct gate *gate,
    struct chat_sent *out, struct err_detail *why)
{
    if (outgoing->sealed == NULL || (!gate->is_rekey_needed && outgoing->sealed->epoch == gate->epoch)) {
        return ERR_OK;
    }
    out->is_epoch_stale = true;
    return err_fail(why, ERR_CONFLICT,
        gate->is_rekey_needed
            ? "the keys of \"%s\" have to be changed first, since somebody left it or lost a device, or a link to it "
              "is used up"
            : "the keys of \"%s\" have been changed meanwhile; seal the message with the new ones",
        room->name);
}

// check_room says whether the room takes such a message now.
static enum err
check_room(const struct chat_outgoing *outgoing, const struct chat_room *room, struct err_detail *why)
{
    if (room->is_plain != (outgoing->sealed == NULL)) {
        return err_fail(why, ERR_INVALID,
            room->is_plain ? "\"%s\" is a plain room: its messages are not sealed"
                           : "\"%s\" is encrypted: its messages have to be sealed, as fc send does",
            room->name);
    }
    if (room->is_archived) {
        return err_fail(why, ERR_PRECONDITION, "\"%s\" is archived and takes no messages; its owner can revive it",
            room->name);
    }
    if (outgoing->sealed == NULL && outgoing->reply_to_seq > room->head_seq) {
        return err_fail(why, ERR_NOT_FOUND, "there is no message %llu to reply to in \"%s\"",
            (unsigned long long)outgoing->reply_to_seq, room->name);
    }
    return ERR_OK;
}

static enum err
find_target(struct store_tx *tx, const struct chat_outgoing *outgoing, const struct chat_room *room, uint64_t seq,
    struct target *out, struct err_detail *why)
{
    struct store_rows *rows = NULL;
    enum err err = seq > INT64_MAX ? ERR_NOT_FOUND
                                   : store_query(tx,
                                         "SELECT sender_id, type, is_deleted FROM chat_messages"
                                         " WHERE room_id = $1 AND seq = $2",
                                         STORE_ARGS(chat_rows_id(room->id), store_int((int64_t)seq)), &rows);
    if (err == ERR_OK) {
        err = store_rows_next(rows);
    }
    if (err == ERR_OK) {
        out->seq = seq;
        out->is_own = bytes_view_equal(store_rows_blob(rows, 0), bytes_view_of(outgoing->sender.id, CHAT_ID_BYTES));
        out->type = store_rows_int(rows, 1);
        out->is_deleted = store_rows_int(rows, 2) != 0;
    }
    store_rows_free(&rows);
    if (err == ERR_NOT_FOUND) {
        return err_fail(why, err, "there is no message %llu in \"%s\"", (unsigned long long)seq, room->name);
    }
    return err;
}

// check_reaction looks at the sender's last word about this reaction.
static enum err
check_reaction(struct store_tx *tx, const struct chat_outgoing *outgoing, const struct chat_room *room,
    struct err_detail *why)
{
    struct store_rows *rows = NULL;
    enum err err = store_query(tx,
        "SELECT type FROM chat_messages WHERE room_id = $1 AND target_seq = $2 AND target_seq > 0 AND sender_id = $3"
        " AND text = $4 AND type IN (4, 5) ORDER BY seq DESC LIMIT 1",
        STORE_ARGS(chat_rows_id(room->id), store_int((int64_t)outgoing->target_seq), chat_rows_id(outgoing->sender.id),
            store_text(outgoing->text)),
        &rows);
    if (err == ERR_OK) {
        err = store_rows_next(rows);
    }
    bool is_there = err == ERR_OK && store_rows_int(rows, 0) == CHAT_MESSAGE_REACTION;
    store_rows_free(&rows);
    if (err != ERR_OK && err != ERR_NOT_FOUND) {
        return err;
    }
    if (is_there && outgoing->type == CHAT_MESSAGE_REACTION) {
        return err_fail(why, ERR_EXISTS, "your reaction stands there already");
    }
    if (!is_there && outgoing->type == CHAT_MESSAGE_UNREACTION) {
        return err_fail(why, ERR_PRECONDITION, "you have no such reaction to message %llu",
            (unsigned long long)outgoing->target_seq);
    }
    return ERR_OK;
}

// check_target says whether the sender may do this to that message.
static enum err
check_target(const struct chat_outgoing *outgoing, const struct target *target, Fc__E2e__V1__Role role,
    struct err_detail *why)
{
    bool is_deletion = outgoing->sealed != NULL || outgoing->type == CHAT_MESSAGE_DELETE;
    unsigned long long seq = target->seq;
    if (target->is_deleted) {
        return err_fail(why, ERR_PRECONDITION, "message %llu has been deleted", seq);
    }
    if (target->type > CHAT_MESSAGE_EMOTE) {
        return err_fail(why, ERR_PRECONDITION, "message %llu only says something about another one", seq);
    }
    if (is_deletion && !target->is_own && role < FC__E2E__V1__ROLE__ADMIN) {
        return err_fail(why, ERR_DENIED, "message %llu is somebody else's; an admin of the room can delete it", seq);
    }
    if (outgoing->type == CHAT_MESSAGE_EDIT && !target->is_own) {
        return err_fail(why, ERR_DENIED, "message %llu is somebody else's", seq);
    }
    return ERR_OK;
}

static enum err
find_file(struct store_tx *tx, const struct chat_outgoing *outgoing, const struct chat_room *room,
    struct chat_sent *out, struct err_detail *why)
{
    struct bytes_view file_id = outgoing->sealed != NULL ? outgoing->sealed->file_id
                                : outgoing->file != NULL ? outgoing->file->file_id
                                                         : (struct bytes_view){0};
    if (file_id.size == 0) {
        return ERR_OK;
    }
    enum err err = ERR_NOT_FOUND;
    if (outgoing->find_file != NULL) {
        err = outgoing->find_file(outgoing->find_file_context, tx, room->id, file_id.data, &out->file);
    }
    if (err == ERR_NOT_FOUND) {
        return err_fail(why, err, "that file is not shared with \"%s\"; fc upload --room %s shares and announces one",
            room->name, room->name);
    }
    memcpy(out->file.file_id, file_id.data, sizeof(out->file.file_id));
    if (outgoing->file != NULL) {
        const char *mime_type = outgoing->file->mime_type == NULL ? "" : outgoing->file->mime_type;
        chat_rows_copy_text(out->file.mime_type, sizeof(out->file.mime_type), mime_type);
        out->file.width_px = outgoing->file->width_px;
        out->file.height_px = outgoing->file->height_px;
        out->file.preview = outgoing->file->preview;
    }
    return err;
}

// advance_head gives the message its number and time. The clock may have been set back; a room's times are not.
static enum err
advance_head(struct store_tx *tx, struct chat_sent *out)
{
    struct store_rows *rows = NULL;
    enum err err = store_query(tx,
        "UPDATE chat_rooms SET head_seq = head_seq + 1,"
        " last_sent_at_ms = CASE WHEN last_sent_at_ms > $1 THEN last_sent_at_ms ELSE $1 END"
        " WHERE room_id = $2 RETURNING head_seq, last_sent_at_ms",
        STORE_ARGS(store_int(clock_unix_ms()), chat_rows_id(out->room_id)), &rows);
    if (err == ERR_OK) {
        err = store_rows_next(rows);
    }
    if (err == ERR_OK) {
        out->seq = (uint64_t)store_rows_int(rows, 0);
        out->sent_at_ms = store_rows_int(rows, 1);
    }
    store_rows_free(&rows);
    return err;
}

static struct store_value
blob_or_null(struct bytes_view blob)
{
    return blob.size == 0 ? store_null() : store_blob(blob.data, blob.size);
}

static enum err
insert_plain(struct store_tx *tx, const struct chat_outgoing *outgoing, const struct chat_sent *sent)
{
    const struct chat_file *file = outgoing->file == NULL ? NULL : &sent->file;
    char mentions[CHAT_MENTIONS_TEXT_MAX_BYTES];
    chat_mentions_join(outgoing->mentions, outgoing->mention_count, mentions);
    return store_exec(tx,
        "INSERT INTO chat_messages (room_id, seq, message_id, sender_id, sender_name, sent_at_ms, type, text,"
        " target_seq, reply_to_seq, mentions, topic, file_id, file_name, file_size_bytes, file_md5, file_mime_type,"
        " file_width_px, file_height_px, file_preview)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)",
        STORE_ARGS(chat_rows_id(sent->room_id), store_int((int64_t)sent->seq),
            store_blob(outgoing->request_id.data, outgoing->request_id.size), chat_rows_id(outgoing->sender.id),
            store_text(outgoing->sender.name), store_int(sent->sent_at_ms), store_int(outgoing->type),
            store_text(outgoing->text), store_int((int64_t)outgoing->target_seq),
            store_int((int64_t)outgoing->reply_to_seq), store_text(outgoing->mention_count == 0 ? NULL : mentions),
            store_text(outgoing->topic == NULL ? "" : outgoing->topic),
            file == NULL ? store_null() : chat_rows_id(file->file_id), store_text(file == NULL ? NULL : file->name),
            file == NULL ? store_null() : store_int((int64_t)file->size_bytes),
            file == NULL ? store_null() : store_blob(file->md5, sizeof(file->md5)),
            store_text(file == NULL ? NULL : file->mime_type), store_int(file == NULL ? 0 : file->width_px),
            store_int(file == NULL ? 0 : file->height_px),
            blob_or_null(file == NULL ? (struct bytes_view){0} : file->preview)),
        NULL);
}

// insert_sealed makes the next link of the room's chain. Of the file only its id is kept: the rest is sealed.
static enum err
insert_sealed(struct store_tx *tx, const struct chat_outgoing *outgoing, const struct gate *gate,
    struct chat_sent *sent)
{
    const struct chat_outgoing_sealed *sealed = outgoing->sealed;
    enum err err = e2e_message_chain(gate->chain, sealed->sealed, sent->chain);
    if (err == ERR_OK) {
        err = store_exec(tx, "UPDATE chat_rooms SET chain = $1 WHERE room_id = $2",
            STORE_ARGS(store_blob(sent->chain, sizeof(sent->chain)), chat_rows_id(sent->room_id)), NULL);
    }
    if (err != ERR_OK) {
        return err;
    }
    bool is_deletion = sealed->target_seq != 0;
    return store_exec(tx,
        "INSERT INTO chat_messages (room_id, seq, message_id, sender_id, sender_name, sent_at_ms, type, text,"
        " target_seq, sealed, chain, file_id) VALUES ($1, $2, $3, $4, $5, $6, $7, '', $8, $9, $10, $11)",
        STORE_ARGS(chat_rows_id(sent->room_id), store_int((int64_t)sent->seq),
            store_blob(outgoing->request_id.data, outgoing->request_id.size), chat_rows_id(outgoing->sender.id),
            store_text(outgoing->sender.name), store_int(sent->sent_at_ms),
            store_int(is_deletion ? CHAT_MESSAGE_DELETE : CHAT_MESSAGE_TEXT), store_int((int64_t)sealed->target_seq),
            store_blob(sealed->sealed.data, sealed->sealed.size), store_blob(sent->chain, sizeof(sent->chain)),
            blob_or_null(sealed->file_id)),
        NULL);
}

static enum err
edit_target(struct store_tx *tx, const struct chat_outgoing *outgoing, const struct chat_sent *sent)
{
    char mentions[CHAT_MENTIONS_TEXT_MAX_BYTES];
    chat_mentions_join(outgoing->mentions, outgoing->mention_count, mentions);
    enum err err = store_exec(tx,
        "UPDATE chat_messages SET text = $1, mentions = $2, edited_at_ms = $3 WHERE room_id = $4 AND seq = $5",
        STORE_ARGS(store_text(outgoing->text), store_text(outgoing->mention_count == 0 ? NULL : mentions),
            store_int(sent->sent_at_ms), chat_rows_id(sent->room_id), store_int((int64_t)outgoing->target_seq)),
        NULL);
    if (err == ERR_OK) {
        err = chat_mentions_forget(tx, sent->room_id, outgoing->target_seq);
    }
    return err == ERR_OK ? chat_mentions_keep(tx, outgoing, sent->room_id, outgoing->target_seq) : err;
}

// delete_target also blanks what edits made of the message.
static enum err
delete_target(struct store_tx *tx, const uint8_t room_id[CHAT_ID_BYTES], uint64_t target_seq)
{
    enum err err = store_exec(tx,
        "UPDATE chat_messages SET is_deleted = 1, text = '', mentions = NULL, file_id = NULL, file_name = NULL,"
        " file_size_bytes = NULL, file_md5 = NULL, file_mime_type = NULL, file_width_px = 0, file_height_px = 0,"
        " file_preview = NULL WHERE room_id = $1 AND seq = $2",
        STORE_ARGS(chat_rows_id(room_id), store_int((int64_t)target_seq)), NULL);
    if (err == ERR_OK) {
        err = store_exec(tx,
            "UPDATE chat_messages SET is_deleted = 1, text = '', mentions = NULL"
            " WHERE room_id = $1 AND target_seq = $2 AND target_seq > 0 AND type = 2",
            STORE_ARGS(chat_rows_id(room_id), store_int((int64_t)target_seq)), NULL);
    }
    return err == ERR_OK ? chat_mentions_forget(tx, room_id, target_seq) : err;
}

static enum err
delete_sealed_target(struct store_tx *tx, const uint8_t room_id[CHAT_ID_BYTES], uint64_t target_seq)
{
    uint8_t hash[CHAT_HASH_BYTES];
    struct store_rows *rows = NULL;
    const struct store_value seq = store_int((int64_t)target_seq);
    enum err err = store_query(tx, "SELECT sealed FROM chat_messages WHERE room_id = $1 AND seq = $2",
        STORE_ARGS(chat_rows_id(room_id), seq), &rows);
    if (err == ERR_OK) {
        err = store_rows_next(rows);
    }
    if (err == ERR_OK) {
        err = digest_of(DIGEST_SHA256, store_rows_blob(rows, 0), hash);
    }
    store_rows_free(&rows);
    if (err != ERR_OK) {
        return err;
    }
    return store_exec(tx,
        "UPDATE chat_messages SET is_deleted = 1, sealed = NULL, sealed_hash = $1, file_id = NULL WHERE room_id = $2 "
        "AND seq = $3",
        STORE_ARGS(store_blob(hash, sizeof(hash)), chat_rows_id(room_id), seq), NULL);
}

// check_about is for messages about another one.
static enum err
check_about(struct store_tx *tx, const struct chat_outgoing *outgoing, const struct chat_room *room,
    struct err_detail *why)
{
    uint64_t target_seq = outgoing->sealed != NULL ? outgoing->sealed->target_seq : outgoing->target_seq;
    if (target_seq == 0) {
        return ERR_OK;
    }
    struct target target = {0};
    enum err err = find_target(tx, outgoing, room, target_seq, &target, why);
    if (err == ERR_OK) {
        err = check_target(outgoing, &target, room->role, why);
    }
    bool is_reaction = outgoing->sealed == NULL && outgoing->type >= CHAT_MESSAGE_REACTION;
    return err == ERR_OK && is_reaction ? check_reaction(tx, outgoing, room, why) : err;
}

static enum err
append(struct store_tx *tx, const struct chat_outgoing *outgoing, const struct gate *gate, struct chat_sent *out)
{
    enum err err = advance_head(tx, out);
    if (err == ERR_OK) {
        err = outgoing->sealed != NULL ? insert_sealed(tx, outgoing, gate, out) : insert_plain(tx, outgoing, out);
    }
    if (err != ERR_OK) {
        return err;
    }
    if (outgoing->sealed != NULL) {
        uint64_t target_seq = outgoing->sealed->target_seq;
        return target_seq == 0 ? ERR_OK : delete_sealed_target(tx, out->room_id, target_seq);
    }
    if (outgoing->type == CHAT_MESSAGE_EDIT) {
        return edit_target(tx, outgoing, out);
    }
    if (outgoing->type == CHAT_MESSAGE_DELETE) {
        return delete_target(tx, out->room_id, outgoing->target_seq);
    }
    return chat_mentions_keep(tx, outgoing, out->room_id, out->seq);
}

// check says whether a member may send this now, and finds what appending needs.
static enum err
check(struct store_tx *tx, const struct chat_outgoing *outgoing, const struct chat_room *room, struct gate *gate,
    struct chat_sent *out, struct err_detail *why)
{
    enum err err = check_room(outgoing, room, why);
    if (err == ERR_OK) {
        err = check_block(tx, outgoing, room, why);
    }
    if (err == ERR_OK) {
        err = read_gate(tx, room, gate);
    }
    if (err == ERR_OK) {
        err = check_epoch(outgoing, room, gate, out, why);
    }
    if (err == ERR_OK && outgoing->sealed != NULL) {
        err = chat_sealed_check_claims(tx, room, outgoing->sealed, why);
        out->is_epoch_stale = err == ERR_CONFLICT;
    }
    if (err == ERR_OK) {
        err = check_about(tx, outgoing, room, why);
    }
    return err == ERR_OK ? find_file(tx, outgoing, room, out, why) : err;
}

enum err
chat_messages_send(struct store_tx *tx, const struct chat_outgoing *outgoing, struct chat_sent *out,
    struct err_detail *why)
{
    memset(out, 0, sizeof(*out));
    enum err err = check_request_id(outgoing, why);
    if (err == ERR_OK && outgoing->sealed == NULL) {
        err = chat_messages_check(outgoing, why);
    }
    if (err != ERR_OK) {
        return err;
    }
    struct chat_room room;
    err = chat_messages_find_room(tx, &outgoing->sender, outgoing->request_id, outgoing->room, &room, out, why);
    if (err != ERR_OK || out->is_resend) {
        return err;
    }
    if (!room.is_member) {
        return chat_core_fail_not_member(&room, ERR_DENIED, why);
    }
    struct gate gate;
    err = check(tx, outgoing, &room, &gate, out, why);
    return err == ERR_OK ? append(tx, outgoing, &gate, out) : err;
}
