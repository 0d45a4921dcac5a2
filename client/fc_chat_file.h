// Files of rooms. In plain rooms they are as any file; in encrypted ones they are sealed before they leave this
// machine, under a name that says nothing, and the message that announces them holds the key and their real name.
#ifndef CLIENT_FC_CHAT_FILE_H
#define CLIENT_FC_CHAT_FILE_H

#include <stdbool.h>

#include "base/err.h"
#include "client/fc_chat.h"
#include "client/fc_file.h"

// fc_chat_upload sends a local file to a room and announces it there. name NULL: the last component of path. Errors as
// of fc_file_upload and fc_chat_send. out describes the file itself, not what the server has of it: MD5 and size are
// the plain ones.
enum err fc_chat_upload(struct fc_chat *chat, const char *room, const char *path, const char *name,
    const struct fc_transfer_options *options, struct fc_file *out, struct err_detail *why) ERR_CHECKED;

// fc_chat_put sends many small files to a room as fc_put does, many with each call, and announces each. One thread uses
// it. The results are those of fc_chat_upload, told on that thread during any of the functions.
struct fc_chat_put;

enum err fc_chat_put_new(struct fc_chat *chat, const char *room, fc_put_result_fn *on_result, void *context,
    struct fc_chat_put **out, struct err_detail *why) ERR_CHECKED;
// fc_chat_put_add takes a file of at most FC_CHAT_PUT_FILE_MAX_BYTES; what->path is where it is, and what->fd reads it.
// Errors as of fc_put_add and fc_chat_upload.
enum err fc_chat_put_add(struct fc_chat_put *put, const struct fc_upload *what, struct err_detail *why) ERR_CHECKED;
enum err fc_chat_put_finish(struct fc_chat_put *put, struct err_detail *why) ERR_CHECKED;
void fc_chat_put_free(struct fc_chat_put **put);

enum {
    FC_CHAT_PUT_FILE_MAX_BYTES = FC_PUT_FILE_MAX_BYTES - 1024, // sealing adds a little
};

// fc_chat_download fetches the newest file of this name that was announced in an encrypted room. path and is_replacing
// as of fc_file_download. ERR_NOT_FOUND; ERR_CORRUPT: it is not what was announced, and nothing is left under path.
enum err fc_chat_download(struct fc_chat *chat, const char *room, const char *name, const char *path, bool is_replacing,
    const struct fc_transfer_options *options, struct fc_file *out, struct err_detail *why) ERR_CHECKED;

// fc_chat_download_to writes it to a descriptor. Nothing is written before all of it has been checked.
enum err fc_chat_download_to(struct fc_chat *chat, const char *room, const char *name, int fd,
    const struct fc_transfer_options *options, struct fc_file *out, struct err_detail *why) ERR_CHECKED;

// fc_chat_is_encrypted says whether a room is.
enum err fc_chat_is_encrypted(struct fc_chat *chat, const char *room, bool *is_encrypted_out,
    struct err_detail *why) ERR_CHECKED;

#endif
