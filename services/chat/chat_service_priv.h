// For the sources of the Chat service only: the service, and the methods that have files of their own.
#ifndef CHAT_CHAT_SERVICE_PRIV_H
#define CHAT_CHAT_SERVICE_PRIV_H

#include <pthread.h>
#include <stddef.h>

#include "base/err.h"
#include "rpc/rpc_call.h"
#include "rpc/rpc_rate.h"
#include "services/chat/chat_fanout.h"
#include "services/chat/chat_messages.h"
#include "services/chat/chat_people.h"
#include "services/chat/chat_sealed.h"
#include "services/store/store.h"

#include "fc/chat/v1/chat.pb-c.h"

struct chat_service {
    Fc__Chat__V1__Chat_Service rpc; // first: handlers get its address
    struct store *store;
    struct chat_fanout *fanout;
    chat_find_file_fn *find_shared_file;
    void *find_shared_file_context;
    chat_find_chain_fn *find_chain;
    void *find_chain_context;
    struct chat_people people;
    struct rpc_rate *send_rate; // NULL: no limit

    // Changes that are between request and answer. The store may still run some after the server has been freed.
    pthread_mutex_t mutex;
    pthread_cond_t idle;
    struct {
        size_t operations;
    } locked;
};

// chat_fail answers with an error. What is wrong with the server itself is for its log.
void chat_fail(struct rpc_call *call, enum err code, const struct err_detail *why);

// The handlers in chat_changes.c.
void chat_changes_create_room(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__CreateRoomRequest *request,
    Fc__Chat__V1__CreateRoomResponse_Closure reply, void *closure_data);
void chat_changes_join(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__JoinRequest *request,
    Fc__Chat__V1__JoinResponse_Closure reply, void *closure_data);
void chat_changes_leave(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__LeaveRequest *request,
    Fc__Chat__V1__LeaveResponse_Closure reply, void *closure_data);
void chat_changes_amend(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__AmendRequest *request,
    Fc__Chat__V1__AmendResponse_Closure reply, void *closure_data);
void chat_changes_block(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__BlockRequest *request,
    Fc__Chat__V1__BlockResponse_Closure reply, void *closure_data);

// In chat_lists.c.
void chat_lists_list_rooms(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__ListRoomsRequest *request,
    Fc__Chat__V1__ListRoomsResponse_Closure reply, void *closure_data);
void chat_lists_get_room(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__GetRoomRequest *request,
    Fc__Chat__V1__GetRoomResponse_Closure reply, void *closure_data);
void chat_lists_get_log(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__GetLogRequest *request,
    Fc__Chat__V1__GetLogResponse_Closure reply, void *closure_data);
void chat_lists_get_link(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__GetLinkRequest *request,
    Fc__Chat__V1__GetLinkResponse_Closure reply, void *closure_data);
void chat_lists_list_blocks(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__ListBlocksRequest *request,
    Fc__Chat__V1__ListBlocksResponse_Closure reply, void *closure_data);

// In chat_send.c.
void chat_send(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__SendRequest *request,
    Fc__Chat__V1__SendResponse_Closure reply, void *closure_data);

// In chat_reading.c.
void chat_reading_history(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__HistoryRequest *request,
    Fc__Chat__V1__HistoryResponse_Closure reply, void *closure_data);
void chat_reading_search(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__SearchRequest *request,
    Fc__Chat__V1__SearchResponse_Closure reply, void *closure_data);
void chat_reading_get_presence(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__GetPresenceRequest *request,
    Fc__Chat__V1__GetPresenceResponse_Closure reply, void *closure_data);
void chat_reading_typing(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__TypingRequest *request,
    Fc__Chat__V1__TypingResponse_Closure reply, void *closure_data);
void chat_reading_list_reports(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__ListReportsRequest *request,
    Fc__Chat__V1__ListReportsResponse_Closure reply, void *closure_data);

// In chat_marks.c.
void chat_marks_mark_read(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__MarkReadRequest *request,
    Fc__Chat__V1__MarkReadResponse_Closure reply, void *closure_data);
void chat_marks_set_presence(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__SetPresenceRequest *request,
    Fc__Chat__V1__SetPresenceResponse_Closure reply, void *closure_data);
void chat_marks_report(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__ReportRequest *request,
    Fc__Chat__V1__ReportResponse_Closure reply, void *closure_data);

// In chat_subscribe.c.
void chat_subscribe(Fc__Chat__V1__Chat_Service *service, const Fc__Chat__V1__SubscribeRequest *request,
    Fc__Chat__V1__SubscribeResponse_Closure reply, void *closure_data);

#endif
