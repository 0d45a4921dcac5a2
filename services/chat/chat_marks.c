// The methods that change what belongs to one user: how far they have read, whether they are seen, what they report.
#include <stdlib.h>
#include <string.h>

#include "services/chat/chat_operation.h"
#include "services/chat/chat_reads.h"
#include "services/chat/chat_reports.h"

struct mark_read_operation {
    struct chat_operation base; // first
    const Fc__Chat__V1__MarkReadRequest *request;
    Fc__Chat__V1__MarkReadResponse_Closure reply;
    struct chat_user user;
    struct chat_room room;
    bool is_moved;
};

static enum err
run_mark_read(struct store_tx *tx, struct store_job *job)
{
    struct mark_read_operation *mark = (struct mark_read_operation *)job;
    memset(&mark->base.why, 0, sizeof(mark->base.why));
    return chat_reads_mark(tx, &mark->user, mark->request->room, mark->request->seq, &mark->room, &mark->is_moved,
        &mark->base.why);
}

static void
done_mark_read(struct store_job *job, enum err result)
{
    struct mark_read_operation *mark = (struct mark_read_operation *)job;
    if (chat_operation_fail(&mark->base, result)) {
        return;
    }
    if (mark->is_moved) {
        chat_fanout_publish_read(mark->base.chat->fanout, mark->room.id, mark->user.id, mark->room.read_seq);
    }
    Fc__Chat__V1__MarkReadResponse response = FC__CHAT__V1__MARK_READ_RESPONSE__INIT;
    response.read_seq = mark->room.read_seq;
    mark->reply(&response, mark->base.call);
    chat_operation_free(&mark->base);
}

static enum err
read_mark(struct store_tx *tx, void *context)
{
    struct mark_read_operation *mark = context;
    return chat_core_find_member_room(tx, mark->request->room, mark->user.id, &mark->room, &mark->base.why);
}

void
chat_marks_mark_read(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__MarkReadRequest *request,
    Fc__Chat__V1__MarkReadResponse_Closure reply, void *closure_data)
{
    struct chat_service *chat = (struct chat_service *)service;
    struct mark_read_operation *mark = chat_operation_new(chat, closure_data, sizeof(struct mark_read_operation));
    if (mark == NULL) {
        return;
    }
    mark->request = request;
    mark->reply = reply;
    mark->user = chat_caller(mark->base.call);
    // Programs mark what has been marked already, as often as they are looked at; that needs no write.
    enum err err = store_read(chat->store, read_mark, mark);
    if (err != ERR_OK || request->seq <= mark->room.read_seq) {
        done_mark_read(&mark->base.job, err);
        return;
    }
    chat_operation_start(&mark->base, run_mark_read, done_mark_read);
}

struct set_presence_operation {
    struct chat_operation base; // first
    Fc__Chat__V1__SetPresenceResponse_Closure reply;
    bool is_shown;
};

static enum err
run_set_presence(struct store_tx *tx, struct store_job *job)
{
    struct set_presence_operation *set = (struct set_presence_operation *)job;
    return chat_settings_set(tx, rpc_call_identity(set->base.call)->subject_id, set->is_shown);
}

static void
done_set_presence(struct store_job *job, enum err result)
{
    struct set_presence_operation *set = (struct set_presence_operation *)job;
    if (chat_operation_fail(&set->base, result)) {
        return;
    }
    Fc__Chat__V1__SetPresenceResponse response = FC__CHAT__V1__SET_PRESENCE_RESPONSE__INIT;
    chat_fanout_set_shown(set->base.chat->fanout, rpc_call_identity(set->base.call)->subject_id, set->is_shown);
    set->reply(&response, set->base.call);
    chat_operation_free(&set->base);
}

void
chat_marks_set_presence(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__SetPresenceRequest *request,
    Fc__Chat__V1__SetPresenceResponse_Closure reply, void *closure_data)
{
    struct set_presence_operation *set =
        chat_operation_new((struct chat_service *)service, closure_data, sizeof(struct set_presence_operation));
    if (set == NULL) {
        return;
    }
    set->reply = reply;
    set->is_shown = request->is_shown;
    chat_operation_start(&set->base, run_set_presence, done_set_presence);
}

struct report_operation {
    struct chat_operation base; // first
    Fc__Chat__V1__ReportResponse_Closure reply;
    struct chat_complaint complaint; // borrows from the request
};

static enum err
run_report(struct store_tx *tx, struct store_job *job)
{
    struct report_operation *report = (struct report_operation *)job;
    memset(&report->base.why, 0, sizeof(report->base.why));
    return chat_reports_add(tx, &report->complaint, &report->base.why);
}

static void
done_report(struct store_job *job, enum err result)
{
    struct report_operation *report = (struct report_operation *)job;
    if (chat_operation_fail(&report->base, result)) {
        return;
    }
    Fc__Chat__V1__ReportResponse response = FC__CHAT__V1__REPORT_RESPONSE__INIT;
    report->reply(&response, report->base.call);
    chat_operation_free(&report->base);
}

void
chat_marks_report(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__ReportRequest *request,
    Fc__Chat__V1__ReportResponse_Closure reply, void *closure_data)
{
    struct report_operation *report =
        chat_operation_new((struct chat_service *)service, closure_data, sizeof(struct report_operation));
    if (report == NULL) {
        return;
    }
    report->reply = reply;
    report->complaint = (struct chat_complaint){
        .reporter = chat_caller(report->base.call),
        .room = request->room,
        .seq = request->seq,
        .reason = request->reason,
        .message_key = bytes_view_of(request->message_key.data, request->message_key.len),
    };
    chat_operation_start(&report->base, run_report, done_report);
}
