#include "rpc/rpc_nng.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum err
err_from_nng(int nng_error)
{
    switch (nng_error) {
    case 0:
        return ERR_OK;
    case NNG_ENOMEM:
        return ERR_NO_MEMORY;
    case NNG_EINVAL:
    case NNG_EADDRINVAL:
        return ERR_INVALID;
    case NNG_EBUSY:
    case NNG_EADDRINUSE:
        return ERR_BUSY;
    case NNG_ETIMEDOUT:
        return ERR_TIMEOUT;
    case NNG_ECONNREFUSED:
    case NNG_EUNREACHABLE:
        return ERR_UNAVAILABLE;
    case NNG_ECLOSED:
    case NNG_ECONNSHUT:
        return ERR_CLOSED;
    case NNG_ECANCELED:
        return ERR_CANCELLED;
    case NNG_ENOENT:
        return ERR_NOT_FOUND;
    case NNG_EEXIST:
        return ERR_EXISTS;
    case NNG_EPROTO:
        return ERR_PROTOCOL;
    case NNG_EMSGSIZE:
        return ERR_TOO_BIG;
    case NNG_EPERM:
        return ERR_DENIED;
    case NNG_ENOFILES:
        return ERR_LIMIT;
    case NNG_ENOSPC:
        return ERR_NO_SPACE;
    default:
        if ((nng_error & NNG_ESYSERR) != 0) {
            return err_from_errno(nng_error & ~NNG_ESYSERR);
        }
        return ERR_IO;
    }
}

const char *
rpc_nng_explain(int nng_error)
{
    switch (nng_error) {
    case NNG_ECONNREFUSED:
        return "connection refused";
    case NNG_EADDRINVAL:
        return "no such host or address";
    case NNG_EADDRINUSE:
        return "the address is in use";
    case NNG_EUNREACHABLE:
        return "no route to it";
    case NNG_ETIMEDOUT:
        return "no answer in time";
    case NNG_ENOENT:
        return "no such file or folder";
    case NNG_EPERM:
        return "permission denied";
    case NNG_ENOFILES:
        return "too many open files";
    case NNG_ECLOSED:
    case NNG_ECONNSHUT:
    case NNG_ECONNRESET:
        return "the connection was closed";
    default:
        return err_sentence(err_from_nng(nng_error));
    }
}

// Splits "HOST:PORT", where a host with colons stands in brackets.
static enum err
parse_host_and_port(const char *text, struct rpc_url *url, struct err_detail *why)
{
    const char *host = text;
    const char *host_end;
    const char *colon;
    if (*text == '[') {
        host = text + 1;
        host_end = strchr(host, ']');
        colon = host_end == NULL ? NULL : host_end + 1;
    } else {
        host_end = strrchr(text, ':');
        colon = host_end;
    }
    if (colon == NULL || *colon != ':') {
        return err_fail(why, ERR_INVALID, "\"%s\" has no port; write tcp://HOST:PORT", url->text);
    }
    size_t host_size = (size_t)(host_end - host);
    memcpy(url->host, host, host_size);
    url->host[host_size] = '\0';
    if (strpbrk(url->host, "/?#@ ") != NULL || (*text != '[' && strchr(url->host, ':') != NULL)) {
        return err_fail(why, ERR_INVALID, "\"%s\" has no valid host; write tcp://HOST:PORT", url->text);
    }

    const char *digits = colon + 1;
    size_t digit_count = strspn(digits, "0123456789");
    unsigned long port = strtoul(digits, NULL, 10);
    if (digit_count == 0 || digit_count > 5 || digits[digit_count] != '\0' || port > UINT16_MAX) {
        return err_fail(why, ERR_INVALID, "\"%s\" has no valid port; ports are 0 to 65535", url->text);
    }
    url->port = (uint16_t)port;

    struct in6_addr ignored;
    bool is_literal = inet_pton(AF_INET, url->host, &ignored) == 1 || inet_pton(AF_INET6, url->host, &ignored) == 1;
    if (*text == '[' && inet_pton(AF_INET6, url->host, &ignored) != 1) {
        return err_fail(why, ERR_INVALID, "\"%s\" has no valid IPv6 address in its brackets", url->text);
    }
    url->has_host_name = !is_literal && url->host[0] != '\0' && strcmp(url->host, "*") != 0;
    return ERR_OK;
}

static const char tls_prefix[] = "tls+";

const char *
rpc_url_stream(const struct rpc_url *url)
{
    return url->is_tls ? url->text + strlen(tls_prefix) : url->text;
}

