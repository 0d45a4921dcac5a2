// What .proto files define, read from their descriptors at run time: for calls, JSON and descriptions without generated
// code. Descriptors from a server are not trusted: every name, number and reference has been checked when
// rpc_schema_new returns.
#ifndef RPC_SCHEMA_H
#define RPC_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "rpc/rpc_limits.h"

#include "fc/rpc/descriptor.pb-c.h"

// A schema owns everything that can be reached from it. It does not change, so any thread may read it.
struct rpc_schema;
struct rpc_schema_message;

typedef Google__Protobuf__FileDescriptorProto rpc_schema_file;
typedef Google__Protobuf__FieldDescriptorProto__Type rpc_schema_type;

struct rpc_schema_enum {
    const char *name; // full
    const Google__Protobuf__EnumDescriptorProto *descriptor;
    size_t name_count;
    Google__Protobuf__EnumValueDescriptorProto ***by_name; // places in descriptor->value, sorted
    size_t number_count;
    Google__Protobuf__EnumValueDescriptorProto ***by_number; // of several with one number only the first
};

struct rpc_schema_field {
    const char *name;
    const char *json_name;
    uint32_t number;
    rpc_schema_type type;
    bool is_repeated;                          // also a map
    bool is_packed;                            // as an encoder writes it; a decoder takes both forms
    bool has_presence;                         // its default value differs from its absence
    int oneof;                                 // index of the oneof that it is in, or -1
    const struct rpc_schema_message *message;  // of TYPE_MESSAGE
    const struct rpc_schema_enum *enumeration; // of TYPE_ENUM
    const Google__Protobuf__FieldDescriptorProto *descriptor;
};

struct rpc_schema_message {
    const char *name; // full
    const Google__Protobuf__DescriptorProto *descriptor;
    bool is_map_entry; // then field 1 is the key, and field 2 the value
    size_t field_count;
    struct rpc_schema_field *fields; // in the order of their numbers
    const struct rpc_schema_field **by_name;
    const struct rpc_schema_field **by_json_name;
};

struct rpc_schema_method {
    const Google__Protobuf__MethodDescriptorProto *descriptor;
    const struct rpc_schema_message *input;
    const struct rpc_schema_message *output;
};

enum rpc_symbol_kind {
    RPC_SYMBOL_MESSAGE,
    RPC_SYMBOL_ENUM,
    RPC_SYMBOL_SERVICE,
    RPC_SYMBOL_METHOD,
};

// rpc_symbol is anything that has a full name.
struct rpc_symbol {
    const char *name; // "package.Service.Method"
    enum rpc_symbol_kind kind;
    size_t file;         // of rpc_schema_file_at
    const int32_t *path; // as SourceCodeInfo.Location.path has it
    size_t path_size;
    union {
        struct rpc_schema_message *message;
        struct rpc_schema_enum *enumeration;
        struct rpc_schema_method *method;
        const Google__Protobuf__ServiceDescriptorProto *service;
    };
};

// rpc_schema_new reads encoded FileDescriptorProtos. They are copied; each stands after those that it imports. Any
// fault is ERR_PROTOCOL with the reason; ERR_NO_MEMORY.
enum err rpc_schema_new(const struct bytes_view *files, size_t file_count, struct rpc_schema **out,
    struct err_detail *why) ERR_CHECKED;

// rpc_schema_find returns what has this full name, or NULL. '/' counts as '.', so that the name of a method may be
// written as in a call.
const struct rpc_symbol *rpc_schema_find(const struct rpc_schema *schema, const char *name);

const rpc_schema_file *rpc_schema_file_at(const struct rpc_schema *schema, size_t index);
size_t rpc_schema_file_count(const struct rpc_schema *schema);

// rpc_schema_type_is_packable: a list of them may be one value on the wire.
bool rpc_schema_type_is_packable(rpc_schema_type type);

// rpc_schema_field_by_number and _by_name return NULL when the message has no such field. A name may be the one of the
// .proto file or the one of JSON.
const struct rpc_schema_field *rpc_schema_field_by_number(const struct rpc_schema_message *message, uint32_t number);
const struct rpc_schema_field *rpc_schema_field_by_name(const struct rpc_schema_message *message, const char *name);

// rpc_schema_value_by_number and _by_name return NULL when the enum has no such value.
const Google__Protobuf__EnumValueDescriptorProto *rpc_schema_value_by_number(const struct rpc_schema_enum *enumeration,
    int32_t number);
const Google__Protobuf__EnumValueDescriptorProto *rpc_schema_value_by_name(const struct rpc_schema_enum *enumeration,
    const char *name);

void rpc_schema_free(struct rpc_schema **schema);

#endif
