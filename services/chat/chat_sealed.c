#include "services/chat/chat_sealed.h"

#include <string.h>

#include "e2e/e2e_message.h"
#include "e2e/e2e_room.h"
#include "services/chat/chat_rows.h"

enum {
    // Entries of a log that a sender may be behind: their hashes are computed anew.
    LOG_HEADS_MAX = 16,
};

// What the database says about room and sender.
struct reading {
    const struct chat_sealed_query *query;
    struct chat_room room;
    struct chat_sent sent;
    struct e2e_user user;
    struct err_detail *why;
};

static enum err
check_request(const struct chat_sealed_query *query, struct err_detail *why)
{
    if (query->request_id.size != CHAT_ID_BYTES) {
        return err_fail(why, ERR_INVALID,
            "sending needs a request_id of %d random bytes in the call's header: the message's id", CHAT_ID_BYTES);
    }
    if (query->sealed.size > CHAT_SEALED_MAX_BYTES) {
        return err_fail(why, ERR_INVALID, "the sealed message has %zu bytes, the limit is %d", query->sealed.size,
            CHAT_SEALED_MAX_BYTES);
    }
    if (query->file_id.size != 0 && query->file_id.size != CHAT_ID_BYTES) {
        return err_fail(why, ERR_INVALID, "a file's id has %d bytes, not %zu", CHAT_ID_BYTES, query->file_id.size);
    }
    return ERR_OK;
}

static bool
is_id(ProtobufCBinaryData field, const uint8_t id[CHAT_ID_BYTES])
{
    return bytes_view_equal(bytes_view_of(field.data, field.len), bytes_view_of(id, CHAT_ID_BYTES));
}

static enum err
check_header(const Fc__E2e__V1__Header *header, const struct chat_sealed_query *query, struct err_detail *why)
{
    if (!is_id(header->user_id, query->sender.id)) {
        return err_fail(why, ERR_INVALID, "the sealed message is by another user than the one who sends it");
    }
    if (!is_id(header->message_id, query->request_id.data)) {
        return err_fail(why, ERR_INVALID, "the sealed message's id is not the request_id of the call that sends it");
    }
    return ERR_OK;
}

static enum err
read_sender(struct store_tx *tx, void *context)
{
    struct reading *reading = context;
    const struct chat_sealed_query *query = reading->query;
    enum err err = chat_messages_find_room(tx, &query->sender, query->request_id, query->room, &reading->room,
        &reading->sent, reading->why);
    if (err != ERR_OK || reading->sent.is_resend) {
        return err;
    }
    if (!reading->room.is_member) {
        return chat_core_fail_not_member(&reading->room, ERR_DENIED, reading->why);
    }
    err = query->find_chain == NULL
              ? ERR_NOT_FOUND
              : query->find_chain(query->find_chain_context, tx, query->sender.id, &reading->user);
    if (err == ERR_NOT_FOUND) {
        return err_fail(reading->why, ERR_PRECONDITION,
            "you have no keys on this server yet, so nothing can be sealed");
    }
    return err;
}

static enum err
check_device(const struct e2e_message *message, const struct e2e_user *user, struct err_detail *why)
{
    const struct e2e_device *device = e2e_user_device(user, message->header->device_id.data);
    if (device == NULL) {
        return err_fail(why, ERR_DENIED, "the message is sealed by a device that is not yours");
    }
    if (device->is_revoked) {
        return err_fail(why, ERR_DENIED, "the message is sealed by a device that has been revoked");
    }
    enum err err = e2e_message_verify(message, user);
    if (err == ERR_CORRUPT || err == ERR_NOT_FOUND) {
        return err_fail(why, ERR_INVALID, "the sealed message's signature is not by the device that it names");
    }
    return err;
}

static enum err
check_sender(struct store *store, const struct e2e_message *message, struct reading *reading)
{
    enum err err = store_read(store, read_sender, reading);
    if (err != ERR_OK || reading->sent.is_resend) {
        return err;
    }
    if (!is_id(message->header->room_id, reading->room.id)) {
        return err_fail(reading->why, ERR_INVALID, "the message is sealed for another room than \"%s\"",
            reading->room.name);
    }
    return check_device(message, &reading->user, reading->why);
}

