// Links by which anybody reads a file of one's own over plain HTTP. Blocking functions; any thread may call them.
#ifndef CLIENT_FC_LINK_H
#define CLIENT_FC_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "client/fc_session.h"

enum {
    // With its NUL: a server's address, the token, and a name of which each byte may be written as three.
    FC_LINK_URL_MAX_BYTES = 4096,
};

struct fc_link {
    uint8_t id[16];
    char file_name[1025]; // empty: the file has gone
    uint8_t file_id[16];
    int64_t created_unix_ms;
    int64_t expires_unix_ms;
    uint64_t fetch_count;
};

// fc_link_create makes a link to a file (as fc_file_stat finds it) that ends at expires_unix_ms; 0: in 7 days.
// url_out: where a browser finds it; *is_path_out: the server's address is not known, and it is only the path there.
// ERR_NOT_FOUND, ERR_DENIED: not one's own; ERR_PRECONDITION: only a room can read it, or the server has no links.
enum err fc_link_create(struct fc_session *session, const char *file, int64_t expires_unix_ms, struct fc_link *out,
    char url_out[FC_LINK_URL_MAX_BYTES], bool *is_path_out, struct err_detail *why) ERR_CHECKED;

// fc_link_each calls fn for one's links that work, the oldest first, until it returns false.
enum err fc_link_each(struct fc_session *session, bool (*fn)(void *context, const struct fc_link *link), void *context,
    struct err_detail *why) ERR_CHECKED;

// fc_link_revoke ends a link. ERR_NOT_FOUND.
enum err fc_link_revoke(struct fc_session *session, const uint8_t id[16], struct err_detail *why) ERR_CHECKED;

#endif
