// For the tests of rpc/: plain sockets that play the stranger, and waiting with a limit.
#ifndef TESTS_UNIT_WIRE_SUPPORT_H
#define TESTS_UNIT_WIRE_SUPPORT_H

// cmocka wants these before it.
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/clock.h"

// wire_limit_ms scales how long a test waits for what has to happen.
static inline unsigned
wire_limit_ms(unsigned ms)
{
    const char *scale = getenv("FC_TEST_TIMEOUT_SCALE");
    unsigned factor = scale == NULL ? 1 : (unsigned)strtoul(scale, NULL, 10);
    return ms * (factor == 0 ? 1 : factor);
}

// wire_wait_until polls a condition that no event announces.
static inline bool
wire_wait_until(bool (*is_met)(void *context), void *context, unsigned ms)
{
    uint64_t end_ms = clock_monotonic_ms() + wire_limit_ms(ms);
    while (!is_met(context)) {
        if (clock_monotonic_ms() > end_ms) {
            return false;
        }
        (void)poll(NULL, 0, 1);
    }
    return true;
}

// wire_wait waits for a condition variable, at most the limit from now; false when it is over.
static inline bool
wire_wait(pthread_cond_t *changed, pthread_mutex_t *mutex, uint64_t end_ms)
{
    if (clock_monotonic_ms() > end_ms) {
        return false;
    }
    struct timespec until;
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 20 * 1000 * 1000;
    if (until.tv_nsec >= 1000 * 1000 * 1000) {
        until.tv_sec++;
        until.tv_nsec -= 1000 * 1000 * 1000;
    }
    (void)pthread_cond_timedwait(changed, mutex, &until);
    return true;
}

static inline size_t
wire_count_fds(void)
{
    size_t count = 0;
    DIR *folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    while (readdir(folder) != NULL) {
        count++;
    }
    closedir(folder);
    return count;
}

static inline void
wire_set_limits(int fd)
{
    unsigned ms = wire_limit_ms(5000);
    struct timeval limit = {.tv_sec = (time_t)(ms / 1000)};
    int on = 1;
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit), 0);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); // fails on a Unix socket
}

static inline int
wire_connect_tcp(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    wire_set_limits(fd);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static inline int
wire_connect_ipc(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    assert_true(strlen(path) < sizeof address.sun_path);
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    wire_set_limits(fd);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

// wire_bind_tcp takes a port that refuses connections until listen().
static inline int
wire_bind_tcp(uint16_t *port_out)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    wire_set_limits(fd);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    *port_out = ntohs(address.sin_port);
    return fd;
}

static inline int
wire_listen_tcp(uint16_t *port_out)
{
    int fd = wire_bind_tcp(port_out);
    assert_int_equal(listen(fd, 128), 0);
    return fd;
}

static inline int
wire_accept(int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(fd >= 0);
    wire_set_limits(fd);
    return fd;
}

static inline void
wire_write(int fd, const void *data, size_t size)
{
    const uint8_t *from = data;
    while (size > 0) {
        ssize_t n = send(fd, from, size, MSG_NOSIGNAL);
        assert_true(n > 0);
        from += n;
        size -= (size_t)n;
    }
}

static inline void
wire_read(int fd, void *out, size_t size)
{
    uint8_t *to = out;
    while (size > 0) {
        ssize_t n = recv(fd, to, size, 0);
        assert_true(n > 0);
        to += n;
        size -= (size_t)n;
    }
}

// wire_expect_end: the other side has closed, in order or with a reset; anything it still sends is skipped.
static inline void
wire_expect_end(int fd)
{
    uint8_t skipped[4096];
    ssize_t n;
    do {
        n = recv(fd, skipped, sizeof skipped, 0);
    } while (n > 0);
    assert_true(n == 0 || errno == ECONNRESET || errno == EPIPE);
}

// wire_reset closes a TCP connection with RST.
static inline void
wire_reset(int fd)
{
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    (void)close(fd);
}

static inline void
wire_append_header(struct bytes *out, uint16_t protocol)
{
    uint8_t header[8] = {0, 'S', 'P', 0};
    bytes_store_be16(header + 4, protocol);
    assert_int_equal(bytes_append(out, bytes_view_of(header, sizeof header)), ERR_OK);
}

static inline void
wire_append_length(struct bytes *out, bool is_ipc, uint64_t length)
{
    uint8_t prefix[9] = {1};
    bytes_store_be64(prefix + 1, length);
    size_t skipped = is_ipc ? 0 : 1;
    assert_int_equal(bytes_append(out, bytes_view_of(prefix + skipped, sizeof prefix - skipped)), ERR_OK);
}

static inline void
wire_append_message(struct bytes *out, bool is_ipc, const void *data, size_t size)
{
    wire_append_length(out, is_ipc, size);
    assert_int_equal(bytes_append(out, bytes_view_of(data, size)), ERR_OK);
}

static inline void
wire_send_header(int fd, uint16_t protocol)
{
    struct bytes out = {0};
    wire_append_header(&out, protocol);
    wire_write(fd, out.data, out.size);
    bytes_free(&out);
}

static inline void
wire_send_message(int fd, bool is_ipc, const void *data, size_t size)
{
    struct bytes out = {0};
    wire_append_message(&out, is_ipc, data, size);
    wire_write(fd, out.data, out.size);
    bytes_free(&out);
}

static inline void
wire_expect_header(int fd, uint16_t protocol)
{
    uint8_t header[8];
    wire_read(fd, header, sizeof header);
    assert_memory_equal(header, "\0SP\0", 4);
    assert_int_equal(bytes_load_be16(header + 4), protocol);
    assert_int_equal(bytes_load_be16(header + 6), 0);
}

// wire_read_message reads one message; the caller frees it.
static inline struct bytes
wire_read_message(int fd, bool is_ipc)
{
    uint8_t prefix[9];
    struct bytes message = {0};
    wire_read(fd, prefix + !is_ipc, sizeof prefix - !is_ipc);
    assert_true(!is_ipc || prefix[0] == 1);
    size_t size = (size_t)bytes_load_be64(prefix + 1);
    assert_int_equal(bytes_reserve(&message, size + 1), ERR_OK);
    wire_read(fd, message.data, size);
    message.size = size;
    return message;
}

#endif
