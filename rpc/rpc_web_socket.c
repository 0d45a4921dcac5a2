// The web listener's socket: from https://HOST:PORT or http://HOST:PORT to a descriptor that listens.
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rpc/rpc_web_priv.h"

enum {
    HOST_MAX_BYTES = 254, // a DNS name and NUL
    PORT_MAX_BYTES = 6,
    LISTEN_BACKLOG = 1024,
};

// Splits https://HOST:PORT or http://HOST:PORT; an IPv6 address stands in brackets.
static enum err
parse_url(const char *url, char host_out[HOST_MAX_BYTES], char port_out[PORT_MAX_BYTES], struct err_detail *why)
{
    const char *separator = strstr(url, "://");
    const char *host = separator == NULL ? "" : separator + strlen("://");
    const char *colon = strrchr(host, ':');
    if (strncmp(url, "http", strlen("http")) != 0 || colon == NULL) {
        return err_fail(why, ERR_INVALID, "\"%s\" is not http://HOST:PORT", url);
    }
    size_t host_size = (size_t)(colon - host);
    size_t port_size = strlen(colon + 1);
    if (host_size >= 2 && host[0] == '[' && host[host_size - 1] == ']') {
        host++;
        host_size -= 2;
    }
    if (host_size == 0 || host_size >= HOST_MAX_BYTES || port_size == 0 || port_size >= PORT_MAX_BYTES ||
        strspn(colon + 1, "0123456789") != port_size || strtol(colon + 1, NULL, 10) > UINT16_MAX) {
        return err_fail(why, ERR_INVALID, "\"%s\" is not http://HOST:PORT", url);
    }
    memcpy(host_out, host, host_size);
    host_out[host_size] = '\0';
    memcpy(port_out, colon + 1, port_size + 1);
    return ERR_OK;
}

static enum err
open_socket(const char *url, const struct addrinfo *address, int *fd_out, struct err_detail *why)
{
    int on = 1;
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return err_fail(why, err_from_errno(errno), "%s: %s", url, strerror(errno));
    }
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        bind(fd, address->ai_addr, address->ai_addrlen) != 0 || listen(fd, LISTEN_BACKLOG) != 0) {
        int error = errno;
        (void)close(fd);
        enum err err = error == EADDRINUSE ? ERR_BUSY : err_from_errno(error);
        return err_fail(why, err, "cannot listen on %s: %s", url, strerror(error));
    }
    *fd_out = fd;
    return ERR_OK;
}

enum err
web_socket_listen(const char *url, char *bound_url_out, int *fd_out, struct err_detail *why)
{
    char host[HOST_MAX_BYTES];
    char port[PORT_MAX_BYTES];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    struct sockaddr_storage bound;
    socklen_t bound_size = sizeof(bound);
    int fd = -1;

    enum err err = parse_url(url, host, port, why);
    if (err != ERR_OK) {
        return err;
    }
    int status = getaddrinfo(host, port, &hints, &found);
    if (status != 0) {
        return err_fail(why, ERR_INVALID, "%s: %s", url, gai_strerror(status));
    }
    err = open_socket(url, found, &fd, why);
    freeaddrinfo(found);
    if (err != ERR_OK) {
        return err;
    }
    if (getsockname(fd, (struct sockaddr *)&bound, &bound_size) != 0 ||
        getnameinfo((struct sockaddr *)&bound, bound_size, NULL, 0, port, sizeof(port), NI_NUMERICSERV) != 0) {
        (void)close(fd);
        return err_fail(why, ERR_IO, "%s: the port that was bound cannot be read", url);
    }
    (void)snprintf(bound_url_out, RPC_URL_MAX_BYTES, "%.*s:%s", (int)(strrchr(url, ':') - url), url, port);
    *fd_out = fd;
    return ERR_OK;
}
