// Text from strangers: what is printed is harmless, what is quoted is UTF-8, and accepted names keep their promises.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(bool is_true)
{
    if (!is_true) {
        abort();
    }
}

static void
check_printable(struct bytes_view text)
{
    struct bytes out = {0};
    require(text_append_printable(&out, text, false) == ERR_OK);
    require(text_is_utf8(bytes_as_view(&out)));
    for (size_t i = 0; i < out.size; i++) {
        require(out.data[i] >= 0x20 && out.data[i] != 0x7f);
    }
    bytes_free(&out);
}

static void
check_json(struct bytes_view text)
{
    struct bytes out = {0};
    require(text_append_json_string(&out, text) == ERR_OK);
    require(text_is_utf8(bytes_as_view(&out)));
    require(out.size >= 2 && out.data[0] == '"' && out.data[out.size - 1] == '"');
    for (size_t i = 0; i < out.size; i++) {
        require(out.data[i] >= 0x20);
    }
    bytes_free(&out);
}

static void
check_file_name(const char *name)
{
    if (text_check_file_name(name, NULL) != ERR_OK) {
        return;
    }
    const size_t size = strlen(name);
    require(size >= 1 && size <= TEXT_FILE_NAME_MAX_BYTES);
    require(name[0] != '/' && name[size - 1] != '/');
    require(text_is_utf8(bytes_view_of_text(name)));
    for (const char *component = name; component != NULL;) {
        const char *slash = strchr(component, '/');
        const size_t length = slash == NULL ? strlen(component) : (size_t)(slash - component);
        require(length >= 1 && length <= TEXT_FILE_COMPONENT_MAX_BYTES);
        require(!(length == 1 && component[0] == '.'));
        require(!(length == 2 && component[0] == '.' && component[1] == '.'));
        component = slash == NULL ? NULL : slash + 1;
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_printable(bytes_view_of(data, size));
    check_json(bytes_view_of(data, size));

    char *text = malloc(size + 1);
    require(text != NULL);
    memcpy(text, data, size);
    text[size] = '\0';
    check_file_name(text);
    (void)!text_check_user_name(text, NULL);
    (void)!text_check_room_name(text, NULL);
    free(text);
    return 0;
}
