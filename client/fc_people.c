#include "client/fc_people.h"

#include <string.h>

#include "base/text.h"
#include "client/fc_lend_priv.h"
#include "client/fc_room_priv.h"
#include "e2e/e2e_message.h"

#include "fc/chat/v1/chat.stub.h"

enum {
    CALL_TIMEOUT_MS = 10 * 1000, // as in fc_room.c
};

static void
start_call(struct fc_session *session, struct rpc_unary *call, bool is_idempotent)
{
    fc_chat_v1_chat_init(call, fc_session_channel(session));
    call->is_idempotent = is_idempotent;
    call->timeout_ms = CALL_TIMEOUT_MS;
}

enum err
fc_people_block(struct fc_session *session, const char *user_name, bool is_unblock, struct err_detail *why)
{
    struct rpc_unary call;
    Fc__Chat__V1__BlockRequest request = FC__CHAT__V1__BLOCK_REQUEST__INIT;
    request.user_name = fc_lend_text(user_name);
    request.is_unblock = is_unblock;
    start_call(session, &call, true);
    enum err err = fc_session_explain(&call, fc_chat_v1_chat_block(&call, &request, NULL), why);
    rpc_unary_deinit(&call);
    return err;
}

enum err
fc_people_each_block(struct fc_session *session, bool (*fn)(void *context, const char *user_name), void *context,
    struct err_detail *why)
{
    struct rpc_unary call;
    const Fc__Chat__V1__ListBlocksResponse *response = NULL;
    Fc__Chat__V1__ListBlocksRequest request = FC__CHAT__V1__LIST_BLOCKS_REQUEST__INIT;
    start_call(session, &call, true);
    enum err err = fc_session_explain(&call, fc_chat_v1_chat_list_blocks(&call, &request, &response), why);
    for (size_t i = 0; err == ERR_OK && i < response->n_user_names; i++) {
        if (!fn(context, response->user_names[i])) {
            break;
        }
    }
    rpc_unary_deinit(&call);
    return err;
}

enum err
fc_people_show_presence(struct fc_session *session, bool is_shown, struct err_detail *why)
{
    struct rpc_unary call;
    Fc__Chat__V1__SetPresenceRequest request = FC__CHAT__V1__SET_PRESENCE_REQUEST__INIT;
    request.is_shown = is_shown;
    start_call(session, &call, true);
    enum err err = fc_session_explain(&call, fc_chat_v1_chat_set_presence(&call, &request, NULL), why);
    rpc_unary_deinit(&call);
    return err;
}

enum err
fc_people_each_present(struct fc_session *session, const char *room, bool (*fn)(void *context, const char *user_name),
    void *context, struct err_detail *why)
{
    struct rpc_unary call;
    const Fc__Chat__V1__GetPresenceResponse *response = NULL;
    Fc__Chat__V1__GetPresenceRequest request = FC__CHAT__V1__GET_PRESENCE_REQUEST__INIT;
    request.room = fc_lend_text(room);
    start_call(session, &call, true);
    enum err err = fc_session_explain(&call, fc_chat_v1_chat_get_presence(&call, &request, &response), why);
    for (size_t i = 0; err == ERR_OK && i < response->n_present_user_names; i++) {
        if (!fn(context, response->present_user_names[i])) {
            break;
        }
    }
    rpc_unary_deinit(&call);
    return err;
}

enum err
fc_people_report(struct fc_session *session, const struct fc_report *report, struct err_detail *why)
{
    struct rpc_unary call;
    Fc__Chat__V1__ReportRequest request = FC__CHAT__V1__REPORT_REQUEST__INIT;
    if (strlen(report->reason) > FC_PEOPLE_REASON_MAX_BYTES || !text_is_utf8(bytes_view_of_text(report->reason))) {
        return err_fail(why, ERR_INVALID, "a reason is text of at most %d bytes", FC_PEOPLE_REASON_MAX_BYTES);
    }
    request.room = fc_lend_text(report->room);
    request.seq = report->seq;
    request.reason = fc_lend_text(report->reason);
    if (report->message_key != NULL) {
        request.message_key = fc_lend(report->message_key, FC_PEOPLE_MESSAGE_KEY_BYTES);
    }
    start_call(session, &call, false);
    enum err err = fc_session_explain(&call, fc_chat_v1_chat_report(&call, &request, NULL), why);
    rpc_unary_deinit(&call);
    return err;
}

