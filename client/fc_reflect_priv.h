// For fc_reflect*.c only.
#ifndef CLIENT_FC_REFLECT_PRIV_H
#define CLIENT_FC_REFLECT_PRIV_H

#include "base/bytes.h"
#include "base/err.h"
#include "client/fc_reflect.h"
#include "rpc/rpc_schema.h"

// fc_reflect_print appends a symbol as the text of a .proto file, with its comments. ERR_NO_MEMORY.
enum err fc_reflect_print(const struct rpc_schema *schema, const struct rpc_symbol *symbol,
    struct bytes *out) ERR_CHECKED;

// fc_reflect_show hands an encoded response on, as JSON.
enum err fc_reflect_show(const struct fc_reflect_call *call, const struct rpc_schema_message *type,
    struct bytes_view encoded, struct err_detail *why) ERR_CHECKED;

// fc_reflect_explain puts how the server has answered into words, with the name of its code. Returns err.
enum err fc_reflect_explain(const struct rpc_status *status, enum err err, struct err_detail *why) ERR_CHECKED;

// fc_reflect_stream calls a method that streams its requests, its responses or both.
enum err fc_reflect_stream(struct fc_session *session, const struct fc_reflect_call *call,
    const struct rpc_schema_method *method, struct err_detail *why) ERR_CHECKED;

#endif
