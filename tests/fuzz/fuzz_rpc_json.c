// What one direction of the JSON mapping accepts the other one gives back, and from then on nothing changes any more.
//
// The first byte picks the direction in which it begins: 'W' for an encoded message, else JSON.

#include <fc_proto_json_descriptors.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/arena.h"
#include "rpc/rpc_json.h"
#include "rpc/rpc_message.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct rpc_schema_message *everything;

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    struct arena arena;
    ProtobufCMessage *unpacked = NULL;
    struct bytes_view set = bytes_view_of(fc_proto_json_descriptors, fc_proto_json_descriptors_bytes);
    static struct rpc_schema *schema; // for as long as the process lives
    arena_init(&arena, rpc_message_arena_limit(set.size));
    if (rpc_message_unpack_in_place(&google__protobuf__file_descriptor_set__descriptor, set, &arena, &unpacked, NULL) !=
        ERR_OK) {
        abort();
    }
    // The first file stands by itself.
    const Google__Protobuf__FileDescriptorSet *list = (const Google__Protobuf__FileDescriptorSet *)unpacked;
    struct bytes_view file = bytes_view_of(list->file[0].data, list->file[0].len);
    if (rpc_schema_new(&file, 1, &schema, NULL) != ERR_OK) {
        abort();
    }
    everything = rpc_schema_find(schema, "fc.test.v1.Everything")->message;
    arena_deinit(&arena);
    return 0;
}

static void
check_refusal(enum err err, enum err expected, const struct err_detail *why)
{
    if ((err != expected && err != ERR_TOO_BIG) || why->message[0] == '\0') {
        abort(); // a refusal says why
    }
}

static void
must(enum err err)
{
    if (err != ERR_OK) {
        abort();
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    struct bytes_view input = bytes_view_of(data + 1, size - 1);
    struct bytes wire = {0};
    struct bytes json = {0};
    struct bytes wire_again = {0};
    struct bytes json_again = {0};
    struct err_detail why = {0};
    enum err err;
    if (data[0] == 'W') {
        err = rpc_json_from_wire(everything, input, false, &json, &why);
    } else {
        err = rpc_json_to_wire(everything, input, &wire, &why);
        if (err == ERR_OK) {
            must(rpc_json_from_wire(everything, bytes_as_view(&wire), false, &json, &why));
        }
    }
    if (err == ERR_OK) {
        must(rpc_json_to_wire(everything, bytes_as_view(&json), &wire_again, &why));
        must(rpc_json_from_wire(everything, bytes_as_view(&wire_again), false, &json_again, &why));
        if (!bytes_view_equal(bytes_as_view(&json), bytes_as_view(&json_again))) {
            abort();
        }
        bytes_clear(&json_again);
        must(rpc_json_from_wire(everything, bytes_as_view(&wire_again), true, &json_again, &why));
    } else {
        check_refusal(err, data[0] == 'W' ? ERR_PROTOCOL : ERR_INVALID, &why);
    }
    bytes_free(&wire);
    bytes_free(&json);
    bytes_free(&wire_again);
    bytes_free(&json_again);
    return 0;
}
