// fc-gen writes the typed calls of .proto files. Of each FILE it takes what DESCRIPTORS, a FileDescriptorSet with
// comments, says of its services, and makes a header of static inline functions below FOLDER: fc/chat/v1/chat.proto
// becomes fc/chat/v1/chat.stub.h, beside the chat.pb-c.h on which it builds.
//
// Of each service:
//
//     void fc_chat_v1_chat_init(struct rpc_unary *call, struct rpc_channel *channel);
//
// and of each of its methods whose request and response are one message each:
//
//     enum err fc_chat_v1_chat_send(struct rpc_unary *call, const Fc__Chat__V1__SendRequest *request,
//         const Fc__Chat__V1__SendResponse **response_out);
//     void fc_chat_v1_chat_send_start(struct rpc_unary *call, const Fc__Chat__V1__SendRequest *request);
//     const Fc__Chat__V1__SendResponse *fc_chat_v1_chat_send_response(const struct rpc_unary *call);
//
// The descriptors come from protoc, so they are believed. Exits with 0, or 1 after a line on stderr.
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fc/rpc/descriptor.pb-c.h"

typedef Google__Protobuf__FileDescriptorSet file_set;
typedef Google__Protobuf__FileDescriptorProto proto_file;
typedef Google__Protobuf__ServiceDescriptorProto proto_service;
typedef Google__Protobuf__MethodDescriptorProto proto_method;
typedef Google__Protobuf__SourceCodeInfo__Location proto_location;

enum {
    NAME_MAX_BYTES = 1024, // of a name in C, with its NUL
};

// Field numbers in descriptor.proto, of which the path of a location consists.
enum path_number {
    PATH_FILE_SERVICE = 6,
    PATH_SERVICE_METHOD = 2,
};

// What is written of a method depends on which sides of it stream.
enum shape {
    SHAPE_UNARY,
    SHAPE_STREAM, // at least one side does
};

// A stub is the header that is being written.
struct stub {
    FILE *out;
    const proto_file *file;
    char **names; // of its functions
    size_t name_count;
};

// The names that protoc-c and this program give to a service.
struct service_names {
    char full[NAME_MAX_BYTES];   // fc.chat.v1.Chat
    char proto[NAME_MAX_BYTES];  // fc__chat__v1__chat, of the functions by protoc-c
    char prefix[NAME_MAX_BYTES]; // fc_chat_v1_chat, of the functions here
};

static _Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

static _Noreturn void
die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)fputs("fc-gen: ", stderr);
    (void)vfprintf(stderr, format, arguments);
    (void)fputs("\n", stderr);
    va_end(arguments);
    exit(1);
}

static void format_name(char out[NAME_MAX_BYTES], const char *format, ...) __attribute__((format(printf, 2, 3)));

static void
format_name(char out[NAME_MAX_BYTES], const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(out, NAME_MAX_BYTES, format, arguments);
    va_end(arguments);
    if (size < 0 || size >= NAME_MAX_BYTES) {
        die("a name is too long: %s", out);
    }
}

// --- Names in C, as protoc-c makes them -----------------------------------------------------------------------------

static bool
is_upper(char c)
{
    return c >= 'A' && c <= 'Z';
}

static void
append(char out[NAME_MAX_BYTES], size_t *size, char c)
{
    if (*size + 1 >= NAME_MAX_BYTES) {
        die("a name is too long: %s", out);
    }
    out[(*size)++] = c;
    out[*size] = '\0';
}

// lower_name: fc.filestore.v1.FileStore becomes fc__filestore__v1__file_store. A capital that follows another begins no
// word: WhoAmIRequest is who_am_irequest.
static void
lower_name(const char *name, const char *separator, char out[NAME_MAX_BYTES])
{
    size_t size = 0;
    bool was_upper = true; // nothing stands before the first word
    out[0] = '\0';
    for (; *name != '\0'; name++) {
        if (*name == '.') {
            for (const char *s = separator; *s != '\0'; s++) {
                append(out, &size, *s);
            }
            was_upper = true;
            continue;
        }
        if (is_upper(*name) && !was_upper) {
            append(out, &size, '_');
        }
        append(out, &size, is_upper(*name) ? (char)(*name - 'A' + 'a') : *name);
        was_upper = is_upper(*name);
    }
}

