// Content of the web listener (rpc_content.h): one request, its answer piece by piece.
//
// A piece is asked for while the one before is on its way, but only once libwebsockets has handed all of it to the
// socket; and the kernel is told to take little beyond what it can send. What a reader that has stopped reading costs
// is therefore one piece.
#include <linux/sockios.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "rpc/rpc_web_priv.h"

enum {
    PATH_MAX_BYTES = 4096, // a name of 1,024 bytes fits, each written as %XX
    FIELD_MAX_BYTES = 512, // of a header field; longer ones count as missing
    HEAD_MAX_BYTES = 4096,
    UNSENT_MAX_BYTES = 256 * 1024, // in the kernel, beyond what is on its way
};

// ---------------------------------------------------------------- answers, on any thread

void
rpc_content_set_user(struct rpc_content *content, void *user)
{
    content->user = user;
}

void *
rpc_content_user(const struct rpc_content *content)
{
    return content->user;
}

static void
content_free(struct rpc_content *content)
{
    content->handler->closed(content->handler->context, content);
    bytes_free(&content->locked.outgoing);
    pthread_mutex_destroy(&content->locked.mutex);
    free(content);
}

// Ends an answer that began by taking the lock. The listener is there as long as the connection is, which cannot go
// while the lock is held.
static void
unlock_answered(struct rpc_content *content)
{
    content->locked.is_asked = false;
    bool is_gone = content->locked.is_gone;
    if (!is_gone) {
        web_listener_wake_content(content->listener, content);
    }
    pthread_mutex_unlock(&content->locked.mutex);
    if (is_gone) {
        content_free(content);
    }
}

static const char *
status_text(unsigned status)
{
    switch (status) {
    case 200:
        return "OK";
    case 206:
        return "Partial Content";
    case 304:
        return "Not Modified";
    case 404:
        return "Not Found";
    case 416:
        return "Range Not Satisfiable";
    default:
        return "Service Unavailable";
    }
}

static enum err
append_head(struct bytes *out, unsigned status, const char *headers, uint64_t body_size)
{
    char head[HEAD_MAX_BYTES];
    char length[64] = "";
    if (status != 304) {
        (void)snprintf(length, sizeof(length), "Content-Length: %llu\r\n", (unsigned long long)body_size);
    }
    int size = snprintf(head, sizeof(head), "HTTP/1.1 %u %s\r\n%s%sConnection: close\r\n\r\n", status,
        status_text(status), headers, length);
    if (size < 0 || (size_t)size >= sizeof(head)) {
        return ERR_TOO_BIG;
    }
    return bytes_append(out, bytes_view_of(head, (size_t)size));
}

void
rpc_content_begin(struct rpc_content *content, unsigned status, const char *headers, uint64_t body_size)
{
    pthread_mutex_lock(&content->locked.mutex);
    if (append_head(&content->locked.outgoing, status, headers, body_size) == ERR_OK) {
        content->locked.missing_bytes = content->is_head ? 0 : body_size;
    } else {
        content->locked.is_aborted = true;
    }
    unlock_answered(content);
}

void
rpc_content_answer(struct rpc_content *content, unsigned status, const char *headers, const char *text)
{
    static const char common[] = "Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n";
    char lines[HEAD_MAX_BYTES / 2];
    struct bytes *outgoing = &content->locked.outgoing;
    (void)snprintf(lines, sizeof(lines), "%s%s", common, headers);
    pthread_mutex_lock(&content->locked.mutex);
    enum err err = append_head(outgoing, status, lines, strlen(text));
    if (err == ERR_OK && !content->is_head) {
        err = bytes_append(outgoing, bytes_view_of_text(text));
    }
    content->locked.is_aborted = err != ERR_OK;
    unlock_answered(content);
}

void
rpc_content_write(struct rpc_content *content, struct bytes *piece)
{
    pthread_mutex_lock(&content->locked.mutex);
    if (piece->size == 0 || piece->size > content->locked.missing_bytes) {
        content->locked.is_aborted = true;
        bytes_free(piece);
    } else {
        content->locked.missing_bytes -= piece->size;
        bytes_free(&content->locked.outgoing);
        content->locked.outgoing = *piece;
        *piece = (struct bytes){0};
    }
    unlock_answered(content);
}

