// Opening messages: what the server says of one is held against the chain, its signature, and what the sender claims to
// have seen, before anybody reads it.
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/text.h"
#include "client/fc_chat_priv.h"

enum {
    WAITING_BATCH = 200,
};

static bool
is_id(ProtobufCBinaryData data)
{
    return data.len == E2E_ID_BYTES;
}

static bool
is_same(ProtobufCBinaryData one, const uint8_t *other, size_t size)
{
    return one.len == size && memcmp(one.data, other, size) == 0;
}

static struct bytes_view
view_of(ProtobufCBinaryData data)
{
    return bytes_view_of(data.data, data.len);
}

// --- The chain of messages ------------------------------------------------------------------------------------------

// move_chain computes the chain after the message and compares it with the server's.
static enum err
move_chain(struct fc_chat_place *place, const Fc__Chat__V1__Message *wire, struct err_detail *why)
{
    const uint8_t *before = place->chains[(wire->seq - 1) % FC_CHAT_CHAINS_KEPT];
    uint8_t *after = place->chains[wire->seq % FC_CHAT_CHAINS_KEPT];
    enum err err = ERR_UNTRUSTED;
    if (wire->sealed.len > 0) {
        err = e2e_message_chain(before, view_of(wire->sealed), after);
    } else if (wire->sealed_hash.len == E2E_HASH_BYTES) {
        err = e2e_message_chain_hash(before, wire->sealed_hash.data, after);
    }
    if (err == ERR_OK && !is_same(wire->chain, after, E2E_HASH_BYTES)) {
        err = ERR_UNTRUSTED;
    }
    if (err == ERR_UNTRUSTED) {
        return err_fail(why, err,
            "message %llu of \"%s\" does not follow from those before it: the server leaves out, changes or reorders "
            "messages",
            (unsigned long long)wire->seq, place->row.name);
    }
    if (place->chain_first + FC_CHAT_CHAINS_KEPT <= wire->seq) {
        place->chain_first = wire->seq + 1 - FC_CHAT_CHAINS_KEPT;
    }
    return err;
}

// check_seen holds what the sender has seen against what we have: two members who are shown different histories find
// out here.
static enum err
check_seen(struct fc_chat *chat, struct fc_chat_place *place, const Fc__E2e__V1__Header *header, uint64_t seq,
    struct err_detail *why)
{
    bool is_known = true;
    enum err err = ERR_OK;
    if (header->seen_seq >= seq) {
        is_known = false;
    } else if (header->seen_seq >= place->chain_first && header->seen_seq > 0) {
        is_known = is_same(header->seen_chain, place->chains[header->seen_seq % FC_CHAT_CHAINS_KEPT], E2E_HASH_BYTES);
    }
    if (!is_known) {
        return err_fail(why, ERR_UNTRUSTED,
            "who sent message %llu of \"%s\" has been shown other messages before it than you: the server tells its "
            "members "
            "different things",
            (unsigned long long)seq, place->row.name);
    }
    err = fc_chat_log_has(chat, place, view_of(header->log_head), &is_known, why);
    if (err == ERR_OK && !is_known) {
        err = fc_chat_sync_log(chat, place, why);
        if (err == ERR_OK) {
            err = fc_chat_log_has(chat, place, view_of(header->log_head), &is_known, why);
        }
    }
    if (err == ERR_OK && !is_known) {
        return err_fail(why, ERR_UNTRUSTED,
            "who sent message %llu of \"%s\" has been shown another log of the room than you: compare fc room "
            "fingerprint %s "
            "with them",
            (unsigned long long)seq, place->row.name, place->row.name);
    }
    return err;
}

// --- Sender and content ---------------------------------------------------------------------------------------------

// check_signature takes over what was found out before, if it was by the key that counts now.
static enum err
check_signature(const struct fc_chat_opening *opening, const struct e2e_user *sender)
{
    const struct e2e_message *message = &opening->message;
    const struct e2e_device *device = e2e_user_device(sender, message->header->device_id.data);
    bool is_known = opening->has_verdict && device != NULL &&
                    memcmp(sender->id, message->header->user_id.data, sizeof(sender->id)) == 0 &&
                    memcmp(device->sign_key, opening->sign_key, sizeof(opening->sign_key)) == 0;
    return is_known ? opening->verdict : e2e_message_verify(message, sender);
}

