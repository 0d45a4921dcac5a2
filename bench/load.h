// What the clients that bench/run compares have in common: arguments, measurement, the line that they print.
//
//     CLIENT RUNTIME URL CONNECTIONS OUTSTANDING SECONDS PAYLOAD-BYTES [CERTIFICATE]
//
// CONNECTIONS connections with OUTSTANDING calls on each. After half a second to warm up, SECONDS are measured and
// printed as one JSON object: calls per second, p50 and p99 in microseconds, microseconds of the client's CPU for each
// call. With SECONDS 0 each slot makes one call; then "holding" is printed and the connections stay open, idle, until
// standard input ends.
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct load {
    const char *runtime;
    const char *url;
    unsigned connections;
    unsigned outstanding; // on each connection
    double seconds;
    uint8_t *payload;
    size_t payload_bytes;
    const char *certificate_path; // the server's, for tls+tcp:// URLs; NULL without
};

// load_begin reads the arguments, or says what is wrong with them and exits. `runtimes` is for that message.
const struct load *load_begin(int argc, char **argv, const char *runtimes);

// load_pace is called before each connection is opened. It blocks while too many are waiting for their first answer, so
// that thousands do not overflow the listener's queue.
void load_pace(void);

// load_now_us is the time when a call starts, for load_call_ended.
uint64_t load_now_us(void);

// load_call_ended counts a call that was answered with this many bytes, and says whether its slot makes another. Any
// thread. A wrong size ends the program.
bool load_call_ended(uint64_t started_us, size_t answered_bytes);

// load_end waits until every slot has made its last call, prints, and ends the program at once: there is nothing to
// lose, and closing nng under traffic can hang.
__attribute__((noreturn)) void load_end(void);

// load_die says what failed and why, and ends the program.
__attribute__((noreturn)) void load_die(const char *what, const char *why);

#ifdef __cplusplus
}
#endif

#endif
