// Schemas of embedded descriptors.
#ifndef TESTS_UNIT_SCHEMA_SUPPORT_H
#define TESTS_UNIT_SCHEMA_SUPPORT_H

#include <fc_proto_json_descriptors.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "rpc/rpc_message.h"
#include "rpc/rpc_schema.h"

enum {
    SCHEMA_FILES_MAX = 8,
};

// schema_split_set finds the files in a set. The arena is the caller's to deinit, after the views have been used.
static inline size_t
schema_split_set(struct bytes_view set, struct arena *arena, struct bytes_view files_out[SCHEMA_FILES_MAX])
{
    ProtobufCMessage *unpacked = NULL;
    arena_init(arena, 1024 * 1024);
    assert_int_equal(ERR_OK,
        rpc_message_unpack_in_place(&google__protobuf__file_descriptor_set__descriptor, set, arena, &unpacked, NULL));
    const Google__Protobuf__FileDescriptorSet *list = (const Google__Protobuf__FileDescriptorSet *)unpacked;
    assert_true(list->n_file <= SCHEMA_FILES_MAX);
    for (size_t i = 0; i < list->n_file; i++) {
        files_out[i] = bytes_view_of(list->file[i].data, list->file[i].len);
    }
    return list->n_file;
}

static inline struct rpc_schema *
schema_of_set(struct bytes_view set)
{
    struct arena arena;
    struct bytes_view files[SCHEMA_FILES_MAX];
    struct rpc_schema *schema = NULL;
    struct err_detail why = {0};
    size_t count = schema_split_set(set, &arena, files);
    if (rpc_schema_new(files, count, &schema, &why) != ERR_OK) {
        fail_msg("%s", why.message);
    }
    arena_deinit(&arena);
    return schema;
}

#endif
