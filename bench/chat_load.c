// One publisher or several, and many subscribers, of a room on any of the servers that bench/run chat compares: one
// thread, one epoll, so that what the clients cost is alike.
//
//     bench_chat_load PROTOCOL PORT SUBSCRIBERS SENDERS INTERVAL-MS SECONDS
//
// For fc standard input begins with a ticket for each subscriber and a token for each sender, a line each. When all
// are connected "ready" is printed; then each line on standard input, a number IN-FLIGHT, is one measurement. Its end
// ends the program.
//
// Each sender keeps IN-FLIGHT messages in flight, or, with an INTERVAL-MS above 0, sends one that often whatever came
// of the last. A message is in flight from the write that sent it until all subscribers have read it; without
// subscribers, until its sender has read its acknowledgement. After half a second to warm up, SECONDS are measured and
// printed as one JSON object: deliveries (or acknowledgements) a second, p50 and p99 from the sender's write to the
// read of each, microseconds of the client's CPU for each, and how many there were in all. A message that is lost ends
// the program.
#include "bench/chat_load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/load.h"

enum {
    SAMPLES_MAX = 8 * 1024 * 1024,
    WARM_UP_US = 500 * 1000,
    LOST_AFTER_US = 10 * 1000 * 1000,
    OPENING_MAX = 64, // connections that are not ready; a listener's queue is 128 by default
    READ_BYTES = 256 * 1024,
    EVENTS_MAX = 256,
};

struct message {
    uint64_t started_us;
    unsigned left; // deliveries, or the acknowledgement
    struct chat_connection *sender;
};

static struct {
    const struct chat_protocol *protocol;
    uint16_t port;
    unsigned subscribers;
    unsigned senders;
    unsigned in_flight;
    uint64_t interval_us;
    double seconds;

    int epoll;
    struct chat_connection *connections; // subscribers, then senders
    unsigned ready;
    struct chat_connection **dirty;
    unsigned dirty_count;
    uint8_t *buffer;

    uint64_t now_us; // when the last read or write began
    uint64_t measure_from_us;
    uint64_t end_us; // 0: not begun
    struct message ring[CHAT_RING];
    uint32_t next_number;
    unsigned messages_in_flight;
    uint64_t total;
    size_t sample_count;
    uint32_t *latencies_us;
    struct rusage usage_at_start;
} run;

void
chat_load_write(struct chat_connection *connection, const void *data, size_t size)
{
    if (bytes_append(&connection->out, bytes_view_of(data, size)) != ERR_OK) {
        load_die("output", "out of memory");
    }
    if (!connection->is_dirty) {
        connection->is_dirty = true;
        run.dirty[run.dirty_count++] = connection;
    }
}

static void
flush(void)
{
    for (unsigned i = 0; i < run.dirty_count; i++) {
        struct chat_connection *connection = run.dirty[i];
        const ssize_t written = write(connection->fd, connection->out.data, connection->out.size);
        if (written != (ssize_t)connection->out.size) {
            load_die("write", written < 0 ? strerror(errno) : "the server does not read");
        }
        bytes_clear(&connection->out);
        connection->is_dirty = false;
    }
    run.dirty_count = 0;
}

void
chat_load_ready(struct chat_connection *connection)
{
    run.ready += !connection->is_ready;
    connection->is_ready = true;
}

static void
start_message(struct chat_connection *sender)
{
    char text[CHAT_TEXT_BYTES + 1];
    const uint32_t number = run.next_number++;
    struct message *message = &run.ring[number % CHAT_RING];
    if (message->left > 0) {
        load_die("messages", "too many are in flight");
    }
    *message = (struct message){.started_us = clock_monotonic_us(),
        .left = run.subscribers > 0 ? run.subscribers : 1,
        .sender = sender};
    run.messages_in_flight++;
    (void)snprintf(text, sizeof(text), "%08x", (unsigned)number);
    memset(text + CHAT_NUMBER_CHARS, 'x', sizeof(text) - CHAT_NUMBER_CHARS);
    run.protocol->publish(sender, number % CHAT_RING, text);
}

static void
count(struct message *message)
{
    if (message->left == 0) {
        load_die("messages", "one came twice");
    }
    run.total++;
    if (run.now_us >= run.measure_from_us && run.now_us < run.end_us) {
        if (run.sample_count == 0) {
            getrusage(RUSAGE_SELF, &run.usage_at_start);
        }
        if (run.sample_count < SAMPLES_MAX) {
            run.latencies_us[run.sample_count] = (uint32_t)(run.now_us - message->started_us);
        }
        run.sample_count++;
    }
    if (--message->left == 0) {
        run.messages_in_flight--;
        if (run.interval_us == 0 && run.now_us < run.end_us) {
            start_message(message->sender);
        }
    }
}

