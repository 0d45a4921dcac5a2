// TLS: the codec alone, then channels, subscribers and strangers against a server that has a certificate.
#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <nng/supplemental/tls/tls.h>

#include "base/file.h"
#include "echo_support.h"
#include "rpc/rpc_channel.h"
#include "rpc/rpc_feed.h"
#include "rpc/rpc_frame.h"
#include "rpc/rpc_subscriber.h"
#include "rpc/rpc_tls_codec.h"
#include "rpc/sp_pipe.h"
#include "tls_support.h"

#include "fc/rpc/v1/rpc.pb-c.h"

// What all tests share: an authority, and what it has signed.
static struct {
    struct tls_folder folder;
    struct tls_identity authority;
    struct tls_identity stranger; // another authority
    struct tls_identity server;
    struct tls_identity renewed;
    struct tls_identity expired;
    struct tls_identity elsewhere; // for another name
    struct tls_identity client;
} pki;

static int
begin_all(void **state)
{
    (void)state;
    const char *names = "DNS:localhost,IP:127.0.0.1";
    tls_folder_begin(&pki.folder);
    tls_make(&pki.folder, "authority", NULL, NULL, TLS_DAY_S, &pki.authority);
    tls_make(&pki.folder, "stranger", NULL, NULL, TLS_DAY_S, &pki.stranger);
    tls_make(&pki.folder, "server", &pki.authority, names, TLS_DAY_S, &pki.server);
    tls_make(&pki.folder, "renewed", &pki.authority, names, TLS_DAY_S, &pki.renewed);
    tls_make(&pki.folder, "expired", &pki.authority, names, -TLS_DAY_S, &pki.expired);
    tls_make(&pki.folder, "elsewhere", &pki.authority, "DNS:elsewhere.example", TLS_DAY_S, &pki.elsewhere);
    tls_make(&pki.folder, "client", &pki.authority, NULL, TLS_DAY_S, &pki.client);
    return 0;
}

static int
end_all(void **state)
{
    (void)state;
    tls_identity_end(&pki.authority);
    tls_identity_end(&pki.stranger);
    tls_identity_end(&pki.server);
    tls_identity_end(&pki.renewed);
    tls_identity_end(&pki.expired);
    tls_identity_end(&pki.elsewhere);
    tls_identity_end(&pki.client);
    tls_folder_end(&pki.folder);
    return 0;
}

static struct rpc_tls_server *
make_server(const struct tls_identity *identity, const char *client_ca_path)
{
    struct rpc_tls_server *server = NULL;
    struct err_detail why = {0};
    const struct rpc_tls_server_options options = {
        .certificate_path = identity->certificate,
        .key_path = identity->key,
        .client_ca_path = client_ca_path,
    };
    assert_int_equal(rpc_tls_server_new(&options, &server, &why), ERR_OK);
    return server;
}

static struct rpc_tls_client *
make_client(const struct tls_identity *pinned, const char *ca_path, const struct tls_identity *own)
{
    struct rpc_tls_client *client = NULL;
    struct err_detail why = {0};
    uint8_t fingerprint[RPC_TLS_FINGERPRINT_BYTES];
    if (pinned != NULL) {
        tls_fingerprint(pinned, fingerprint);
    }
    const struct rpc_tls_client_options options = {
        .fingerprint = pinned != NULL ? fingerprint : NULL,
        .ca_path = ca_path,
        .certificate_path = own != NULL ? own->certificate : NULL,
        .key_path = own != NULL ? own->key : NULL,
    };
    assert_int_equal(rpc_tls_client_new(&options, &client, &why), ERR_OK);
    return client;
}

// ---- Fingerprints ----

static void
test_fingerprints_are_read_as_people_write_them(void **state)
{
    (void)state;
    uint8_t fingerprint[RPC_TLS_FINGERPRINT_BYTES];
    uint8_t again[RPC_TLS_FINGERPRINT_BYTES];
    char text[RPC_TLS_FINGERPRINT_TEXT_BYTES];
    tls_fingerprint(&pki.server, fingerprint);
    rpc_tls_fingerprint_format(fingerprint, text);
    assert_int_equal(strlen(text), 95);
    assert_int_equal(rpc_tls_fingerprint_parse(text, again), ERR_OK);
    assert_memory_equal(fingerprint, again, sizeof again);

    char plain[65];
    bytes_to_hex(bytes_view_of(fingerprint, sizeof fingerprint), plain);
    assert_int_equal(rpc_tls_fingerprint_parse(plain, again), ERR_OK);
    assert_memory_equal(fingerprint, again, sizeof again);

    static const char *const wrong[] = {"", ":", "AB", "AB:", "ab:cd"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(rpc_tls_fingerprint_parse(wrong[i], again), ERR_INVALID);
    }
    for (size_t size = 0; size < strlen(text); size++) { // truncated anywhere
        char cut[RPC_TLS_FINGERPRINT_TEXT_BYTES];
        memcpy(cut, text, size);
        cut[size] = '\0';
        assert_int_equal(rpc_tls_fingerprint_parse(cut, again), ERR_INVALID);
    }
    char longer[sizeof text + 3];
    (void)snprintf(longer, sizeof longer, "%s:00", text);
    assert_int_equal(rpc_tls_fingerprint_parse(longer, again), ERR_INVALID);
    text[4] = 'g';
    assert_int_equal(rpc_tls_fingerprint_parse(text, again), ERR_INVALID);
}

