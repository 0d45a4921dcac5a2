// The table of methods, filled before the server listens and read by all workers without a lock.
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "rpc/rpc_method_priv.h"

enum {
    FIRST_SLOTS = 64,
};

static uint32_t
hash_of(struct bytes_view name)
{
    uint32_t hash = 2166136261u; // FNV-1a
    for (size_t i = 0; i < name.size; i++) {
        hash = (hash ^ name.data[i]) * 16777619u;
    }
    return hash;
}

static void
put(struct rpc_method_table *table, struct rpc_method *method)
{
    size_t at = method->hash & (table->slot_count - 1);
    while (table->slots[at] != NULL) {
        at = (at + 1) & (table->slot_count - 1);
    }
    table->slots[at] = method;
}

static enum err
grow(struct rpc_method_table *table)
{
    struct rpc_method_table larger = {.count = table->count, .writer_count = table->writer_count};
    larger.slot_count = table->slot_count == 0 ? FIRST_SLOTS : 2 * table->slot_count;
    larger.slots = calloc(larger.slot_count, sizeof(*larger.slots));
    if (larger.slots == NULL) {
        return ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < table->slot_count; i++) {
        if (table->slots[i] != NULL) {
            put(&larger, table->slots[i]);
        }
    }
    free(table->slots);
    *table = larger;
    return ERR_OK;
}

static const struct rpc_method_rule *
find_rule(const char *method, const struct rpc_method_rule *rules, size_t rule_count)
{
    for (size_t i = 0; i < rule_count; i++) {
        if (strcmp(rules[i].method, method) == 0) {
            return &rules[i];
        }
    }
    return NULL;
}

static void
method_free(struct rpc_method *method)
{
    if (method != NULL) {
        free(method->cells);
        free(method);
    }
}

static enum err
add_method(struct rpc_method_table *table, ProtobufCService *service, unsigned index,
    const struct rpc_method_rule *rule)
{
    const ProtobufCServiceDescriptor *descriptor = service->descriptor;
    const ProtobufCMethodDescriptor *description = &descriptor->methods[index];
    size_t service_bytes = strlen(descriptor->name);
    size_t method_bytes = strlen(description->name);
    if (2 * (table->count + 1) > table->slot_count) {
        enum err err = grow(table);
        if (err != ERR_OK) {
            return err;
        }
    }
    size_t name_bytes = service_bytes + 1 + method_bytes;
    struct rpc_method *method = malloc(sizeof(*method) + name_bytes + 1);
    if (method == NULL) {
        return ERR_NO_MEMORY;
    }
    memcpy(method->name, descriptor->name, service_bytes);
    method->name[service_bytes] = '/';
    memcpy(method->name + service_bytes + 1, description->name, method_bytes + 1);
    method->name_bytes = name_bytes;
    method->hash = hash_of(bytes_view_of(method->name, name_bytes));
    method->service = service;
    method->index = index;
    method->input = description->input;
    method->access = rule->access;
    method->max_request_bytes =
        rule->max_request_bytes != 0 ? rule->max_request_bytes : (size_t)RPC_UNARY_DEFAULT_MAX_BYTES;
    method->stream = rule->stream;
    method->executes_once = rule->executes_once;
    method->cells = NULL;
    if (rpc_method_table_find(table, bytes_view_of(method->name, name_bytes)) != NULL) {
        method_free(method);
        return ERR_EXISTS;
    }
    method->cells = rpc_stats_cells_new(table->writer_count);
    if (method->cells == NULL) {
        method_free(method);
        return ERR_NO_MEMORY;
    }
    put(table, method);
    table->count++;
    return ERR_OK;
}

// A generated service struct is the ProtobufCService followed by one function pointer for each method; protobuf-c
// itself reaches them like this.
static bool
has_handler(ProtobufCService *service, unsigned index)
{
    typedef void handler_fn(void);
    handler_fn **handlers = (handler_fn **)(service + 1);
    return service->invoke != protobuf_c_service_invoke_internal || handlers[index] != NULL;
}

// Mistakes in these tables are the program's own, so the log names them for its developer.
static enum err
refuse(const ProtobufCServiceDescriptor *descriptor, const char *method, const char *problem)
{
    log_error("RPC-SERVICE-INVALID", NULL, "method %s of %s %s", method, descriptor->name, problem);
    return ERR_INVALID;
}

enum err
rpc_method_table_add(struct rpc_method_table *table, ProtobufCService *service, const struct rpc_method_rule *rules,
    size_t rule_count, bool can_authenticate)
{
    const ProtobufCServiceDescriptor *descriptor = service->descriptor;
    for (size_t i = 0; i < rule_count; i++) {
        if (protobuf_c_service_descriptor_get_method_by_name(descriptor, rules[i].method) == NULL) {
            return refuse(descriptor, rules[i].method, "has a rule but does not exist");
        }
        if (find_rule(rules[i].method, rules, i) != NULL) {
            return refuse(descriptor, rules[i].method, "has two rules");
        }
        if (rpc_access_needs_token(rules[i].access) && !can_authenticate) {
            return refuse(descriptor, rules[i].method, "asks for a token, which nobody here can check");
        }
    }
    for (unsigned i = 0; i < descriptor->n_methods; i++) {
        const char *name = descriptor->methods[i].name;
        const struct rpc_method_rule *rule = find_rule(name, rules, rule_count);
        if (rule == NULL) {
            return refuse(descriptor, name, "has no rule");
        }
        if (rule->stream == NULL && !has_handler(service, i)) {
            return refuse(descriptor, name, "has no handler");
        }
        enum err err = add_method(table, service, i, rule);
        if (err != ERR_OK) {
            return err;
        }
    }
    return ERR_OK;
}

const struct rpc_method *
rpc_method_table_find(const struct rpc_method_table *table, struct bytes_view name)
{
    if (table->slot_count == 0) {
        return NULL;
    }
    uint32_t hash = hash_of(name);
    size_t at = hash & (table->slot_count - 1);
    // Ends, because at least half of the slots are empty.
    while (table->slots[at] != NULL) {
        const struct rpc_method *method = table->slots[at];
        if (method->hash == hash && bytes_view_equal(name, bytes_view_of(method->name, method->name_bytes))) {
            return method;
        }
        at = (at + 1) & (table->slot_count - 1);
    }
    return NULL;
}

bool
rpc_method_table_has_service(const struct rpc_method_table *table, struct bytes_view service_name)
{
    for (size_t i = 0; i < table->slot_count; i++) {
        if (table->slots[i] != NULL) {
            const char *name = table->slots[i]->service->descriptor->name;
            if (bytes_view_equal(service_name, bytes_view_of_text(name))) {
                return true;
            }
        }
    }
    return false;
}

void
rpc_method_table_deinit(struct rpc_method_table *table)
{
    for (size_t i = 0; i < table->slot_count; i++) {
        method_free(table->slots[i]);
    }
    free(table->slots);
    *table = (struct rpc_method_table){0};
}