void
chat_load_delivered(const char *text)
{
    uint32_t number = 0;
    for (int i = 0; i < CHAT_NUMBER_CHARS; i++) {
        const char c = text[i];
        number = number << 4 | (uint32_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    count(&run.ring[number % CHAT_RING]);
}

void
chat_load_acknowledged(unsigned id)
{
    if (run.subscribers == 0) {
        count(&run.ring[id % CHAT_RING]);
    }
}

static void
receive(struct chat_connection *connection)
{
    const size_t before = connection->in.size;
    if (before > 0) {
        memcpy(run.buffer, connection->in.data, before);
    }
    const ssize_t got = read(connection->fd, run.buffer + before, READ_BYTES - before);
    if (got <= 0) {
        load_die("read", got < 0 ? strerror(errno) : "the server has closed a connection");
    }
    if (run.end_us == 0) {
        // ngircd leaves Nagle's algorithm on: without this a thousand joins take long.
        (void)setsockopt(connection->fd, IPPROTO_TCP, TCP_QUICKACK, &(int){1}, sizeof(int));
    }
    run.now_us = clock_monotonic_us();
    const size_t size = before + (size_t)got;
    const size_t taken = run.protocol->take(connection, bytes_view_of(run.buffer, size));
    bytes_clear(&connection->in);
    if (taken < size && bytes_append(&connection->in, bytes_view_of(run.buffer + taken, size - taken)) != ERR_OK) {
        load_die("input", "out of memory");
    }
}

// turn serves the connections once. Returns whether there was something to read on standard input.
static bool
turn(int timeout_ms)
{
    struct epoll_event events[EVENTS_MAX];
    bool has_command = false;
    const int count_of = epoll_wait(run.epoll, events, EVENTS_MAX, timeout_ms);
    for (int i = 0; i < count_of; i++) {
        if (events[i].data.ptr == NULL) {
            has_command = true;
        } else {
            receive(events[i].data.ptr);
        }
    }
    flush();
    return has_command;
}

static void
watch(int fd, struct chat_connection *connection)
{
    if (epoll_ctl(run.epoll, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLIN, .data.ptr = connection}) !=
        0) {
        load_die("epoll", strerror(errno));
    }
}

static void
open_connection(struct chat_connection *connection)
{
    const struct sockaddr_in address = {.sin_family = AF_INET,
        .sin_port = htons(run.port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection->fd < 0 || connect(connection->fd, (const struct sockaddr *)&address, sizeof(address)) != 0) {
        load_die("connect", strerror(errno));
    }
    (void)setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    watch(connection->fd, connection);
    run.protocol->greet(connection);
    flush();
}

static const char *
read_key(void)
{
    char *line = NULL;
    size_t capacity = 0;
    const ssize_t size = getline(&line, &capacity, stdin);
    if (size <= 1) {
        load_die("standard input", "it has too few tickets and tokens");
    }
    line[size - 1] = '\0';
    return line;
}

static void
open_connections(void)
{
    const unsigned all = run.subscribers + run.senders;
    const bool has_keys = strcmp(run.protocol->name, "fc") == 0;
    run.connections = calloc(all, sizeof(run.connections[0]));
    run.dirty = calloc(all, sizeof(run.dirty[0]));
    run.buffer = malloc(READ_BYTES);
    if (run.connections == NULL || run.dirty == NULL || run.buffer == NULL) {
        load_die("connections", "out of memory");
    }
    for (unsigned i = 0; i < all; i++) {
        struct chat_connection *connection = &run.connections[i];
        connection->is_sender = i >= run.subscribers;
        connection->index = connection->is_sender ? i - run.subscribers : i;
        connection->key = has_keys ? read_key() : NULL;
    }
    for (unsigned i = 0; i < all; i++) {
        while (i >= run.ready + OPENING_MAX) {
            (void)turn(-1);
        }
        open_connection(&run.connections[i]);
    }
    while (run.ready < all) {
        (void)turn(-1);
    }
}

static void
start_senders(void)
{
    struct chat_connection *senders = run.connections + run.subscribers;
    for (unsigned i = 0; run.interval_us == 0 && i < run.senders; i++) {
        for (unsigned j = 0; j < run.in_flight; j++) {
            start_message(&senders[i]);
        }
    }
    flush();
}

static void
measure(void)
{
    const uint64_t start_us = clock_monotonic_us();
    run.measure_from_us = start_us + WARM_UP_US;
    run.end_us = run.measure_from_us + (uint64_t)(run.seconds * 1e6);
    start_senders();
    uint64_t due_us = start_us;
    unsigned due_sender = 0;
    uint64_t now_us = start_us;
    while (now_us < run.end_us || run.messages_in_flight > 0) {
        int timeout_ms = 100;
        if (run.interval_us > 0 && now_us < run.end_us) {
            // The senders take turns, so that what they send is spread evenly.
            for (; due_us <= now_us; due_us += run.interval_us / run.senders) {
                start_message(&run.connections[run.subscribers + due_sender++ % run.senders]);
            }
            flush();
            timeout_ms = (int)((due_us - now_us) / 1000) + 1;
        }
        (void)turn(timeout_ms);
        now_us = clock_monotonic_us();
        if (now_us > run.end_us + LOST_AFTER_US) {
            load_die("messages", "some have not come");
        }
    }
}

static int
compare_u32(const void *a, const void *b)
{
    const uint32_t left = *(const uint32_t *)a;
    const uint32_t right = *(const uint32_t *)b;
    return (left > right) - (left < right);
}

static double
us_of(const struct timeval *time)
{
    return (double)time->tv_sec * 1e6 + (double)time->tv_usec;
}

static void
print_figures(void)
{
    struct rusage now;
    const struct rusage *start = &run.usage_at_start;
    const size_t sampled = run.sample_count < SAMPLES_MAX ? run.sample_count : SAMPLES_MAX;
    if (sampled == 0) {
        load_die("run", "nothing was delivered in time");
    }
    getrusage(RUSAGE_SELF, &now);
    const double cpu_us =
        us_of(&now.ru_utime) + us_of(&now.ru_stime) - us_of(&start->ru_utime) - us_of(&start->ru_stime);
    qsort(run.latencies_us, sampled, sizeof(run.latencies_us[0]), compare_u32);
    printf("{\"per_s\": %.0f, \"p50_us\": %u, \"p99_us\": %u, \"client_cpu_us\": %.2f, \"total\": %llu}\n",
        (double)run.sample_count / run.seconds, run.latencies_us[sampled / 2], run.latencies_us[sampled * 99 / 100],
        cpu_us / (double)run.sample_count, (unsigned long long)run.total);
    fflush(stdout);
}

static void
parse(int argc, char **argv)
{
    if (argc != 7) {
        fprintf(stderr, "usage: %s mqtt0|mqtt1|nats|irc|fc PORT SUBSCRIBERS SENDERS INTERVAL-MS SECONDS\n", argv[0]);
        exit(2);
    }
    run.protocol = chat_protocol_find(argv[1]);
    run.port = (uint16_t)strtoul(argv[2], NULL, 10);
    run.subscribers = (unsigned)strtoul(argv[3], NULL, 10);
    run.senders = (unsigned)strtoul(argv[4], NULL, 10);
    run.interval_us = strtoul(argv[5], NULL, 10) * 1000;
    run.seconds = strtod(argv[6], NULL);
    if (run.protocol == NULL || run.port == 0 || run.seconds <= 0) {
        load_die("arguments", "out of range");
    }
    // Written to now, so that page faults are not measured.
    run.latencies_us = malloc(SAMPLES_MAX * sizeof(run.latencies_us[0]));
    if (run.latencies_us == NULL) {
        load_die("samples", "out of memory");
    }
    memset(run.latencies_us, 0xff, SAMPLES_MAX * sizeof(run.latencies_us[0]));
}

// next_command serves the connections until there is another measurement to make. Returns false at the end of the
// input.
static bool
next_command(void)
{
    char command[16] = "";
    watch(STDIN_FILENO, NULL);
    while (!turn(-1)) {
    }
    (void)epoll_ctl(run.epoll, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
    const ssize_t size = read(STDIN_FILENO, command, sizeof(command) - 1);
    run.in_flight = (unsigned)strtoul(command, NULL, 10);
    if (size > 0 && (run.in_flight == 0 || run.senders * run.in_flight > CHAT_RING)) {
        load_die("in flight", "out of range");
    }
    return size > 0;
}

int
main(int argc, char **argv)
{
    parse(argc, argv);
    run.epoll = epoll_create1(EPOLL_CLOEXEC);
    open_connections();
    printf("ready\n");
    fflush(stdout);
    while (next_command()) {
        run.total = 0;
        run.sample_count = 0;
        measure();
        print_figures();
    }
    return 0;
}
