// What the command line of fcd says.
#ifndef DAEMON_DAEMON_OPTIONS_H
#define DAEMON_DAEMON_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "base/log.h"

#define DAEMON_DEFAULT_TCP_URL "tcp://127.0.0.1:7420"

enum {
    DAEMON_PATH_MAX_BYTES = 4096,
    DAEMON_LISTEN_MAX = 16,
    DAEMON_ADVERTISE_MAX = 4,
    DAEMON_PREFETCH_MAX = 64,
};

enum daemon_role {
    DAEMON_ORIGIN,
    DAEMON_SEGMENT, // a mirror of another fcd's files
};

// What is said of a mirror.
struct daemon_mirror_options {
    const char *origin_url;
    const char *origin_fingerprint; // with TLS one of the two
    const char *origin_ca;
    const char *token_file;
    const char *name;      // NULL: the machine's
    uint64_t budget_bytes; // 0: no limit
    const char *advertised[DAEMON_ADVERTISE_MAX];
    size_t advertised_count;                     // 0: where it listens
    const char *prefetched[DAEMON_PREFETCH_MAX]; // names of files, or "all"
    size_t prefetched_count;
    const char *given; // the last of these options on the command line; NULL: none
};

enum daemon_action {
    DAEMON_RUN,
    DAEMON_HELP,
    DAEMON_VERSION,
    DAEMON_FINGERPRINT,
    DAEMON_CHECK,
    DAEMON_BACKUP,
};

// daemon_options borrows URLs and paths from argv.
struct daemon_options {
    enum daemon_action action;
    enum daemon_role role;
    struct daemon_mirror_options mirror;
    char data_dir[DAEMON_PATH_MAX_BYTES];
    const char *listen_urls[DAEMON_LISTEN_MAX];
    size_t listen_count;         // 0: the default listeners
    const char *http_url;        // NULL: no web listener
    const char *public_url;      // where browsers reach it; NULL: not known
    bool has_no_links;           // nobody may read files without an account
    bool allows_plaintext;       // also where other machines reach it
    const char *tls_certificate; // with tls_key; NULL: those in the data folder
    const char *tls_key;
    const char *tls_client_ca; // NULL: clients need no certificate
    bool is_signup_closed;
    uint64_t max_users;          // 0: any number
    uint32_t max_rooms_per_user; // 0: the default
    uint32_t max_members;        // 0: the default
    bool has_public_metrics;
    uint64_t token_lifetime_ms;
    uint32_t calls_per_second; // of a user; 0: no limit
    uint32_t sends_per_second; // messages of a user; 0: no limit
    uint64_t user_quota_bytes; // 0: no limit
    uint64_t room_quota_bytes; // 0: no limit
    int64_t delete_grace_ms;
    uint64_t limit_bytes_per_s; // a second, to readers of segments; 0: no limit
    bool is_repairing;          // of a check
    bool is_copying;            // of a backup: no links
    const char *backup_target;
    enum log_level log_level;
};

// daemon_options_parse reads argv; what it leaves out has its default. ERR_INVALID: a usage error. ERR_PRECONDITION:
// there is no --data and no home folder either.
enum err daemon_options_parse(int argc, char **argv, struct daemon_options *out, struct err_detail *why) ERR_CHECKED;

void daemon_options_print_help(FILE *stream);

#endif
