#include "client/fc_known_servers.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/file.h"
#include "client/fc_config_priv.h"

#define FILE_NAME "known_servers"
#define REDO "remove it and compare the fingerprints again"

enum {
    LINE_MAX_BYTES = FC_SERVER_URL_MAX_BYTES + RPC_TLS_FINGERPRINT_TEXT_BYTES + 2,
};

// Looks at one line. Returns whether it is for this server; *is_valid_out whether it could be understood.
static bool
match_line(const char *line, const char *name, uint8_t *fingerprint_out, bool *is_valid_out)
{
    const char *space = strchr(line, ' ');
    uint8_t fingerprint[RPC_TLS_FINGERPRINT_BYTES];
    *is_valid_out = line[0] == '\0' || line[0] == '#' ||
                    (space != NULL && rpc_tls_fingerprint_parse(space + 1, fingerprint) == ERR_OK);
    if (!*is_valid_out || space == NULL || line[0] == '#' || (size_t)(space - line) != strlen(name) ||
        strncmp(line, name, strlen(name)) != 0) {
        return false;
    }
    memcpy(fingerprint_out, fingerprint, sizeof(fingerprint));
    return true;
}

static enum err
find_in(struct bytes_view text, const char *name, struct fc_known_server *out, struct err_detail *why)
{
    out->line = 0;
    while (text.size > 0) {
        char line[LINE_MAX_BYTES];
        const uint8_t *end = memchr(text.data, '\n', text.size);
        size_t size = end != NULL ? (size_t)(end - text.data) : text.size;
        size_t used = size + (end != NULL ? 1 : 0);
        bool is_valid = size < sizeof(line);
        out->line++;
        if (is_valid) {
            memcpy(line, text.data, size);
            line[size] = '\0';
            if (match_line(line, name, out->fingerprint, &is_valid)) {
                return ERR_OK;
            }
        }
        if (!is_valid) {
            return err_fail(why, ERR_INVALID, "line %u of %s is not \"HOST:PORT FINGERPRINT\": mend or remove it",
                out->line, out->path);
        }
        text = bytes_view_of(text.data + used, text.size - used);
    }
    return ERR_NOT_FOUND;
}

enum err
fc_known_servers_find(const char *name, struct fc_known_server *out, struct err_detail *why)
{
    char dir[FC_CONFIG_PATH_MAX_BYTES];
    struct bytes text = {0};
    enum err err = fc_config_dir(dir, why);
    if (err == ERR_OK) {
        err = fc_config_path(dir, FILE_NAME, out->path, why);
    }
    if (err == ERR_OK) {
        err = fc_config_read(dir, FILE_NAME, REDO, &text, why);
    }
    if (err == ERR_OK) {
        err = find_in(bytes_as_view(&text), name, out, why);
    }
    bytes_free(&text);
    return err;
}

static enum err
append_locked(const char *dir, const char *line, struct err_detail *why)
{
    char path[FC_CONFIG_PATH_MAX_BYTES];
    struct bytes text = {0};
    enum err err = fc_config_path(dir, FILE_NAME, path, why);
    if (err == ERR_OK) {
        err = fc_config_read(dir, FILE_NAME, REDO, &text, why);
    }
    if (err == ERR_OK && text.size > 0 && text.data[text.size - 1] != '\n') {
        err = bytes_append(&text, bytes_view_of_text("\n"));
    }
    if (err == ERR_OK) {
        err = bytes_append(&text, bytes_view_of_text(line));
    }
    if (err == ERR_OK) {
        err = file_replace(path, bytes_as_view(&text), S_IRUSR | S_IWUSR);
        if (err != ERR_OK) {
            err = err_fail(why, err, "%s cannot be written: %s", path, err_sentence(err));
        }
    }
    bytes_free(&text);
    return err;
}

enum err
fc_known_servers_add(const char *name, const uint8_t fingerprint[RPC_TLS_FINGERPRINT_BYTES], struct err_detail *why)
{
    char dir[FC_CONFIG_PATH_MAX_BYTES];
    char text[RPC_TLS_FINGERPRINT_TEXT_BYTES];
    char line[LINE_MAX_BYTES];
    int lock_fd = -1;
    rpc_tls_fingerprint_format(fingerprint, text);
    (void)snprintf(line, sizeof(line), "%s %s\n", name, text);
    enum err err = fc_config_dir(dir, why);
    if (err == ERR_OK) {
        err = fc_config_lock(dir, &lock_fd, why);
    }
    if (err == ERR_OK) {
        err = append_locked(dir, line, why);
        (void)close(lock_fd);
    }
    return err;
}