// ---- The codec ----

// Two ends, and what they have read.
struct ends {
    struct rpc_tls_server *server;
    struct rpc_tls_client *client;
    struct rpc_tls_codec *codec[2];
    struct bytes read[2];
};

static void
ends_begin(struct ends *ends)
{
    memset(ends, 0, sizeof *ends);
    ends->server = make_server(&pki.server, NULL);
    ends->client = make_client(&pki.server, NULL, NULL);
    assert_int_equal(rpc_tls_codec_connect(ends->client, "127.0.0.1", &ends->codec[0]), ERR_OK);
    assert_int_equal(rpc_tls_codec_accept(ends->server, &ends->codec[1]), ERR_OK);
}

static void
ends_end(struct ends *ends)
{
    for (int i = 0; i < 2; i++) {
        rpc_tls_codec_free(&ends->codec[i]);
        bytes_free(&ends->read[i]);
    }
    rpc_tls_client_free(&ends->client);
    rpc_tls_server_free(&ends->server);
}

// Reads with a buffer of so many bytes until there is nothing.
static enum err
read_all(struct ends *ends, int end, size_t buffer_size)
{
    uint8_t buffer[64 * 1024];
    enum err err;
    size_t size = 0;
    do {
        err = rpc_tls_codec_read(ends->codec[end], buffer, buffer_size, &size);
        if (err == ERR_OK) {
            assert_int_equal(bytes_append(&ends->read[end], bytes_view_of(buffer, size)), ERR_OK);
        }
    } while (err == ERR_OK && size > 0);
    return err;
}

// Gives records to an end in pieces: one of first_size, then all in pieces of piece_size.
static enum err
feed(struct ends *ends, int end, struct bytes_view records, size_t first_size, size_t piece_size, size_t buffer_size)
{
    enum err err = ERR_OK;
    size_t piece = first_size;
    while (records.size > 0 && err == ERR_OK) {
        uint8_t *at;
        size_t space;
        rpc_tls_codec_space(ends->codec[end], &at, &space);
        assert_true(space > 0);
        size_t size = piece == 0 || piece > records.size ? records.size : piece;
        size = size > space ? space : size;
        memcpy(at, records.data, size);
        rpc_tls_codec_add(ends->codec[end], size);
        err = read_all(ends, end, buffer_size);
        records = bytes_view_of(records.data + size, records.size - size);
        piece = piece_size;
    }
    return err;
}

// Carries output to the other end until both are silent.
static enum err
settle(struct ends *ends, size_t first_size, size_t piece_size)
{
    enum err err = ERR_OK;
    bool has_moved = true;
    while (has_moved && err == ERR_OK) {
        has_moved = false;
        for (int i = 0; i < 2 && err == ERR_OK; i++) {
            if (rpc_tls_codec_has_output(ends->codec[i])) {
                struct bytes records = {0};
                size_t taken = 0;
                has_moved = true;
                assert_int_equal(rpc_tls_codec_write(ends->codec[i], bytes_view_of(NULL, 0), &taken, &records), ERR_OK);
                err = feed(ends, !i, bytes_as_view(&records), first_size, piece_size, 4096);
                bytes_free(&records);
            }
        }
    }
    return err;
}

static void
send_across(struct ends *ends, int from, struct bytes_view data, size_t first_size, size_t piece_size,
    size_t buffer_size)
{
    bytes_clear(&ends->read[!from]);
    struct bytes_view rest = data;
    while (rest.size > 0) {
        struct bytes records = {0};
        size_t taken = 0;
        assert_int_equal(rpc_tls_codec_write(ends->codec[from], rest, &taken, &records), ERR_OK);
        assert_true(taken > 0);
        assert_int_equal(feed(ends, !from, bytes_as_view(&records), first_size, piece_size, buffer_size), ERR_OK);
        rest = bytes_view_of(rest.data + taken, rest.size - taken);
        bytes_free(&records);
    }
    assert_true(bytes_view_equal(data, bytes_as_view(&ends->read[!from])));
}

