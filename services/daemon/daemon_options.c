#include "services/daemon/daemon_options.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "services/daemon/daemon_listen.h"
#include "services/daemon/daemon_options_priv.h"

#define DEFAULT_HTTP_URL "http://127.0.0.1:7421"
#define SYSTEM_DATA_DIR "/var/lib/fcd"
#define QUOTA_MAX_BYTES (UINT64_C(1) << 60)

enum {
    TOKEN_TTL_DEFAULT_S = 30 * 24 * 3600,
    TOKEN_TTL_MIN_S = 1,
    TOKEN_TTL_MAX_S = 10 * 365 * 24 * 3600,
    CALL_RATE_MAX = 1000000,
    ROOMS_PER_USER_MAX = 1000000,
    MEMBERS_MAX = 10000, // the rules of rooms allow no more
    USERS_MAX = 1000000000,
    PUBLIC_URL_MAX_BYTES = 512, // with its NUL
    GRACE_DEFAULT_S = 7 * 24 * 3600,
    GRACE_MAX_S = 10 * 365 * 24 * 3600,
};

static const char default_http_url[] = DEFAULT_HTTP_URL; // of an origin

static enum err
set_data(struct daemon_options *options, const char *value, struct err_detail *why)
{
    if (value[0] == '\0' || strlen(value) >= sizeof(options->data_dir)) {
        return err_fail(why, ERR_INVALID, "--data needs the path of a folder");
    }
    memcpy(options->data_dir, value, strlen(value) + 1);
    return ERR_OK;
}

static enum err
set_listen(struct daemon_options *options, const char *value, struct err_detail *why)
{
    if (options->listen_count == DAEMON_LISTEN_MAX) {
        return err_fail(why, ERR_INVALID, "--listen can be given %d times at most", DAEMON_LISTEN_MAX);
    }
    options->listen_urls[options->listen_count++] = value;
    return ERR_OK;
}

static enum err
set_http(struct daemon_options *options, const char *value, struct err_detail *why)
{
    (void)why;
    options->http_url = strcmp(value, "off") == 0 ? NULL : value;
    return ERR_OK;
}

static enum err
set_public_url(struct daemon_options *options, const char *value, struct err_detail *why)
{
    size_t scheme = strncmp(value, "https://", 8) == 0 ? 8 : strncmp(value, "http://", 7) == 0 ? 7 : 0;
    if (strlen(value) >= PUBLIC_URL_MAX_BYTES || scheme == 0 || value[scheme] == '\0' || value[scheme] == '/' ||
        strpbrk(value, " \t\r\n?#\"") != NULL) {
        return err_fail(why, ERR_INVALID, "--public-url is https://HOST[:PORT][/PATH], or with http, not \"%s\"",
            value);
    }
    options->public_url = value;
    return ERR_OK;
}

static enum err
set_no_links(struct daemon_options *options, const char *value, struct err_detail *why)
{
    (void)value;
    (void)why;
    options->has_no_links = true;
    return ERR_OK;
}

static enum err
set_allow_plaintext(struct daemon_options *options, const char *value, struct err_detail *why)
{
    (void)value;
    (void)why;
    options->allows_plaintext = true;
    return ERR_OK;
}

static enum err
set_tls_cert(struct daemon_options *options, const char *value, struct err_detail *why)
{
    (void)why;
    options->tls_certificate = value;
    return ERR_OK;
}

static enum err
set_tls_key(struct daemon_options *options, const char *value, struct err_detail *why)
{
    (void)why;
    options->tls_key = value;
    return ERR_OK;
}

static enum err
set_tls_client_ca(struct daemon_options *options, const char *value, struct err_detail *why)
{
    (void)why;
    options->tls_client_ca = value;
    return ERR_OK;
}

static enum err
set_fingerprint(struct daemon_options *options, const char *value, struct err_detail *why)
{
    (void)value;
    (void)why;
    options->action = DAEMON_FINGERPRINT;
    return ERR_OK;
}

static enum err
set_signup(struct daemon_options *options, const char *value, struct err_detail *why)
{
    options->is_signup_closed = strcmp(value, "closed") == 0;
    if (!options->is_signup_closed && strcmp(value, "open") != 0) {
        return err_fail(why, ERR_INVALID, "--signup is open or closed, not \"%s\"", value);
    }
    return ERR_OK;
}

