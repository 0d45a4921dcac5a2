// Descriptors as the text of a .proto file. Names have been checked by rpc_schema; comments and strings are a server's
// words, and made printable.
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "client/fc_reflect_priv.h"

typedef Google__Protobuf__SourceCodeInfo__Location location;

enum {
    INDENT_SPACES = 2,
    LINE_MAX_BYTES = 4 * (RPC_SYMBOL_MAX_BYTES + 1), // a line of ours: up to three full names and what is between
    // Field numbers in descriptor.proto, for the last step of a path.
    PATH_MESSAGE_FIELD = 2,
    PATH_MESSAGE_ONEOF = 8,
    PATH_ENUM_VALUE = 2,
    PATH_SERVICE_METHOD = 2,
};

// A description being written. The first failure sticks.
struct printer {
    const struct rpc_schema *schema;
    const struct rpc_symbol *symbol;
    const location **locations; // of the symbol's file, sorted by path
    size_t location_count;
    struct bytes *out;
    size_t depth;
    enum err code;
};

// --- Comments -------------------------------------------------------------------------------------------------------

static int
compare_locations(const void *a, const void *b)
{
    const location *const *left = a;
    const location *const *right = b;
    for (size_t i = 0; i < (*left)->n_path && i < (*right)->n_path; i++) {
        if ((*left)->path[i] != (*right)->path[i]) {
            return (*left)->path[i] < (*right)->path[i] ? -1 : 1;
        }
    }
    return (*left)->n_path < (*right)->n_path ? -1 : (*left)->n_path > (*right)->n_path;
}

static enum err
sort_locations(struct printer *printer)
{
    const Google__Protobuf__SourceCodeInfo *info =
        rpc_schema_file_at(printer->schema, printer->symbol->file)->source_code_info;
    size_t count = info != NULL ? info->n_location : 0;
    printer->locations = calloc(count + 1, sizeof(*printer->locations));
    if (printer->locations == NULL) {
        return ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < count; i++) {
        printer->locations[i] = info->location[i];
    }
    printer->location_count = count;
    qsort(printer->locations, count, sizeof(*printer->locations), compare_locations);
    return ERR_OK;
}

// find_location looks for the comments of a part of the symbol, or (number 0) of the symbol itself.
static const location *
find_location(const struct printer *printer, int32_t number, size_t index)
{
    int32_t path[2 * RPC_NESTING_MAX_DEPTH + 2];
    size_t size = printer->symbol->path_size;
    memcpy(path, printer->symbol->path, size * sizeof(path[0]));
    if (number != 0) {
        path[size++] = number;
        path[size++] = (int32_t)index;
    }
    location key = GOOGLE__PROTOBUF__SOURCE_CODE_INFO__LOCATION__INIT;
    key.path = path;
    key.n_path = size;
    const location *at = &key;
    const location **found = bsearch(&at, printer->locations, printer->location_count, sizeof(at), compare_locations);
    return found != NULL ? *found : NULL;
}

// --- Text -----------------------------------------------------------------------------------------------------------

static void
add(struct printer *printer, struct bytes_view text)
{
    if (printer->code == ERR_OK) {
        printer->code = bytes_append(printer->out, text);
    }
}

static void
indent(struct printer *printer)
{
    for (size_t i = 0; i < printer->depth * INDENT_SPACES; i++) {
        add(printer, bytes_view_of_text(" "));
    }
}