static void
test_records_may_be_split_at_every_byte(void **state)
{
    (void)state;
    static const char text[] = "a message of some forty bytes, no secrets";
    struct ends ends;
    ends_begin(&ends);
    assert_int_equal(settle(&ends, 1, 1), ERR_OK);
    assert_true(rpc_tls_codec_is_open(ends.codec[0]) && rpc_tls_codec_is_open(ends.codec[1]));
    for (int from = 0; from < 2; from++) {
        for (size_t split = 1; split < sizeof text + 40; split++) {
            send_across(&ends, from, bytes_view_of(text, sizeof text), split, 0, 4096);
        }
        send_across(&ends, from, bytes_view_of(text, sizeof text), 1, 1, 1);
    }
    ends_end(&ends);

    // The handshake, at each byte of its flights.
    for (size_t split = 1; split < 700; split++) {
        ends_begin(&ends);
        assert_int_equal(settle(&ends, split, 0), ERR_OK);
        send_across(&ends, 0, bytes_view_of(text, sizeof text), 0, 0, 4096);
        send_across(&ends, 1, bytes_view_of(text, sizeof text), 0, 0, 4096);
        ends_end(&ends);
    }
}

static void
test_large_data_and_small_buffers(void **state)
{
    (void)state;
    enum {
        SIZE = 1024 * 1024 + 17,
    };
    struct ends ends;
    uint8_t *data = malloc(SIZE);
    assert_non_null(data);
    for (size_t i = 0; i < SIZE; i++) {
        data[i] = (uint8_t)(i * 7 + i / 251);
    }
    ends_begin(&ends);
    assert_int_equal(settle(&ends, 0, 0), ERR_OK);
    static const size_t buffers[] = {1000, 16384, 65536};
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++) {
        send_across(&ends, 0, bytes_view_of(data, SIZE), 0, 30000, buffers[i]);
        send_across(&ends, 1, bytes_view_of(data, SIZE), 5, 0, buffers[i]);
    }
    // Idle memory is small again.
    rpc_tls_codec_trim_input(ends.codec[1]);
    assert_true(rpc_tls_codec_input_capacity(ends.codec[1]) <= 4096);
    send_across(&ends, 0, bytes_view_of(data, SIZE), 0, 0, 65536);
    ends_end(&ends);
    free(data);
}

// What the server says in a handshake.
static size_t
measure_server_flights(struct ends *ends)
{
    size_t size = 0;
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 2; i++) {
            struct bytes records = {0};
            size_t taken = 0;
            assert_int_equal(rpc_tls_codec_write(ends->codec[i], bytes_view_of(NULL, 0), &taken, &records), ERR_OK);
            size += i == 1 ? records.size : 0;
            assert_int_equal(feed(ends, !i, bytes_as_view(&records), 0, 0, 4096), ERR_OK);
            bytes_free(&records);
        }
    }
    assert_true(rpc_tls_codec_is_open(ends->codec[0]) && rpc_tls_codec_is_open(ends->codec[1]));
    return size;
}

static void
test_a_client_resumes_its_session(void **state)
{
    (void)state;
    struct ends ends;
    ends_begin(&ends);
    size_t whole = measure_server_flights(&ends);
    for (int i = 0; i < 2; i++) {
        rpc_tls_codec_free(&ends.codec[i]); // without farewell
    }
    assert_int_equal(rpc_tls_codec_connect(ends.client, "127.0.0.1", &ends.codec[0]), ERR_OK);
    assert_int_equal(rpc_tls_codec_accept(ends.server, &ends.codec[1]), ERR_OK);
    size_t resumed = measure_server_flights(&ends);
    assert_true(resumed + 300 < whole); // there is no certificate in it
    ends_end(&ends);
}

static void
test_farewell_and_damage(void **state)
{
    (void)state;
    struct ends ends;
    ends_begin(&ends);
    assert_int_equal(settle(&ends, 0, 0), ERR_OK);
    rpc_tls_codec_end(ends.codec[0]);
    assert_true(rpc_tls_codec_has_output(ends.codec[0]));
    assert_int_equal(settle(&ends, 0, 0), ERR_CLOSED);
    ends_end(&ends);

    // A record with any byte changed ends the connection, and is not handed over.
    for (size_t at = 0; at < 30; at++) {
        struct bytes records = {0};
        size_t taken = 0;
        ends_begin(&ends);
        assert_int_equal(settle(&ends, 0, 0), ERR_OK);
        assert_int_equal(rpc_tls_codec_write(ends.codec[0], bytes_view_of("0123456789", 10), &taken, &records), ERR_OK);
        records.data[at] ^= 0x55;
        enum err err = feed(&ends, 1, bytes_as_view(&records), 0, 0, 4096);
        assert_true(err == ERR_PROTOCOL || (err == ERR_OK && at >= 3 && at < 5)); // a longer record is waited for
        assert_int_equal(ends.read[1].size, 0);
        bytes_free(&records);
        ends_end(&ends);
    }
}

// ---- Server and channel ----

struct fixture {
    struct rpc_tls_server *tls;
    struct rpc_server *server;
    char url[RPC_URL_MAX_BYTES];
};