// check_sender finds the sender's keys and checks the signature. ERR_CORRUPT: not by whom it says.
static enum err
check_sender(struct fc_chat *chat, struct fc_chat_place *place, const struct fc_chat_opening *opening,
    const struct e2e_user **sender_out, struct err_detail *why)
{
    const Fc__E2e__V1__Header *header = opening->message.header;
    bool is_named = false;
    enum err err = fc_chat_log_names(chat, place, header->user_id.data, &is_named, why);
    if (err == ERR_OK && !is_named) {
        // Who came in a moment ago.
        err = fc_chat_sync_log(chat, place, why);
        if (err == ERR_OK) {
            err = fc_chat_log_names(chat, place, header->user_id.data, &is_named, why);
        }
    }
    if (err != ERR_OK) {
        return err;
    }
    if (!is_named) {
        return ERR_CORRUPT;
    }
    err = fc_chat_user(chat, header->user_id.data, 0, sender_out, why);
    if (err == ERR_OK && e2e_user_device(*sender_out, header->device_id.data) == NULL) {
        err = fc_chat_user(chat, header->user_id.data, (*sender_out)->seq + 1, sender_out, why);
        err = err == ERR_NOT_FOUND ? ERR_OK : err; // no more entries: no such device
    }
    if (err == ERR_OK) {
        err = check_signature(opening, *sender_out);
    }
    return err == ERR_NOT_FOUND || err == ERR_NO_KEY ? ERR_CORRUPT : err;
}

static enum err
join_mentions(const Fc__Chat__V1__Content *content, struct bytes *out)
{
    enum err err = ERR_OK;
    for (size_t i = 0; i < content->n_mentions && err == ERR_OK; i++) {
        err = bytes_append(out, bytes_view_of_text(content->mentions[i]));
        if (err == ERR_OK) {
            err = bytes_append(out, bytes_view_of_text("\n"));
        }
    }
    return err == ERR_OK ? bytes_append(out, bytes_view_of("", 1)) : err;
}

static enum err
pack_file(Fc__Chat__V1__FileAnnouncement *file, struct bytes *out)
{
    enum err err = bytes_reserve(out, fc__chat__v1__file_announcement__get_packed_size(file));
    if (err == ERR_OK) {
        out->size = fc__chat__v1__file_announcement__pack(file, out->data);
    }
    return err;
}

// is_sound: the content is one that an honest client would have sealed.
static bool
is_sound(const Fc__Chat__V1__Content *content, const Fc__E2e__V1__Header *header)
{
    bool is_deletion = content->type == FC__CHAT__V1__MESSAGE_TYPE__DELETE;
    return text_is_utf8(bytes_view_of_text(content->text)) && text_is_utf8(bytes_view_of_text(content->topic)) &&
           is_deletion == (header->type == FC__E2E__V1__TYPE__DELETE) &&
           (!is_deletion || content->target_seq == header->target_seq) &&
           (content->file == NULL || (is_id(content->file->file_id) && content->file->name[0] != '\0'));
}

static enum err
take_content(struct fc_chat_opened *out, const Fc__E2e__V1__Header *header)
{
    out->unpacked = fc__chat__v1__content__unpack(NULL, out->content.size, out->content.data);
    if (out->unpacked == NULL || !is_sound(out->unpacked, header)) {
        out->message.unread = FC_STORE_INVALID;
        return ERR_OK;
    }
    const Fc__Chat__V1__Content *content = out->unpacked;
    out->message.type = content->type;
    out->message.text = content->text;
    out->message.target_seq = content->target_seq;
    out->message.reply_to_seq = content->reply_to_seq;
    out->message.topic = content->topic;
    enum err err = join_mentions(content, &out->mentions);
    out->message.mentions = (const char *)out->mentions.data;
    if (err == ERR_OK && content->file != NULL) {
        err = pack_file(content->file, &out->file);
        out->message.file = bytes_as_view(&out->file);
        out->message.file_name = content->file->name;
    }
    return err;
}

struct target {
    uint8_t sender_id[E2E_ID_BYTES];
};

static bool
take_target(void *context, const struct fc_store_message *message)
{
    struct target *target = context;
    memcpy(target->sender_id, message->sender_id, sizeof(target->sender_id));
    return true;
}

