// Sending: a message is sealed once, written to the outbox, and sent under its own id until the server has it. What is
// in the outbox is sent again byte for byte; only when its epoch is over it is sealed anew, under the same id, so that
// the server still takes it once.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/random.h"
#include "base/text.h"
#include "client/fc_chat_priv.h"
#include "client/fc_lend_priv.h"

#include "fc/chat/v1/chat.stub.h"

enum {
    TOPIC_MAX_BYTES = 64, // as in proto/fc/chat/v1/chat.proto, Content.topic
    MENTIONS_MAX = 64,
    // After this a room gets a new key though nothing asks for it.
    EPOCH_MAX_MS = 7 * 24 * 3600 * 1000,
};

static const char stale_reason[] = "EPOCH_STALE";

// --- What is to be sent ---------------------------------------------------------------------------------------------

// written is a draft as a Content, with what belongs to it.
struct written {
    Fc__Chat__V1__Content content;
    Fc__Chat__V1__FileAnnouncement file;
    Fc__E2e__V1__FileKey key;
    char *text; // owned
    char *mentions[MENTIONS_MAX];
    char mention_texts[MENTIONS_MAX][TEXT_USER_NAME_MAX_BYTES + 2];
};

static bool
is_name_byte(char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte == '.' || byte == '_' || byte == '-';
}

// find_mentions collects the "@name"s of a text; a dot or dash at the end belongs to the sentence.
static void
find_mentions(struct written *written)
{
    const char *text = written->text;
    for (const char *at = strchr(text, '@'); at != NULL && written->content.n_mentions < MENTIONS_MAX;
         at = strchr(at + 1, '@')) {
        size_t size = 0;
        if (at > text && is_name_byte(at[-1])) {
            continue; // an address
        }
        while (is_name_byte(at[1 + size])) {
            size++;
        }
        while (size > 0 && (at[size] == '.' || at[size] == '-' || at[size] == '_')) {
            size--;
        }
        if (size == 0 || size > TEXT_USER_NAME_MAX_BYTES) {
            continue;
        }
        char *name = written->mention_texts[written->content.n_mentions];
        bool is_room = size == 4 && memcmp(at + 1, "room", 4) == 0;
        (void)snprintf(name, sizeof(written->mention_texts[0]), "%s%.*s", is_room ? "@" : "", (int)size, at + 1);
        written->mentions[written->content.n_mentions++] = name;
    }
    written->content.mentions = written->mentions;
}

static void
write_file(struct written *written, const struct fc_chat_draft *draft)
{
    const struct fc_chat_file *file = draft->file;
    fc__chat__v1__file_announcement__init(&written->file);
    written->file.file_id = fc_lend(draft->file_id, E2E_ID_BYTES);
    written->content.file = &written->file;
    if (file == NULL) {
        return;
    }
    if (file->mime_type != NULL) {
        written->file.mime_type = fc_lend_text(file->mime_type);
        written->file.width_px = file->width_px;
        written->file.height_px = file->height_px;
    }
    written->file.preview = fc_lend(file->preview.data, file->preview.size);
    if (file->name == NULL) {
        return;
    }
    written->file.name = fc_lend_text(file->name);
    written->file.size_bytes = file->sealed_size_bytes;
    written->file.md5 = fc_lend(file->sealed_md5, sizeof(file->sealed_md5));
    fc__e2e__v1__file_key__init(&written->key);
    written->key.secret = fc_lend(file->secret, sizeof(file->secret));
    written->key.salt = fc_lend(file->salt, sizeof(file->salt));
    written->key.commitment = fc_lend(file->commitment, sizeof(file->commitment));
    written->key.seal_id = fc_lend(file->seal_id, sizeof(file->seal_id));
    written->key.sealed_sha256 = fc_lend(file->sealed_sha256, sizeof(file->sealed_sha256));
    written->key.segment_plain_bytes = file->segment_plain_bytes;
    written->key.plain_size_bytes = file->plain_size_bytes;
    written->file.key = &written->key;
}

