// The symbols of a schema: files are unpacked, walked once, and everything with a full name goes into one sorted table.
// rpc_schema_resolve.c then follows the references.
#include "rpc/rpc_schema.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/rpc_message.h"
#include "rpc/rpc_schema_priv.h"

enum {
    // Two numbers for each level: messages nest at most as deep as the unpacking of their descriptors allows.
    PATH_MAX_NUMBERS = 2 * RPC_NESTING_MAX_DEPTH,
};

// Field numbers in descriptor.proto, of which a path consists.
enum path_number {
    PATH_FILE_MESSAGE = 4,
    PATH_FILE_ENUM = 5,
    PATH_FILE_SERVICE = 6,
    PATH_MESSAGE_NESTED = 3,
    PATH_MESSAGE_ENUM = 4,
    PATH_SERVICE_METHOD = 2,
};

// A place in the walk through one file.
struct walk {
    struct rpc_schema *schema;
    size_t file;
    struct err_detail *why;
    int32_t path[PATH_MAX_NUMBERS];
    size_t path_size;
};

static enum err
fail_for_memory(struct err_detail *why)
{
    return err_fail(why, ERR_NO_MEMORY, "there is no memory for the descriptors");
}

static bool
is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

bool
rpc_schema_is_identifier(const char *name)
{
    if (!is_letter(name[0])) {
        return false;
    }
    for (size_t i = 1; name[i] != '\0'; i++) {
        if (!is_letter(name[i]) && (name[i] < '0' || name[i] > '9')) {
            return false;
        }
    }
    return true;
}

// A package is empty, or identifiers with dots between them.
static bool
is_package(const char *package)
{
    bool is_start = true;
    for (size_t i = 0; package[i] != '\0'; i++) {
        bool is_digit = package[i] >= '0' && package[i] <= '9';
        if (is_start ? !is_letter(package[i]) : !is_letter(package[i]) && !is_digit && package[i] != '.') {
            return false;
        }
        is_start = package[i] == '.';
    }
    return !is_start || package[0] == '\0';
}

static bool
grow_symbols(struct rpc_schema *schema)
{
    enum {
        FIRST_CAPACITY = 32,
    };
    if (schema->symbol_count < schema->symbol_capacity) {
        return true;
    }
    size_t capacity = schema->symbol_capacity == 0 ? (size_t)FIRST_CAPACITY : 2 * schema->symbol_capacity;
    struct rpc_symbol *larger = realloc(schema->symbols, capacity * sizeof(*larger));
    if (larger == NULL) {
        return false;
    }
    schema->symbols = larger;
    schema->symbol_capacity = capacity;
    return true;
}

static char *
join_name(struct arena *arena, const char *scope, const char *name)
{
    char full[RPC_SYMBOL_MAX_BYTES + 1];
    int size = snprintf(full, sizeof(full), "%s%s%s", scope, scope[0] != '\0' ? "." : "", name);
    return size < (int)sizeof(full) ? arena_copy_text(arena, full) : NULL;
}

// add makes a symbol with zeroed memory for what it stands for. After a failure *out is as it was.
static enum err
add(struct walk *walk, enum rpc_symbol_kind kind, const char *scope, const char *name, size_t object_bytes,
    struct rpc_symbol **out)
{
    struct rpc_schema *schema = walk->schema;
    if (!rpc_schema_is_identifier(name) || strlen(scope) + strlen(name) + 1 > RPC_SYMBOL_MAX_BYTES) {
        return err_fail(walk->why, ERR_PROTOCOL, "a descriptor in \"%s\" has a name that cannot be one: \"%s\"",
            schema->files[walk->file]->name, name);
    }
    size_t path_bytes = walk->path_size * sizeof(walk->path[0]);
    char *full_name = join_name(&schema->arena, scope, name);
    int32_t *path = arena_alloc(&schema->arena, path_bytes);
    void *object = arena_alloc(&schema->arena, object_bytes);
    if (full_name == NULL || path == NULL || object == NULL || !grow_symbols(schema)) {
        return fail_for_memory(walk->why);
    }
    memcpy(path, walk->path, path_bytes);
    memset(object, 0, object_bytes);
    struct rpc_symbol *symbol = &schema->symbols[schema->symbol_count++];
    *symbol = (struct rpc_symbol){
        .name = full_name,
        .kind = kind,
        .file = walk->file,
        .path = path,
        .path_size = walk->path_size,
        .message = object, // whichever it is
    };
    *out = symbol;
    return ERR_OK;
}

