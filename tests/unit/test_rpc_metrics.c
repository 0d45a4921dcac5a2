// The text for Prometheus, line by line.
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rpc/rpc_metrics.h"

static uint64_t
read_five(void *context)
{
    return *(const uint64_t *)context + 2;
}

// text_of returns the figures as a string, which the caller frees.
static char *
text_of(const struct rpc_stats *stats, const struct rpc_metric *added, size_t added_count)
{
    struct bytes text = {0};
    assert_int_equal(ERR_OK, rpc_metrics_append(stats, added, added_count, &text));
    assert_int_equal(ERR_OK, bytes_append(&text, bytes_view_of("", 1)));
    return (char *)text.data;
}

static void
assert_has(const char *text, const char *lines)
{
    if (strstr(text, lines) == NULL) {
        fail_msg("no such lines:\n%sin\n%s", lines, text);
    }
}

static void
assert_label(const char *value, const char *expected)
{
    struct bytes text = {0};
    assert_int_equal(ERR_OK, rpc_metrics_append_label(&text, value));
    assert_true(bytes_view_equal(bytes_as_view(&text), bytes_view_of_text(expected)));
    bytes_free(&text);
}

static void
test_labels_are_escaped(void **state)
{
    (void)state;
    assert_label("", "\"\"");
    assert_label("plain", "\"plain\"");
    assert_label("\"", "\"\\\"\"");
    assert_label("a\\b\"c\nd", "\"a\\\\b\\\"c\\nd\"");
    assert_label("\\n", "\"\\\\n\"");
    assert_label("{é}=,", "\"{é}=,\"");
}

static void
test_names_of_any_length_fit(void **state)
{
    (void)state;
    char name[4096];
    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    struct rpc_method_stats method = {.method = name, .calls[RPC_OK] = 1};
    struct rpc_stats stats = {.method_count = 1, .methods = &method};
    char *text = text_of(&stats, NULL, 0);
    assert_non_null(strstr(text, name));
    free(text);
}

static void
test_each_metric_says_what_it_is(void **state)
{
    (void)state;
    struct rpc_stats stats = {
        .uptime_ms = 61005,
        .cpu_us = 2000001,
        .resident_bytes = UINT64_MAX,
        .is_draining = true,
        .connections = 3,
        .dropped_subscription_bytes = 7,
    };
    char *text = text_of(&stats, NULL, 0);
    assert_int_equal(0, strncmp(text, "# HELP fc_build_info ", 21));
    assert_has(text, "\n# TYPE fc_build_info gauge\nfc_build_info{version=\"" FC_VERSION "\"} 1\n");
    assert_has(text, "\n# TYPE fc_uptime_seconds gauge\nfc_uptime_seconds 61.005000\n");
    assert_has(text, "\n# TYPE fc_cpu_seconds_total counter\nfc_cpu_seconds_total 2.000001\n");
    assert_has(text, "\n# TYPE fc_resident_memory_bytes gauge\nfc_resident_memory_bytes 18446744073709551615\n");
    assert_has(text, "\nfc_draining 1\n");
    assert_has(text, "\n# HELP fc_rpc_connections Connections that are open.\n"
                     "# TYPE fc_rpc_connections gauge\nfc_rpc_connections 3\n");
    assert_has(text, "\nfc_rpc_subscription_dropped_bytes_total 7\n");
    assert_int_equal('\n', text[strlen(text) - 1]);
    free(text);
}

static void
test_calls_are_shown_by_method_and_code(void **state)
{
    (void)state;
    struct rpc_method_stats methods[] = {
        {.method = "fc.a.v1.A/One", .calls = {[RPC_OK] = 2, [RPC_UNAUTHENTICATED] = 1}},
        {.method = RPC_STATS_UNKNOWN_METHOD, .calls = {[RPC_UNIMPLEMENTED] = 4}},
    };
    struct rpc_stats stats = {.method_count = 2, .methods = methods};
    char *text = text_of(&stats, NULL, 0);
    assert_has(text, "# TYPE fc_rpc_calls_total counter\n"
                     "fc_rpc_calls_total{method=\"fc.a.v1.A/One\",code=\"OK\"} 2\n"
                     "fc_rpc_calls_total{method=\"fc.a.v1.A/One\",code=\"UNAUTHENTICATED\"} 1\n"
                     "fc_rpc_calls_total{method=\"unknown\",code=\"UNIMPLEMENTED\"} 4\n#");
    free(text);
}

