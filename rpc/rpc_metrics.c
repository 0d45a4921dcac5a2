// A metric is a family of samples with one name: its HELP line, its TYPE line, and the samples, together.
#include "rpc/rpc_metrics.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "rpc/rpc_server_priv.h"

enum {
    PIECE_MAX_BYTES = 256, // of what is put down at once: names and numbers, which are ours
    US_PER_S = 1000000,
    MS_PER_S = 1000,
};

// The text being written. The first failure sticks.
struct text {
    struct bytes *out;
    enum err err;
};

static void
put_view(struct text *text, struct bytes_view piece)
{
    if (text->err == ERR_OK) {
        text->err = bytes_append(text->out, piece);
    }
}

static void __attribute__((format(printf, 2, 3))) put(struct text *text, const char *format, ...)
{
    char piece[PIECE_MAX_BYTES];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(piece, sizeof(piece), format, arguments);
    va_end(arguments);
    if (size < 0 || (size_t)size >= sizeof(piece)) {
        text->err = ERR_INTERNAL;
        return;
    }
    put_view(text, bytes_view_of(piece, (size_t)size));
}

// put_escaped puts down text in which these characters, and newlines, have a backslash in front.
static void
put_escaped(struct text *text, const char *value, const char *escaped)
{
    for (const char *at = value; *at != '\0';) {
        size_t plain = strcspn(at, escaped);
        put_view(text, bytes_view_of(at, plain));
        at += plain;
        if (*at != '\0') {
            put(text, "\\%c", *at == '\n' ? 'n' : *at);
            at++;
        }
    }
}

static void
put_label(struct text *text, const char *value)
{
    put(text, "\"");
    put_escaped(text, value, "\\\"\n");
    put(text, "\"");
}

enum err
rpc_metrics_append_label(struct bytes *out, const char *value)
{
    struct text text = {.out = out};
    put_label(&text, value);
    return text.err;
}

static void
put_family(struct text *text, const char *name, const char *type, const char *help)
{
    put(text, "# HELP %s ", name);
    put_escaped(text, help, "\\\n");
    put(text, "\n# TYPE %s %s\n", name, type);
}

static void
put_number(struct text *text, const char *name, const char *type, const char *help, uint64_t value)
{
    put_family(text, name, type, help);
    put(text, "%s %" PRIu64 "\n", name, value);
}

// put_us puts down microseconds as seconds, without the rounding of a floating point number.
static void
put_us(struct text *text, uint64_t us)
{
    put(text, "%" PRIu64 ".%06" PRIu64, us / US_PER_S, us % US_PER_S);
}

static void
put_seconds(struct text *text, const char *name, const char *type, const char *help, uint64_t us)
{
    put_family(text, name, type, help);
    put(text, "%s ", name);
    put_us(text, us);
    put(text, "\n");
}

static void
put_process(struct text *text, const struct rpc_stats *stats)
{
    put_family(text, "fc_build_info", "gauge", "Always 1; its label is the version of the server.");
    put(text, "fc_build_info{version=");
    put_label(text, FC_VERSION);
    put(text, "} 1\n");
    put_seconds(text, "fc_uptime_seconds", "gauge", "Since the server was started.",
        stats->uptime_ms * (US_PER_S / MS_PER_S));
    put_seconds(text, "fc_cpu_seconds_total", "counter", "Processor time that the server has used.", stats->cpu_us);
    put_number(text, "fc_resident_memory_bytes", "gauge", "Memory that the server occupies.", stats->resident_bytes);
    put_number(text, "fc_draining", "gauge", "1 while the server is shutting down.", stats->is_draining ? 1 : 0);
}

