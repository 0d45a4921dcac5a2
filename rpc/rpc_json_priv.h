// For rpc_json*.c only: where in a message the conversion is, and what both directions ask of types.
#ifndef RPC_JSON_PRIV_H
#define RPC_JSON_PRIV_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "rpc/rpc_message_priv.h"
#include "rpc/rpc_schema.h"

#define RPC_JSON_TYPE(name) GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__TYPE__TYPE_##name

enum {
    RPC_JSON_PATH_BYTES = 200, // with its NUL; a longer path is cut
};

// rpc_json_path is the way from the outermost message to the field at hand: rooms[1].labels["a"].
struct rpc_json_path {
    char text[RPC_JSON_PATH_BYTES];
    size_t size;
    size_t elements; // values that have been read from an encoding, in all
    struct err_detail *why;
};

// Each goes one step down and returns the size to which rpc_json_path_leave goes back.
size_t rpc_json_path_enter_field(struct rpc_json_path *path, const char *name);
size_t rpc_json_path_enter_index(struct rpc_json_path *path, size_t index);
size_t rpc_json_path_enter_key(struct rpc_json_path *path, const char *key);
void rpc_json_path_leave(struct rpc_json_path *path, size_t size);

// rpc_json_path_fail says in which field what is wrong.
enum err rpc_json_path_fail(const struct rpc_json_path *path, enum err code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// What an integer says, however JSON has it.
struct rpc_json_whole {
    bool is_negative;
    uint64_t magnitude;
};

enum err rpc_json_fail_expected(const struct rpc_json_path *path, const char *expected,
    const json_t *value) ERR_CHECKED;

// rpc_json_text_of returns what a string holds; "" instead of one that holds U+0000, which is in no name and no number.
const char *rpc_json_text_of(const json_t *value);

// rpc_json_read_whole reads an integer from a number or a string, from -min_magnitude to max.
enum err rpc_json_read_whole(const struct rpc_json_path *path, const json_t *value, uint64_t min_magnitude,
    uint64_t max, struct rpc_json_whole *out) ERR_CHECKED;

// rpc_json_read_real reads a number that a double, or a float, can hold.
enum err rpc_json_read_real(const struct rpc_json_path *path, const json_t *value, bool is_float,
    double *out) ERR_CHECKED;

// One value of a field, as it stands in an encoding.
struct rpc_json_part {
    const struct rpc_schema_field *field;
    size_t index; // in the order of the encoding
    enum rpc_wire_type wire_type;
    uint64_t number;        // of a varint or fixed one
    struct bytes_view data; // of a length-prefixed one
};

// All of one message. The list is malloc's.
struct rpc_json_parts {
    struct rpc_json_part *list;
    size_t count;
    size_t capacity;
};

// rpc_json_parts_read finds the values of a message, sorted by the numbers of their fields and then in their order,
// without those of a oneof that others have replaced. The list is the caller's to free, also after a failure.
enum err rpc_json_parts_read(struct rpc_json_path *path, const struct rpc_schema_message *message,
    struct bytes_view encoded, struct rpc_json_parts *parts) ERR_CHECKED;

// rpc_json_take_number reads one number of this wire type from the start of *rest; false when it is none.
bool rpc_json_take_number(struct bytes_view *rest, enum rpc_wire_type wire_type, uint64_t *number_out);

// rpc_json_wire_type is the wire type of a single value.
enum rpc_wire_type rpc_json_wire_type(rpc_schema_type type);

#endif
