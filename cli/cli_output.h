// What fc prints: text that is safe for terminals, and JSON.
#ifndef CLI_CLI_OUTPUT_H
#define CLI_CLI_OUTPUT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"

// cli_output_write writes all of it to standard output at once. ERR_CLOSED: the reader has gone, and the command should
// end; main then says nothing. ERR_IO, ERR_NO_SPACE.
enum err cli_output_write(struct bytes_view text, struct err_detail *why) ERR_CHECKED;

// cli_output_check_reader looks whether the reader of a pipe has gone, after somebody else failed to write to it.
void cli_output_check_reader(void);

// cli_output_is_closed tells whether a write, or cli_output_check_reader, found that the reader has gone.
bool cli_output_is_closed(void);

// cli_output_error writes a line to standard error, made printable. Failures have nowhere to be told.
void cli_output_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

// cli_text is a piece of output being put together. All zero is an empty one. The first failure sticks, so that only
// cli_text_print has to be checked.
struct cli_text {
    struct bytes bytes;
    enum err code;
    bool has_members; // of the JSON object being written
};

// cli_text_add appends our own words as they are; cli_text_add_printable what came from others, made harmless.
void cli_text_add(struct cli_text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
void cli_text_add_printable(struct cli_text *text, const char *from_outside);
void cli_text_add_hex(struct cli_text *text, const uint8_t *data, size_t size);
// cli_text_add_local_time appends the user's date and time, to the second.
void cli_text_add_local_time(struct cli_text *text, int64_t unix_ms);

// cli_text_print writes what was gathered to standard output and empties it, in every case.
enum err cli_text_print(struct cli_text *text, struct err_detail *why) ERR_CHECKED;

// One JSON object: open, members, close. key NULL opens the outermost object, whose close ends the line, or what stands
// in a list.
void cli_json_open(struct cli_text *text, const char *key);
void cli_json_text(struct cli_text *text, const char *key, const char *value);
void cli_json_u64(struct cli_text *text, const char *key, uint64_t value);
void cli_json_bool(struct cli_text *text, const char *key, bool value);
void cli_json_hex(struct cli_text *text, const char *key, const uint8_t *data, size_t size);
// cli_json_time writes RFC 3339 in UTC with milliseconds.
void cli_json_time(struct cli_text *text, const char *key, int64_t unix_ms);
void cli_json_close(struct cli_text *text);
void cli_json_open_list(struct cli_text *text, const char *key);
void cli_json_close_list(struct cli_text *text);
void cli_json_close_line(struct cli_text *text);

#endif
