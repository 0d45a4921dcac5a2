// Text from outside: is it UTF-8, is it safe to print, is it a name that we accept.
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/bytes.h"
#include "base/err.h"

// text_is_utf8 accepts well-formed UTF-8 (RFC 3629: no overlong forms, surrogates or code points over U+10FFFF). U+0000
// is rejected.
bool text_is_utf8(struct bytes_view text);

// text_append_printable appends text with everything made visible that could drive a terminal or mislead the reader: C0
// and C1 controls, DEL, bidirectional overrides and isolates (as \xNN or \u{NNNN}), and bytes that are not UTF-8. Tab
// and newline stay when keep_newlines is set.
enum err text_append_printable(struct bytes *out, struct bytes_view text, bool keep_newlines) ERR_CHECKED;

enum {
    TEXT_USER_NAME_MAX_BYTES = 32,
    TEXT_ROOM_NAME_MAX_BYTES = 64,
    TEXT_FILE_NAME_MAX_BYTES = 1024,     // a whole name with its slashes
    TEXT_FILE_COMPONENT_MAX_BYTES = 255, // NAME_MAX of the file systems that we write to
    TEXT_SIZE_BYTES = 24,                // of text_format_size, with its NUL
};

// text_check_user_name, _room_name and _file_name say in `why` (may be NULL) what is wrong with the name: ERR_INVALID.
// The rules stand in proto/: SignUpRequest.user_name, Room.name and File.name.
enum err text_check_user_name(const char *name, struct err_detail *why) ERR_CHECKED;
enum err text_check_room_name(const char *name, struct err_detail *why) ERR_CHECKED;
enum err text_check_file_name(const char *name, struct err_detail *why) ERR_CHECKED;

// text_append_json_string appends text as a JSON string with its quotes (RFC 8259). Bytes that are not UTF-8 become
// U+FFFD.
enum err text_append_json_string(struct bytes *out, struct bytes_view text) ERR_CHECKED;

// text_last_component is what follows the last slash of a path or name; all of it where there is none.
const char *text_last_component(const char *path);

// text_format_size writes a number of bytes as people read it: 1023 B, 1.0 KiB and so on.
void text_format_size(double bytes, char out[TEXT_SIZE_BYTES]);

#endif
