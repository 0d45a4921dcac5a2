// What both directions of the JSON mapping share.
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "rpc/rpc_json_priv.h"

static size_t step(struct rpc_json_path *path, const char *format, ...) __attribute__((format(printf, 2, 3)));

static size_t
step(struct rpc_json_path *path, const char *format, ...)
{
    size_t before = path->size;
    size_t left = sizeof(path->text) - path->size;
    va_list arguments;
    va_start(arguments, format);
    int written = vsnprintf(path->text + path->size, left, format, arguments);
    va_end(arguments);
    if (written > 0) {
        path->size += (size_t)written < left ? (size_t)written : left - 1;
    }
    return before;
}

size_t
rpc_json_path_enter_field(struct rpc_json_path *path, const char *name)
{
    return step(path, "%s%s", path->size > 0 ? "." : "", name);
}

size_t
rpc_json_path_enter_index(struct rpc_json_path *path, size_t index)
{
    return step(path, "[%zu]", index);
}

size_t
rpc_json_path_enter_key(struct rpc_json_path *path, const char *key)
{
    return step(path, "[\"%s\"]", key);
}

void
rpc_json_path_leave(struct rpc_json_path *path, size_t size)
{
    path->size = size;
    path->text[size] = '\0';
}

enum err
rpc_json_path_fail(const struct rpc_json_path *path, enum err code, const char *format, ...)
{
    char problem[ERR_DETAIL_MAX_BYTES];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(problem, sizeof(problem), format, arguments);
    va_end(arguments);
    if (path->size == 0) {
        return err_fail(path->why, code, "%s", problem);
    }
    return err_fail(path->why, code, "field \"%s\": %s", path->text, problem);
}

enum rpc_wire_type
rpc_json_wire_type(rpc_schema_type type)
{
    if (type == RPC_JSON_TYPE(DOUBLE) || type == RPC_JSON_TYPE(FIXED64) || type == RPC_JSON_TYPE(SFIXED64)) {
        return RPC_WIRE_64BIT;
    }
    if (type == RPC_JSON_TYPE(FLOAT) || type == RPC_JSON_TYPE(FIXED32) || type == RPC_JSON_TYPE(SFIXED32)) {
        return RPC_WIRE_32BIT;
    }
    return rpc_schema_type_is_packable(type) ? RPC_WIRE_VARINT : RPC_WIRE_LENGTH_PREFIXED;
}
