// The library reads records from `input` and writes them to `output`, through a BIO that is made of the two.
#include "rpc/rpc_tls_codec.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/err.h>

#include "rpc/rpc_tls_priv.h"

enum {
    INPUT_SMALL_BYTES = 4 * 1024, // what an idle connection keeps
    INPUT_FULL_BYTES = 64 * 1024,
    WRITE_MAX_BYTES = 64 * 1024, // sealed at once: what is being sent and what comes next stay in the processor's cache
    WRITE_EXTRA_BYTES = 1024,    // more than its records add
};

struct rpc_tls_codec {
    struct rpc_tls_client *client; // a reference; NULL on a server

    pthread_mutex_t mutex; // guards the library's object and the next two
    SSL *ssl;
    struct bytes output; // what the library says by itself
    struct bytes *sink;  // where it writes: to output, or to the sender's records
    atomic_bool is_open;
    atomic_bool has_output;

    // The receiver's.
    struct bytes input;
    size_t input_used; // of input, by the library
    bool was_filled;
    enum err failure; // sticks
};

// ---- The BIO ----

static int
bio_read(BIO *bio, char *out, size_t size, size_t *size_out)
{
    struct rpc_tls_codec *codec = BIO_get_data(bio);
    size_t left = codec->input.size - codec->input_used;
    BIO_clear_retry_flags(bio);
    if (left == 0) {
        BIO_set_retry_read(bio);
        return 0;
    }
    *size_out = left < size ? left : size;
    memcpy(out, codec->input.data + codec->input_used, *size_out);
    codec->input_used += *size_out;
    return 1;
}

static int
bio_write(BIO *bio, const char *data, size_t size, size_t *size_out)
{
    struct rpc_tls_codec *codec = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (bytes_append(codec->sink, bytes_view_of(data, size)) != ERR_OK) {
        return 0;
    }
    if (codec->sink == &codec->output) {
        atomic_store(&codec->has_output, true);
    }
    *size_out = size;
    return 1;
}

static long
bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}

static pthread_once_t method_once = PTHREAD_ONCE_INIT;
static BIO_METHOD *method;

static void
make_method(void)
{
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "fc");
    if (method != NULL &&
        (BIO_meth_set_read_ex(method, bio_read) != 1 || BIO_meth_set_write_ex(method, bio_write) != 1 ||
            BIO_meth_set_ctrl(method, bio_ctrl) != 1)) {
        BIO_meth_free(method);
        method = NULL;
    }
}

// ---- Life ----

// Takes the ssl, also on failure.
static enum err
codec_new(SSL *ssl, struct rpc_tls_codec **out)
{
    struct rpc_tls_codec *codec = calloc(1, sizeof *codec);
    (void)pthread_once(&method_once, make_method);
    BIO *bio = method == NULL ? NULL : BIO_new(method);
    if (codec == NULL || bio == NULL || bytes_reserve(&codec->input, INPUT_SMALL_BYTES) != ERR_OK) {
        (void)BIO_free(bio);
        free(codec);
        SSL_free(ssl);
        return ERR_NO_MEMORY;
    }
    (void)pthread_mutex_init(&codec->mutex, NULL);
    BIO_set_data(bio, codec);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    codec->ssl = ssl;
    codec->sink = &codec->output;
    *out = codec;
    return ERR_OK;
}

enum err
rpc_tls_codec_accept(struct rpc_tls_server *server, struct rpc_tls_codec **out)
{
    SSL *ssl = NULL;
    enum err err = rpc_tls_server_accept(server, &ssl);
    return err == ERR_OK ? codec_new(ssl, out) : err;
}

enum err
rpc_tls_codec_connect(struct rpc_tls_client *client, const char *host, struct rpc_tls_codec **out)
{
    SSL *ssl = NULL;
    struct rpc_tls_codec *codec = NULL;
    enum err err = rpc_tls_client_connect(client, host, &ssl);
    if (err == ERR_OK) {
        err = codec_new(ssl, &codec);
    }
    if (err != ERR_OK) {
        return err;
    }
    codec->client = rpc_tls_client_hold(client);
    (void)SSL_do_handshake(ssl); // says hello, and misses the answer
    ERR_clear_error();
    if (!atomic_load(&codec->has_output)) {
        rpc_tls_codec_free(&codec);
        return ERR_NO_MEMORY;
    }
    *out = codec;
    return ERR_OK;
}

void
rpc_tls_codec_free(struct rpc_tls_codec **codec_in)
{
    struct rpc_tls_codec *codec = *codec_in;
    if (codec == NULL) {
        return;
    }
    // However it ended, its session may be resumed: the library would forbid that without an end in order.
    SSL_set_shutdown(codec->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(codec->ssl);
    rpc_tls_client_free(&codec->client);
    bytes_free(&codec->output);
    bytes_free(&codec->input);
    (void)pthread_mutex_destroy(&codec->mutex);
    free(codec);
    *codec_in = NULL;
}

bool
rpc_tls_codec_is_open(const struct rpc_tls_codec *codec)
{
    return atomic_load(&codec->is_open);
}

// ---- Receiving ----

void
rpc_tls_codec_space(struct rpc_tls_codec *codec, uint8_t **at_out, size_t *size_out)
{
    *at_out = codec->input.data + codec->input.size;
    *size_out = codec->input.capacity - codec->input.size;
}

void
rpc_tls_codec_add(struct rpc_tls_codec *codec, size_t size)
{
    codec->input.size += size;
    codec->was_filled = codec->input.size == codec->input.capacity;
}

// What the library's failure means. An alert is what the peer says about us.
static enum err
judge_failure(struct rpc_tls_codec *codec)
{
    unsigned long error = ERR_peek_last_error();
    int reason = ERR_GET_REASON(error);
    const char *text = ERR_reason_error_string(error);
    ERR_clear_error();
    if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED) {
        return codec->client != NULL ? ERR_UNTRUSTED : ERR_DENIED;
    }
    if (codec->client != NULL) {
        rpc_tls_client_note_failure(codec->client, text != NULL ? text : "the handshake failed");
    }
    switch (reason) {
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
    case SSL_R_TLSV1_ALERT_ACCESS_DENIED:
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
        return ERR_DENIED;
    default:
        return ERR_PROTOCOL;
    }
}

