// Send: a store job that answers from its done callback. Messages are published there, in the order of their numbers.
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "services/chat/chat_operation.h"
#include "services/chat/chat_wire.h"

struct send_operation {
    struct chat_operation base; // first
    const Fc__Chat__V1__SendRequest *request;
    Fc__Chat__V1__SendResponse_Closure reply;
    struct chat_outgoing outgoing; // borrows from the request and from file
    struct chat_outgoing_file file;
    struct chat_outgoing_sealed sealed;
    struct chat_sent sent;
};

static enum err
run_send(struct store_tx *tx, struct store_job *job)
{
    struct send_operation *send = (struct send_operation *)job;
    memset(&send->base.why, 0, sizeof(send->base.why));
    return chat_messages_send(tx, &send->outgoing, &send->sent, &send->base.why);
}

static void
publish(const struct send_operation *send)
{
    const struct chat_outgoing *outgoing = &send->outgoing;
    const struct chat_sent *sent = &send->sent;
    const struct chat_message message = {
        .room_id = sent->room_id,
        .seq = sent->seq,
        .id = outgoing->request_id.data,
        .sender_id = outgoing->sender.id,
        .sender = outgoing->sender.name,
        .sent_at_ms = sent->sent_at_ms,
        .type = outgoing->type,
        .text = outgoing->text,
        .file = outgoing->file == NULL ? NULL : &sent->file,
        .target_seq = outgoing->target_seq,
        .reply_to_seq = outgoing->reply_to_seq,
        .mentions = outgoing->mentions,
        .mention_count = outgoing->mention_count,
        .topic = outgoing->topic,
        .sealed = send->sealed.sealed,
        .chain = bytes_view_of(sent->chain, outgoing->sealed == NULL ? 0 : sizeof(sent->chain)),
    };
    chat_fanout_publish(send->base.chat->fanout, &message);
}

static void
done_send(struct store_job *job, enum err result)
{
    struct send_operation *send = (struct send_operation *)job;
    if (result == ERR_CONFLICT && send->sent.is_epoch_stale) {
        rpc_call_fail_detail(send->base.call, result, &send->base.why, "EPOCH_STALE", 0);
        chat_operation_free(&send->base);
        return;
    }
    if (chat_operation_fail(&send->base, result)) {
        return;
    }
    if (!send->sent.is_resend) {
        publish(send); // before the answer, which ends the request's life
    }
    Fc__Chat__V1__SendResponse response = FC__CHAT__V1__SEND_RESPONSE__INIT;
    response.room_id = (ProtobufCBinaryData){.len = CHAT_ID_BYTES, .data = send->sent.room_id};
    response.seq = send->sent.seq;
    response.sent_at_ms = send->sent.sent_at_ms;
    if (send->outgoing.sealed != NULL) {
        response.chain = (ProtobufCBinaryData){.len = sizeof(send->sent.chain), .data = send->sent.chain};
    }
    send->reply(&response, send->base.call);
    chat_operation_free(&send->base);
}

// borrow_request makes the request's fields a message.
static void
borrow_request(struct send_operation *send)
{
    const Fc__Chat__V1__SendRequest *request = send->request;
    send->outgoing = (struct chat_outgoing){
        .sender = chat_caller(send->base.call),
        .request_id = rpc_call_request_id(send->base.call),
        .room = request->room,
        .type = (enum chat_message_type)request->type,
        .text = request->text,
        .file = request->file == NULL ? NULL : &send->file,
        .target_seq = request->target_seq,
        .reply_to_seq = request->reply_to_seq,
        .mentions = (const char *const *)request->mentions,
        .mention_count = request->n_mentions,
        .topic = request->topic,
        .find_file = send->base.chat->find_shared_file,
        .find_file_context = send->base.chat->find_shared_file_context,
    };
    if (request->file != NULL) {
        send->file = (struct chat_outgoing_file){
            .file_id = bytes_view_of(request->file->file_id.data, request->file->file_id.len),
            .mime_type = request->file->mime_type,
            .width_px = request->file->width_px,
            .height_px = request->file->height_px,
            .preview = bytes_view_of(request->file->preview.data, request->file->preview.len),
        };
    }
}

// check_sealed is for messages of encrypted rooms, which say nothing outside of what is sealed.
static enum err
check_sealed(struct send_operation *send)
{
    const Fc__Chat__V1__SendRequest *request = send->request;
    struct err_detail *why = &send->base.why;
    if (request->text[0] != '\0' || request->file != NULL || request->type != FC__CHAT__V1__MESSAGE_TYPE__TEXT ||
        request->target_seq != 0 || request->reply_to_seq != 0 || request->n_mentions != 0 ||
        request->topic[0] != '\0') {
        return err_fail(why, ERR_INVALID, "a sealed message says nothing outside of what is sealed");
    }
    const struct chat_sealed_query query = {
        .sender = send->outgoing.sender,
        .request_id = send->outgoing.request_id,
        .room = request->room,
        .sealed = bytes_view_of(request->sealed.data, request->sealed.len),
        .file_id = bytes_view_of(request->sealed_file_id.data, request->sealed_file_id.len),
        .find_chain = send->base.chat->find_chain,
        .find_chain_context = send->base.chat->find_chain_context,
    };
    send->outgoing.sealed = &send->sealed;
    return chat_sealed_check(send->base.chat->store, &query, &send->sealed, why);
}

static enum err
check(struct send_operation *send)
{
    if (send->request->sealed.len > 0) {
        return check_sealed(send);
    }
    if (send->request->sealed_file_id.len > 0) {
        return err_fail(&send->base.why, ERR_INVALID, "sealed_file_id goes with a sealed message; give file");
    }
    return chat_messages_check(&send->outgoing, &send->base.why);
}

// is_allowed answers by itself when the caller has sent too many messages in the last seconds.
static bool
is_allowed(struct chat_service *chat, struct rpc_call *call)
{
    uint32_t retry_after_ms = 0;
    struct err_detail why = {0};
    struct bytes_view user_id = bytes_view_of(rpc_call_identity(call)->subject_id, CHAT_ID_BYTES);
    if (chat->send_rate == NULL || rpc_rate_take(chat->send_rate, user_id, clock_monotonic_us(), &retry_after_ms)) {
        return true;
    }
    enum err err = err_fail(&why, ERR_LIMIT, "you have sent too many messages in the last seconds; wait a moment");
    rpc_call_fail_detail(call, err, &why, "TOO_MANY_MESSAGES", retry_after_ms);
    return false;
}

void
chat_send(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__SendRequest *request,
    Fc__Chat__V1__SendResponse_Closure reply, void *closure_data)
{
    struct chat_service *chat = (struct chat_service *)service;
    if (!is_allowed(chat, closure_data)) {
        return;
    }
    struct send_operation *send = chat_operation_new(chat, closure_data, sizeof(struct send_operation));
    if (send == NULL) {
        return;
    }
    send->request = request;
    send->reply = reply;
    borrow_request(send);
    if (!chat_operation_fail(&send->base, check(send))) {
        chat_operation_start(&send->base, run_send, done_send);
    }
}