static enum err
from_wire(const Fc__Chat__V1__ReportedMessage *wire, struct fc_reported *out, struct err_detail *why)
{
    *out = (struct fc_reported){
        .id = wire->id,
        .reporter = wire->reporter,
        .reason = wire->reason,
        .reported_unix_ms = wire->reported_at_ms,
        .room = wire->room_name,
    };
    if (wire->message == NULL) {
        return err_fail(why, ERR_PROTOCOL, "the server sent a report without a message");
    }
    return fc_room_message_from_wire(wire->message, wire->room_name, &out->message, why);
}

// reveal opens an encrypted message with the key that its reporter gave. What does not open stays closed: anybody can
// report with any key.
static enum err
reveal(const Fc__Chat__V1__ReportedMessage *wire, Fc__Chat__V1__Content **content_out)
{
    struct e2e_message message = {0};
    struct bytes content = {0};
    const ProtobufCBinaryData *sealed = &wire->message->sealed;
    if (wire->message_key.len != E2E_MESSAGE_KEY_BYTES || sealed->len == 0) {
        return ERR_OK;
    }
    enum err err = e2e_message_parse(bytes_view_of(sealed->data, sealed->len), &message, NULL);
    if (err == ERR_OK) {
        err = e2e_message_open_with_key(&message, wire->message_key.data, &content);
        e2e_message_deinit(&message);
    }
    if (err == ERR_OK) {
        *content_out = fc__chat__v1__content__unpack(NULL, content.size, content.data);
        if (*content_out != NULL && !text_is_utf8(bytes_view_of_text((*content_out)->text))) {
            fc__chat__v1__content__free_unpacked(*content_out, NULL);
            *content_out = NULL;
        }
    }
    bytes_free_secret(&content);
    return err == ERR_NO_MEMORY ? err : ERR_OK;
}

static enum err
tell(const Fc__Chat__V1__ReportedMessage *wire, struct fc_reported *reported,
    bool (*fn)(void *context, const struct fc_reported *reported), void *context, bool *goes_on_out)
{
    Fc__Chat__V1__Content *content = NULL;
    enum err err = reveal(wire, &content);
    if (err != ERR_OK) {
        return err;
    }
    if (content != NULL) {
        reported->is_revealed = true;
        reported->message.text = content->text;
    }
    *goes_on_out = fn(context, reported);
    if (content != NULL) {
        fc__chat__v1__content__free_unpacked(content, NULL);
    }
    return ERR_OK;
}

// each_in_page calls fn for the reports of one reply. after_id_out becomes the last one's id.
static enum err
each_in_page(const Fc__Chat__V1__ListReportsResponse *page,
    bool (*fn)(void *context, const struct fc_reported *reported), void *context, uint64_t *after_id_out,
    bool *goes_on_out, struct err_detail *why)
{
    *goes_on_out = page->n_reports > 0;
    for (size_t i = 0; i < page->n_reports && *goes_on_out; i++) {
        struct fc_reported reported;
        enum err err = from_wire(page->reports[i], &reported, why);
        if (err != ERR_OK) {
            return err;
        }
        // Ids that do not ascend would make the paging go round for ever.
        if (reported.id <= *after_id_out) {
            return err_fail(why, ERR_PROTOCOL, "the server lists its reports out of order");
        }
        *after_id_out = reported.id;
        err = tell(page->reports[i], &reported, fn, context, goes_on_out);
        if (err != ERR_OK) {
            return err;
        }
    }
    return ERR_OK;
}

enum err
fc_people_each_report(struct fc_session *session, uint64_t after_id,
    bool (*fn)(void *context, const struct fc_reported *reported), void *context, struct err_detail *why)
{
    bool goes_on = true;
    enum err err = ERR_OK;
    while (err == ERR_OK && goes_on) {
        struct rpc_unary call;
        const Fc__Chat__V1__ListReportsResponse *page = NULL;
        Fc__Chat__V1__ListReportsRequest request = FC__CHAT__V1__LIST_REPORTS_REQUEST__INIT;
        request.after_id = after_id;
        start_call(session, &call, true);
        err = fc_session_explain(&call, fc_chat_v1_chat_list_reports(&call, &request, &page), why);
        if (err == ERR_OK) {
            err = each_in_page(page, fn, context, &after_id, &goes_on, why);
        }
        rpc_unary_deinit(&call);
    }
    return err;
}