static void
test_histograms_are_cumulative(void **state)
{
    (void)state;
    struct rpc_method_stats method = {.method = "m", .calls[RPC_OK] = 6, .latency_sum_us = 40000019};
    method.latency_buckets[0] = 3;
    method.latency_buckets[2] = 2;
    method.latency_buckets[RPC_LATENCY_BUCKETS - 1] = 1;
    struct rpc_stats stats = {.method_count = 1, .methods = &method};
    char *text = text_of(&stats, NULL, 0);
    assert_has(text, "# TYPE fc_rpc_call_duration_seconds histogram\n"
                     "fc_rpc_call_duration_seconds_bucket{method=\"m\",le=\"0.000008\"} 3\n"
                     "fc_rpc_call_duration_seconds_bucket{method=\"m\",le=\"0.000016\"} 3\n"
                     "fc_rpc_call_duration_seconds_bucket{method=\"m\",le=\"0.000032\"} 5\n"
                     "fc_rpc_call_duration_seconds_bucket{method=\"m\",le=\"0.000064\"} 5\n");
    assert_has(text, "fc_rpc_call_duration_seconds_bucket{method=\"m\",le=\"33.554432\"} 5\n"
                     "fc_rpc_call_duration_seconds_bucket{method=\"m\",le=\"+Inf\"} 6\n"
                     "fc_rpc_call_duration_seconds_sum{method=\"m\"} 40.000019\n"
                     "fc_rpc_call_duration_seconds_count{method=\"m\"} 6\n");
    free(text);
}

static void
test_services_add_their_own(void **state)
{
    (void)state;
    uint64_t three = 3;
    const struct rpc_metric added[] = {
        {"fc_a_total", "A \"sum\" of \\ and\nmore.", true, read_five, &three},
        {"fc_b", "A level.", false, read_five, &three},
    };
    struct rpc_stats stats = {0};
    char *text = text_of(&stats, added, 2);
    assert_has(text, "\n# HELP fc_a_total A \"sum\" of \\\\ and\\nmore.\n# TYPE fc_a_total counter\nfc_a_total 5\n"
                     "# HELP fc_b A level.\n# TYPE fc_b gauge\nfc_b 5\n");
    free(text);
}

static void
test_a_server_shows_its_own_figures(void **state)
{
    (void)state;
    uint64_t zero = 0;
    struct bytes text = {0};
    struct rpc_server *server = NULL;
    const struct rpc_server_options options = {.has_public_metrics = true};
    const struct rpc_metric added = {"fc_c", "A level.", false, read_five, &zero};
    assert_int_equal(ERR_OK, rpc_server_new(&options, &server));
    assert_true(rpc_metrics_are_public(server));
    assert_int_equal(ERR_OK, rpc_server_add_metric(server, &added));
    assert_int_equal(ERR_OK, rpc_metrics_write(server, &text));
    assert_int_equal(ERR_OK, bytes_append(&text, bytes_view_of("", 1)));
    assert_has((const char *)text.data, "\nfc_rpc_connections 0\n");
    assert_has((const char *)text.data, "\nfc_c 2\n");
    bytes_free(&text);
    rpc_server_free(&server);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_labels_are_escaped),
        cmocka_unit_test(test_names_of_any_length_fit),
        cmocka_unit_test(test_each_metric_says_what_it_is),
        cmocka_unit_test(test_calls_are_shown_by_method_and_code),
        cmocka_unit_test(test_histograms_are_cumulative),
        cmocka_unit_test(test_services_add_their_own),
        cmocka_unit_test(test_a_server_shows_its_own_figures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