// type_name: .fc.chat.v1.SendRequest becomes Fc__Chat__V1__SendRequest.
static void
type_name(const char *name, char out[NAME_MAX_BYTES])
{
    size_t size = 0;
    bool is_start = true;
    out[0] = '\0';
    for (name += name[0] == '.'; *name != '\0'; name++) {
        if (*name == '.') {
            append(out, &size, '_');
            append(out, &size, '_');
            is_start = true;
        } else if (*name == '_') {
            is_start = true;
        } else {
            append(out, &size, is_start && *name >= 'a' && *name <= 'z' ? (char)(*name - 'a' + 'A') : *name);
            is_start = false;
        }
    }
}

// add_function notes a function and stops when there is one of this name already: a method Send with one SendStart
// beside it, or one with the name Init.
static void
add_function(struct stub *stub, const char *name)
{
    for (size_t i = 0; i < stub->name_count; i++) {
        if (strcmp(stub->names[i], name) == 0) {
            die("%s: two of its functions would be %s", stub->file->name, name);
        }
    }
    char **larger = realloc(stub->names, (stub->name_count + 1) * sizeof(*larger));
    if (larger != NULL) {
        stub->names = larger;
        larger[stub->name_count] = strdup(name);
    }
    if (larger == NULL || larger[stub->name_count] == NULL) {
        die("out of memory");
    }
    stub->name_count++;
}

// --- Writing --------------------------------------------------------------------------------------------------------

