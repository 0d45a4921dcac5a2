// The Reflection service. It hands out the descriptors that were embedded when the program was built, as they are.
//
// To find the file of a symbol they are read into a schema, when somebody asks for the first time: most servers are
// never asked. Workers enter; the mutex guards that one moment, after which everything is read only.
#include "rpc/rpc_reflection.h"

#include <fc_proto_rpc_descriptors.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "rpc/rpc_call.h"
#include "rpc/rpc_message.h"
#include "rpc/rpc_method_priv.h"
#include "rpc/rpc_schema.h"
#include "rpc/rpc_server.h"

#include "fc/rpc/v1/reflection.pb-c.h"

struct rpc_reflection {
    Fc__Rpc__V1__Reflection_Service service; // first

    // Immutable once the server listens.
    const struct rpc_method_table *methods;
    struct bytes_view *files; // encoded FileDescriptorProtos, borrowed, each after those that it imports
    size_t file_count;

    pthread_mutex_t mutex;
    struct {
        struct rpc_schema *schema; // NULL until somebody asks
    } locked;
};

// --- ListServices ---------------------------------------------------------------------------------------------------

static int
compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void
list_services(Fc__Rpc__V1__Reflection_Service *service, const Fc__Rpc__V1__ListServicesRequest *request,
    Fc__Rpc__V1__ListServicesResponse_Closure answer, void *closure_data)
{
    const struct rpc_method_table *methods = ((struct rpc_reflection *)service)->methods;
    Fc__Rpc__V1__ListServicesResponse response = FC__RPC__V1__LIST_SERVICES_RESPONSE__INIT;
    (void)request;
    char **names = calloc(methods->count + 1, sizeof(*names));
    if (names == NULL) {
        rpc_call_fail(closure_data, ERR_NO_MEMORY, "there is no memory for the names");
        return;
    }
    for (size_t i = 0; i < methods->slot_count; i++) {
        const struct rpc_method *method = methods->slots[i];
        if (method != NULL && method->index == 0) { // one for each service
            memcpy(&names[response.n_services++], &method->service->descriptor->name, sizeof(*names));
        }
    }
    qsort(names, response.n_services, sizeof(*names), compare_names);
    response.services = names;
    answer(&response, closure_data);
    free(names);
}

// --- GetDescriptors -------------------------------------------------------------------------------------------------

// get_schema returns NULL when there is no memory for it, or when the program was given descriptors that are not valid.
static const struct rpc_schema *
get_schema(struct rpc_reflection *reflection)
{
    struct err_detail why = {0};
    pthread_mutex_lock(&reflection->mutex);
    if (reflection->locked.schema == NULL) {
        enum err err = rpc_schema_new(reflection->files, reflection->file_count, &reflection->locked.schema, &why);
        if (err != ERR_OK) {
            log_error("RPC-REFLECTION-DESCRIPTORS", NULL, "the descriptors of this server's services are of no use: %s",
                err_message(&why, err));
        }
    }
    const struct rpc_schema *schema = reflection->locked.schema;
    pthread_mutex_unlock(&reflection->mutex);
    return schema;
}

static bool
imports(const rpc_schema_file *file, const char *name)
{
    for (size_t i = 0; i < file->n_dependency; i++) {
        if (strcmp(file->dependency[i], name) == 0) {
            return true;
        }
    }
    return false;
}

// select_files marks a file and what it imports, directly or not: since those stand before it, one pass finds them.
static void
select_files(const struct rpc_schema *schema, size_t wanted, bool *is_selected)
{
    is_selected[wanted] = true;
    for (size_t at = wanted; at > 0; at--) {
        if (!is_selected[at]) {
            continue;
        }
        for (size_t i = 0; i < at; i++) {
            is_selected[i] |= imports(rpc_schema_file_at(schema, at), rpc_schema_file_at(schema, i)->name);
        }
    }
}

static void
answer_with_files(const struct rpc_reflection *reflection, const struct rpc_schema *schema, size_t wanted,
    Fc__Rpc__V1__GetDescriptorsResponse_Closure answer, void *closure_data)
{
    Fc__Rpc__V1__GetDescriptorsResponse response = FC__RPC__V1__GET_DESCRIPTORS_RESPONSE__INIT;
    bool *is_selected = calloc(wanted + 1, sizeof(*is_selected));
    ProtobufCBinaryData *files = calloc(wanted + 1, sizeof(*files));
    if (is_selected == NULL || files == NULL) {
        rpc_call_fail(closure_data, ERR_NO_MEMORY, "there is no memory for the descriptors");
        goto out;
    }
    select_files(schema, wanted, is_selected);
    for (size_t i = 0; i <= wanted; i++) {
        if (is_selected[i]) {
            ProtobufCBinaryData *file = &files[response.n_files++];
            // Through memcpy, since the generated type has no const; encoding only reads.
            memcpy(&file->data, &reflection->files[i].data, sizeof(file->data));
            file->len = reflection->files[i].size;
        }
    }
    response.files = files;
    answer(&response, closure_data);
out:
    free(files);
    free(is_selected);
}

