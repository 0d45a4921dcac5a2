#include "client/fc_trust.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "client/fc_config.h"
#include "client/fc_known_servers.h"
#include "rpc/rpc_channel.h"

static const char scheme[] = "tls+tcp://";

// Writes HOST:PORT in lower case, by which a server is known.
static void
write_name(const char *url, char name_out[FC_SERVER_URL_MAX_BYTES])
{
    const char *host = url + strlen(scheme);
    const char *host_end = host[0] == '[' && strchr(host, ']') != NULL ? strchr(host, ']') : host;
    bool has_port = strchr(host_end, ':') != NULL;
    char port[16] = "";
    if (!has_port) {
        (void)snprintf(port, sizeof(port), ":%d", RPC_TLS_DEFAULT_PORT);
    }
    (void)snprintf(name_out, FC_SERVER_URL_MAX_BYTES, "%s%s", host, port);
    for (char *c = name_out; *c != '\0'; c++) {
        *c = (char)tolower((unsigned char)*c);
    }
}

// Connects, and finds out who is there. Nothing but the handshake is sent, since nobody is trusted.
static enum err
meet(const char *url, const struct fc_trust *trust, uint8_t fingerprint_out[RPC_TLS_FINGERPRINT_BYTES],
    struct err_detail *why)
{
    struct rpc_channel *channel = NULL;
    struct rpc_tls_client *nobody = NULL;
    struct rpc_unary call;
    const struct rpc_tls_client_options options = {
        .certificate_path = trust->certificate_path,
        .key_path = trust->key_path,
    };
    enum err err = rpc_tls_client_new(&options, &nobody, why);
    if (err != ERR_OK) {
        return err;
    }
    err = rpc_channel_new(&(struct rpc_channel_options){.url = url, .tls = nobody}, &channel, why);
    if (err == ERR_OK) {
        rpc_unary_init(&call, channel, NULL);
        rpc_unary_start_raw(&call, "fc.rpc.v1.Health/Check", bytes_view_of(NULL, 0));
        err = rpc_unary_wait(&call);
        if (err == ERR_UNTRUSTED && rpc_tls_client_refusal(nobody, fingerprint_out)) {
            err = ERR_OK;
        } else {
            err = err_fail(why, err == ERR_OK ? ERR_INTERNAL : err, "%s", err_message(&call.status.detail, err));
        }
        rpc_unary_deinit(&call);
    }
    rpc_channel_free(&channel);
    rpc_tls_client_free(&nobody);
    return err;
}

// Decides about a server that is not known.
static enum err
decide(const char *name, const struct fc_trust *trust, const uint8_t fingerprint[RPC_TLS_FINGERPRINT_BYTES],
    struct err_detail *why)
{
    char text[RPC_TLS_FINGERPRINT_TEXT_BYTES];
    uint8_t given[RPC_TLS_FINGERPRINT_BYTES];
    rpc_tls_fingerprint_format(fingerprint, text);
    if (trust->fingerprint != NULL) {
        if (rpc_tls_fingerprint_parse(trust->fingerprint, given) != ERR_OK) {
            return err_fail(why, ERR_INVALID, "\"%s\" is no fingerprint; 'fcd --fingerprint' prints it",
                trust->fingerprint);
        }
        if (memcmp(given, fingerprint, sizeof(given)) != 0) {
            return err_fail(why, ERR_UNTRUSTED, "the certificate of %s has the fingerprint %s, not the one given", name,
                text);
        }
        return ERR_OK;
    }
    if (trust->confirm == NULL) {
        return err_fail(why, ERR_UNTRUSTED,
            "the server %s is not known, and nobody can be asked; if the fingerprint of its certificate is right, add "
            "--trust %s",
            name, text);
    }
    return trust->confirm(trust->context, name, text)
               ? ERR_OK
               : err_fail(why, ERR_UNTRUSTED, "the server %s is not trusted; nothing was sent", name);
}

static enum err
make_pinned(const char *name, const struct fc_trust *trust, const struct fc_known_server *known,
    struct rpc_tls_client **out, struct err_detail *why)
{
    struct err_detail advice = {0};
    (void)err_fail(&advice, ERR_UNTRUSTED,
        "Somebody may be in between and read what you send, or %s got a new key: ask who runs it. If so, remove line "
        "%u of %s",
        name, known->line, known->path);
    const struct rpc_tls_client_options options = {
        .fingerprint = known->fingerprint,
        .advice = advice.message,
        .certificate_path = trust->certificate_path,
        .key_path = trust->key_path,
    };
    return rpc_tls_client_new(&options, out, why);
}

enum err
fc_trust_server(const char *url, const struct fc_trust *trust, struct rpc_tls_client **out, struct err_detail *why)
{
    static const struct fc_trust nothing;
    char name[FC_SERVER_URL_MAX_BYTES];
    struct fc_known_server known = {0};
    trust = trust == NULL ? &nothing : trust;
    *out = NULL;
    if (strncmp(url, scheme, strlen(scheme)) != 0) {
        return ERR_OK;
    }
    if (trust->ca_path != NULL) {
        const struct rpc_tls_client_options options = {
            .ca_path = trust->ca_path,
            .certificate_path = trust->certificate_path,
            .key_path = trust->key_path,
        };
        return rpc_tls_client_new(&options, out, why);
    }
    write_name(url, name);
    enum err err = fc_known_servers_find(name, &known, why);
    if (err == ERR_NOT_FOUND) {
        err = meet(url, trust, known.fingerprint, why);
        if (err == ERR_OK) {
            err = decide(name, trust, known.fingerprint, why);
        }
        if (err == ERR_OK) {
            err = fc_known_servers_add(name, known.fingerprint, why);
        }
        if (err == ERR_OK) {
            err = fc_known_servers_find(name, &known, why);
        }
    }
    return err == ERR_OK ? make_pinned(name, trust, &known, out, why) : err;
}
