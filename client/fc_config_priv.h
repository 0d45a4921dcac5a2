// For client/ only: the files of the configuration folder.
#ifndef CLIENT_FC_CONFIG_PRIV_H
#define CLIENT_FC_CONFIG_PRIV_H

#include "base/bytes.h"
#include "base/err.h"
#include "client/fc_config.h"

// fc_config_path is the path of a file in the folder.
enum err fc_config_path(const char *dir, const char *name, char path_out[FC_CONFIG_PATH_MAX_BYTES],
    struct err_detail *why) ERR_CHECKED;

// fc_config_read appends a file that only its owner can read; none is an empty one. redo tells what to do about one
// that cannot be used, as "remove it and log in again".
enum err fc_config_read(const char *dir, const char *name, const char *redo, struct bytes *out,
    struct err_detail *why) ERR_CHECKED;

// fc_config_lock makes the folder and takes its lock, waiting for other processes. The lock ends with the descriptor.
enum err fc_config_lock(const char *dir, int *fd_out, struct err_detail *why) ERR_CHECKED;

#endif
