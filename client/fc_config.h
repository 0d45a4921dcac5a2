// Where a user's settings and tokens are, and which server is meant.
//
// $FC_CONFIG_DIR, else $XDG_CONFIG_HOME/fc, else ~/.config/fc: a folder of mode 0700. The file `credentials` in it
// (mode 0600; refused when others can read or write it) has one line for each login, the one used last first:
// SERVER-URL USER TOKEN
#ifndef CLIENT_FC_CONFIG_H
#define CLIENT_FC_CONFIG_H

#include "base/err.h"

#define FC_DEFAULT_SERVER_URL "tcp://127.0.0.1:7420"

enum {
    FC_CONFIG_PATH_MAX_BYTES = 4096,
    FC_TOKEN_MAX_BYTES = 129,     // with its NUL
    FC_USER_NAME_MAX_BYTES = 33,  // with its NUL
    FC_SERVER_URL_MAX_BYTES = 256 // with its NUL
};

struct fc_credential {
    char server_url[FC_SERVER_URL_MAX_BYTES];
    char user_name[FC_USER_NAME_MAX_BYTES]; // empty when the token came from FC_TOKEN
    char token[FC_TOKEN_MAX_BYTES];         // empty: not logged in there
};

// fc_config_dir writes the folder's path; it need not exist. ERR_PRECONDITION: no home folder.
enum err fc_config_dir(char path_out[FC_CONFIG_PATH_MAX_BYTES], struct err_detail *why) ERR_CHECKED;

// fc_config_load finds the server and the token to use: server_url (may be NULL) if given, else FC_SERVER, else the
// server used last, else FC_DEFAULT_SERVER_URL; FC_TOKEN, else the stored token for that server. Without a token it
// succeeds with an empty one. ERR_DENIED: the file is readable by others; `why` says how to mend it.
enum err fc_config_load(const char *server_url, struct fc_credential *out, struct err_detail *why) ERR_CHECKED;

// fc_config_save puts a login first, replacing the one for the same server. fc_config_forget removes it; one that is
// not there is no error. Both lock the file against other processes, replace it in one step and sync it.
enum err fc_config_save(const struct fc_credential *credential, struct err_detail *why) ERR_CHECKED;
enum err fc_config_forget(const char *server_url, struct err_detail *why) ERR_CHECKED;

#endif
