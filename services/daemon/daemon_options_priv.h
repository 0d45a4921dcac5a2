// For the sources of the command line only.
#ifndef DAEMON_DAEMON_OPTIONS_PRIV_H
#define DAEMON_DAEMON_OPTIONS_PRIV_H

#include "services/daemon/daemon_options.h"

typedef enum err daemon_option_fn(struct daemon_options *options, const char *value, struct err_detail *why);

// In daemon_options.c: a number of bytes, with K, M, G or T behind it or not.
enum err daemon_options_bytes(const char *option, const char *value, uint64_t *out, struct err_detail *why) ERR_CHECKED;

// In daemon_options_mirror.c: one for each option of a mirror.
daemon_option_fn daemon_set_role, daemon_set_origin, daemon_set_origin_fingerprint, daemon_set_origin_ca,
    daemon_set_token_file, daemon_set_budget, daemon_set_prefetch, daemon_set_name, daemon_set_advertise;

// daemon_options_finish_mirror checks that what a mirror needs is there, and that nothing of it is there without one;
// and fills in where it listens.
enum err daemon_options_finish_mirror(struct daemon_options *options, struct err_detail *why) ERR_CHECKED;

#endif