static enum err
set_max_users(struct daemon_options *options, const char *value, struct err_detail *why)
{
    char *end = NULL;
    unsigned long long users = strtoull(value, &end, 10);
    if (value[0] < '0' || value[0] > '9' || *end != '\0' || users > USERS_MAX) {
        return err_fail(why, ERR_INVALID, "--max-users is a number of accounts from 0, no limit, to %d, not \"%s\"",
            USERS_MAX, value);
    }
    options->max_users = users;
    return ERR_OK;
}

// A number of things from 1 to max.
static enum err
set_limit(const char *option, const char *value, unsigned long max, uint32_t *out, struct err_detail *why)
{
    char *end = NULL;
    unsigned long number = strtoul(value, &end, 10);
    if (value[0] < '0' || value[0] > '9' || *end != '\0' || number == 0 || number > max) {
        return err_fail(why, ERR_INVALID, "--%s is a number from 1 to %lu, not \"%s\"", option, max, value);
    }
    *out = (uint32_t)number;
    return ERR_OK;
}

static enum err
set_max_rooms_per_user(struct daemon_options *options, const char *value, struct err_detail *why)
{
    return set_limit("max-rooms-per-user", value, ROOMS_PER_USER_MAX, &options->max_rooms_per_user, why);
}

static enum err
set_max_members(struct daemon_options *options, const char *value, struct err_detail *why)
{
    return set_limit("max-members", value, MEMBERS_MAX, &options->max_members, why);
}

static enum err
set_metrics(struct daemon_options *options, const char *value, struct err_detail *why)
{
    options->has_public_metrics = strcmp(value, "public") == 0;
    if (!options->has_public_metrics && strcmp(value, "local") != 0) {
        return err_fail(why, ERR_INVALID, "--metrics is local or public, not \"%s\"", value);
    }
    return ERR_OK;
}

static enum err
set_token_ttl(struct daemon_options *options, const char *value, struct err_detail *why)
{
    char *end = NULL;
    unsigned long long seconds = strtoull(value, &end, 10);
    if (value[0] < '0' || value[0] > '9' || *end != '\0' || seconds < TOKEN_TTL_MIN_S || seconds > TOKEN_TTL_MAX_S) {
        return err_fail(why, ERR_INVALID, "--token-ttl is a number of seconds from %d to %d, not \"%s\"",
            TOKEN_TTL_MIN_S, TOKEN_TTL_MAX_S, value);
    }
    options->token_lifetime_ms = seconds * 1000;
    return ERR_OK;
}

static enum err
set_call_rate(struct daemon_options *options, const char *value, struct err_detail *why)
{
    char *end = NULL;
    unsigned long calls = strtoul(value, &end, 10);
    if (value[0] < '0' || value[0] > '9' || *end != '\0' || calls > CALL_RATE_MAX) {
        return err_fail(why, ERR_INVALID,
            "--call-rate is a number of calls a second from 0, no limit, to %d, not \"%s\"", CALL_RATE_MAX, value);
    }
    options->calls_per_second = (uint32_t)calls;
    return ERR_OK;
}

static enum err
set_send_rate(struct daemon_options *options, const char *value, struct err_detail *why)
{
    char *end = NULL;
    unsigned long messages = strtoul(value, &end, 10);
    if (value[0] < '0' || value[0] > '9' || *end != '\0' || messages > CALL_RATE_MAX) {
        return err_fail(why, ERR_INVALID,
            "--send-rate is a number of messages a second from 0, no limit, to %d, not \"%s\"", CALL_RATE_MAX, value);
    }
    options->sends_per_second = (uint32_t)messages;
    return ERR_OK;
}

// Reads a number with a suffix, of which each stands for so many of the one before it; one without has the first.
static enum err
read_scaled(const char *value, const char *suffixes, const uint64_t *factors, uint64_t max, uint64_t *out)
{
    char *end = NULL;
    errno = 0;
    unsigned long long number = strtoull(value, &end, 10);
    uint64_t factor = factors[0];
    if (value[0] < '0' || value[0] > '9' || errno != 0) {
        return ERR_INVALID;
    }
    if (*end != '\0') {
        const char *suffix = strchr(suffixes, *end);
        if (suffix == NULL || end[1] != '\0') {
            return ERR_INVALID;
        }
        factor = factors[suffix - suffixes];
    }
    if (number > max / factor) {
        return ERR_INVALID;
    }
    *out = number * factor;
    return ERR_OK;
}

