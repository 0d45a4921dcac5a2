// Calling and describing whatever a server offers, without generated code: through its fc.rpc.v1.Reflection. All
// functions block, and any thread may call them.
#ifndef CLIENT_FC_REFLECT_H
#define CLIENT_FC_REFLECT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "client/fc_session.h"

// fc_reflect_response_fn takes a response as JSON on one line, without the end of the line. An error ends the call.
typedef enum err fc_reflect_response_fn(void *context, struct bytes_view json, struct err_detail *why);

struct fc_reflect_call {
    const char *method;     // "package.Service/Method"
    struct bytes_view json; // the request, as the JSON mapping of protobuf has it; of a method that streams its
                            // requests each line that is not empty is one
    uint32_t timeout_ms;    // 0: the default of calls; for all of a stream
    bool with_defaults;     // responses show fields that have their default values
    fc_reflect_response_fn *on_response; // for each response, as it comes
    void *context;
};

// fc_reflect_call asks the server what the method takes, and calls it. ERR_INVALID: a request does not fit the method,
// or is no JSON, and nothing was sent; ERR_NOT_FOUND: there is no such method. What the server answers comes as "CODE:
// message" in `why`, under the error that stands for the code.
enum err fc_reflect_call(struct fc_session *session, const struct fc_reflect_call *call,
    struct err_detail *why) ERR_CHECKED;

// fc_reflect_describe appends what the server says of a service, method, message or enum as the text of a .proto file,
// or without a name (NULL) the names of its services, a line each. The text may be shown on a terminal.
// ERR_NOT_FOUND.
enum err fc_reflect_describe(struct fc_session *session, const char *name, struct bytes *out,
    struct err_detail *why) ERR_CHECKED;

#endif