// judge_deletion makes a deletion void that its sender had no right to. One whose target is not here is the server's
// word: there is nothing to take back.
static void
judge_deletion(struct fc_chat *chat, const struct fc_chat_place *place, struct fc_store_message *message)
{
    struct target target;
    if (message->type != FC__CHAT__V1__MESSAGE_TYPE__DELETE ||
        fc_store_messages_get(chat->store, place->row.room_id, message->target_seq, take_target, &target, NULL) !=
            ERR_OK) {
        return;
    }
    const Fc__E2e__V1__RoomMember *member = e2e_room_member(&place->state, message->sender_id);
    bool is_admin = member != NULL && member->role >= FC__E2E__V1__ROLE__ADMIN;
    message->is_void = !is_admin && memcmp(target.sender_id, message->sender_id, E2E_ID_BYTES) != 0;
}

static enum err
decrypt(struct fc_chat *chat, struct fc_chat_place *place, struct fc_chat_opening *opening, struct fc_chat_opened *out,
    struct err_detail *why)
{
    const struct e2e_message *message = &opening->message;
    uint8_t secret[E2E_SECRET_BYTES];
    enum err err = fc_chat_epoch_secret(chat, place, message->header->epoch, secret, NULL);
    if (err == ERR_NO_KEY) {
        uint64_t epoch = place->state.state == NULL ? 0 : place->state.state->epoch;
        out->message.unread = message->header->epoch > epoch ? FC_STORE_NO_ENTRY : FC_STORE_NO_KEY;
        return ERR_OK;
    }
    if (err == ERR_OK && opening->is_opened && memcmp(opening->secret, secret, sizeof(secret)) == 0) {
        err = opening->opened;
        out->content = opening->content;
        opening->content = (struct bytes){0};
        opening->is_opened = false;
    } else if (err == ERR_OK) {
        err = e2e_message_open(message, secret, &out->content);
    }
    digest_wipe(secret, sizeof(secret));
    if (err == ERR_CORRUPT) {
        out->message.unread = FC_STORE_INVALID;
        return ERR_OK;
    }
    if (err == ERR_OK) {
        err = take_content(out, message->header);
    }
    if (err == ERR_OK) {
        judge_deletion(chat, place, &out->message);
    }
    (void)why;
    return err;
}

// fail_message is for what an honest server takes from nobody. What only members can see to be wrong, they see and go
// on: else each of them could keep the others from reading.
static enum err
fail_message(const struct fc_chat_place *place, const struct fc_store_message *message, struct err_detail *why)
{
    return err_fail(why, ERR_UNTRUSTED,
        "message %llu of \"%s\" is not by %s, as the server says, or was changed: it is not shown",
        (unsigned long long)message->seq, place->row.name, message->sender_name);
}

// open_parsed checks and opens what an encrypted message holds.
static enum err
open_parsed(struct fc_chat *chat, struct fc_chat_place *place, bool is_new, struct fc_chat_opening *opening,
    struct fc_chat_opened *out, struct err_detail *why)
{
    const Fc__E2e__V1__Header *header = opening->message.header;
    const struct e2e_user *sender = NULL;
    bool is_consistent = is_same(header->room_id, place->row.room_id, E2E_ID_BYTES) &&
                         is_same(header->message_id, out->message.message_id, E2E_ID_BYTES) &&
                         is_same(header->user_id, out->message.sender_id, E2E_ID_BYTES);
    enum err err = is_consistent ? check_sender(chat, place, opening, &sender, why) : ERR_CORRUPT;
    if (err == ERR_CORRUPT) {
        err = fail_message(place, &out->message, why);
    }
    if (err == ERR_OK && is_new) {
        err = check_seen(chat, place, header, out->message.seq, why);
    }
    if (err == ERR_OK) {
        memcpy(out->device_id, header->device_id.data, sizeof(out->device_id));
        out->message.device_id = out->device_id;
        if (header->type == FC__E2E__V1__TYPE__DELETE) {
            // Said openly, so that it is known without the key, too.
            out->message.type = FC__CHAT__V1__MESSAGE_TYPE__DELETE;
            out->message.target_seq = header->target_seq;
        }
        out->sender = strdup(sender->name);
        out->message.sender_name = out->sender;
        err = out->sender == NULL ? ERR_NO_MEMORY : decrypt(chat, place, opening, out, why);
    }
    return err;
}

