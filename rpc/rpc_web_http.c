// The HTTP side of the web listener: short answers, and who may become a WebSocket.
//
// Every answer closes its connection. libwebsockets 4.1 reads freed memory when a second request on a kept connection
// asks for an upgrade that it does not know (CVE-2025-11677), and nothing here is worth keeping one for.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "rpc/rpc_metrics.h"
#include "rpc/rpc_web_priv.h"

enum {
    // Of a path: "/events/" and the longest ticket fit.
    PATH_MAX_BYTES = 128,
    // Of Host and Origin: a DNS name has at most 253 characters.
    AUTHORITY_MAX_BYTES = 320,
    HEAD_MAX_BYTES = 512,
};

static const char events_path[] = "/events/";

static const char *
status_text(unsigned status)
{
    switch (status) {
    case 200:
        return "OK";
    case 400:
        return "Bad Request";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    default:
        return "Service Unavailable";
    }
}

static int
answer_with(struct lws *wsi, unsigned status, const char *content_type, struct bytes_view body)
{
    char head[HEAD_MAX_BYTES];
    struct bytes answer = {0};
    int size = snprintf(head, sizeof(head),
        "HTTP/1.1 %u %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\nX-Content-Type-Options: nosniff\r\n"
        "Connection: close\r\n\r\n",
        status, status_text(status), content_type, body.size);
    enum err err = bytes_append(&answer, bytes_view_of(head, (size_t)size));
    if (err == ERR_OK && lws_hdr_total_length(wsi, WSI_TOKEN_HEAD_URI) == 0) {
        err = bytes_append(&answer, body);
    }
    if (err == ERR_OK) {
        // What the socket does not take, libwebsockets keeps, and gives it 5 s to leave before it closes.
        (void)lws_write(wsi, answer.data, answer.size, LWS_WRITE_RAW);
    }
    bytes_free(&answer);
    return -1;
}

int
web_http_answer(struct lws *wsi, unsigned status, const char *text)
{
    return answer_with(wsi, status, "text/plain; charset=utf-8", bytes_view_of_text(text));
}

// Whether the other end is on this machine. A proxy here speaks for others, and says so.
static bool
is_from_here(struct lws *wsi)
{
    struct sockaddr_storage address = {0};
    socklen_t address_size = sizeof(address);
    if (lws_hdr_total_length(wsi, WSI_TOKEN_X_FORWARDED_FOR) != 0 ||
        getpeername(lws_get_socket_fd(wsi), (struct sockaddr *)&address, &address_size) != 0) {
        return false;
    }
    if (address.ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)&address;
        return ntohl(v4->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    }
    const struct in6_addr *v6 = &((const struct sockaddr_in6 *)&address)->sin6_addr;
    return address.ss_family == AF_INET6 &&
           (IN6_IS_ADDR_LOOPBACK(v6) || (IN6_IS_ADDR_V4MAPPED(v6) && v6->s6_addr[12] == IN_LOOPBACKNET));
}

static int
answer_metrics(struct web_listener *listener, struct lws *wsi)
{
    struct bytes text = {0};
    if (!rpc_metrics_are_public(listener->server) && !is_from_here(wsi)) {
        return web_http_answer(wsi, 403, "Metrics are for this machine only, unless fcd runs with --metrics public.\n");
    }
    enum err err = rpc_metrics_write(listener->server, &text);
    int result = err == ERR_OK ? answer_with(wsi, 200, RPC_METRICS_CONTENT_TYPE, bytes_as_view(&text))
                               : web_http_answer(wsi, 503, "Out of memory; try later.\n");
    bytes_free(&text);
    return result;
}