enum err
daemon_options_bytes(const char *option, const char *value, uint64_t *out, struct err_detail *why)
{
    static const uint64_t factors[] = {1, UINT64_C(1) << 10, UINT64_C(1) << 20, UINT64_C(1) << 30, UINT64_C(1) << 40};
    if (read_scaled(value, "BKMGT", factors, QUOTA_MAX_BYTES, out) != ERR_OK) {
        return err_fail(why, ERR_INVALID,
            "--%s is a number of bytes, or with K, M, G or T behind it; 0 for no limit, not \"%s\"", option, value);
    }
    return ERR_OK;
}

static enum err
set_user_quota(struct daemon_options *options, const char *value, struct err_detail *why)
{
    return daemon_options_bytes("user-quota", value, &options->user_quota_bytes, why);
}

static enum err
set_limit_rate(struct daemon_options *options, const char *value, struct err_detail *why)
{
    return daemon_options_bytes("limit-rate", value, &options->limit_bytes_per_s, why);
}

static enum err
set_room_quota(struct daemon_options *options, const char *value, struct err_detail *why)
{
    return daemon_options_bytes("room-quota", value, &options->room_quota_bytes, why);
}

static enum err
set_delete_grace(struct daemon_options *options, const char *value, struct err_detail *why)
{
    static const uint64_t factors[] = {1, 60, 3600, 24 * 3600};
    uint64_t seconds = 0;
    if (read_scaled(value, "smhd", factors, GRACE_MAX_S, &seconds) != ERR_OK) {
        return err_fail(why, ERR_INVALID,
            "--delete-grace is a number of seconds, or with m, h or d behind it, up to 10 years, not \"%s\"", value);
    }
    options->delete_grace_ms = (int64_t)seconds * 1000;
    return ERR_OK;
}

static enum err
set_repair(struct daemon_options *options, const char *value, struct err_detail *why)
{
    (void)value;
    options->is_repairing = true;
    return options->action == DAEMON_CHECK ? ERR_OK : err_fail(why, ERR_INVALID, "--repair is for fcd check");
}

static enum err
set_copy(struct daemon_options *options, const char *value, struct err_detail *why)
{
    (void)value;
    options->is_copying = true;
    return options->action == DAEMON_BACKUP ? ERR_OK : err_fail(why, ERR_INVALID, "--copy is for fcd backup");
}

static enum err
set_log_level(struct daemon_options *options, const char *value, struct err_detail *why)
{
    enum err err = log_level_from_text(value, &options->log_level);
    if (err != ERR_OK) {
        return err_fail(why, ERR_INVALID, "--log-level is error, warn, info or debug, not \"%s\"", value);
    }
    return ERR_OK;
}

static enum err
set_version(struct daemon_options *options, const char *value, struct err_detail *why)
{
    (void)value;
    (void)why;
    options->action = DAEMON_VERSION;
    return ERR_OK;
}

static enum err
set_help(struct daemon_options *options, const char *value, struct err_detail *why)
{
    (void)value;
    (void)why;
    options->action = DAEMON_HELP;
    return ERR_OK;
}