static void
push(struct walk *walk, enum path_number number, size_t index)
{
    walk->path[walk->path_size++] = (int32_t)number;
    walk->path[walk->path_size++] = (int32_t)index;
}

static void
pop(struct walk *walk)
{
    walk->path_size -= 2;
}

static enum err
add_enum(struct walk *walk, const char *scope, const Google__Protobuf__EnumDescriptorProto *descriptor)
{
    struct rpc_symbol *symbol = NULL;
    enum err err = add(walk, RPC_SYMBOL_ENUM, scope, descriptor->name, sizeof(*symbol->enumeration), &symbol);
    if (symbol != NULL) {
        symbol->enumeration->name = symbol->name;
        symbol->enumeration->descriptor = descriptor;
    }
    return err;
}

// Recurses no deeper than descriptors are unpacked: RPC_NESTING_MAX_DEPTH.
static enum err
add_message(struct walk *walk, const char *scope, const Google__Protobuf__DescriptorProto *descriptor)
{
    struct rpc_symbol *symbol = NULL;
    enum err err = add(walk, RPC_SYMBOL_MESSAGE, scope, descriptor->name, sizeof(*symbol->message), &symbol);
    if (symbol == NULL) {
        return err;
    }
    const char *name = symbol->name; // the symbol itself moves when the table grows
    symbol->message->name = name;
    symbol->message->descriptor = descriptor;
    symbol->message->is_map_entry = descriptor->options != NULL && descriptor->options->map_entry;
    for (size_t i = 0; err == ERR_OK && i < descriptor->n_nested_type; i++) {
        push(walk, PATH_MESSAGE_NESTED, i);
        err = add_message(walk, name, descriptor->nested_type[i]);
        pop(walk);
    }
    for (size_t i = 0; err == ERR_OK && i < descriptor->n_enum_type; i++) {
        push(walk, PATH_MESSAGE_ENUM, i);
        err = add_enum(walk, name, descriptor->enum_type[i]);
        pop(walk);
    }
    return err;
}

static enum err
add_service(struct walk *walk, const char *scope, const Google__Protobuf__ServiceDescriptorProto *descriptor)
{
    struct rpc_symbol *symbol = NULL;
    enum err err = add(walk, RPC_SYMBOL_SERVICE, scope, descriptor->name, 0, &symbol);
    if (symbol == NULL) {
        return err;
    }
    const char *name = symbol->name;
    symbol->service = descriptor;
    for (size_t i = 0; err == ERR_OK && i < descriptor->n_method; i++) {
        push(walk, PATH_SERVICE_METHOD, i);
        err = add(walk, RPC_SYMBOL_METHOD, name, descriptor->method[i]->name, sizeof(*symbol->method), &symbol);
        if (err == ERR_OK) {
            symbol->method->descriptor = descriptor->method[i];
        }
        pop(walk);
    }
    return err;
}