static void
fixture_begin(struct fixture *fixture, const struct tls_identity *identity, const char *client_ca_path)
{
    struct err_detail why = {0};
    memset(fixture, 0, sizeof *fixture);
    fixture->tls = make_server(identity, client_ca_path);
    const struct rpc_server_options options = {.tls = fixture->tls};
    assert_int_equal(rpc_server_new(&options, &fixture->server), ERR_OK);
    assert_int_equal(rpc_server_add_service(fixture->server, &service.base, rules, sizeof rules / sizeof rules[0]),
        ERR_OK);
    assert_int_equal(rpc_server_listen(fixture->server, "tls+tcp://127.0.0.1:0", fixture->url, &why), ERR_OK);
    assert_memory_equal(fixture->url, "tls+tcp://127.0.0.1:", 20);
}

static void
fixture_end(struct fixture *fixture)
{
    rpc_server_free(&fixture->server);
    sp_pipe_drain_reaper();
    rpc_tls_server_free(&fixture->tls);
}

static uint16_t
port_of(const char *url)
{
    return (uint16_t)strtoul(strrchr(url, ':') + 1, NULL, 10);
}

// Takes the client.
static struct rpc_channel *
make_channel(const char *url, struct rpc_tls_client *client)
{
    struct rpc_channel *channel = NULL;
    struct err_detail why = {0};
    const struct rpc_channel_options options = {.url = url, .tls = client};
    assert_int_equal(rpc_channel_new(&options, &channel, &why), ERR_OK);
    rpc_tls_client_free(&client);
    return channel;
}

static enum err
echo_once(struct rpc_channel *channel, size_t size, struct rpc_status *status_out)
{
    struct rpc_unary call;
    Fc__Test__V1__EchoRequest request = FC__TEST__V1__ECHO_REQUEST__INIT;
    request.data.len = size;
    request.data.data = malloc(size + 1);
    assert_non_null(request.data.data);
    memset(request.data.data, 'e', size);
    rpc_unary_init(&call, channel, &fc__test__v1__echo__descriptor);
    call.timeout_ms = wire_limit_ms(10000);
    fc__test__v1__echo__echo(&call.service, &request, NULL, NULL);
    enum err err = rpc_unary_wait(&call);
    if (err == ERR_OK) {
        const Fc__Test__V1__EchoResponse *response = rpc_unary_response(&call);
        assert_int_equal(response->data.len, size);
        assert_memory_equal(response->data.data, request.data.data, size);
    }
    if (status_out != NULL) {
        *status_out = call.status;
        assert_true(err != ERR_UNTRUSTED || !call.was_sent);
    }
    rpc_unary_deinit(&call);
    free(request.data.data);
    return err;
}

static void
test_calls_of_every_size(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_begin(&fixture, &pki.server, NULL);
    struct rpc_channel *channel = make_channel(fixture.url, make_client(&pki.server, NULL, NULL));
    for (size_t size = 0; size < 8 * 1024 * 1024; size = size * 5 + 3) {
        assert_int_equal(echo_once(channel, size, NULL), ERR_OK);
    }
    assert_int_equal(echo_once(channel, 8 * 1024 * 1024, NULL), ERR_OK);
    rpc_channel_free(&channel);

    channel = make_channel(fixture.url, make_client(NULL, pki.authority.certificate, NULL));
    assert_int_equal(echo_once(channel, 100, NULL), ERR_OK);
    rpc_channel_free(&channel);
    fixture_end(&fixture);
}

struct crowd {
    pthread_t thread;
    struct rpc_channel *channel;
    atomic_bool is_over;
    size_t calls;
};

static void *
call_on_and_on(void *arg)
{
    struct crowd *member = arg;
    while (!atomic_load(&member->is_over)) {
        assert_int_equal(echo_once(member->channel, member->calls * 131 % 100000, NULL), ERR_OK);
        member->calls++;
    }
    return NULL;
}

static void
test_reload_while_calls_go_on(void **state)
{
    (void)state;
    struct fixture fixture;
    struct crowd crowd[4] = {0};
    struct bytes certificate = {0};
    struct bytes key = {0};
    struct err_detail why = {0};
    struct rpc_status status;
    struct tls_identity changing;
    tls_make(&pki.folder, "changing", &pki.authority, "IP:127.0.0.1", TLS_DAY_S, &changing);
    fixture_begin(&fixture, &changing, NULL);
    struct rpc_channel *shared = make_channel(fixture.url, make_client(&changing, NULL, NULL));
    for (size_t i = 0; i < 4; i++) {
        crowd[i].channel = shared;
        assert_int_equal(pthread_create(&crowd[i].thread, NULL, call_on_and_on, &crowd[i]), 0);
    }
    assert_int_equal(file_read(pki.renewed.certificate, 65536, &certificate), ERR_OK);
    assert_int_equal(file_read(pki.renewed.key, 65536, &key), ERR_OK);
    assert_int_equal(file_replace(changing.certificate, bytes_as_view(&certificate), 0600), ERR_OK);
    assert_int_equal(rpc_tls_server_reload(fixture.tls, &why), ERR_INVALID); // the key is still the old one
    assert_int_equal(file_replace(changing.key, bytes_as_view(&key), 0600), ERR_OK);
    assert_int_equal(rpc_tls_server_reload(fixture.tls, &why), ERR_OK);

    struct rpc_channel *later = make_channel(fixture.url, make_client(&pki.renewed, NULL, NULL));
    assert_int_equal(echo_once(later, 10, NULL), ERR_OK);
    rpc_channel_free(&later);
    later = make_channel(fixture.url, make_client(&changing, NULL, NULL));
    assert_int_equal(echo_once(later, 10, &status), ERR_UNTRUSTED);
    rpc_channel_free(&later);
    for (size_t i = 0; i < 4; i++) {
        atomic_store(&crowd[i].is_over, true);
        assert_int_equal(pthread_join(crowd[i].thread, NULL), 0);
        assert_true(crowd[i].calls > 0);
    }
    rpc_channel_free(&shared);
    fixture_end(&fixture);
    bytes_free(&certificate);
    bytes_free(&key);
    tls_identity_end(&changing);
}

