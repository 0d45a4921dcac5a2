#include "services/daemon/daemon_listen.h"

#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "base/log.h"
#include "swarm/swarm_url.h"

static bool
has_prefix(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool
is_encrypted(const char *url)
{
    return has_prefix(url, "tls+tcp://") || has_prefix(url, "https://");
}

static enum err
check_url(const char *option, const char *url, bool is_right, const char *expected, bool allows_plaintext,
    struct err_detail *why)
{
    if (!is_right) {
        return err_fail(why, ERR_INVALID, "%s takes %s, not \"%s\"", option, expected, url);
    }
    if (!swarm_url_is_local(url) && !is_encrypted(url) && !allows_plaintext) {
        bool is_web = has_prefix(url, "http://");
        return err_fail(why, ERR_INVALID,
            "%s could be reached from other machines, without encryption: use %s%s, or add --allow-plaintext", url,
            is_web ? "https" : "tls+tcp", strstr(url, "://"));
    }
    return ERR_OK;
}

enum err
daemon_listen_check(const struct daemon_options *options, struct err_detail *why)
{
    enum err err = ERR_OK;
    for (size_t i = 0; err == ERR_OK && i < options->listen_count; i++) {
        const char *url = options->listen_urls[i];
        bool is_right = has_prefix(url, "tls+tcp://") || has_prefix(url, "tcp://") || has_prefix(url, "ipc://");
        err = check_url("--listen", url, is_right, "tls+tcp://HOST[:PORT], tcp://HOST:PORT or ipc://PATH",
            options->allows_plaintext, why);
    }
    if (err == ERR_OK && options->http_url != NULL) {
        bool is_right = has_prefix(options->http_url, "https://") || has_prefix(options->http_url, "http://");
        err = check_url("--http", options->http_url, is_right, "https://HOST:PORT, http://HOST:PORT or off",
            options->allows_plaintext, why);
    }
    return err;
}

static enum err
listen_on(struct rpc_server *server, const char *url, const char *separator, struct bytes *ready_line,
    struct err_detail *why)
{
    char bound[RPC_URL_MAX_BYTES];
    enum err err = rpc_server_listen(server, url, bound, why);
    if (err == ERR_BUSY) {
        return err_fail(why, err, "%s is in use by another program: end it, or give another address", url);
    }
    if (err != ERR_OK) {
        return err;
    }
    if (!swarm_url_is_local(bound) && !is_encrypted(bound)) {
        log_warn("FCD-NO-TLS", NULL,
            "%s can be reached from other machines and is not encrypted: whoever is in between can read messages and"
            " files and take over logins; listen on %s instead",
            bound, has_prefix(bound, "http://") ? "https://" : "tls+tcp://");
    }
    err = bytes_append(ready_line, bytes_view_of_text(separator));
    return err == ERR_OK ? bytes_append(ready_line, bytes_view_of_text(bound)) : err;
}

static enum err
listen_default(struct rpc_server *server, const char *data_dir, struct bytes *ready_line, struct err_detail *why)
{
    char url[DAEMON_PATH_MAX_BYTES + sizeof("ipc:///fcd.sock")];
    enum err err = listen_on(server, DAEMON_DEFAULT_TCP_URL, " rpc=", ready_line, why);
    if (err != ERR_OK) {
        return err;
    }
    (void)snprintf(url, sizeof(url), "ipc://%s/fcd.sock", data_dir);
    if (strlen(url) - strlen("ipc://") >= sizeof(((struct sockaddr_un *)0)->sun_path)) {
        log_warn("FCD-NO-IPC", NULL, "the data folder's path is too long for %s, so only TCP is offered", url);
        return ERR_OK;
    }
    return listen_on(server, url, ",", ready_line, why);
}

enum err
daemon_listen(struct rpc_server *server, const struct daemon_options *options, const char *data_dir,
    struct bytes *ready_line, struct err_detail *why)
{
    enum err err = bytes_append(ready_line, bytes_view_of_text("ready"));
    if (err == ERR_OK && options->listen_count == 0) {
        err = listen_default(server, data_dir, ready_line, why);
    }
    for (size_t i = 0; err == ERR_OK && i < options->listen_count; i++) {
        err = listen_on(server, options->listen_urls[i], i == 0 ? " rpc=" : ",", ready_line, why);
    }
    if (err == ERR_OK && options->http_url == NULL) {
        err = bytes_append(ready_line, bytes_view_of_text(" http=off"));
    } else if (err == ERR_OK) {
        err = listen_on(server, options->http_url, " http=", ready_line, why);
    }
    return err == ERR_OK ? bytes_append(ready_line, bytes_view_of_text("\n")) : err;
}