void
rpc_content_abort(struct rpc_content *content)
{
    pthread_mutex_lock(&content->locked.mutex);
    content->locked.is_aborted = true;
    unlock_answered(content);
}

// ---------------------------------------------------------------- on the service thread

void
web_content_pending(struct rpc_content *content)
{
    pthread_mutex_lock(&content->locked.mutex);
    bool is_aborted = content->locked.is_aborted;
    pthread_mutex_unlock(&content->locked.mutex);
    if (is_aborted) {
        lws_set_timeout(content->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
    } else {
        lws_callback_on_writable(content->wsi);
    }
}

// The first time that something can be written: libwebsockets' own limits of time are for requests, and it would end
// those that keep the headers for some minutes.
static void
begin(struct rpc_content *content)
{
    int unsent_max = UNSENT_MAX_BYTES;
    content->has_begun = true;
    lws_set_timeout(content->wsi, NO_PENDING_TIMEOUT, 0);
    (void)lws_http_headers_detach(content->wsi);
    // Without it a slow reader costs more of the kernel's memory.
    (void)setsockopt(lws_get_socket_fd(content->wsi), IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent_max, sizeof(unsent_max));
}

static int
write_piece(struct rpc_content *content, struct bytes *piece)
{
    size_t size = piece->size;
    int written = lws_write(content->wsi, piece->data, size, LWS_WRITE_RAW);
    bytes_free(piece);
    if (written < 0) {
        return -1;
    }
    content->sent_bytes += size;
    lws_callback_on_writable(content->wsi);
    return 0;
}

int
web_content_writable(struct rpc_content *content)
{
    struct bytes piece = {0};
    bool asks = false;
    if (!content->has_begun) {
        begin(content);
    }
    pthread_mutex_lock(&content->locked.mutex);
    if (content->locked.outgoing.size > 0) {
        piece = content->locked.outgoing;
        content->locked.outgoing = (struct bytes){0};
    }
    bool is_asked = content->locked.is_asked;
    bool is_done = !is_asked && content->locked.missing_bytes == 0;
    pthread_mutex_unlock(&content->locked.mutex);

    int result = 0;
    if (piece.size > 0) {
        result = write_piece(content, &piece);
        asks = result == 0 && !is_asked && !is_done && lws_partial_buffered(content->wsi) == 0;
    } else if (is_done) {
        return -1; // all of it is in the socket
    } else {
        asks = !is_asked;
    }
    if (asks) {
        pthread_mutex_lock(&content->locked.mutex);
        content->locked.is_asked = true;
        pthread_mutex_unlock(&content->locked.mutex);
        content->handler->next(content->handler->context, content);
    }
    return result;
}

int
web_content_timer(struct rpc_content *content)
{
    int unsent = 0;
    pthread_mutex_lock(&content->locked.mutex);
    bool is_asked = content->locked.is_asked;
    pthread_mutex_unlock(&content->locked.mutex);
    if (ioctl(lws_get_socket_fd(content->wsi), SIOCOUTQ, &unsent) != 0) {
        return -1;
    }
    // While the handler has the word, nobody is waiting for the reader.
    if (!is_asked && content->stalled_at == content->sent_bytes && content->stalled_unsent == unsent) {
        return -1;
    }
    content->stalled_at = is_asked ? UINT64_MAX : content->sent_bytes;
    content->stalled_unsent = unsent;
    lws_set_timer_usecs(content->wsi, (lws_usec_t)content->handler->patience_ms * LWS_USEC_PER_SEC / 1000);
    return 0;
}

void
web_content_free(struct rpc_content **content_inout)
{
    struct rpc_content *content = *content_inout;
    struct web_listener *listener = content->listener;
    *content_inout = NULL;
    TAILQ_REMOVE(&listener->contents, content, link);
    pthread_mutex_lock(&content->locked.mutex);
    pthread_mutex_lock(&listener->locked.mutex);
    if (content->is_pending) {
        TAILQ_REMOVE(&listener->locked.pending_contents, content, pending_link);
        content->is_pending = false;
    }
    pthread_mutex_unlock(&listener->locked.mutex);
    content->locked.is_gone = true;
    bool is_asked = content->locked.is_asked;
    pthread_mutex_unlock(&content->locked.mutex);
    if (!is_asked) {
        content_free(content);
    }
}

// ---------------------------------------------------------------- the request

static void
copy_field(struct lws *wsi, enum lws_token_indexes token, char out[FIELD_MAX_BYTES])
{
    if (lws_hdr_copy(wsi, out, FIELD_MAX_BYTES, token) < 0) {
        out[0] = '\0';
    }
}

static void
format_host(struct lws *wsi, char out[RPC_CONTENT_ADDRESS_MAX_BYTES])
{
    struct sockaddr_storage address;
    socklen_t size = sizeof(address);
    out[0] = '\0';
    if (getpeername(lws_get_socket_fd(wsi), (struct sockaddr *)&address, &size) != 0 ||
        getnameinfo((struct sockaddr *)&address, size, out, RPC_CONTENT_ADDRESS_MAX_BYTES, NULL, 0, NI_NUMERICHOST) !=
            0) {
        out[0] = '\0';
    }
}

static struct rpc_content *
content_new(struct web_listener *listener, struct lws *wsi, const struct rpc_content_handler *handler)
{
    struct rpc_content *content = calloc(1, sizeof(*content));
    if (content == NULL) {
        return NULL;
    }
    if (pthread_mutex_init(&content->locked.mutex, NULL) != 0) {
        free(content);
        return NULL;
    }
    content->owner.kind = WEB_OWNER_CONTENT;
    content->listener = listener;
    content->handler = handler;
    content->wsi = wsi;
    content->locked.is_asked = true;
    content->stalled_at = UINT64_MAX;
    TAILQ_INSERT_TAIL(&listener->contents, content, link);
    return content;
}

bool
web_content_request(struct web_listener *listener, struct lws *wsi, int *result_out)
{
    const struct rpc_content_handler *handler = rpc_server_content(listener->server);
    char path[PATH_MAX_BYTES];
    char range[FIELD_MAX_BYTES];
    char if_range[FIELD_MAX_BYTES];
    char if_none_match[FIELD_MAX_BYTES];
    char address[RPC_CONTENT_ADDRESS_MAX_BYTES];
    bool is_head = lws_hdr_total_length(wsi, WSI_TOKEN_HEAD_URI) > 0;

    if (handler == NULL ||
        lws_hdr_copy(wsi, path, sizeof(path), is_head ? WSI_TOKEN_HEAD_URI : WSI_TOKEN_GET_URI) <= 0 ||
        strncmp(path, handler->prefix, strlen(handler->prefix)) != 0) {
        return false;
    }
    struct rpc_content *content = content_new(listener, wsi, handler);
    if (content == NULL) {
        *result_out = web_http_answer(wsi, 503, "Out of memory; try later.\n");
        return true;
    }
    copy_field(wsi, WSI_TOKEN_HTTP_RANGE, range);
    copy_field(wsi, WSI_TOKEN_HTTP_IF_RANGE, if_range);
    copy_field(wsi, WSI_TOKEN_HTTP_IF_NONE_MATCH, if_none_match);
    format_host(wsi, address);
    content->is_head = is_head;
    lws_set_opaque_user_data(wsi, content);
    listener->stranger_count--;
    lws_set_timeout(wsi, NO_PENDING_TIMEOUT, 0);
    lws_set_timer_usecs(wsi, (lws_usec_t)handler->patience_ms * LWS_USEC_PER_SEC / 1000);

    const struct rpc_content_request request = {
        .path = path + strlen(handler->prefix),
        .is_head = is_head,
        .address = address,
        .range = range,
        .if_range = if_range,
        .if_none_match = if_none_match,
    };
    handler->open(handler->context, content, &request);
    *result_out = 0;
    return true;
}