static const struct {
    const char *name;
    const char *argument; // NULL: takes none
    const char *help;     // lines after the first are indented by whoever prints them
    daemon_option_fn *set;
} rows[] = {
    {"data", "DIR", "keep everything in this folder\n[as root " SYSTEM_DATA_DIR ", else ~/.local/share/fcd]", set_data},
    {"listen", "URL",
        "take calls at tls+tcp://HOST[:7422], tcp://HOST:PORT or\nipc://PATH; may be given again\n"
        "[" DAEMON_DEFAULT_TCP_URL " and ipc://DIR/fcd.sock]",
        set_listen},
    {"http", "URL|off", "take calls over WebSocket at https://HOST:PORT or\nhttp://HOST:PORT [" DEFAULT_HTTP_URL "]",
        set_http},
    {"public-url", "URL", "where browsers reach --http, for links to files", set_public_url},
    {"no-links", NULL, "no links by which files are read without an account", set_no_links},
    {"allow-plaintext", NULL, "without TLS also where other machines reach it", set_allow_plaintext},
    {"tls-cert", "FILE", "the certificate in PEM [DIR/tls/certificate.pem, made on\nfirst start]", set_tls_cert},
    {"tls-key", "FILE", "its key [DIR/tls/key.pem]", set_tls_key},
    {"tls-client-ca", "FILE", "with TLS take only clients whose certificate these signed", set_tls_client_ca},
    {"metrics", "local|public", "who may read /metrics of --http: this machine, or all [local]", set_metrics},
    {"signup", "open|closed", "whether strangers may make accounts [open]", set_signup},
    {"max-users", "N", "how many accounts there may be; 0 for no limit [0]", set_max_users},
    {"max-rooms-per-user", "N", "how many rooms one user may be in or invited to [1000]", set_max_rooms_per_user},
    {"max-members", "N", "how many members and invited users a room may have\n[10000, which is the most]",
        set_max_members},
    {"token-ttl", "SECONDS", "how long a login lasts [2592000, which is 30 days]", set_token_ttl},
    {"call-rate", "N", "calls a second that one user may make, or one address before\nlogin; 0 for no limit [0]",
        set_call_rate},
    {"send-rate", "N", "messages a second that one user may send; 0 for no limit [0]", set_send_rate},
    {"user-quota", "BYTES", "what one user may store, as 10G; 0 for no limit [0]", set_user_quota},
    {"room-quota", "BYTES", "what may be shared with one room; 0 for no limit [0]", set_room_quota},
    {"limit-rate", "BYTES", "what is sent a second to those who read from several servers,\nas 10M; 0 for no limit [0]",
        set_limit_rate},
    {"delete-grace", "TIME", "how long deleted files can be restored, as 12h or 7d [7d]", set_delete_grace},
    {"role", "segment", "serve segments of another fcd's files, as a mirror of it", daemon_set_role},
    {"origin", "URL", "mirror: that fcd", daemon_set_origin},
    {"origin-fingerprint", "HEX", "mirror: its certificate, as fcd --fingerprint prints there",
        daemon_set_origin_fingerprint},
    {"origin-ca", "FILE", "mirror: or who has signed it", daemon_set_origin_ca},
    {"token-file", "FILE", "mirror: a token of an administrator's, in a file of mode 0600", daemon_set_token_file},
    {"budget", "BYTES", "mirror: what it keeps at most, as 100G; 0 for no limit [0]", daemon_set_budget},
    {"prefetch", "all|NAME",
        "mirror: fetch all that the account can read, or this file,\nbefore it is asked for;"
        " may be given again",
        daemon_set_prefetch},
    {"name", "NAME", "mirror: what it is called in lists [the machine's]", daemon_set_name},
    {"advertise", "URL", "mirror: where readers reach it, if not where it listens;\nmay be given again",
        daemon_set_advertise},
    {"repair", NULL, "fcd check: drop what nothing names, mark what is damaged", set_repair},
    {"copy", NULL, "fcd backup: copy contents instead of linking them", set_copy},
    {"log-level", "LEVEL", "error, warn, info or debug [info]", set_log_level},
    {"fingerprint", NULL, "print the certificate's SHA-256 fingerprint and end", set_fingerprint},
    {"version", NULL, "print the version and end", set_version},
    {"help", NULL, "print this and end", set_help},
};

enum {
    ROW_COUNT = sizeof(rows) / sizeof(rows[0]),
    HELP_COLUMN = 26,
};

void
daemon_options_print_help(FILE *stream)
{
    (void)fputs("usage: fcd [OPTION...]\n"
                "       fcd --role segment --origin URL --token-file FILE [OPTION...]\n"
                "       fcd check [--data DIR] [--repair]\n"
                "       fcd backup [--data DIR] [--copy] TARGET\n"
                "The server of fc: chat rooms and files for a team. check reads everything that a\n"
                "stopped server has stored, backup copies what a running one has to a new folder.\n\n",
        stream);
    for (size_t i = 0; i < ROW_COUNT; i++) {
        const char *argument = rows[i].argument != NULL ? rows[i].argument : "";
        int used = fprintf(stream, "  --%s %s", rows[i].name, argument);
        for (const char *c = rows[i].help; *c != '\0'; c++) {
            if (c == rows[i].help || c[-1] == '\n') {
                (void)fprintf(stream, "%*s", c == rows[i].help && used < HELP_COLUMN ? HELP_COLUMN - used : HELP_COLUMN,
                    "");
            }
            (void)fputc(*c, stream);
        }
        (void)fputc('\n', stream);
    }
    (void)fputs("\nWhen it takes calls it prints one line: ready rpc=URL[,URL...] http=URL\n"
                "SIGTERM lets it finish what is in flight. The manual is fcd(8).\n",
        stream);
}

