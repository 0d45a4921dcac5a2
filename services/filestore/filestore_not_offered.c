// Methods that this server does not offer yet: each has a row in the rules and an answer, so that clients are told.
#include "services/filestore/filestore_service_priv.h"

#define NOT_OFFERED(handler, Message)                                                                                  \
    void handler(Fc__Filestore__V1__FileStore_Service *service, const Fc__Filestore__V1__##Message##Request *request,  \
        Fc__Filestore__V1__##Message##Response_Closure reply, void *closure_data)                                      \
    {                                                                                                                  \
        (void)service;                                                                                                 \
        (void)request;                                                                                                 \
        (void)reply;                                                                                                   \
        rpc_call_fail(closure_data, ERR_UNIMPLEMENTED, "this server does not offer " #Message " yet");                 \
    }

NOT_OFFERED(filestore_put, Put)
NOT_OFFERED(filestore_rename, Rename)
NOT_OFFERED(filestore_delete, Delete)
NOT_OFFERED(filestore_restore, Restore)
NOT_OFFERED(filestore_share, Share)
NOT_OFFERED(filestore_get_usage, GetUsage)
