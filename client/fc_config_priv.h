// For client/ only: the files of the configuration folder, and what other folders of the user have in common with it.
#ifndef CLIENT_FC_CONFIG_PRIV_H
#define CLIENT_FC_CONFIG_PRIV_H

#include <sys/stat.h>

#include "base/bytes.h"
#include "base/err.h"
#include "client/fc_config.h"

// Where a folder is: in own_variable, else in fc/ below xdg_variable, else in below_home/fc below the home folder.
struct fc_config_place {
    const char *what; // "configuration"
    const char *own_variable;
    const char *xdg_variable;
    const char *below_home;
};

// fc_config_find_dir writes the folder's path; it need not exist. ERR_PRECONDITION: no home folder.
enum err fc_config_find_dir(const struct fc_config_place *place, char path_out[FC_CONFIG_PATH_MAX_BYTES],
    struct err_detail *why) ERR_CHECKED;

// fc_config_check_private: ERR_DENIED unless it is a regular file of this user's that nobody else can read or write.
enum err fc_config_check_private(const struct stat *status, const char *path, const char *redo,
    struct err_detail *why) ERR_CHECKED;

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