static enum err
write_content(const struct fc_chat_draft *draft, struct written *out, struct err_detail *why)
{
    memset(out, 0, sizeof(*out));
    fc__chat__v1__content__init(&out->content);
    if (!text_is_utf8(draft->text)) {
        return err_fail(why, ERR_INVALID,
            "the message is not UTF-8 text; convert it (iconv -t UTF-8), or send it as a file with fc upload");
    }
    // Receivers take a sealed message with another topic for a forged one.
    if (draft->topic != NULL && strlen(draft->topic) > TOPIC_MAX_BYTES) {
        return err_fail(why, ERR_INVALID, "a message's topic has at most %d bytes, not %zu", TOPIC_MAX_BYTES,
            strlen(draft->topic));
    }
    if (draft->topic != NULL && !text_is_utf8(bytes_view_of_text(draft->topic))) {
        return err_fail(why, ERR_INVALID, "a message's topic is UTF-8 text");
    }
    out->text =
        strndup((const char *)(draft->text.data == NULL ? (const uint8_t *)"" : draft->text.data), draft->text.size);
    if (out->text == NULL) {
        return ERR_NO_MEMORY;
    }
    out->content.type = (Fc__Chat__V1__MessageType)draft->type;
    out->content.text = out->text;
    out->content.target_seq = draft->target_seq;
    out->content.reply_to_seq = draft->reply_to_seq;
    if (draft->topic != NULL) {
        out->content.topic = fc_lend_text(draft->topic);
    }
    if (draft->type == FC_MESSAGE_TEXT || draft->type == FC_MESSAGE_EMOTE) {
        find_mentions(out);
    }
    if (draft->file_id != NULL) {
        write_file(out, draft);
    }
    return ERR_OK;
}

static void
written_deinit(struct written *written)
{
    free(written->text);
    memset(written, 0, sizeof(*written));
}

// --- Requests -------------------------------------------------------------------------------------------------------

static enum err
pack_request(const Fc__Chat__V1__SendRequest *request, struct bytes *out)
{
    bytes_clear(out);
    enum err err = bytes_reserve(out, fc__chat__v1__send_request__get_packed_size(request));
    if (err == ERR_OK) {
        out->size = fc__chat__v1__send_request__pack(request, out->data);
    }
    return err;
}

static enum err
make_plain_request(struct fc_chat_place *place, const struct written *written, struct bytes *out)
{
    const Fc__Chat__V1__Content *content = &written->content;
    Fc__Chat__V1__SendRequest request = FC__CHAT__V1__SEND_REQUEST__INIT;
    request.room = place->id_text;
    request.text = content->text;
    request.file = content->file;
    request.type = content->type;
    request.target_seq = content->target_seq;
    request.reply_to_seq = content->reply_to_seq;
    request.mentions = content->mentions;
    request.n_mentions = content->n_mentions;
    request.topic = content->topic;
    return pack_request(&request, out);
}

// fill_header says what the sender has seen, by which others notice when they are shown something else.
static void
fill_header(const struct fc_chat *chat, struct fc_chat_place *place, const struct e2e_keys *device,
    const uint8_t message_id[E2E_ID_BYTES], Fc__E2e__V1__Header *header)
{
    const Fc__E2e__V1__RoomState *state = place->state.state;
    uint64_t seen_seq = place->row.synced_seq;
    fc__e2e__v1__header__init(header);
    header->suite = E2E_SUITE;
    header->room_id = fc_lend(place->row.room_id, E2E_ID_BYTES);
    header->epoch = state->epoch;
    header->user_id = fc_lend(fc_chat_own_id(chat), E2E_ID_BYTES);
    header->device_id = fc_lend(device->id, E2E_ID_BYTES);
    header->message_id = fc_lend(message_id, E2E_ID_BYTES);
    header->created_at_ms = clock_unix_ms();
    header->log_head = state->head_hash;
    header->seen_seq = seen_seq;
    if (seen_seq > 0) {
        header->seen_chain = fc_lend(place->chains[seen_seq % FC_CHAT_CHAINS_KEPT], E2E_HASH_BYTES);
    }
}