// open_sealed says in `unread` what only members can see to be wrong with a message. ahead may be NULL.
static enum err
open_sealed(struct fc_chat *chat, struct fc_chat_place *place, struct bytes_view sealed, bool is_new,
    struct fc_chat_opening *ahead, struct fc_chat_opened *out, struct err_detail *why)
{
    struct fc_chat_opening own = {0};
    struct err_detail cause = {0};
    struct fc_chat_opening *opening = ahead == NULL ? &own : ahead;
    enum err err = ERR_OK;
    if (opening->message.wire == NULL) {
        err = e2e_message_parse(sealed, &opening->message, &cause);
    }
    if (err == ERR_INVALID || err == ERR_TOO_BIG) {
        err = fail_message(place, &out->message, why);
    }
    if (err == ERR_OK) {
        err = open_parsed(chat, place, is_new, opening, out, why);
    }
    e2e_message_deinit(&own.message);
    return err;
}

static enum err
take_plain(const Fc__Chat__V1__Message *wire, struct fc_chat_opened *out)
{
    const Fc__Chat__V1__Content content = {.mentions = wire->mentions, .n_mentions = wire->n_mentions};
    out->message.type = wire->type;
    out->message.text = wire->text;
    out->message.target_seq = wire->target_seq;
    out->message.reply_to_seq = wire->reply_to_seq;
    out->message.topic = wire->topic;
    enum err err = join_mentions(&content, &out->mentions);
    out->message.mentions = (const char *)out->mentions.data;
    if (err == ERR_OK && wire->file != NULL) {
        err = pack_file(wire->file, &out->file);
        out->message.file = bytes_as_view(&out->file);
        out->message.file_name = wire->file->name;
    }
    return err;
}

static enum err
open_encrypted(struct fc_chat *chat, struct fc_chat_place *place, const Fc__Chat__V1__Message *wire,
    struct fc_chat_opening *ahead, struct fc_chat_opened *out, struct err_detail *why)
{
    enum err err = move_chain(place, wire, why);
    // What was done to a message other messages say, not the server.
    out->message.edited_ms = 0;
    out->message.is_deleted = err == ERR_OK && wire->sealed.len == 0;
    if (err != ERR_OK) {
        return err;
    }
    if (wire->sealed.len == 0) {
        memcpy(out->sealed_hash, wire->sealed_hash.data, sizeof(out->sealed_hash)); // whose size the chain has checked
        return ERR_OK;
    }
    err = open_sealed(chat, place, view_of(wire->sealed), true, ahead, out, why);
    if (err == ERR_OK && out->message.unread == FC_STORE_INVALID) {
        fc_chat_warn(chat, "message %llu of \"%s\", by %s, cannot be opened: whoever sent it sealed it wrongly",
            (unsigned long long)wire->seq, place->row.name, out->message.sender_name);
    }
    if (out->message.unread == FC_STORE_NO_KEY || out->message.unread == FC_STORE_NO_ENTRY) {
        out->message.sealed = view_of(wire->sealed);
    }
    return err;
}

static enum err
begin_message(struct fc_chat_place *place, const Fc__Chat__V1__Message *wire, struct fc_chat_opened *out,
    struct err_detail *why)
{
    memset(out, 0, sizeof(*out));
    if (!is_id(wire->id) || !is_id(wire->sender_id) || !is_same(wire->room_id, place->row.room_id, E2E_ID_BYTES) ||
        text_check_user_name(wire->sender, NULL) != ERR_OK) {
        return err_fail(why, ERR_PROTOCOL, "the server sent a message that this program does not understand");
    }
    out->message = (struct fc_store_message){
        .room_id = place->row.room_id,
        .seq = wire->seq,
        .message_id = wire->id.data,
        .sender_id = wire->sender_id.data,
        .sender_name = wire->sender,
        .sent_ms = wire->sent_at_ms,
        .edited_ms = wire->edited_at_ms,
        .is_deleted = wire->is_deleted,
    };
    return ERR_OK;
}

enum err
fc_chat_open_message(struct fc_chat *chat, struct fc_chat_place *place, const Fc__Chat__V1__Message *wire,
    struct fc_chat_opening *ahead, struct fc_chat_opened *out, struct err_detail *why)
{
    enum err err = begin_message(place, wire, out, why);
    if (err != ERR_OK) {
        return err;
    }
    return place->row.is_plain ? take_plain(wire, out) : open_encrypted(chat, place, wire, ahead, out, why);
}