int
web_http_request(struct web_listener *listener, struct lws *wsi)
{
    char path[PATH_MAX_BYTES];
    int result = 0;
    if (web_content_request(listener, wsi, &result)) {
        return result;
    }
    int size = lws_hdr_copy(wsi, path, sizeof(path), WSI_TOKEN_GET_URI);
    if (size == 1 && path[0] == '/') {
        return web_http_answer(wsi, 200, "This is fcd. Programs connect to /rpc with a WebSocket.\n");
    }
    if (size > 0 && strcmp(path, "/metrics") == 0) {
        return answer_metrics(listener, wsi);
    }
    return web_http_answer(wsi, 404, "There is nothing here.\n");
}

// A browser names the page that opens a WebSocket. Only pages from this very host and port may: a stranger's page must
// not use the network position of who looks at it. Programs send no Origin.
static bool
is_origin_allowed(struct lws *wsi)
{
    char origin[AUTHORITY_MAX_BYTES];
    char host[AUTHORITY_MAX_BYTES];
    if (lws_hdr_total_length(wsi, WSI_TOKEN_ORIGIN) == 0) {
        return true;
    }
    if (lws_hdr_copy(wsi, origin, sizeof(origin), WSI_TOKEN_ORIGIN) <= 0 ||
        lws_hdr_copy(wsi, host, sizeof(host), WSI_TOKEN_HOST) <= 0) {
        return false;
    }
    const char *authority = strstr(origin, "://");
    if (authority == NULL || strncasecmp(origin, "http", 4) != 0) {
        return false;
    }
    return strcasecmp(authority + 3, host) == 0;
}

// Whether a request header has exactly this value.
static bool
is_header(struct lws *wsi, enum lws_token_indexes token, const char *value)
{
    char text[64];
    return lws_hdr_copy(wsi, text, sizeof(text), token) > 0 && strcasecmp(text, value) == 0;
}

static int
answer_refusal(struct lws *wsi, enum err reason)
{
    switch ((int)reason) {
    case ERR_NOT_FOUND:
        return web_http_answer(wsi, 404, "There is no such ticket, or it has been used or has expired.\n");
    case ERR_LIMIT:
        return web_http_answer(wsi, 503, "Too many connections; try later.\n");
    default:
        return web_http_answer(wsi, 503, "Out of memory; try later.\n");
    }
}

int
web_http_upgrade(struct web_listener *listener, struct lws *wsi, const char *upgrade)
{
    char path[PATH_MAX_BYTES];
    if (strcasecmp(upgrade, "websocket") != 0 || !is_header(wsi, WSI_TOKEN_VERSION, "13") ||
        lws_hdr_total_length(wsi, WSI_TOKEN_KEY) == 0 || lws_hdr_total_length(wsi, WSI_TOKEN_HOST) == 0) {
        return web_http_answer(wsi, 400, "Only WebSocket version 13 is spoken here.\n");
    }
    if (!is_origin_allowed(wsi)) {
        return web_http_answer(wsi, 403, "Pages from elsewhere may not connect.\n");
    }
    if (lws_hdr_copy(wsi, path, sizeof(path), WSI_TOKEN_GET_URI) <= 0) {
        return web_http_answer(wsi, 404, "WebSockets are at /rpc and /events/TICKET.\n");
    }
    const char *ticket = NULL;
    const char *protocol = "rep.sp.nanomsg.org";
    if (strncmp(path, events_path, sizeof(events_path) - 1) == 0) {
        ticket = path + sizeof(events_path) - 1;
        protocol = "pub.sp.nanomsg.org";
    } else if (strcmp(path, "/rpc") != 0) {
        return web_http_answer(wsi, 404, "WebSockets are at /rpc and /events/TICKET.\n");
    }
    if (!is_header(wsi, WSI_TOKEN_PROTOCOL, protocol)) {
        return web_http_answer(wsi, 400,
            "The subprotocol is rep.sp.nanomsg.org at /rpc and pub.sp.nanomsg.org at /events/TICKET.\n");
    }
    enum err err = web_connection_new(listener, wsi, ticket);
    return err == ERR_OK ? 0 : answer_refusal(wsi, err);
}