// ---- Who is not trusted ----

static void
expect_untrusted(const struct tls_identity *server, struct rpc_tls_client *client, const char *expected)
{
    struct fixture fixture;
    struct rpc_status status;
    uint8_t met[RPC_TLS_FINGERPRINT_BYTES];
    uint8_t its_own[RPC_TLS_FINGERPRINT_BYTES];
    fixture_begin(&fixture, server, NULL);
    const struct rpc_channel_options options = {.url = fixture.url, .tls = client};
    struct rpc_channel *channel = NULL;
    assert_int_equal(rpc_channel_new(&options, &channel, NULL), ERR_OK);
    assert_false(rpc_tls_client_refusal(client, met));
    assert_int_equal(echo_once(channel, 10, &status), ERR_UNTRUSTED);
    assert_int_equal(status.code, RPC_UNAVAILABLE);
    assert_non_null(strstr(status.detail.message, expected));
    assert_true(rpc_tls_client_refusal(client, met));
    tls_fingerprint(server, its_own);
    assert_memory_equal(met, its_own, sizeof met);
    rpc_channel_free(&channel);
    rpc_tls_client_free(&client);
    fixture_end(&fixture);
}

static void
test_servers_that_are_not_trusted(void **state)
{
    (void)state;
    const char *ca = pki.authority.certificate;
    expect_untrusted(&pki.server, make_client(&pki.renewed, NULL, NULL), "KEY HAS CHANGED");
    expect_untrusted(&pki.server, make_client(NULL, NULL, NULL), "not known");
    expect_untrusted(&pki.expired, make_client(NULL, ca, NULL), "expired");
    expect_untrusted(&pki.elsewhere, make_client(NULL, ca, NULL), "mismatch");
    expect_untrusted(&pki.server, make_client(NULL, pki.stranger.certificate, NULL), "issuer");
    expect_untrusted(&pki.stranger, make_client(NULL, ca, NULL), "self");
}

static void
test_client_certificates(void **state)
{
    (void)state;
    struct fixture fixture;
    struct rpc_status status;
    fixture_begin(&fixture, &pki.server, pki.authority.certificate);
    struct rpc_channel *channel = make_channel(fixture.url, make_client(&pki.server, NULL, &pki.client));
    assert_int_equal(echo_once(channel, 10, NULL), ERR_OK);
    rpc_channel_free(&channel);

    channel = make_channel(fixture.url, make_client(&pki.server, NULL, NULL));
    assert_int_equal(echo_once(channel, 10, &status), ERR_DENIED);
    assert_non_null(strstr(status.detail.message, "certificate"));
    rpc_channel_free(&channel);

    channel = make_channel(fixture.url, make_client(&pki.server, NULL, &pki.stranger));
    assert_int_equal(echo_once(channel, 10, &status), ERR_DENIED);
    rpc_channel_free(&channel);
    fixture_end(&fixture);
}

static void
test_files_that_are_wrong(void **state)
{
    (void)state;
    struct err_detail why = {0};
    struct rpc_tls_server *server = NULL;
    struct rpc_tls_client *client = NULL;
    struct rpc_tls_server_options options = {.certificate_path = "/nonexistent", .key_path = pki.server.key};
    assert_int_equal(rpc_tls_server_new(&options, &server, &why), ERR_NOT_FOUND);
    assert_non_null(strstr(why.message, "/nonexistent"));
    options.certificate_path = pki.server.key;
    assert_int_equal(rpc_tls_server_new(&options, &server, &why), ERR_INVALID);
    options.certificate_path = pki.client.certificate;
    assert_int_equal(rpc_tls_server_new(&options, &server, &why), ERR_INVALID);
    options.certificate_path = pki.server.certificate;
    options.client_ca_path = pki.server.key;
    assert_int_equal(rpc_tls_server_new(&options, &server, &why), ERR_INVALID);
    assert_non_null(strstr(why.message, pki.server.key));
    assert_null(server);

    struct rpc_tls_client_options wrong = {.ca_path = "/nonexistent"};
    assert_int_equal(rpc_tls_client_new(&wrong, &client, &why), ERR_INVALID);
    wrong = (struct rpc_tls_client_options){.certificate_path = pki.client.certificate};
    assert_int_equal(rpc_tls_client_new(&wrong, &client, &why), ERR_INVALID);
    assert_null(client);

    struct rpc_channel *channel = NULL;
    const struct rpc_channel_options no_trust = {.url = "tls+tcp://localhost"};
    assert_int_equal(rpc_channel_new(&no_trust, &channel, &why), ERR_INVALID);
}