static void
get_descriptors(Fc__Rpc__V1__Reflection_Service *service, const Fc__Rpc__V1__GetDescriptorsRequest *request,
    Fc__Rpc__V1__GetDescriptorsResponse_Closure answer, void *closure_data)
{
    struct rpc_reflection *reflection = (struct rpc_reflection *)service;
    size_t size = strlen(request->symbol);
    if (size == 0 || size > RPC_SYMBOL_MAX_BYTES) {
        rpc_call_fail(closure_data, ERR_INVALID, "a symbol is a full name of 1 to %d bytes, and this one has %zu",
            RPC_SYMBOL_MAX_BYTES, size);
        return;
    }
    const struct rpc_schema *schema = get_schema(reflection);
    if (schema == NULL) {
        rpc_call_fail(closure_data, ERR_INTERNAL, "%s", err_sentence(ERR_INTERNAL));
        return;
    }
    const struct rpc_symbol *symbol = rpc_schema_find(schema, request->symbol);
    if (symbol == NULL) {
        rpc_call_fail(closure_data, ERR_NOT_FOUND, "this server knows no \"%s\"", request->symbol);
        return;
    }
    answer_with_files(reflection, schema, symbol->file, answer, closure_data);
}

// --- Lifecycle ------------------------------------------------------------------------------------------------------

static bool
has_file(const struct rpc_reflection *reflection, struct bytes_view file)
{
    for (size_t i = 0; i < reflection->file_count; i++) {
        if (bytes_view_equal(reflection->files[i], file)) {
            return true;
        }
    }
    return false;
}

enum err
rpc_reflection_describe(struct rpc_reflection *reflection, struct bytes_view descriptor_set)
{
    struct arena arena;
    ProtobufCMessage *unpacked = NULL;
    arena_init(&arena, rpc_message_arena_limit(descriptor_set.size));
    enum err err = rpc_message_unpack_in_place(&google__protobuf__file_descriptor_set__descriptor, descriptor_set,
        &arena, &unpacked, NULL);
    if (err == ERR_OK) {
        const Google__Protobuf__FileDescriptorSet *set = (const Google__Protobuf__FileDescriptorSet *)unpacked;
        size_t most = reflection->file_count + set->n_file;
        struct bytes_view *files = realloc(reflection->files, (most + 1) * sizeof(*files));
        if (files == NULL) {
            err = ERR_NO_MEMORY;
        } else {
            reflection->files = files;
        }
        for (size_t i = 0; err == ERR_OK && i < set->n_file; i++) {
            struct bytes_view file = bytes_view_of(set->file[i].data, set->file[i].len);
            if (!has_file(reflection, file)) { // what several sets import is in each of them
                files[reflection->file_count++] = file;
            }
        }
    }
    arena_deinit(&arena);
    return err;
}

enum err
rpc_reflection_new(struct rpc_server *server, const struct rpc_method_table *methods, struct rpc_reflection **out)
{
    static const struct rpc_method_rule rules[] = {
        {.method = "ListServices", .access = RPC_ACCESS_PUBLIC},
        {.method = "GetDescriptors", .access = RPC_ACCESS_PUBLIC},
    };
    struct rpc_reflection *reflection = calloc(1, sizeof(*reflection));
    if (reflection == NULL) {
        return ERR_NO_MEMORY;
    }
    // With these arguments it cannot fail on Linux.
    (void)pthread_mutex_init(&reflection->mutex, NULL);
    reflection->service = (Fc__Rpc__V1__Reflection_Service){
        .base = FC__RPC__V1__REFLECTION__BASE_INIT,
        .list_services = list_services,
        .get_descriptors = get_descriptors,
    };
    reflection->methods = methods;
    enum err err =
        rpc_reflection_describe(reflection, bytes_view_of(fc_proto_rpc_descriptors, fc_proto_rpc_descriptors_bytes));
    if (err == ERR_OK) {
        err = rpc_server_add_service(server, &reflection->service.base, rules, sizeof(rules) / sizeof(rules[0]));
    }
    if (err != ERR_OK) {
        rpc_reflection_free(&reflection);
        return err;
    }
    *out = reflection;
    return ERR_OK;
}

void
rpc_reflection_free(struct rpc_reflection **reflection)
{
    if (*reflection == NULL) {
        return;
    }
    rpc_schema_free(&(*reflection)->locked.schema);
    pthread_mutex_destroy(&(*reflection)->mutex);
    free((*reflection)->files);
    free(*reflection);
    *reflection = NULL;
}