// seal_request makes the request for packed content.
static enum err
seal_request(struct fc_chat *chat, struct fc_chat_place *place, const uint8_t message_id[E2E_ID_BYTES],
    struct bytes_view content, uint64_t deleted_seq, struct bytes_view file_id, struct bytes *out,
    struct err_detail *why)
{
    Fc__E2e__V1__Header header;
    Fc__Chat__V1__SendRequest request = FC__CHAT__V1__SEND_REQUEST__INIT;
    const struct e2e_keys *device = NULL;
    uint8_t secret[E2E_SECRET_BYTES];
    struct bytes sealed = {0};
    enum err err = fc_chat_own_device(chat, &device, why);
    if (err == ERR_OK) {
        err = fc_chat_epoch_secret(chat, place, place->state.state->epoch, secret, why);
    }
    if (err != ERR_OK) {
        return err;
    }
    fill_header(chat, place, device, message_id, &header);
    if (deleted_seq > 0) {
        header.type = FC__E2E__V1__TYPE__DELETE;
        header.target_seq = deleted_seq;
    }
    err = e2e_message_seal(&header, secret, device->sign_private, content, &sealed);
    digest_wipe(secret, sizeof(secret));
    if (err == ERR_TOO_BIG) {
        err = err_fail(why, err, "the message is too long; send it as a file with fc upload");
    }
    if (err == ERR_OK) {
        request.room = place->id_text;
        request.sealed = fc_lend(sealed.data, sealed.size);
        request.sealed_file_id = fc_lend(file_id.data, file_id.size);
        err = pack_request(&request, out);
    }
    bytes_free(&sealed);
    return err;
}

// is_rekey_due: somebody left, a link is over, or the epoch is old.
static bool
is_rekey_due(const struct fc_chat *chat, const struct fc_chat_place *place)
{
    const Fc__E2e__V1__RoomState *state = place->state.state;
    for (size_t i = 0; e2e_room_has_link_keys(state) && i < state->n_links; i++) {
        if (fc_chat_is_link_spent(chat, place, state->links[i])) {
            return true;
        }
    }
    return state->is_rekey_needed || clock_unix_ms() - state->epoch_started_at_ms > EPOCH_MAX_MS;
}

// has_secret: not so while another of our processes has read the log only in part.
static bool
has_secret(struct fc_chat *chat, const struct fc_chat_place *place)
{
    uint8_t secret[E2E_SECRET_BYTES];
    enum err err = fc_chat_epoch_secret(chat, place, place->state.state->epoch, secret, NULL);
    digest_wipe(secret, sizeof(secret));
    return err == ERR_OK;
}

// prepare_room makes sure that there is an epoch to seal in.
static enum err
prepare_room(struct fc_chat *chat, struct fc_chat_place *place, bool is_stale, struct err_detail *why)
{
    enum err err = fc_chat_settle(chat, place, why);
    if (err == ERR_OK && (place->state.state == NULL || is_stale || !has_secret(chat, place))) {
        err = fc_chat_sync_log(chat, place, why);
    }
    if (err == ERR_OK && place->state.state == NULL) {
        err = err_fail(why, ERR_PROTOCOL, "the server has no log of \"%s\"", place->row.name);
    }
    if (err == ERR_OK && is_rekey_due(chat, place)) {
        err = fc_chat_rekey(chat, place, why);
    }
    return err;
}

static enum err
make_sealed_request(struct fc_chat *chat, struct fc_chat_place *place, const uint8_t message_id[E2E_ID_BYTES],
    const struct written *written, struct bytes *out, struct err_detail *why)
{
    struct bytes content = {0};
    struct bytes_view file_id = {0};
    bool is_deletion = written->content.type == FC__CHAT__V1__MESSAGE_TYPE__DELETE;
    enum err err = prepare_room(chat, place, false, why);
    if (err == ERR_OK) {
        err = bytes_reserve(&content, fc__chat__v1__content__get_packed_size(&written->content));
    }
    if (err == ERR_OK) {
        content.size = fc__chat__v1__content__pack(&written->content, content.data);
        if (written->content.file != NULL) {
            file_id = bytes_view_of(written->file.file_id.data, written->file.file_id.len);
        }
        err = seal_request(chat, place, message_id, bytes_as_view(&content),
            is_deletion ? written->content.target_seq : 0, file_id, out, why);
    }
    bytes_free_secret(&content);
    return err;
}