static enum err
add_default_port(struct rpc_url *url, struct err_detail *why)
{
    const char *host = url->text + strlen("tls+tcp://");
    const char *host_end = *host == '[' ? strchr(host, ']') : host;
    size_t size = strlen(url->text);
    if (size <= strlen("tls+tcp://") || host_end == NULL || strchr(host_end, ':') != NULL) {
        return ERR_OK; // it has one, or is none of ours
    }
    int added = snprintf(url->text + size, sizeof url->text - size, ":%d", RPC_TLS_DEFAULT_PORT);
    if ((size_t)added >= sizeof url->text - size) {
        return err_fail(why, ERR_INVALID, "an address has 1 to %d characters", RPC_URL_MAX_BYTES - 1);
    }
    return ERR_OK;
}

enum err
rpc_url_parse(const char *text, struct rpc_url *url_out, struct err_detail *why)
{
    enum {
        SOCKET_PATH_MAX = 107, // sockaddr_un.sun_path without its NUL
    };
    struct rpc_url url = {0};
    size_t size = text == NULL ? 0 : strlen(text);
    if (size == 0 || size >= sizeof url.text) {
        return err_fail(why, ERR_INVALID, "an address has 1 to %d characters", RPC_URL_MAX_BYTES - 1);
    }
    memcpy(url.text, text, size + 1);

    static const char tcp[] = "tcp://";
    static const char ipc[] = "ipc://";
    url.is_tls = strncmp(text, tls_prefix, strlen(tls_prefix)) == 0;
    if (url.is_tls) {
        enum err err = add_default_port(&url, why);
        if (err != ERR_OK) {
            return err;
        }
    }
    const char *stream = rpc_url_stream(&url);
    if (strncmp(stream, tcp, strlen(tcp)) == 0) {
        enum err err = parse_host_and_port(stream + strlen(tcp), &url, why);
        if (err != ERR_OK) {
            return err;
        }
    } else if (strncmp(text, ipc, strlen(ipc)) == 0) {
        url.is_ipc = true;
        strcpy(url.path, text + strlen(ipc));
        if (url.path[0] == '\0' || strlen(url.path) > SOCKET_PATH_MAX) {
            return err_fail(why, ERR_INVALID, "\"%s\": the path of a socket has 1 to %d characters", text,
                SOCKET_PATH_MAX);
        }
    } else {
        return err_fail(why, ERR_INVALID, "\"%s\" is no address; write tls+tcp://HOST, tcp://HOST:PORT or ipc://PATH",
            text);
    }
    *url_out = url;
    return ERR_OK;
}

void
rpc_nng_format_address(nng_stream *stream, bool is_ipc, char text_out[RPC_NNG_ADDRESS_MAX_BYTES])
{
    char host[INET6_ADDRSTRLEN] = "?";
    nng_sockaddr address = {.s_family = NNG_AF_UNSPEC};
    if (is_ipc) {
        strcpy(text_out, "ipc");
    } else if (nng_stream_get_addr(stream, NNG_OPT_REMADDR, &address) != 0) {
        strcpy(text_out, "unknown");
    } else if (address.s_family == NNG_AF_INET6) {
        (void)inet_ntop(AF_INET6, address.s_in6.sa_addr, host, sizeof host);
        (void)snprintf(text_out, RPC_NNG_ADDRESS_MAX_BYTES, "[%s]:%u", host, ntohs(address.s_in6.sa_port));
    } else {
        (void)inet_ntop(AF_INET, &address.s_in.sa_addr, host, sizeof host);
        (void)snprintf(text_out, RPC_NNG_ADDRESS_MAX_BYTES, "%s:%u", host, ntohs(address.s_in.sa_port));
    }
}

static pthread_once_t helpers_once = PTHREAD_ONCE_INIT;
static struct timer_queue *shared_timers;
static struct work_pool *shared_reaper;

static void
start_helpers(void)
{
    if (timer_queue_new(&shared_timers) != ERR_OK) {
        shared_timers = NULL;
    }
    if (work_pool_new("rpc-reaper", 1, &shared_reaper) != ERR_OK) {
        shared_reaper = NULL;
    }
}

struct timer_queue *
rpc_nng_timers(void)
{
    (void)pthread_once(&helpers_once, start_helpers);
    return shared_timers;
}

struct work_pool *
rpc_nng_reaper(void)
{
    (void)pthread_once(&helpers_once, start_helpers);
    return shared_reaper;
}