// Where the data of this user is kept.
static enum err
set_default_data_dir(struct daemon_options *options, struct err_detail *why)
{
    const char *xdg = getenv("XDG_DATA_HOME");
    const char *home = getenv("HOME");
    const char *ending = options->role == DAEMON_SEGMENT ? "-segment" : "";
    int length = 0;
    if (geteuid() == 0) {
        length = snprintf(options->data_dir, sizeof(options->data_dir), "%s%s", SYSTEM_DATA_DIR, ending);
    } else if (xdg != NULL && xdg[0] == '/') {
        length = snprintf(options->data_dir, sizeof(options->data_dir), "%s/fcd%s", xdg, ending);
    } else if (home != NULL && home[0] != '\0') {
        length = snprintf(options->data_dir, sizeof(options->data_dir), "%s/.local/share/fcd%s", home, ending);
    }
    if (length <= 0 || (size_t)length >= sizeof(options->data_dir)) {
        return err_fail(why, ERR_PRECONDITION, "there is no home folder to keep the data in: give --data DIR");
    }
    return ERR_OK;
}

// Says what getopt_long did not like about the argument it has just read.
static enum err
fail_option(int code, char **argv, int next, struct err_detail *why)
{
    // A long option stands whole in the argument before the next; a cluster of short ones may not be through yet.
    const char *argument = optopt != 0 && code == '?' ? NULL : argv[next - 1];
    if (code == ':') {
        return err_fail(why, ERR_INVALID, "%s needs a value: see fcd --help", argument);
    }
    if (argument == NULL) {
        return err_fail(why, ERR_INVALID, "unknown option -%c: see fcd --help", optopt);
    }
    return err_fail(why, ERR_INVALID, "unknown option %s: see fcd --help", argument);
}

enum err
daemon_options_parse(int argc, char **argv, struct daemon_options *out, struct err_detail *why)
{
    struct daemon_options options = {
        .http_url = default_http_url,
        .token_lifetime_ms = (uint64_t)TOKEN_TTL_DEFAULT_S * 1000,
        .delete_grace_ms = (int64_t)GRACE_DEFAULT_S * 1000,
        .log_level = LOG_INFO,
    };
    struct option longs[ROW_COUNT + 1] = {0};
    enum err err = ERR_OK;
    int row = 0;
    for (size_t i = 0; i < ROW_COUNT; i++) {
        longs[i].name = rows[i].name;
        longs[i].has_arg = rows[i].argument != NULL ? required_argument : no_argument;
    }
    // A command takes the place of the program's name.
    if (argc > 1 && strcmp(argv[1], "check") == 0) {
        options.action = DAEMON_CHECK;
    } else if (argc > 1 && strcmp(argv[1], "backup") == 0) {
        options.action = DAEMON_BACKUP;
    }
    bool has_command = options.action != DAEMON_RUN;
    argc -= has_command;
    argv += has_command;
    opterr = 0;
    optind = 0; // glibc: start afresh
    for (;;) {
        int code = getopt_long(argc, argv, "+:", longs, &row);
        if (code == -1) {
            break;
        }
        err = code == 0 ? rows[row].set(&options, optarg, why) : fail_option(code, argv, optind, why);
        if (err != ERR_OK) {
            return err;
        }
    }
    if (options.action == DAEMON_BACKUP && optind < argc) {
        options.backup_target = argv[optind++];
    } else if (options.action == DAEMON_BACKUP) {
        return err_fail(why, ERR_INVALID, "fcd backup needs the folder to make: see fcd --help");
    }
    if (optind < argc) {
        return err_fail(why, ERR_INVALID, "unexpected argument \"%s\": see fcd --help", argv[optind]);
    }
    if ((options.tls_certificate == NULL) != (options.tls_key == NULL)) {
        return err_fail(why, ERR_INVALID, "--tls-cert and --tls-key go together: see fcd --help");
    }
    if (options.role == DAEMON_SEGMENT && options.http_url == default_http_url) {
        options.http_url = NULL;
    }
    err = daemon_options_finish_mirror(&options, why);
    if (err == ERR_OK) {
        err = daemon_listen_check(&options, why);
    }
    bool needs_data = options.action != DAEMON_HELP && options.action != DAEMON_VERSION;
    if (err == ERR_OK && needs_data && options.data_dir[0] == '\0') {
        err = set_default_data_dir(&options, why);
    }
    if (err == ERR_OK) {
        *out = options;
    }
    return err;
}