static void line(struct printer *printer, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void
line(struct printer *printer, const char *format, ...)
{
    char text[LINE_MAX_BYTES];
    va_list arguments;
    va_start(arguments, format);
    // NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): it has been started in the line above.
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    indent(printer);
    add(printer, bytes_view_of_text(text));
    add(printer, bytes_view_of_text("\n"));
}

// comment writes each line of a comment, which has kept the space after its slashes.
static void
comment(struct printer *printer, const char *text)
{
    while (*text != '\0') {
        size_t size = strcspn(text, "\n");
        indent(printer);
        add(printer, bytes_view_of_text("//"));
        if (printer->code == ERR_OK) {
            printer->code = text_append_printable(printer->out, bytes_view_of(text, size), false);
        }
        add(printer, bytes_view_of_text("\n"));
        text += size + (text[size] == '\n');
    }
}

// comments writes what stands before and after a part in its file, all of it in front.
static void
comments(struct printer *printer, int32_t number, size_t index)
{
    const location *found = find_location(printer, number, index);
    if (found != NULL) {
        comment(printer, found->leading_comments);
        comment(printer, found->trailing_comments);
    }
}

// --- Messages and enums ---------------------------------------------------------------------------------------------

static const char *
type_name(const struct rpc_schema_field *field)
{
    static const char *const names[] = {
        [GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_DOUBLE] = "double",
        [GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_FLOAT] = "float",
        [GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_INT64] = "int64",
        [GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_UINT64] = "uint64",
        [GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_INT32] = "int32",
        [GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_FIXED64] = "fixed64",
        [GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_FIXED32] = "fixed32",
        [GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_BOOL] = "bool",
        [GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_STRING] = "string",
        [GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_BYTES] = "bytes",
        [GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_UINT32] = "uint32",
        [GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_SFIXED32] = "sfixed32",
        [GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_SFIXED64] = "sfixed64",
        [GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_SINT32] = "sint32",
        [GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_SINT64] = "sint64",
    };
    if (field->message != NULL) {
        return field->message->name;
    }
    return field->enumeration != NULL ? field->enumeration->name : names[field->type];
}

static const char *
label_of(const struct rpc_schema_field *field)
{
    if (field->is_repeated) {
        return "repeated ";
    }
    if (field->descriptor->label == GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__LABEL__LABEL_REQUIRED) {
        return "required ";
    }
    bool is_plain =
        field->oneof >= 0 || !field->has_presence || (field->message != NULL && !field->descriptor->proto3_optional);
    return is_plain ? "" : "optional ";
}

static void
print_field(struct printer *printer, const struct rpc_schema_field *field, size_t index)
{
    comments(printer, PATH_MESSAGE_FIELD, index);
    if (field->message != NULL && field->message->is_map_entry) {
        line(printer, "map<%s, %s> %s = %" PRIu32 ";", type_name(&field->message->fields[0]),
            type_name(&field->message->fields[1]), field->name, field->number);
    } else {
        line(printer, "%s%s %s = %" PRIu32 ";", label_of(field), type_name(field), field->name, field->number);
    }
}

// print_fields writes the fields in the order of the file; those of a oneof stand together there.
static void
print_fields(struct printer *printer, const struct rpc_schema_message *message)
{
    const Google__Protobuf__DescriptorProto *descriptor = message->descriptor;
    int oneof = -1;
    for (size_t i = 0; i <= descriptor->n_field; i++) {
        const struct rpc_schema_field *field =
            i < descriptor->n_field ? rpc_schema_field_by_number(message, (uint32_t)descriptor->field[i]->number)
                                    : NULL;
        int next = field != NULL ? field->oneof : -1;
        if (oneof >= 0 && next != oneof) {
            printer->depth--;
            line(printer, "}");
        }
        if (next >= 0 && next != oneof) {
            comments(printer, PATH_MESSAGE_ONEOF, (size_t)next);
            line(printer, "oneof %s {", descriptor->oneof_decl[next]->name);
            printer->depth++;
        }
        oneof = next;
        if (field != NULL) {
            print_field(printer, field, i);
        }
    }
}

static void
print_message(struct printer *printer, const struct rpc_schema_message *message)
{
    line(printer, "message %s {", message->name);
    printer->depth++;
    print_fields(printer, message);
    printer->depth--;
    line(printer, "}");
}

static void
print_enum(struct printer *printer, const struct rpc_schema_enum *enumeration)
{
    line(printer, "enum %s {", enumeration->name);
    printer->depth++;
    for (size_t i = 0; i < enumeration->descriptor->n_value; i++) {
        comments(printer, PATH_ENUM_VALUE, i);
        line(printer, "%s = %" PRId32 ";", enumeration->descriptor->value[i]->name,
            enumeration->descriptor->value[i]->number);
    }
    printer->depth--;
    line(printer, "}");
}

// --- Services -------------------------------------------------------------------------------------------------------

static void
print_method(struct printer *printer, const Google__Protobuf__MethodDescriptorProto *method)
{
    // References begin with a dot.
    line(printer, "rpc %s(%s%s) returns (%s%s);", method->name, method->client_streaming ? "stream " : "",
        method->input_type + 1, method->server_streaming ? "stream " : "", method->output_type + 1);
}

static void
print_service(struct printer *printer, const Google__Protobuf__ServiceDescriptorProto *service)
{
    line(printer, "service %s {", printer->symbol->name);
    printer->depth++;
    for (size_t i = 0; i < service->n_method; i++) {
        comments(printer, PATH_SERVICE_METHOD, i);
        print_method(printer, service->method[i]);
    }
    printer->depth--;
    line(printer, "}");
}

// print_method_whole adds the messages of a method, which somebody who asks for it wants to fill in.
static void
print_method_whole(struct printer *printer)
{
    const struct rpc_schema_method *method = printer->symbol->method;
    print_method(printer, method->descriptor);
    const char *names[] = {method->input->name, method->output->name};
    size_t count = method->input == method->output ? 1 : 2;
    for (size_t i = 0; i < count && printer->code == ERR_OK; i++) {
        add(printer, bytes_view_of_text("\n"));
        if (printer->code == ERR_OK) {
            printer->code = fc_reflect_print(printer->schema, rpc_schema_find(printer->schema, names[i]), printer->out);
        }
    }
}

enum err
fc_reflect_print(const struct rpc_schema *schema, const struct rpc_symbol *symbol, struct bytes *out)
{
    struct printer printer = {.schema = schema, .symbol = symbol, .out = out};
    printer.code = sort_locations(&printer);
    if (printer.code == ERR_OK) {
        comments(&printer, 0, 0);
        switch (symbol->kind) {
        case RPC_SYMBOL_MESSAGE:
            print_message(&printer, symbol->message);
            break;
        case RPC_SYMBOL_ENUM:
            print_enum(&printer, symbol->enumeration);
            break;
        case RPC_SYMBOL_SERVICE:
            print_service(&printer, symbol->service);
            break;
        case RPC_SYMBOL_METHOD:
            print_method_whole(&printer);
            break;
        }
    }
    free(printer.locations);
    return printer.code;
}