// ---- Strangers ----

static void
test_plaintext_and_tls_at_the_wrong_door(void **state)
{
    (void)state;
    struct fixture fixture;
    struct rpc_status status;
    char plain_url[RPC_URL_MAX_BYTES];
    char tls_url[RPC_URL_MAX_BYTES + 8];
    fixture_begin(&fixture, &pki.server, NULL);
    // Plain SP at the TLS port is told so at once, not after the time for the handshake.
    struct rpc_channel *channel = make_channel(fixture.url + strlen("tls+"), NULL);
    assert_int_equal(echo_once(channel, 10, &status), ERR_UNAVAILABLE);
    assert_non_null(strstr(status.detail.message, "tls+tcp://"));
    rpc_channel_free(&channel);
    int fd = wire_connect_tcp(port_of(fixture.url));
    wire_write(fd, "GET / HTTP/1.1\r\n\r\n", 18);
    wire_expect_end(fd);
    (void)close(fd);

    // And TLS at the plain port.
    assert_int_equal(rpc_server_listen(fixture.server, "tcp://127.0.0.1:0", plain_url, NULL), ERR_OK);
    (void)snprintf(tls_url, sizeof tls_url, "tls+%s", plain_url);
    channel = make_channel(tls_url, make_client(&pki.server, NULL, NULL));
    assert_int_equal(echo_once(channel, 10, &status), ERR_UNAVAILABLE);
    rpc_channel_free(&channel);
    fixture_end(&fixture);
}

// A client of the library's own, on a blocking socket.
static SSL *
connect_library(const struct fixture *fixture, SSL_CTX *ctx, SSL_SESSION *session)
{
    SSL *ssl = SSL_new(ctx);
    assert_non_null(ssl);
    assert_int_equal(SSL_set_fd(ssl, wire_connect_tcp(port_of(fixture->url))), 1);
    if (session != NULL) {
        assert_int_equal(SSL_set_session(ssl, session), 1);
    }
    return ssl;
}

static void
close_library(SSL *ssl)
{
    int fd = SSL_get_fd(ssl);
    SSL_free(ssl);
    (void)close(fd);
}

static void
test_versions_and_protocol_names(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_begin(&fixture, &pki.server, NULL);
    static const unsigned char foreign[] = {2, 'h', '2'};
    static const struct {
        int version;
        const unsigned char *names;
        unsigned names_size;
        bool is_accepted;
    } cases[] = {
        {TLS1_1_VERSION, NULL, 0, false},
        {TLS1_2_VERSION, NULL, 0, true},
        {TLS1_3_VERSION, NULL, 0, true},
        {TLS1_3_VERSION, rpc_tls_alpn, sizeof rpc_tls_alpn, true},
        {TLS1_3_VERSION, foreign, sizeof foreign, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
        assert_non_null(ctx);
        SSL_CTX_set_security_level(ctx, 0);
        assert_int_equal(SSL_CTX_set_max_proto_version(ctx, cases[i].version), 1);
        if (cases[i].names != NULL) {
            assert_int_equal(SSL_CTX_set_alpn_protos(ctx, cases[i].names, cases[i].names_size), 0);
        }
        SSL *ssl = connect_library(&fixture, ctx, NULL);
        assert_int_equal(SSL_connect(ssl) == 1, cases[i].is_accepted);
        if (cases[i].is_accepted) {
            const unsigned char *name;
            unsigned name_size;
            uint8_t header[8] = {0, 'S', 'P', 0, 0, 0x30};
            assert_int_equal(SSL_version(ssl), cases[i].version);
            SSL_get0_alpn_selected(ssl, &name, &name_size);
            assert_int_equal(name_size, cases[i].names == NULL ? 0 : 4);
            assert_int_equal(SSL_write(ssl, header, sizeof header), sizeof header);
            assert_int_equal(SSL_read(ssl, header, sizeof header), sizeof header);
            assert_int_equal(header[5], SP_REP);
            assert_int_equal(SSL_renegotiate_pending(ssl), 0);
        }
        close_library(ssl);
        SSL_CTX_free(ctx);
    }
    fixture_end(&fixture);
}

static void
test_sessions_are_resumed_and_ended_in_order(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_begin(&fixture, &pki.server, NULL);
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        SSL_SESSION *session = NULL;
        SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
        assert_non_null(ctx);
        assert_int_equal(SSL_CTX_set_max_proto_version(ctx, version), 1);
        for (int round = 0; round < 2; round++) {
            uint8_t header[8] = {0, 'S', 'P', 0, 0, 0x10}; // PAIR, which is sent away
            SSL *ssl = connect_library(&fixture, ctx, session);
            assert_int_equal(SSL_connect(ssl), 1);
            assert_int_equal(SSL_session_reused(ssl), round);
            assert_int_equal(SSL_write(ssl, header, sizeof header), sizeof header);
            assert_int_equal(SSL_read(ssl, header, sizeof header), 0);
            assert_int_equal(SSL_get_error(ssl, 0), SSL_ERROR_ZERO_RETURN); // close_notify, not merely the end
            SSL_SESSION_free(session);
            session = SSL_get1_session(ssl);
            (void)SSL_shutdown(ssl); // else the library does not use it again
            close_library(ssl);
        }
        SSL_SESSION_free(session);
        SSL_CTX_free(ctx);
    }
    fixture_end(&fixture);
}