enum err
fc_chat_open_again(struct fc_chat *chat, struct fc_chat_place *place, const Fc__Chat__V1__Message *wire,
    struct fc_chat_opened *out, struct err_detail *why)
{
    enum err err = begin_message(place, wire, out, why);
    out->message.edited_ms = 0;
    out->message.is_deleted = false;
    return err == ERR_OK ? open_sealed(chat, place, view_of(wire->sealed), false, NULL, out, why) : err;
}

void
fc_chat_opened_deinit(struct fc_chat_opened *opened)
{
    if (opened->unpacked != NULL) {
        fc__chat__v1__content__free_unpacked(opened->unpacked, NULL);
    }
    bytes_free_secret(&opened->content);
    bytes_free(&opened->mentions);
    bytes_free(&opened->file);
    free(opened->sender);
    memset(opened, 0, sizeof(*opened));
}

// --- Those that waited ----------------------------------------------------------------------------------------------

// kept_sealed is a waiting message copied out of the store, which is not written to while it is read.
struct kept_sealed {
    uint64_t seq;
    int64_t sent_ms;
    uint8_t message_id[E2E_ID_BYTES];
    uint8_t sender_id[E2E_ID_BYTES];
    char sender_name[TEXT_USER_NAME_MAX_BYTES + 1];
    struct bytes sealed;
};

struct waiting {
    struct kept_sealed *messages; // WAITING_BATCH of them
    size_t count;
    enum err err;
};

static bool
collect_waiting(void *context, const struct fc_store_message *message)
{
    struct waiting *waiting = context;
    struct kept_sealed *kept = &waiting->messages[waiting->count++];
    kept->seq = message->seq;
    kept->sent_ms = message->sent_ms;
    memcpy(kept->message_id, message->message_id, sizeof(kept->message_id));
    memcpy(kept->sender_id, message->sender_id, sizeof(kept->sender_id));
    (void)strncpy(kept->sender_name, message->sender_name, sizeof(kept->sender_name) - 1);
    waiting->err = bytes_append(&kept->sealed, message->sealed);
    return waiting->err == ERR_OK;
}

static enum err
open_one_waiting(struct fc_chat *chat, struct fc_chat_place *place, const struct kept_sealed *kept,
    struct err_detail *why)
{
    struct fc_chat_opened opened = {0};
    opened.message = (struct fc_store_message){
        .room_id = place->row.room_id,
        .seq = kept->seq,
        .message_id = kept->message_id,
        .sender_id = kept->sender_id,
        .sender_name = kept->sender_name,
        .sent_ms = kept->sent_ms,
    };
    enum err err = open_sealed(chat, place, bytes_as_view(&kept->sealed), false, NULL, &opened, why);
    if (err == ERR_OK && opened.message.unread != FC_STORE_NO_KEY && opened.message.unread != FC_STORE_NO_ENTRY) {
        err = fc_store_messages_put(chat->store, &opened.message, 1, NULL, why);
    }
    fc_chat_opened_deinit(&opened);
    return err;
}

enum err
fc_chat_open_waiting(struct fc_chat *chat, struct fc_chat_place *place, struct err_detail *why)
{
    struct waiting waiting = {.messages = calloc(WAITING_BATCH, sizeof(*waiting.messages)), .count = WAITING_BATCH};
    uint64_t after_seq = 0;
    enum err err = waiting.messages == NULL ? ERR_NO_MEMORY : ERR_OK;
    while (err == ERR_OK && waiting.count == WAITING_BATCH) {
        waiting.count = 0;
        err = fc_store_messages_sealed(chat->store, place->row.room_id, after_seq, WAITING_BATCH, collect_waiting,
            &waiting, why);
        err = err == ERR_OK ? waiting.err : err;
        for (size_t i = 0; i < waiting.count; i++) {
            if (err == ERR_OK) {
                err = open_one_waiting(chat, place, &waiting.messages[i], why);
            }
            after_seq = waiting.messages[i].seq;
            bytes_free(&waiting.messages[i].sealed);
        }
    }
    free(waiting.messages);
    return err;
}
