// The options of fcd --role segment.
#include <string.h>

#include "services/daemon/daemon_options_priv.h"
#include "swarm/swarm_url.h"

// On a port that is free: readers hear of it from the tracker.
#define DEFAULT_LISTEN_URL "tcp://127.0.0.1:0"

static enum err
set_text(struct daemon_options *options, const char *name, const char *value, const char **out)
{
    options->mirror.given = name;
    *out = value;
    return ERR_OK;
}

enum err
daemon_set_role(struct daemon_options *options, const char *value, struct err_detail *why)
{
    if (strcmp(value, "segment") != 0) {
        return err_fail(why, ERR_INVALID, "--role is segment, not \"%s\"", value);
    }
    options->role = DAEMON_SEGMENT;
    return ERR_OK;
}

enum err
daemon_set_origin(struct daemon_options *options, const char *value, struct err_detail *why)
{
    (void)why;
    return set_text(options, "origin", value, &options->mirror.origin_url);
}

enum err
daemon_set_origin_fingerprint(struct daemon_options *options, const char *value, struct err_detail *why)
{
    (void)why;
    return set_text(options, "origin-fingerprint", value, &options->mirror.origin_fingerprint);
}

enum err
daemon_set_origin_ca(struct daemon_options *options, const char *value, struct err_detail *why)
{
    (void)why;
    return set_text(options, "origin-ca", value, &options->mirror.origin_ca);
}

enum err
daemon_set_token_file(struct daemon_options *options, const char *value, struct err_detail *why)
{
    (void)why;
    return set_text(options, "token-file", value, &options->mirror.token_file);
}

enum err
daemon_set_name(struct daemon_options *options, const char *value, struct err_detail *why)
{
    (void)why;
    return set_text(options, "name", value, &options->mirror.name);
}

enum err
daemon_set_budget(struct daemon_options *options, const char *value, struct err_detail *why)
{
    options->mirror.given = "budget";
    return daemon_options_bytes("budget", value, &options->mirror.budget_bytes, why);
}

enum err
daemon_set_prefetch(struct daemon_options *options, const char *value, struct err_detail *why)
{
    options->mirror.given = "prefetch";
    if (options->mirror.prefetched_count == DAEMON_PREFETCH_MAX) {
        return err_fail(why, ERR_INVALID, "--prefetch can be given %d times at most", DAEMON_PREFETCH_MAX);
    }
    options->mirror.prefetched[options->mirror.prefetched_count++] = value;
    return ERR_OK;
}

enum err
daemon_set_advertise(struct daemon_options *options, const char *value, struct err_detail *why)
{
    options->mirror.given = "advertise";
    if (options->mirror.advertised_count == DAEMON_ADVERTISE_MAX) {
        return err_fail(why, ERR_INVALID, "--advertise can be given %d times at most", DAEMON_ADVERTISE_MAX);
    }
    if (strncmp(value, "tls+tcp://", strlen("tls+tcp://")) != 0 && strncmp(value, "tcp://", strlen("tcp://")) != 0) {
        return err_fail(why, ERR_INVALID, "--advertise takes tls+tcp://HOST:PORT or tcp://HOST:PORT, not \"%s\"",
            value);
    }
    options->mirror.advertised[options->mirror.advertised_count++] = value;
    return ERR_OK;
}

enum err
daemon_options_finish_mirror(struct daemon_options *options, struct err_detail *why)
{
    const struct daemon_mirror_options *mirror = &options->mirror;
    if (options->role == DAEMON_ORIGIN) {
        return mirror->given == NULL ? ERR_OK
                                     : err_fail(why, ERR_INVALID, "--%s is for fcd --role segment", mirror->given);
    }
    if (options->action != DAEMON_RUN) {
        return ERR_OK;
    }
    if (mirror->origin_url == NULL || mirror->token_file == NULL) {
        return err_fail(why, ERR_INVALID, "fcd --role segment needs --origin and --token-file: see fcd --help");
    }
    bool has_tls = strncmp(mirror->origin_url, "tls+tcp://", strlen("tls+tcp://")) == 0;
    if (has_tls && (mirror->origin_fingerprint == NULL) == (mirror->origin_ca == NULL)) {
        return err_fail(why, ERR_INVALID,
            "%s has to be known by --origin-fingerprint (what fcd --fingerprint prints there) or --origin-ca",
            mirror->origin_url);
    }
    if (!has_tls && !swarm_url_is_local(mirror->origin_url) && !options->allows_plaintext) {
        return err_fail(why, ERR_INVALID,
            "the token would go to %s without encryption: use tls+tcp, or add --allow-plaintext", mirror->origin_url);
    }
    if (options->listen_count == 0) {
        options->listen_urls[options->listen_count++] = DEFAULT_LISTEN_URL;
    }
    return ERR_OK;
}