static bool
are_fds_back(void *context)
{
    return wire_count_fds() <= *(size_t *)context;
}

static void
test_abrupt_clients_leave_nothing(void **state)
{
    (void)state;
    struct fixture fixture;
    struct bytes hello = {0};
    struct rpc_tls_client *client = make_client(&pki.server, NULL, NULL);
    struct rpc_tls_codec *codec = NULL;
    size_t taken = 0;
    fixture_begin(&fixture, &pki.server, NULL);
    struct rpc_channel *channel = make_channel(fixture.url, make_client(&pki.server, NULL, NULL));
    assert_int_equal(echo_once(channel, 10, NULL), ERR_OK);
    assert_int_equal(rpc_tls_codec_connect(client, "localhost", &codec), ERR_OK);
    assert_int_equal(rpc_tls_codec_write(codec, bytes_view_of(NULL, 0), &taken, &hello), ERR_OK);
    rpc_tls_codec_free(&codec);
    rpc_tls_client_free(&client);
    size_t fds = wire_count_fds();
    for (unsigned i = 0; i < 200; i++) {
        int fd = wire_connect_tcp(port_of(fixture.url));
        size_t size = i % 5 == 0 ? 0 : i % 5 == 1 ? hello.size / 2 : hello.size;
        wire_write(fd, hello.data, size);
        if (i % 5 == 3) {
            uint8_t byte;
            wire_read(fd, &byte, 1); // the answer is on its way
        }
        if (i % 2 == 0) {
            wire_reset(fd);
        } else {
            (void)close(fd);
        }
    }
    assert_true(wire_wait_until(are_fds_back, &fds, 5000));
    assert_int_equal(echo_once(channel, 10, NULL), ERR_OK);
    rpc_channel_free(&channel);
    fixture_end(&fixture);
    bytes_free(&hello);
}

// ---- Stock nng, and subscriptions ----

static void
test_stock_nng_req_socket_over_tls(void **state)
{
    (void)state;
    struct fixture fixture;
    nng_socket socket;
    nng_dialer dialer;
    nng_tls_config *config;
    fixture_begin(&fixture, &pki.server, NULL);
    assert_int_equal(nng_tls_config_alloc(&config, NNG_TLS_MODE_CLIENT), 0);
    assert_int_equal(nng_tls_config_ca_file(config, pki.authority.certificate), 0);
    assert_int_equal(nng_tls_config_server_name(config, "localhost"), 0);
    assert_int_equal(nng_tls_config_auth_mode(config, NNG_TLS_AUTH_MODE_REQUIRED), 0);
    assert_int_equal(nng_req0_open(&socket), 0);
    assert_int_equal(nng_socket_set_ms(socket, NNG_OPT_RECVTIMEO, (nng_duration)wire_limit_ms(5000)), 0);
    assert_int_equal(nng_dialer_create(&dialer, socket, fixture.url), 0);
    assert_int_equal(nng_dialer_set_ptr(dialer, NNG_OPT_TLS_CONFIG, config), 0);
    assert_int_equal(nng_dialer_start(dialer, 0), 0);
    for (size_t size = 0; size < 1024 * 1024; size = size * 7 + 1) {
        struct bytes frame = {0};
        struct rpc_frame parsed;
        void *answer;
        size_t answer_size;
        char method[] = "fc.test.v1.Echo/Echo";
        Fc__Rpc__V1__RequestHeader header = FC__RPC__V1__REQUEST_HEADER__INIT;
        Fc__Test__V1__EchoRequest request = FC__TEST__V1__ECHO_REQUEST__INIT;
        header.method = method;
        request.data.len = size;
        request.data.data = calloc(1, size + 1);
        assert_non_null(request.data.data);
        assert_int_equal(rpc_frame_append(&frame, 0, &header.base, &request.base, NULL), ERR_OK);
        assert_int_equal(nng_send(socket, frame.data, frame.size, 0), 0);
        assert_int_equal(nng_recv(socket, &answer, &answer_size, NNG_FLAG_ALLOC), 0);
        assert_int_equal(rpc_frame_parse(bytes_view_of(answer, answer_size), &parsed), ERR_OK);
        assert_int_equal(parsed.header.size, 0); // success
        assert_int_equal(parsed.message.size, fc__test__v1__echo_request__get_packed_size(&request));
        nng_free(answer, answer_size);
        bytes_free(&frame);
        free(request.data.data);
    }
    assert_int_equal(nng_close(socket), 0);
    nng_tls_config_free(config);
    fixture_end(&fixture);
}

