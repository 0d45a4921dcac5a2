// Each call first fetches the descriptors of its method: one more round trip, and nothing that could be out of date.
#include "client/fc_reflect.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "client/fc_reflect_priv.h"
#include "rpc/rpc_json.h"

#include "fc/rpc/v1/reflection.stub.h"

enum err
fc_reflect_explain(const struct rpc_status *status, enum err err, struct err_detail *why)
{
    return err == ERR_OK ? ERR_OK
                         : err_fail(why, err, "%s: %s", rpc_code_name(status->code), err_message(&status->detail, err));
}

// read_schema makes a schema of the files in an answer.
static enum err
read_schema(const Fc__Rpc__V1__GetDescriptorsResponse *response, struct rpc_schema **out, struct err_detail *why)
{
    struct err_detail cause = {0};
    struct bytes_view *files = calloc(response->n_files + 1, sizeof(*files));
    if (files == NULL) {
        return ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < response->n_files; i++) {
        files[i] = bytes_view_of(response->files[i].data, response->files[i].len);
    }
    enum err err = rpc_schema_new(files, response->n_files, out, &cause);
    free(files);
    if (err != ERR_OK) {
        return err_fail(why, err, "what the server says of itself is of no use: %s", err_message(&cause, err));
    }
    return ERR_OK;
}

// fetch asks for the descriptors of a name. The schema is the caller's to free, and the symbol is part of it.
static enum err
fetch(struct fc_session *session, const char *name, uint32_t timeout_ms, struct rpc_schema **schema_out,
    const struct rpc_symbol **symbol_out, struct err_detail *why)
{
    char symbol[RPC_SYMBOL_MAX_BYTES + 1];
    Fc__Rpc__V1__GetDescriptorsRequest request = FC__RPC__V1__GET_DESCRIPTORS_REQUEST__INIT;
    struct rpc_unary call;
    const Fc__Rpc__V1__GetDescriptorsResponse *response = NULL;
    if (name[0] == '\0' || strlen(name) > RPC_SYMBOL_MAX_BYTES || !text_is_utf8(bytes_view_of_text(name))) {
        return err_fail(why, ERR_INVALID, "\"%s\" is no name; one is written as in fc.chat.v1.Chat/Send", name);
    }
    strcpy(symbol, name);
    request.symbol = symbol;
    fc_rpc_v1_reflection_init(&call, fc_session_channel(session));
    call.timeout_ms = timeout_ms != 0 ? timeout_ms : call.timeout_ms;
    enum err err =
        fc_reflect_explain(&call.status, fc_rpc_v1_reflection_get_descriptors(&call, &request, &response), why);
    if (err == ERR_OK) {
        err = read_schema(response, schema_out, why);
    }
    rpc_unary_deinit(&call);
    if (err != ERR_OK) {
        return err;
    }
    *symbol_out = rpc_schema_find(*schema_out, name);
    if (*symbol_out == NULL) {
        rpc_schema_free(schema_out);
        return err_fail(why, ERR_PROTOCOL, "the server describes other things than \"%s\", which it was asked for",
            name);
    }
    return ERR_OK;
}

// --- Calling --------------------------------------------------------------------------------------------------------

static enum err
check_method(const struct rpc_symbol *symbol, const char *name, struct err_detail *why)
{
    if (symbol->kind != RPC_SYMBOL_METHOD || strchr(name, '/') == NULL) {
        return err_fail(why, ERR_INVALID, "\"%s\" is no method; one is written as in fc.chat.v1.Chat/Send", name);
    }
    return ERR_OK;
}

enum err
fc_reflect_show(const struct fc_reflect_call *call, const struct rpc_schema_message *type, struct bytes_view encoded,
    struct err_detail *why)
{
    struct err_detail cause = {0};
    struct bytes json = {0};
    enum err err = rpc_json_from_wire(type, encoded, call->with_defaults, &json, &cause);
    if (err == ERR_OK) {
        err = call->on_response(call->context, bytes_as_view(&json), why);
    } else {
        err = err_fail(why, err, "the answer cannot be shown: %s", err_message(&cause, err));
    }
    bytes_free_secret(&json); // such as a token
    return err;
}

static enum err
call_unary(struct fc_session *session, const struct fc_reflect_call *request, const struct rpc_schema_method *method,
    struct err_detail *why)
{
    struct bytes encoded = {0};
    struct rpc_unary call;
    enum err err = rpc_json_to_wire(method->input, request->json, &encoded, why);
    if (err == ERR_OK) {
        rpc_unary_init(&call, fc_session_channel(session), NULL);
        call.timeout_ms = request->timeout_ms != 0 ? request->timeout_ms : call.timeout_ms;
        rpc_unary_start_raw(&call, request->method, bytes_as_view(&encoded));
        err = fc_reflect_explain(&call.status, rpc_unary_wait(&call), why);
        if (err == ERR_OK) {
            err = fc_reflect_show(request, method->output, rpc_unary_raw_response(&call), why);
        }
        rpc_unary_deinit(&call);
    }
    bytes_free_secret(&encoded); // a request may hold any secret
    return err;
}

enum err
fc_reflect_call(struct fc_session *session, const struct fc_reflect_call *call, struct err_detail *why)
{
    struct rpc_schema *schema = NULL;
    const struct rpc_symbol *symbol = NULL;
    enum err err = fetch(session, call->method, call->timeout_ms, &schema, &symbol, why);
    if (symbol == NULL) {
        return err;
    }
    err = check_method(symbol, call->method, why);
    if (err == ERR_OK) {
        const Google__Protobuf__MethodDescriptorProto *descriptor = symbol->method->descriptor;
        bool is_stream = descriptor->client_streaming || descriptor->server_streaming;
        err = is_stream ? fc_reflect_stream(session, call, symbol->method, why)
                        : call_unary(session, call, symbol->method, why);
    }
    rpc_schema_free(&schema);
    return err;
}

// --- Describing -----------------------------------------------------------------------------------------------------

static enum err
list_services(struct fc_session *session, struct bytes *out, struct err_detail *why)
{
    Fc__Rpc__V1__ListServicesRequest request = FC__RPC__V1__LIST_SERVICES_REQUEST__INIT;
    struct rpc_unary call;
    const Fc__Rpc__V1__ListServicesResponse *response = NULL;
    fc_rpc_v1_reflection_init(&call, fc_session_channel(session));
    enum err err =
        fc_reflect_explain(&call.status, fc_rpc_v1_reflection_list_services(&call, &request, &response), why);
    for (size_t i = 0; err == ERR_OK && i < response->n_services; i++) {
        err = text_append_printable(out, bytes_view_of_text(response->services[i]), false);
        if (err == ERR_OK) {
            err = bytes_append(out, bytes_view_of_text("\n"));
        }
    }
    rpc_unary_deinit(&call);
    return err;
}

enum err
fc_reflect_describe(struct fc_session *session, const char *name, struct bytes *out, struct err_detail *why)
{
    struct rpc_schema *schema = NULL;
    const struct rpc_symbol *symbol = NULL;
    if (name == NULL) {
        return list_services(session, out, why);
    }
    enum err err = fetch(session, name, 0, &schema, &symbol, why);
    if (err == ERR_OK) {
        err = fc_reflect_print(schema, symbol, out);
    }
    rpc_schema_free(&schema);
    return err;
}