enum err
chat_sealed_check(struct store *store, const struct chat_sealed_query *query, struct chat_outgoing_sealed *out,
    struct err_detail *why)
{
    struct e2e_message message = {0};
    struct reading reading = {.query = query, .why = why};
    memset(out, 0, sizeof(*out));
    enum err err = check_request(query, why);
    if (err == ERR_OK) {
        err = e2e_message_parse(query->sealed, &message, why);
    }
    if (err != ERR_OK) {
        return err;
    }
    err = check_header(message.header, query, why);
    if (err == ERR_OK) {
        err = check_sender(store, &message, &reading);
    }
    out->sealed = query->sealed;
    out->file_id = query->file_id;
    out->epoch = message.header->epoch;
    out->target_seq = message.header->target_seq;
    out->seen_seq = message.header->seen_seq;
    memcpy(out->log_head, message.header->log_head.data, sizeof(out->log_head)); // whose sizes e2e_message_parse checks
    if (out->seen_seq > 0) {
        memcpy(out->seen_chain, message.header->seen_chain.data, sizeof(out->seen_chain));
    }
    e2e_user_deinit(&reading.user);
    e2e_message_deinit(&message);
    return err;
}

static enum err
check_seen(struct store_tx *tx, const struct chat_room *room, const struct chat_outgoing_sealed *sealed,
    struct err_detail *why)
{
    struct store_rows *rows = NULL;
    if (sealed->seen_seq == 0) {
        return ERR_OK;
    }
    enum err err = store_query(tx, "SELECT chain FROM chat_messages WHERE room_id = $1 AND seq = $2",
        STORE_ARGS(chat_rows_id(room->id), store_int((int64_t)sealed->seen_seq)), &rows);
    if (err == ERR_OK) {
        err = store_rows_next(rows);
    }
    bool is_so = err == ERR_OK && bytes_view_equal(store_rows_blob(rows, 0),
                                      bytes_view_of(sealed->seen_chain, sizeof(sealed->seen_chain)));
    store_rows_free(&rows);
    if (err != ERR_OK && err != ERR_NOT_FOUND) {
        return err;
    }
    return is_so ? ERR_OK
                 : err_fail(why, ERR_INVALID, "the sealed message says that other messages were seen than there are");
}

// find_head looks among the newest entries. ERR_NOT_FOUND.
static enum err
find_head(struct store_tx *tx, const struct chat_room *room, const uint8_t log_head[CHAT_HASH_BYTES])
{
    uint8_t hash[CHAT_HASH_BYTES];
    bool is_found = false;
    struct store_rows *rows = NULL;
    enum err err = store_query(tx, "SELECT body FROM chat_log WHERE room_id = $1 ORDER BY seq DESC LIMIT $2",
        STORE_ARGS(chat_rows_id(room->id), store_int(LOG_HEADS_MAX)), &rows);
    while (err == ERR_OK && !is_found) {
        err = store_rows_next(rows);
        if (err == ERR_OK) {
            err = e2e_room_entry_hash(store_rows_blob(rows, 0), hash);
        }
        is_found = err == ERR_OK && memcmp(hash, log_head, sizeof(hash)) == 0;
    }
    store_rows_free(&rows);
    return err;
}

enum err
chat_sealed_check_claims(struct store_tx *tx, const struct chat_room *room, const struct chat_outgoing_sealed *sealed,
    struct err_detail *why)
{
    enum err err = check_seen(tx, room, sealed, why);
    if (err != ERR_OK || memcmp(room->log_hash, sealed->log_head, sizeof(sealed->log_head)) == 0) {
        return err;
    }
    err = find_head(tx, room, sealed->log_head);
    return err == ERR_NOT_FOUND
               ? err_fail(why, ERR_CONFLICT, "\"%s\" has changed meanwhile; read its log and seal the message again",
                     room->name)
               : err;
}