static void write_text(struct stub *stub, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void
write_text(struct stub *stub, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vfprintf(stub->out, format, arguments); // the stream remembers; close_stub looks
    va_end(arguments);
}

static const char *
find_comment(const proto_file *file, const int32_t *path, size_t path_size)
{
    const Google__Protobuf__SourceCodeInfo *source = file->source_code_info;
    for (size_t i = 0; source != NULL && i < source->n_location; i++) {
        const proto_location *location = source->location[i];
        if (location->n_path == path_size && memcmp(location->path, path, path_size * sizeof(path[0])) == 0) {
            return location->leading_comments;
        }
    }
    return "";
}

// write_comment writes the comment of a place in the .proto file, as it stands there.
static void
write_comment(struct stub *stub, const int32_t *path, size_t path_size)
{
    const char *line = find_comment(stub->file, path, path_size);
    while (*line != '\0') {
        size_t size = strcspn(line, "\n");
        const char *next = line + size + (line[size] != '\0');
        // A backslash at the end would make code a part of the comment.
        while (size > 0 && strchr(" \t\r\\", line[size - 1]) != NULL) {
            size--;
        }
        write_text(stub, "//%s%.*s\n", size > 0 && line[0] != ' ' ? " " : "", (int)size, line);
        line = next;
    }
}

static enum shape
shape_of(const proto_method *method)
{
    return method->client_streaming || method->server_streaming ? SHAPE_STREAM : SHAPE_UNARY;
}

static void
write_unary(struct stub *stub, const struct service_names *service, const proto_method *method)
{
    char input[NAME_MAX_BYTES];
    char output[NAME_MAX_BYTES];
    char word[NAME_MAX_BYTES];
    char name[NAME_MAX_BYTES];
    char start[NAME_MAX_BYTES];
    char response[NAME_MAX_BYTES];
    type_name(method->input_type, input);
    type_name(method->output_type, output);
    lower_name(method->name, "", word);
    format_name(name, "%s_%s", service->prefix, word);
    format_name(start, "%s_start", name);
    format_name(response, "%s_response", name);
    add_function(stub, name);
    add_function(stub, start);
    add_function(stub, response);
    write_text(stub, "ERR_CHECKED static inline enum err\n%s(struct rpc_unary *call, const %s *request,\n", name,
        input);
    write_text(stub, "    const %s **response_out)\n{\n", output);
    write_text(stub, "    %s__%s(&call->service, request, NULL, NULL);\n", service->proto, word);
    write_text(stub, "    enum err err = rpc_unary_wait(call);\n");
    write_text(stub, "    if (err == ERR_OK && response_out != NULL) {\n");
    write_text(stub, "        *response_out = rpc_unary_response(call);\n    }\n    return err;\n}\n\n");
    write_text(stub, "static inline void\n%s(struct rpc_unary *call, const %s *request)\n{\n", start, input);
    write_text(stub, "    %s__%s(&call->service, request, NULL, NULL);\n}\n\n", service->proto, word);
    write_text(stub, "static inline const %s *\n%s(const struct rpc_unary *call)\n{\n", output, response);
    write_text(stub, "    return rpc_unary_response(call);\n}\n");
}

static void
write_stream(struct stub *stub, const struct service_names *service, const proto_method *method)
{
    char input[NAME_MAX_BYTES];
    char output[NAME_MAX_BYTES];
    char output_lower[NAME_MAX_BYTES];
    char word[NAME_MAX_BYTES];
    char name[NAME_MAX_BYTES];
    char function[NAME_MAX_BYTES];
    type_name(method->input_type, input);
    type_name(method->output_type, output);
    lower_name(method->output_type + 1, "__", output_lower); // without the '.' that it begins with
    lower_name(method->name, "", word);
    format_name(name, "%s_%s", service->prefix, word);
    format_name(function, "%s_init", name);
    add_function(stub, function);
    write_text(stub, "static inline void\n%s(struct rpc_client_stream *stream, struct rpc_channel *channel)\n{\n",
        function);
    write_text(stub, "    rpc_client_stream_init(stream, channel, &%s__descriptor);\n}\n\n", output_lower);
    format_name(function, "%s_open", name);
    add_function(stub, function);
    if (method->client_streaming) {
        write_text(stub, "static inline void\n%s(struct rpc_client_stream *stream)\n{\n", function);
        write_text(stub, "    rpc_client_stream_open(stream, \"%s/%s\");\n}\n\n", service->full, method->name);
        format_name(function, "%s_send", name);
        add_function(stub, function);
        write_text(stub,
            "ERR_CHECKED static inline enum err\n%s(struct rpc_client_stream *stream, const %s *message)\n{\n",
            function, input);
        write_text(stub, "    return rpc_client_stream_send(stream, &message->base);\n}\n\n");
    } else {
        write_text(stub, "static inline void\n%s(struct rpc_client_stream *stream, const %s *request)\n{\n", function,
            input);
        write_text(stub, "    rpc_client_stream_open_with(stream, \"%s/%s\", &request->base);\n}\n\n", service->full,
            method->name);
    }
    format_name(function, "%s_receive", name);
    add_function(stub, function);
    write_text(stub,
        "ERR_CHECKED static inline enum err\n%s(struct rpc_client_stream *stream, const %s **message_out)\n{\n",
        function, output);
    write_text(stub, "    const void *message = NULL;\n");
    write_text(stub, "    enum err err = rpc_client_stream_receive(stream, &message);\n");
    write_text(stub, "    if (err == ERR_OK) {\n        *message_out = message;\n    }\n    return err;\n}\n");
}

static void
write_service(struct stub *stub, size_t index)
{
    const proto_service *service = stub->file->service[index];
    struct service_names names;
    char init[NAME_MAX_BYTES];
    int32_t path[] = {PATH_FILE_SERVICE, (int32_t)index, PATH_SERVICE_METHOD, 0};
    format_name(names.full, "%s%s%s", stub->file->package, stub->file->package[0] != '\0' ? "." : "", service->name);
    lower_name(names.full, "__", names.proto);
    lower_name(names.full, "_", names.prefix);
    format_name(init, "%s_init", names.prefix);
    add_function(stub, init);
    write_text(stub, "\n// --- %s ---\n\n", names.full);
    write_comment(stub, path, 2);
    write_text(stub, "static inline void\n%s(struct rpc_unary *call, struct rpc_channel *channel)\n{\n", init);
    write_text(stub, "    rpc_unary_init(call, channel, &%s__descriptor);\n}\n", names.proto);
    for (size_t i = 0; i < service->n_method; i++) {
        const proto_method *method = service->method[i];
        path[3] = (int32_t)i;
        write_text(stub, "\n");
        write_comment(stub, path, 4);
        switch (shape_of(method)) {
        case SHAPE_UNARY:
            write_unary(stub, &names, method);
            break;
        case SHAPE_STREAM:
            write_stream(stub, &names, method);
            break;
        }
    }
}

// write_head: how the functions are used stands once in the header. The example is a method of the file itself.
static void
write_head(struct stub *stub, const char *stem)
{
    char guard[NAME_MAX_BYTES];
    format_name(guard, "%s_STUB_H", stem);
    for (char *c = guard; *c != '\0'; c++) {
        bool is_digit = *c >= '0' && *c <= '9';
        *c = *c >= 'a' && *c <= 'z' ? (char)(*c - 'a' + 'A') : is_upper(*c) || is_digit ? *c : '_';
    }
    write_text(stub, "// Typed calls of the services in %s. Generated: do not edit.\n//\n", stub->file->name);
    write_text(stub,
        "// Calls are those of rpc/rpc_channel.h. A service's _init prepares one; then its public fields may be set, "
        "as\n"
        "// timeout_ms or is_idempotent; then one of the functions of a method starts it; rpc_unary_deinit frees it.\n"
        "//   METHOD           waits for the end, as rpc_unary_wait: not in a callback, and not with on_done. After "
        "success\n"
        "//                    *response_out, unless NULL, is the response, which belongs to the call; after a "
        "failure\n"
        "//                    call->status explains.\n"
        "//   METHOD_start     only starts the call: on_done or rpc_unary_wait follows. The request is no longer "
        "needed.\n"
        "//   METHOD_response  is the response of a call that was started, after success; else NULL.\n"
        "//\n"
        "// A method that streams has functions of its own, for the streams of rpc/rpc_client_stream.h:\n"
        "//   METHOD_init      prepares a stream, whose public fields may then be set.\n"
        "//   METHOD_open      begins the call; with the request, if only the responses are streamed.\n"
        "//   METHOD_send, METHOD_receive   are rpc_client_stream_send and _receive with the types of the method.\n");
    write_text(stub, "#ifndef %s\n#define %s\n\n", guard, guard);
    write_text(stub, "#include <stddef.h>\n\n#include \"base/err.h\"\n#include \"rpc/rpc_channel.h\"\n#include "
                     "\"rpc/rpc_client_stream.h\"\n\n");
    write_text(stub, "#include \"%s.pb-c.h\"\n", stem);
}

static void
write_tail(struct stub *stub)
{
    write_text(stub, "\n#endif\n");
}

static void
write_stub(const char *folder, const proto_file *file)
{
    char stem[NAME_MAX_BYTES];
    char path[PATH_MAX];
    struct stub stub = {.file = file};
    format_name(stem, "%s", file->name);
    char *dot = strrchr(stem, '.');
    if (dot != NULL && strcmp(dot, ".proto") == 0) {
        *dot = '\0';
    }
    if (snprintf(path, sizeof(path), "%s/%s.stub.h", folder, stem) >= (int)sizeof(path)) {
        die("a path is too long: %s", path);
    }
    stub.out = fopen(path, "w");
    if (stub.out == NULL) {
        die("cannot write %s: %s", path, strerror(errno));
    }
    write_head(&stub, stem);
    for (size_t i = 0; i < file->n_service; i++) {
        write_service(&stub, i);
    }
    write_tail(&stub);
    bool has_failed = ferror(stub.out) != 0;
    if (fclose(stub.out) != 0 || has_failed) {
        die("cannot write %s", path);
    }
    for (size_t i = 0; i < stub.name_count; i++) {
        free(stub.names[i]);
    }
    free(stub.names);
}

// --- Reading --------------------------------------------------------------------------------------------------------

static file_set *
read_descriptors(const char *path)
{
    uint8_t *bytes = NULL;
    size_t size = 0;
    size_t capacity = 0;
    size_t got = 0;
    FILE *in = fopen(path, "rb");
    if (in == NULL) {
        die("cannot read %s: %s", path, strerror(errno));
    }
    do {
        capacity = 2 * capacity + BUFSIZ;
        uint8_t *larger = realloc(bytes, capacity);
        if (larger == NULL) {
            die("out of memory");
        }
        bytes = larger;
        got = fread(bytes + size, 1, capacity - size, in);
        size += got;
    } while (size == capacity);
    if (ferror(in) != 0) {
        die("cannot read %s", path);
    }
    (void)fclose(in);
    file_set *set = google__protobuf__file_descriptor_set__unpack(NULL, size, bytes);
    free(bytes);
    if (set == NULL) {
        die("%s holds no descriptors", path);
    }
    return set;
}

// find_file returns what the caller frees. The files of a set are encoded once more.
static proto_file *
find_file(const file_set *set, const char *name)
{
    for (size_t i = 0; i < set->n_file; i++) {
        proto_file *file = google__protobuf__file_descriptor_proto__unpack(NULL, set->file[i].len, set->file[i].data);
        if (file == NULL) {
            die("there are descriptors that cannot be read");
        }
        if (strcmp(file->name, name) == 0) {
            return file;
        }
        google__protobuf__file_descriptor_proto__free_unpacked(file, NULL);
    }
    die("there are no descriptors of %s", name);
}

int
main(int argc, char **argv)
{
    if (argc < 4) {
        die("usage: fc-gen DESCRIPTORS FOLDER FILE...");
    }
    file_set *set = read_descriptors(argv[1]);
    for (int i = 3; i < argc; i++) {
        proto_file *file = find_file(set, argv[i]);
        write_stub(argv[2], file);
        google__protobuf__file_descriptor_proto__free_unpacked(file, NULL);
    }
    google__protobuf__file_descriptor_set__free_unpacked(set, NULL);
    return 0;
}
