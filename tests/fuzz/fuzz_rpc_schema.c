// Descriptors from a hostile server: what rpc_schema_new accepts can be walked from end to end, and used to convert.

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "rpc/rpc_json.h"
#include "rpc/rpc_schema.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
use_message(const struct rpc_schema *schema, const struct rpc_schema_message *message)
{
    struct bytes json = {0};
    struct bytes wire = {0};
    struct err_detail why = {0};
    if (rpc_schema_find(schema, message->name)->message != message) {
        abort();
    }
    for (size_t i = 0; i < message->field_count; i++) {
        const struct rpc_schema_field *field = &message->fields[i];
        if (rpc_schema_field_by_number(message, field->number) != field ||
            rpc_schema_field_by_name(message, field->json_name) != field) {
            abort();
        }
    }
    if (message->is_map_entry) {
        return;
    }
    if (rpc_json_from_wire(message, bytes_view_of(NULL, 0), true, &json, &why) != ERR_OK) {
        abort();
    }
    if (rpc_json_to_wire(message, bytes_as_view(&json), &wire, &why) == ERR_OK) {
        bytes_clear(&json);
        if (rpc_json_from_wire(message, bytes_as_view(&wire), true, &json, &why) != ERR_OK) {
            abort();
        }
    }
    bytes_free(&wire);
    bytes_free(&json);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rpc_schema *schema = NULL;
    struct err_detail why = {0};
    struct bytes_view file = bytes_view_of(data, size);
    enum err err = rpc_schema_new(&file, 1, &schema, &why);
    if (err != ERR_OK) {
        if ((err != ERR_PROTOCOL && err != ERR_NO_MEMORY) || why.message[0] == '\0') {
            abort(); // a refusal says why
        }
        return 0;
    }
    const rpc_schema_file *read = rpc_schema_file_at(schema, 0);
    char name[2 * RPC_SYMBOL_MAX_BYTES];
    for (size_t i = 0; i < read->n_message_type; i++) {
        const char *dot = read->package[0] != '\0' ? "." : "";
        (void)snprintf(name, sizeof(name), "%s%s%s", read->package, dot, read->message_type[i]->name);
        use_message(schema, rpc_schema_find(schema, name)->message);
    }
    rpc_schema_free(&schema);
    return 0;
}