// is_of_now: the message was sealed for the newest entry of the log.
static bool
is_of_now(const struct fc_chat_place *place, const Fc__E2e__V1__Header *header)
{
    const Fc__E2e__V1__RoomState *state = place->state.state;
    return header->epoch == state->epoch && bytes_view_equal(bytes_view_of(header->log_head.data, header->log_head.len),
                                                bytes_view_of(state->head_hash.data, state->head_hash.len));
}

// reseal makes the request of a message in the outbox anew, for the epoch that holds now.
static enum err
reseal(struct fc_chat *chat, struct fc_chat_place *place, struct fc_store_outgoing *outgoing, struct err_detail *why)
{
    struct e2e_message message = {0};
    struct bytes content = {0};
    struct bytes made = {0};
    uint8_t secret[E2E_SECRET_BYTES];
    Fc__Chat__V1__SendRequest *request =
        fc__chat__v1__send_request__unpack(NULL, outgoing->request.size, outgoing->request.data);
    enum err err = request == NULL ? ERR_NO_MEMORY : prepare_room(chat, place, true, why);
    if (err == ERR_OK) {
        err = e2e_message_parse(bytes_view_of(request->sealed.data, request->sealed.len), &message, why);
    }
    if (err == ERR_OK && is_of_now(place, message.header)) {
        // The log says nothing new, and the server wants a new epoch: a device of somebody's has ended.
        err = fc_chat_rekey(chat, place, why);
    }
    if (err == ERR_OK) {
        err = fc_chat_epoch_secret(chat, place, message.header->epoch, secret, why);
    }
    if (err == ERR_OK) {
        err = e2e_message_open(&message, secret, &content);
        digest_wipe(secret, sizeof(secret));
    }
    if (err == ERR_OK) {
        uint64_t deleted_seq = message.header->type == FC__E2E__V1__TYPE__DELETE ? message.header->target_seq : 0;
        err = seal_request(chat, place, outgoing->message_id, bytes_as_view(&content), deleted_seq,
            bytes_view_of(request->sealed_file_id.data, request->sealed_file_id.len), &made, why);
    }
    if (err == ERR_OK) {
        bytes_free(&outgoing->request);
        outgoing->request = made;
        made = (struct bytes){0};
        err = fc_store_outbox_update(chat->store, outgoing, why);
        err = err == ERR_NOT_FOUND ? ERR_OK : err; // another process has sent it
    }
    e2e_message_deinit(&message);
    bytes_free_secret(&content);
    bytes_free(&made);
    if (request != NULL) {
        fc__chat__v1__send_request__free_unpacked(request, NULL);
    }
    return err;
}

// --- The call -------------------------------------------------------------------------------------------------------

static enum err
take_answer(const Fc__Chat__V1__SendResponse *response, struct fc_sent *out, struct err_detail *why)
{
    if (response->room_id.len != sizeof(out->room_id) || response->seq == 0) {
        return err_fail(why, ERR_PROTOCOL, "the server answered the message in a way that makes no sense");
    }
    memcpy(out->room_id, response->room_id.data, sizeof(out->room_id));
    out->seq = response->seq;
    out->sent_unix_ms = response->sent_at_ms;
    return ERR_OK;
}

// post sends a request of the outbox once. *is_stale_out: it has to be sealed anew.
static enum err
post(struct fc_chat *chat, const struct fc_store_outgoing *outgoing, struct fc_sent *out, bool *is_stale_out,
    struct err_detail *why)
{
    struct rpc_unary call;
    const Fc__Chat__V1__SendResponse *response = NULL;
    Fc__Chat__V1__SendRequest *request =
        fc__chat__v1__send_request__unpack(NULL, outgoing->request.size, outgoing->request.data);
    *is_stale_out = false;
    if (request == NULL) {
        return ERR_NO_MEMORY;
    }
    fc_chat_start_call(chat, &call);
    memcpy(call.request_id, outgoing->message_id, sizeof(call.request_id));
    enum err err = fc_session_explain(&call, fc_chat_v1_chat_send(&call, request, &response), why);
    *is_stale_out = err != ERR_OK && strcmp(call.status.reason, stale_reason) == 0;
    if (err == ERR_OK) {
        err = take_answer(response, out, why);
    }
    rpc_unary_deinit(&call);
    fc__chat__v1__send_request__free_unpacked(request, NULL);
    return err;
}