static enum err
add_file(struct rpc_schema *schema, struct bytes_view encoded, struct err_detail *why)
{
    struct err_detail cause = {0};
    ProtobufCMessage *unpacked = NULL;
    enum err err = rpc_message_unpack(&google__protobuf__file_descriptor_proto__descriptor, encoded, &schema->arena,
        &unpacked, &cause);
    if (err == ERR_NO_MEMORY) {
        return fail_for_memory(why);
    }
    if (err != ERR_OK) {
        return err_fail(why, ERR_PROTOCOL, "a descriptor cannot be read: %s", err_message(&cause, err));
    }
    rpc_schema_file *file = (rpc_schema_file *)unpacked;
    struct walk walk = {.schema = schema, .file = schema->file_count, .why = why};
    schema->files[schema->file_count++] = file;
    if (!is_package(file->package) || strlen(file->package) > RPC_SYMBOL_MAX_BYTES) {
        return err_fail(why, ERR_PROTOCOL, "\"%s\" has a package that cannot be one: \"%s\"", file->name,
            file->package);
    }
    for (size_t i = 0; err == ERR_OK && i < file->n_message_type; i++) {
        push(&walk, PATH_FILE_MESSAGE, i);
        err = add_message(&walk, file->package, file->message_type[i]);
        pop(&walk);
    }
    for (size_t i = 0; err == ERR_OK && i < file->n_enum_type; i++) {
        push(&walk, PATH_FILE_ENUM, i);
        err = add_enum(&walk, file->package, file->enum_type[i]);
        pop(&walk);
    }
    for (size_t i = 0; err == ERR_OK && i < file->n_service; i++) {
        push(&walk, PATH_FILE_SERVICE, i);
        err = add_service(&walk, file->package, file->service[i]);
        pop(&walk);
    }
    return err;
}

static int
compare_symbols(const void *a, const void *b)
{
    const struct rpc_symbol *left = a;
    const struct rpc_symbol *right = b;
    return strcmp(left->name, right->name);
}

static enum err
sort_symbols(struct rpc_schema *schema, struct err_detail *why)
{
    if (schema->symbol_count == 0) {
        return ERR_OK;
    }
    qsort(schema->symbols, schema->symbol_count, sizeof(*schema->symbols), compare_symbols);
    for (size_t i = 1; i < schema->symbol_count; i++) {
        if (compare_symbols(&schema->symbols[i - 1], &schema->symbols[i]) == 0) {
            return err_fail(why, ERR_PROTOCOL, "the descriptors define %s twice", schema->symbols[i].name);
        }
    }
    return ERR_OK;
}

enum err
rpc_schema_new(const struct bytes_view *files, size_t file_count, struct rpc_schema **out, struct err_detail *why)
{
    struct rpc_schema *schema = calloc(1, sizeof(*schema));
    if (schema == NULL) {
        return fail_for_memory(why);
    }
    size_t encoded_bytes = 0;
    for (size_t i = 0; i < file_count; i++) {
        encoded_bytes += files[i].size;
    }
    // Once for the descriptors themselves, once for what is made of them.
    arena_init(&schema->arena, 2 * rpc_message_arena_limit(encoded_bytes));
    schema->files = calloc(file_count + 1, sizeof(*schema->files));
    enum err err = schema->files != NULL ? ERR_OK : fail_for_memory(why);
    for (size_t i = 0; err == ERR_OK && i < file_count; i++) {
        err = add_file(schema, files[i], why);
    }
    if (err == ERR_OK) {
        err = sort_symbols(schema, why);
    }
    if (err == ERR_OK) {
        err = rpc_schema_resolve(schema, why);
    }
    if (err != ERR_OK) {
        rpc_schema_free(&schema);
        return err;
    }
    *out = schema;
    return ERR_OK;
}

const struct rpc_symbol *
rpc_schema_find(const struct rpc_schema *schema, const char *name)
{
    char dotted[RPC_SYMBOL_MAX_BYTES + 1];
    if (strlen(name) > RPC_SYMBOL_MAX_BYTES || schema->symbol_count == 0) {
        return NULL;
    }
    strcpy(dotted, name);
    char *slash = strrchr(dotted, '/');
    if (slash != NULL) {
        *slash = '.';
    }
    const struct rpc_symbol key = {.name = dotted};
    return bsearch(&key, schema->symbols, schema->symbol_count, sizeof(key), compare_symbols);
}

const rpc_schema_file *
rpc_schema_file_at(const struct rpc_schema *schema, size_t index)
{
    return schema->files[index];
}

size_t
rpc_schema_file_count(const struct rpc_schema *schema)
{
    return schema->file_count;
}

void
rpc_schema_free(struct rpc_schema **schema)
{
    if (*schema == NULL) {
        return;
    }
    free((*schema)->symbols);
    free((*schema)->files);
    arena_deinit(&(*schema)->arena);
    free(*schema);
    *schema = NULL;
}
