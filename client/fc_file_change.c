// Changing what is on the server without moving content.
#include "base/text.h"
#include "client/fc_lend_priv.h"
#include "client/fc_transfer_priv.h"

#include "fc/filestore/v1/filestore.stub.h"

static void
begin(struct rpc_unary *call, struct fc_session *session)
{
    fc_filestore_v1_file_store_init(call, fc_session_channel(session));
    call->is_idempotent = true;
}

enum err
fc_file_rename(struct fc_session *session, const char *file, const char *new_name, struct fc_file *out,
    struct err_detail *why)
{
    Fc__Filestore__V1__RenameRequest request = FC__FILESTORE__V1__RENAME_REQUEST__INIT;
    const Fc__Filestore__V1__RenameResponse *response = NULL;
    struct rpc_unary call;

    enum err err = text_check_file_name(new_name, why);
    if (err != ERR_OK) {
        return err;
    }
    request.file = fc_lend_text(file);
    request.new_name = fc_lend_text(new_name);
    begin(&call, session);
    err = fc_session_explain(&call, fc_filestore_v1_file_store_rename(&call, &request, &response), why);
    if (err == ERR_OK) {
        err = fc_file_from_wire(response->file, out, why);
    }
    rpc_unary_deinit(&call);
    return err;
}

enum err
fc_file_remove(struct fc_session *session, const char *file, uint64_t version, struct err_detail *why)
{
    Fc__Filestore__V1__DeleteRequest request = FC__FILESTORE__V1__DELETE_REQUEST__INIT;
    struct rpc_unary call;

    request.file = fc_lend_text(file);
    request.version = version;
    begin(&call, session);
    enum err err = fc_session_explain(&call, fc_filestore_v1_file_store_delete(&call, &request, NULL), why);
    rpc_unary_deinit(&call);
    return err;
}

enum err
fc_file_restore(struct fc_session *session, const char *file, struct fc_file *out, struct err_detail *why)
{
    Fc__Filestore__V1__RestoreRequest request = FC__FILESTORE__V1__RESTORE_REQUEST__INIT;
    const Fc__Filestore__V1__RestoreResponse *response = NULL;
    struct rpc_unary call;

    request.file = fc_lend_text(file);
    begin(&call, session);
    enum err err = fc_session_explain(&call, fc_filestore_v1_file_store_restore(&call, &request, &response), why);
    if (err == ERR_OK) {
        err = fc_file_from_wire(response->file, out, why);
    }
    rpc_unary_deinit(&call);
    return err;
}

enum err
fc_file_share(struct fc_session *session, const char *file, const char *room, const char *user_name, bool is_unshare,
    struct err_detail *why)
{
    Fc__Filestore__V1__ShareRequest request = FC__FILESTORE__V1__SHARE_REQUEST__INIT;
    struct rpc_unary call;

    request.file = fc_lend_text(file);
    if (room != NULL) {
        request.room = fc_lend_text(room);
    }
    if (user_name != NULL) {
        request.user_name = fc_lend_text(user_name);
    }
    request.is_unshare = is_unshare;
    begin(&call, session);
    enum err err = fc_session_explain(&call, fc_filestore_v1_file_store_share(&call, &request, NULL), why);
    rpc_unary_deinit(&call);
    return err;
}

enum err
fc_file_usage(struct fc_session *session, const char *room, struct fc_usage *out, struct err_detail *why)
{
    Fc__Filestore__V1__GetUsageRequest request = FC__FILESTORE__V1__GET_USAGE_REQUEST__INIT;
    const Fc__Filestore__V1__GetUsageResponse *response = NULL;
    struct rpc_unary call;

    if (room != NULL) {
        request.room = fc_lend_text(room);
    }
    begin(&call, session);
    enum err err = fc_session_explain(&call, fc_filestore_v1_file_store_get_usage(&call, &request, &response), why);
    if (err == ERR_OK) {
        out->used_bytes = response->used_bytes;
        out->file_count = response->file_count;
        out->quota_bytes = response->quota_bytes;
    }
    rpc_unary_deinit(&call);
    return err;
}