static bool
is_for_later(enum err code)
{
    return code == ERR_UNAVAILABLE || code == ERR_TIMEOUT || code == ERR_CLOSED || code == ERR_LIMIT ||
           code == ERR_UNAUTHENTICATED || code == ERR_NO_SPACE || code == ERR_INTERNAL || code == ERR_CANCELLED;
}

// settle writes down what became of a message and takes it out of the outbox; sent is NULL when the server refused it.
// Without waiting for the disk: a machine that fails before it is there sends the message again, and the server answers
// as it did. Returns err, or what went wrong here.
static enum err
settle(struct fc_chat *chat, struct fc_chat_place *place, const struct fc_store_outgoing *outgoing,
    const struct fc_sent *sent, enum err err, struct err_detail *why)
{
    enum err kept = fc_store_begin_relaxed(chat->store, err == ERR_OK ? why : NULL);
    if (kept != ERR_OK) {
        return err == ERR_OK ? kept : err;
    }
    if (sent != NULL && place != NULL) {
        struct err_detail cause = {0};
        err = fc_chat_judge(chat, place, FC_CHAT_DOUBT_SYNC,
            fc_chat_own_note(chat, place, sent->seq, outgoing->message_id, &cause), &cause);
        if (err != ERR_OK && why != NULL) {
            *why = cause;
        }
    }
    if (is_for_later(err)) { // it stays in the outbox
        fc_store_rollback(chat->store);
        return err;
    }
    kept = fc_store_outbox_remove(chat->store, outgoing->message_id, err == ERR_OK ? why : NULL);
    kept = kept == ERR_NOT_FOUND ? ERR_OK : kept; // another process has sent it
    if (kept == ERR_OK) {
        kept = fc_store_commit(chat->store, err == ERR_OK ? why : NULL);
    } else {
        fc_store_rollback(chat->store);
    }
    return err == ERR_OK ? kept : err;
}

// dispatch sends one message of the outbox and takes it out when it is settled. Errors for which it stays:
// is_for_later.
static enum err
dispatch(struct fc_chat *chat, struct fc_store_outgoing *outgoing, struct fc_sent *out, struct err_detail *why)
{
    struct fc_chat_place *place = NULL;
    bool is_stale = false;
    enum err err = fc_chat_get_place(chat, outgoing->room_id, &place, why);
    if (err == ERR_OK) {
        err = fc_chat_settle(chat, place, why);
    }
    if (err != ERR_OK && err != ERR_NOT_FOUND) { // not a room that has been forgotten here
        return err;                              // it stays
    }
    err = post(chat, outgoing, out, &is_stale, why);
    for (unsigned i = 0; is_stale && i < FC_CHAT_ATTEMPTS; i++) {
        err = fc_chat_get_place(chat, outgoing->room_id, &place, why);
        if (err == ERR_OK) {
            err = reseal(chat, place, outgoing, why);
        }
        is_stale = false;
        if (err == ERR_OK) {
            err = post(chat, outgoing, out, &is_stale, why);
        }
    }
    err = place == NULL ? err : fc_chat_ask_gone(chat, place, err, why);
    if (is_for_later(err)) {
        free(outgoing->last_error);
        outgoing->last_error = strdup(err_message(why, err));
        (void)!fc_store_outbox_update(chat->store, outgoing, NULL); // the error is for people only
        return err;
    }
    return settle(chat, place, outgoing, err == ERR_OK ? out : NULL, err, why);
}

