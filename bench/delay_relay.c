// delay_relay LISTEN_HOST:PORT TARGET_HOST:PORT DELAY_MS: passes TCP connections on, and every byte DELAY_MS later,
// each way: a distance for benchmarks on systems whose kernel has no netem. Prints the port when it listens; port 0
// takes a free one. Ends with SIGTERM.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    PIECE_BYTES = 256 * 1024,
    // Of one direction: what 20 ms of two gigabytes a second hold, and some. Beyond it the sender waits, as TCP has it.
    QUEUE_MAX_BYTES = 64 * 1024 * 1024,
    PAIRS_MAX = 1024,
};

struct piece {
    STAILQ_ENTRY(piece) link;
    uint64_t due_ns;
    size_t size, sent;
    uint8_t data[];
};

// Bytes from one socket on their way to another.
struct direction {
    int from, to;
    bool has_ended;  // nothing more comes from `from`
    bool is_shut;    // and `to` has been told
    bool is_blocked; // `to` takes nothing just now
    size_t queued;
    STAILQ_HEAD(, piece) pieces;
};

struct pair {
    LIST_ENTRY(pair) link;
    struct direction ways[2];
};

static LIST_HEAD(, pair) pairs = LIST_HEAD_INITIALIZER(pairs);
static uint64_t delay_ns;
static struct sockaddr_in target;

static uint64_t
now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void
die(const char *what)
{
    perror(what);
    exit(1);
}

static struct sockaddr_in
parse_address(const char *text)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    const char *colon = strrchr(text, ':');
    char host[64] = "";
    if (colon == NULL || (size_t)(colon - text) >= sizeof(host)) {
        fprintf(stderr, "delay_relay: %s is no HOST:PORT\n", text);
        exit(2);
    }
    memcpy(host, text, (size_t)(colon - text));
    address.sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1) {
        fprintf(stderr, "delay_relay: %s is no IPv4 address\n", host);
        exit(2);
    }
    return address;
}

static void
end_pair(struct pair *pair)
{
    close(pair->ways[0].from);
    close(pair->ways[0].to);
    for (int i = 0; i < 2; i++) {
        struct piece *piece;
        while ((piece = STAILQ_FIRST(&pair->ways[i].pieces)) != NULL) {
            STAILQ_REMOVE_HEAD(&pair->ways[i].pieces, link);
            free(piece);
        }
    }
    LIST_REMOVE(pair, link);
    free(pair);
}