// After a call of the library that did not succeed: whether it only misses bytes.
static enum err
check_result(struct rpc_tls_codec *codec, int result)
{
    switch (SSL_get_error(codec->ssl, result)) {
    case SSL_ERROR_WANT_READ:
        return ERR_OK;
    case SSL_ERROR_ZERO_RETURN:
        return ERR_CLOSED;
    default:
        return judge_failure(codec);
    }
}

static enum err
read_locked(struct rpc_tls_codec *codec, uint8_t *at, size_t size, size_t *size_out)
{
    ERR_clear_error(); // which the thread's other connections may have left
    if (!SSL_is_init_finished(codec->ssl)) {
        int result = SSL_do_handshake(codec->ssl);
        if (result != 1) {
            return check_result(codec, result);
        }
    }
    atomic_store(&codec->is_open, true);
    while (*size_out < size) {
        size_t read = 0;
        int result = SSL_read_ex(codec->ssl, at + *size_out, size - *size_out, &read);
        if (result != 1) {
            return check_result(codec, result);
        }
        *size_out += read;
    }
    return ERR_OK;
}

// Makes room once the library has used everything.
static enum err
prepare_input(struct rpc_tls_codec *codec)
{
    struct bytes *input = &codec->input;
    if (codec->input_used < input->size) {
        return ERR_OK; // it stopped for want of room for what it has opened
    }
    bytes_clear(input);
    codec->input_used = 0;
    if (codec->was_filled && input->capacity < INPUT_FULL_BYTES) {
        return bytes_reserve(input, INPUT_FULL_BYTES);
    }
    return ERR_OK;
}

enum err
rpc_tls_codec_read(struct rpc_tls_codec *codec, uint8_t *at, size_t size, size_t *size_out)
{
    size_t read = 0;
    if (codec->failure == ERR_OK) {
        (void)pthread_mutex_lock(&codec->mutex);
        codec->failure = read_locked(codec, at, size, &read);
        (void)pthread_mutex_unlock(&codec->mutex);
    }
    if (codec->failure == ERR_OK) {
        codec->failure = prepare_input(codec);
    }
    *size_out = read;
    return read > 0 ? ERR_OK : codec->failure; // what came before the end is handed over first
}

bool
rpc_tls_codec_expects_more(const struct rpc_tls_codec *codec)
{
    return codec->was_filled;
}

size_t
rpc_tls_codec_input_capacity(const struct rpc_tls_codec *codec)
{
    return codec->input.capacity;
}

void
rpc_tls_codec_trim_input(struct rpc_tls_codec *codec)
{
    struct bytes small = {0};
    if (codec->input.size == 0 && codec->input.capacity > INPUT_SMALL_BYTES &&
        bytes_reserve(&small, INPUT_SMALL_BYTES) == ERR_OK) {
        bytes_free(&codec->input);
        codec->input = small;
        codec->was_filled = false;
    }
}

// ---- Sending ----

bool
rpc_tls_codec_has_output(const struct rpc_tls_codec *codec)
{
    return atomic_load(&codec->has_output);
}

static enum err
write_locked(struct rpc_tls_codec *codec, struct bytes_view data, size_t *taken_out)
{
    ERR_clear_error();
    size_t wanted = data.size < WRITE_MAX_BYTES ? data.size : (size_t)WRITE_MAX_BYTES;
    while (*taken_out < wanted) {
        size_t written = 0;
        if (SSL_write_ex(codec->ssl, data.data + *taken_out, wanted - *taken_out, &written) != 1) {
            ERR_clear_error();
            return ERR_INTERNAL;
        }
        *taken_out += written;
    }
    return ERR_OK;
}

enum err
rpc_tls_codec_write(struct rpc_tls_codec *codec, struct bytes_view data, size_t *taken_out, struct bytes *records)
{
    size_t taken = 0;
    (void)pthread_mutex_lock(&codec->mutex);
    enum err err = bytes_append(records, bytes_as_view(&codec->output));
    if (err == ERR_OK) {
        bytes_free(&codec->output);
        atomic_store(&codec->has_output, false);
    }
    if (err == ERR_OK && data.size > 0) {
        err = bytes_reserve(records, (data.size < WRITE_MAX_BYTES ? data.size : WRITE_MAX_BYTES) + WRITE_EXTRA_BYTES);
    }
    if (err == ERR_OK) {
        codec->sink = records;
        err = write_locked(codec, data, &taken);
        codec->sink = &codec->output;
    }
    (void)pthread_mutex_unlock(&codec->mutex);
    *taken_out = taken;
    return err;
}

void
rpc_tls_codec_end(struct rpc_tls_codec *codec)
{
    (void)pthread_mutex_lock(&codec->mutex);
    if (atomic_load(&codec->is_open) && SSL_is_init_finished(codec->ssl)) {
        (void)SSL_shutdown(codec->ssl);
        ERR_clear_error();
    }
    (void)pthread_mutex_unlock(&codec->mutex);
}