struct audience {
    atomic_size_t bytes;
    atomic_int closed;
    atomic_int reason;
};

static void
on_event(void *context, const uint8_t topic[RPC_TOPIC_BYTES], struct bytes_view payload)
{
    struct audience *audience = context;
    assert_memory_equal(topic, "topic of a room.", RPC_TOPIC_BYTES);
    atomic_fetch_add(&audience->bytes, payload.size);
}

static void
on_subscription_closed(void *context, enum err reason)
{
    struct audience *audience = context;
    atomic_store(&audience->reason, (int)reason);
    atomic_fetch_add(&audience->closed, 1);
}

static const struct rpc_subscriber_handlers subscriber_handlers = {
    .on_event = on_event,
    .on_closed = on_subscription_closed,
};

static void
on_feed_closed(void *context, struct rpc_feed *feed)
{
    (void)context;
    rpc_feed_release(feed);
}

static bool
has_heard_all(void *context)
{
    struct audience *audience = context;
    return atomic_load(&audience->bytes) == 10000;
}

static bool
has_closed(void *context)
{
    struct audience *audience = context;
    return atomic_load(&audience->closed) == 1;
}

static void
test_a_subscription_over_tls(void **state)
{
    (void)state;
    struct fixture fixture;
    struct audience audience = {0};
    struct rpc_feed *feed;
    struct rpc_subscriber *subscriber;
    struct rpc_tls_client *client = make_client(&pki.server, NULL, NULL);
    const uint8_t *topic = (const uint8_t *)"topic of a room.";
    fixture_begin(&fixture, &pki.server, NULL);
    assert_int_equal(rpc_feed_new(fixture.server, on_feed_closed, NULL, &feed), ERR_OK);
    assert_int_equal(rpc_subscriber_new(fixture.url, NULL, rpc_feed_ticket(feed), &subscriber_handlers, &audience,
                         &subscriber, NULL),
        ERR_INVALID);
    assert_int_equal(rpc_subscriber_new(fixture.url, client, rpc_feed_ticket(feed), &subscriber_handlers, &audience,
                         &subscriber, NULL),
        ERR_OK);
    for (int i = 0; i < 1000; i++) {
        rpc_feed_push(feed, topic, bytes_view_of_text("0123456789"));
    }
    assert_true(wire_wait_until(has_heard_all, &audience, 5000));
    rpc_feed_close(feed);
    assert_true(wire_wait_until(has_closed, &audience, 5000));
    assert_int_equal(atomic_load(&audience.reason), ERR_CLOSED);
    rpc_subscriber_free(&subscriber);
    rpc_tls_client_free(&client);

    client = make_client(&pki.renewed, NULL, NULL);
    memset(&audience, 0, sizeof audience);
    assert_int_equal(
        rpc_subscriber_new(fixture.url, client, "ticket", &subscriber_handlers, &audience, &subscriber, NULL), ERR_OK);
    assert_true(wire_wait_until(has_closed, &audience, 5000));
    assert_int_equal(atomic_load(&audience.reason), ERR_UNTRUSTED);
    rpc_subscriber_free(&subscriber);
    rpc_tls_client_free(&client);
    fixture_end(&fixture);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fingerprints_are_read_as_people_write_them),
        cmocka_unit_test(test_records_may_be_split_at_every_byte),
        cmocka_unit_test(test_large_data_and_small_buffers),
        cmocka_unit_test(test_a_client_resumes_its_session),
        cmocka_unit_test(test_farewell_and_damage),
        cmocka_unit_test(test_calls_of_every_size),
        cmocka_unit_test(test_reload_while_calls_go_on),
        cmocka_unit_test(test_servers_that_are_not_trusted),
        cmocka_unit_test(test_client_certificates),
        cmocka_unit_test(test_files_that_are_wrong),
        cmocka_unit_test(test_plaintext_and_tls_at_the_wrong_door),
        cmocka_unit_test(test_versions_and_protocol_names),
        cmocka_unit_test(test_sessions_are_resumed_and_ended_in_order),
        cmocka_unit_test(test_abrupt_clients_leave_nothing),
        cmocka_unit_test(test_stock_nng_req_socket_over_tls),
        cmocka_unit_test(test_a_subscription_over_tls),
    };
    return cmocka_run_group_tests(tests, begin_all, end_all);
}