static void
put_connections(struct text *text, const struct rpc_stats *stats)
{
    put_number(text, "fc_rpc_connections", "gauge", "Connections that are open.", stats->connections);
    put_number(text, "fc_rpc_connections_accepted_total", "counter", "Connections accepted.",
        stats->accepted_connections);
    put_number(text, "fc_rpc_connections_refused_total", "counter",
        "Connections closed at once, because there were too many or the server was shutting down.",
        stats->refused_connections);
    put_number(text, "fc_rpc_received_bytes_total", "counter", "Messages received, without the transport's framing.",
        stats->received_bytes);
    put_number(text, "fc_rpc_sent_bytes_total", "counter",
        "Messages sent, replies and subscriptions, without the transport's framing.", stats->sent_bytes);
    put_number(text, "fc_rpc_subscriptions", "gauge", "Subscriptions, with those whose ticket has not been used yet.",
        stats->subscriptions);
    put_number(text, "fc_rpc_subscription_dropped_bytes_total", "counter",
        "What subscribers missed because they read too slowly.", stats->dropped_subscription_bytes);
}

static void
put_method_label(struct text *text, const char *name, const struct rpc_method_stats *method)
{
    put(text, "%s{method=", name);
    put_label(text, method->method);
}

static void
put_calls(struct text *text, const struct rpc_method_stats *method)
{
    for (size_t code = 0; code < RPC_CODE_COUNT; code++) {
        if (method->calls[code] > 0) {
            put_method_label(text, "fc_rpc_calls_total", method);
            put(text, ",code=");
            put_label(text, rpc_code_name((enum rpc_code)code));
            put(text, "} %" PRIu64 "\n", method->calls[code]);
        }
    }
}

static void
put_durations(struct text *text, const struct rpc_method_stats *method)
{
    uint64_t bound_us = RPC_LATENCY_FIRST_US;
    uint64_t so_far = 0;
    for (size_t i = 0; i < RPC_LATENCY_BUCKETS; i++) {
        so_far += method->latency_buckets[i];
        put_method_label(text, "fc_rpc_call_duration_seconds_bucket", method);
        put(text, ",le=\"");
        if (i < RPC_LATENCY_BUCKETS - 1) {
            put_us(text, bound_us);
        } else {
            put(text, "+Inf");
        }
        put(text, "\"} %" PRIu64 "\n", so_far);
        bound_us *= 2;
    }
    put_method_label(text, "fc_rpc_call_duration_seconds_sum", method);
    put(text, "} ");
    put_us(text, method->latency_sum_us);
    put(text, "\n");
    put_method_label(text, "fc_rpc_call_duration_seconds_count", method);
    put(text, "} %" PRIu64 "\n", so_far);
}

static void
put_methods(struct text *text, const struct rpc_stats *stats)
{
    put_number(text, "fc_rpc_calls_in_flight", "gauge", "Calls that have arrived and were not answered yet.",
        stats->calls_in_flight);
    put_number(text, "fc_rpc_calls_waiting", "gauge", "Calls in flight that no worker has taken yet.",
        stats->calls_waiting);
    put_number(text, "fc_rpc_calls_dropped_total", "counter",
        "Calls that were never started, because their connection had gone.", stats->dropped_calls);
    put_family(text, "fc_rpc_calls_total", "counter", "Calls answered, by method and by the code of the answer.");
    for (size_t i = 0; i < stats->method_count; i++) {
        put_calls(text, &stats->methods[i]);
    }
    put_family(text, "fc_rpc_call_duration_seconds", "histogram", "From the arrival of a call to its answer.");
    for (size_t i = 0; i < stats->method_count; i++) {
        put_durations(text, &stats->methods[i]);
    }
}

enum err
rpc_metrics_append(const struct rpc_stats *stats, const struct rpc_metric *added, size_t added_count, struct bytes *out)
{
    struct text text = {.out = out};
    put_process(&text, stats);
    put_connections(&text, stats);
    put_methods(&text, stats);
    for (size_t i = 0; i < added_count; i++) {
        put_number(&text, added[i].name, added[i].is_counter ? "counter" : "gauge", added[i].help,
            added[i].read(added[i].context));
    }
    return text.err;
}

enum err
rpc_metrics_write(struct rpc_server *server, struct bytes *out)
{
    struct rpc_stats stats;
    enum err err = rpc_stats_read(server, &stats);
    if (err == ERR_OK) {
        err = rpc_metrics_append(&stats, server->metrics, server->metric_count, out);
        rpc_stats_deinit(&stats);
    }
    return err;
}

bool
rpc_metrics_are_public(const struct rpc_server *server)
{
    return server->options.has_public_metrics;
}