// flush sends what waits, in order, up to the first that cannot be sent now. Messages that the server will never take
// are told and dropped.
static enum err
flush(struct fc_chat *chat, size_t *count_out, struct err_detail *why)
{
    struct fc_store_outgoing outgoing = {0};
    uint64_t waiting = 0;
    int lock = -1;
    int64_t position = 0;
    *count_out = 0;
    enum err err = fc_store_outbox_count(chat->store, &waiting, why);
    if (err != ERR_OK || waiting == 0) {
        return err;
    }
    err = fc_store_outbox_lock(chat->store, true, &lock, why);
    while (err == ERR_OK) {
        struct fc_sent sent;
        err = fc_store_outbox_next(chat->store, position, &outgoing, why);
        if (err != ERR_OK) {
            err = err == ERR_NOT_FOUND ? ERR_OK : err;
            break;
        }
        position = outgoing.position;
        err = dispatch(chat, &outgoing, &sent, why);
        if (err == ERR_OK) {
            ++*count_out;
        } else if (!is_for_later(err) && err != ERR_NO_MEMORY) {
            fc_chat_warn(chat, "a message to \"%s\" that waited was not sent: %s", outgoing.room_name,
                err_message(why, err));
            err = ERR_OK;
        }
        fc_store_outgoing_deinit(&outgoing);
    }
    if (lock >= 0) {
        (void)close(lock);
    }
    return err;
}

enum err
fc_chat_flush(struct fc_chat *chat, size_t *count_out, struct err_detail *why)
{
    fc_chat_lock(chat);
    enum err err = flush(chat, count_out, why);
    fc_chat_unlock(chat);
    return err;
}

static enum err
queue(struct fc_chat *chat, const char *room, struct fc_chat_place *place, const struct written *written,
    const uint8_t *message_id, struct fc_store_outgoing *out, struct err_detail *why)
{
    memset(out, 0, sizeof(*out));
    if (message_id != NULL) {
        memcpy(out->message_id, message_id, sizeof(out->message_id));
    } else {
        random_bytes(out->message_id, sizeof(out->message_id));
    }
    memcpy(out->room_id, place->row.room_id, sizeof(out->room_id));
    out->has_room_id = true;
    out->created_ms = clock_unix_ms();
    out->room_name = strdup(room);
    enum err err = out->room_name == NULL ? ERR_NO_MEMORY : ERR_OK;
    if (err == ERR_OK) {
        err = place->row.is_plain ? make_plain_request(place, written, &out->request)
                                  : make_sealed_request(chat, place, out->message_id, written, &out->request, why);
    }
    return err == ERR_OK ? fc_store_outbox_add(chat->store, out, why) : err;
}

static enum err
send_draft(struct fc_chat *chat, const char *room, const struct fc_chat_draft *draft, struct fc_sent *out,
    struct err_detail *why)
{
    struct fc_chat_place *place = NULL;
    struct written written;
    struct fc_store_outgoing outgoing = {0};
    size_t flushed = 0;
    enum err err = write_content(draft, &written, why);
    if (err == ERR_OK) {
        err = fc_chat_find_place(chat, room, &place, why);
    }
    // What waits goes first; when it cannot go, this one waits behind it.
    enum err flushing = err == ERR_OK ? flush(chat, &flushed, why) : ERR_OK;
    if (err == ERR_OK) {
        err = queue(chat, room, place, &written, draft->message_id, &outgoing, why);
    }
    if (err == ERR_EXISTS && flushing != ERR_OK) {
        err = ERR_OK; // it waits already
    }
    if (err == ERR_OK) {
        err = flushing == ERR_OK ? dispatch(chat, &outgoing, out, why) : flushing;
        if (is_for_later(err)) {
            struct err_detail cause = *why;
            err = err_fail(why, ERR_QUEUED, "not sent yet, and kept to be sent: %s", err_message(&cause, err));
        }
    }
    fc_store_outgoing_deinit(&outgoing);
    written_deinit(&written);
    return err;
}

enum err
fc_chat_send(struct fc_chat *chat, const char *room, const struct fc_chat_draft *draft, struct fc_sent *out,
    struct err_detail *why)
{
    struct err_detail detail = {0};
    fc_chat_lock(chat);
    enum err err = send_draft(chat, room, draft, out, &detail);
    fc_chat_unlock(chat);
    if (why != NULL) {
        *why = detail;
    }
    return err;
}