static void
accept_one(int listener)
{
    int one = 1;
    int near = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    int far = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (near < 0 || far < 0) {
        die("accept");
    }
    if (connect(far, (const struct sockaddr *)&target, sizeof(target)) != 0) {
        close(near); // as a target that refuses would have it
        close(far);
        return;
    }
    struct pair *pair = calloc(1, sizeof(*pair));
    if (pair == NULL) {
        die("calloc");
    }
    (void)setsockopt(near, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    (void)setsockopt(far, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    pair->ways[0] = (struct direction){.from = near, .to = far};
    pair->ways[1] = (struct direction){.from = far, .to = near};
    STAILQ_INIT(&pair->ways[0].pieces);
    STAILQ_INIT(&pair->ways[1].pieces);
    LIST_INSERT_HEAD(&pairs, pair, link);
}

// read_some takes what has come. False: the connection is broken.
static bool
read_some(struct direction *way)
{
    struct piece *piece = malloc(sizeof(*piece) + PIECE_BYTES);
    if (piece == NULL) {
        die("malloc");
    }
    ssize_t size = recv(way->from, piece->data, PIECE_BYTES, MSG_DONTWAIT);
    if (size <= 0) {
        bool is_waiting = size < 0 && (errno == EAGAIN || errno == EINTR);
        way->has_ended = size == 0;
        free(piece);
        return size == 0 || is_waiting;
    }
    struct piece *smaller = realloc(piece, sizeof(*piece) + (size_t)size);
    piece = smaller != NULL ? smaller : piece;
    piece->due_ns = now_ns() + delay_ns;
    piece->size = (size_t)size;
    piece->sent = 0;
    way->queued += piece->size;
    STAILQ_INSERT_TAIL(&way->pieces, piece, link);
    return true;
}

// write_due passes on what is due. False: the connection is broken.
static bool
write_due(struct direction *way, uint64_t now)
{
    struct piece *piece;
    way->is_blocked = false;
    while ((piece = STAILQ_FIRST(&way->pieces)) != NULL && piece->due_ns <= now) {
        ssize_t size = send(way->to, piece->data + piece->sent, piece->size - piece->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (size < 0 && (errno == EAGAIN || errno == EINTR)) {
            way->is_blocked = true;
            return true;
        }
        if (size < 0) {
            return false;
        }
        piece->sent += (size_t)size;
        way->queued -= (size_t)size;
        if (piece->sent == piece->size) {
            STAILQ_REMOVE_HEAD(&way->pieces, link);
            free(piece);
        }
    }
    if (piece == NULL && way->has_ended && !way->is_shut) {
        way->is_shut = shutdown(way->to, SHUT_WR) == 0;
        return way->is_shut;
    }
    return true;
}

// poll_pair says what to wait for, and until when at the latest.
static void
poll_pair(const struct pair *pair, struct pollfd polled[2], uint64_t *due_ns)
{
    for (int i = 0; i < 2; i++) {
        const struct direction *in = &pair->ways[i];
        const struct direction *out = &pair->ways[1 - i]; // to the same socket
        const struct piece *first = STAILQ_FIRST(&in->pieces);
        polled[i] = (struct pollfd){.fd = in->from};
        polled[i].events =
            (short)((in->has_ended || in->queued >= QUEUE_MAX_BYTES ? 0 : POLLIN) | (out->is_blocked ? POLLOUT : 0));
        if (first != NULL && !in->is_blocked && first->due_ns < *due_ns) {
            *due_ns = first->due_ns;
        }
    }
}

// serve_pair does what can be done now. False: the pair is over.
static bool
serve_pair(struct pair *pair, const struct pollfd polled[2])
{
    uint64_t now = now_ns();
    for (int i = 0; i < 2; i++) {
        bool can_read = (polled[i].revents & (POLLIN | POLLHUP | POLLERR)) != 0 && !pair->ways[i].has_ended;
        if (can_read && !read_some(&pair->ways[i])) {
            return false;
        }
    }
    return write_due(&pair->ways[0], now) && write_due(&pair->ways[1], now) &&
           !(pair->ways[0].is_shut && pair->ways[1].is_shut);
}

static void
run(int listener)
{
    static struct pollfd polled[1 + 2 * PAIRS_MAX];
    for (;;) {
        struct pair *pair;
        struct pair *next;
        size_t count = 0;
        uint64_t due_ns = UINT64_MAX;
        LIST_FOREACH(pair, &pairs, link)
        {
            poll_pair(pair, &polled[1 + 2 * count++], &due_ns);
        }
        polled[0] = (struct pollfd){.fd = listener, .events = count < PAIRS_MAX ? POLLIN : 0};
        uint64_t now = now_ns();
        uint64_t wait_ns = due_ns > now ? due_ns - now : 0;
        struct timespec wait = {.tv_sec = (time_t)(wait_ns / 1000000000), .tv_nsec = (long)(wait_ns % 1000000000)};
        if (ppoll(polled, 1 + 2 * count, due_ns == UINT64_MAX ? NULL : &wait, NULL) < 0 && errno != EINTR) {
            die("ppoll");
        }
        count = 0;
        for (pair = LIST_FIRST(&pairs); pair != NULL; pair = next) {
            next = LIST_NEXT(pair, link);
            if (!serve_pair(pair, &polled[1 + 2 * count++])) {
                end_pair(pair);
            }
        }
        if ((polled[0].revents & POLLIN) != 0) {
            accept_one(listener);
        }
    }
}

int
main(int argc, char **argv)
{
    int one = 1;
    if (argc != 4) {
        fputs("usage: delay_relay LISTEN_HOST:PORT TARGET_HOST:PORT DELAY_MS\n", stderr);
        return 2;
    }
    struct sockaddr_in here = parse_address(argv[1]);
    socklen_t size = sizeof(here);
    target = parse_address(argv[2]);
    delay_ns = (uint64_t)(strtod(argv[3], NULL) * 1e6);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0 ||
        bind(listener, (const struct sockaddr *)&here, size) != 0 || listen(listener, 128) != 0 ||
        getsockname(listener, (struct sockaddr *)&here, &size) != 0) {
        die("listen");
    }
    printf("%u\n", ntohs(here.sin_port));
    (void)fflush(stdout);
    run(listener);
    return 0;
}
