// A mirror is a node of swarm/ with fcd's listeners, certificate and signals around it.
#include "services/daemon/daemon_mirror.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/file.h"
#include "base/log.h"
#include "rpc/rpc_tls.h"
#include "services/daemon/daemon_listen.h"
#include "services/daemon/daemon_prefetch.h"
#include "services/daemon/daemon_tls.h"
#include "swarm/swarm_node.h"

enum {
    // How long the start waits for the origin: beyond it the mirror serves what it has, and goes on trying.
    ANNOUNCE_WAIT_MS = 5000,
    TOKEN_FILE_MAX_BYTES = 1024,
};

struct daemon_mirror {
    struct daemon_mirror_options options;
    char token[RPC_TOKEN_MAX_BYTES + 1];
    struct rpc_tls_client *origin_tls; // NULL without TLS
    struct rpc_tls_server *tls;
    struct swarm_node *node;
    struct daemon_prefetch *prefetch; // NULL: nothing is fetched before it is asked for
    struct bytes ready_line;
};

// --- The origin -----------------------------------------------------------------------------------------------------

static enum err
check_private(const char *path, struct err_detail *why)
{
    struct stat status;
    if (stat(path, &status) != 0) {
        return err_fail(why, err_from_errno(errno), "the token file %s cannot be read: %s", path, strerror(errno));
    }
    if (!S_ISREG(status.st_mode) || (status.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
        return err_fail(why, ERR_DENIED, "others can read the token in %s: make it private with chmod 600 %s", path,
            path);
    }
    return ERR_OK;
}

static enum err
read_token(const char *path, char out[RPC_TOKEN_MAX_BYTES + 1], struct err_detail *why)
{
    struct bytes text = {0};
    enum err err = check_private(path, why);
    if (err != ERR_OK) {
        return err;
    }
    err = file_read(path, TOKEN_FILE_MAX_BYTES, &text);
    while (err == ERR_OK && text.size > 0 && text.data[text.size - 1] <= ' ') {
        text.size--;
    }
    bool is_token = err == ERR_OK && text.size > 0 && text.size <= RPC_TOKEN_MAX_BYTES;
    for (size_t i = 0; is_token && i < text.size; i++) {
        is_token = text.data[i] > ' ' && text.data[i] <= '~';
    }
    if (is_token) {
        memcpy(out, text.data, text.size);
        out[text.size] = '\0';
    } else {
        err = err_fail(why, err == ERR_OK ? ERR_INVALID : err, "%s has no token in it", path);
    }
    bytes_free_secret(&text);
    return err;
}

static enum err
trust_origin(struct daemon_mirror *mirror, struct err_detail *why)
{
    const struct daemon_mirror_options *options = &mirror->options;
    uint8_t fingerprint[RPC_TLS_FINGERPRINT_BYTES];
    struct rpc_tls_client_options tls = {.ca_path = options->origin_ca};
    if (options->origin_fingerprint != NULL) {
        tls.fingerprint = fingerprint;
        if (rpc_tls_fingerprint_parse(options->origin_fingerprint, fingerprint) != ERR_OK) {
            return err_fail(why, ERR_INVALID, "--origin-fingerprint is what fcd --fingerprint prints, not \"%s\"",
                options->origin_fingerprint);
        }
    }
    if (options->origin_fingerprint == NULL && options->origin_ca == NULL) {
        return ERR_OK;
    }
    return rpc_tls_client_new(&tls, &mirror->origin_tls, why);
}

// --- Lifecycle ------------------------------------------------------------------------------------------------------

static enum err
make_node(struct daemon_mirror *mirror, const struct daemon_options *options, struct err_detail *why)
{
    const struct swarm_node_options node = {
        .kind = SWARM_MIRROR,
        .data_dir = options->data_dir,
        .name = mirror->options.name,
        .budget_bytes = mirror->options.budget_bytes,
        .limit_bytes_per_s = options->limit_bytes_per_s,
        .origin_url = mirror->options.origin_url,
        .origin_tls = mirror->origin_tls,
        .token = mirror->token,
        .tls = mirror->tls,
        .has_public_metrics = options->has_public_metrics,
    };
    return swarm_node_new(&node, &mirror->node, why);
}

// Announces where it listens, which the ready line says, unless the operator has said where it is reached.
static enum err
announce(struct daemon_mirror *mirror, struct err_detail *why)
{
    const struct daemon_mirror_options *options = &mirror->options;
    const char *urls[DAEMON_LISTEN_MAX];
    size_t count = 0;
    if (options->advertised_count != 0) {
        return swarm_node_announce(mirror->node, options->advertised, options->advertised_count, why);
    }
    char *line = strndup((const char *)mirror->ready_line.data, mirror->ready_line.size);
    if (line == NULL) {
        return ERR_NO_MEMORY;
    }
    char *rest = strstr(line, " rpc=");
    rest = rest != NULL ? rest + strlen(" rpc=") : NULL;
    if (rest != NULL) {
        rest[strcspn(rest, " \n")] = '\0';
    }
    for (char *url = strtok_r(rest, ",", &rest); url != NULL && count < DAEMON_LISTEN_MAX;
         url = strtok_r(NULL, ",", &rest)) {
        urls[count++] = url;
    }
    enum err err = swarm_node_announce(mirror->node, urls, count, why);
    free(line);
    return err;
}

static enum err
wait_for_origin(struct daemon_mirror *mirror, struct err_detail *why)
{
    struct err_detail reason = {0};
    enum err err = swarm_node_wait(mirror->node, ANNOUNCE_WAIT_MS, &reason);
    if (err == ERR_TIMEOUT) {
        log_warn("FCD-NO-ORIGIN", NULL, "the origin at %s does not answer; it is tried again and again: %s",
            mirror->options.origin_url, err_message(&reason, err));
        return ERR_OK;
    }
    return err == ERR_OK ? ERR_OK
                         : err_fail(why, err, "the origin at %s does not take this mirror: %s",
                               mirror->options.origin_url, err_message(&reason, err));
}

static void
log_fingerprint(const struct daemon_mirror *mirror)
{
    uint8_t fingerprint[RPC_TLS_FINGERPRINT_BYTES];
    char text[RPC_TLS_FINGERPRINT_TEXT_BYTES];
    rpc_tls_server_fingerprint(mirror->tls, fingerprint);
    rpc_tls_fingerprint_format(fingerprint, text);
    log_info("FCD-FINGERPRINT", NULL, "the certificate's SHA-256 fingerprint, which the tracker tells readers, is %s",
        text);
}

enum err
daemon_mirror_new(const struct daemon_options *options, struct daemon_mirror **out, struct err_detail *why)
{
    struct daemon_mirror *mirror = calloc(1, sizeof(*mirror));
    if (mirror == NULL) {
        return ERR_NO_MEMORY;
    }
    mirror->options = options->mirror;
    enum err err = read_token(options->mirror.token_file, mirror->token, why);
    if (err == ERR_OK) {
        err = trust_origin(mirror, why);
    }
    if (err == ERR_OK) {
        err = daemon_tls_open(options, options->data_dir, true, &mirror->tls, why);
    }
    if (err == ERR_OK) {
        err = make_node(mirror, options, why);
    }
    if (err == ERR_OK) {
        err = daemon_listen(swarm_node_server(mirror->node), options, options->data_dir, &mirror->ready_line, why);
    }
    if (err == ERR_OK) {
        err = announce(mirror, why);
    }
    if (err == ERR_OK) {
        err = wait_for_origin(mirror, why);
    }
    if (err == ERR_OK && mirror->options.prefetched_count != 0) {
        err = daemon_prefetch_start(mirror->node, &mirror->options, mirror->origin_tls, mirror->token,
            &mirror->prefetch, why);
    }
    if (err != ERR_OK) {
        daemon_mirror_free(&mirror);
        return err;
    }
    log_fingerprint(mirror);
    *out = mirror;
    return ERR_OK;
}

struct bytes_view
daemon_mirror_ready_line(const struct daemon_mirror *mirror)
{
    return bytes_as_view(&mirror->ready_line);
}

void
daemon_mirror_reload_tls(struct daemon_mirror *mirror)
{
    // Readers know the certificate that was announced.
    log_warn("FCD-TLS-NOT-RELOADED", NULL, "a mirror's certificate is announced when it starts: restart it");
    (void)mirror;
}

void
daemon_mirror_drain(struct daemon_mirror *mirror, unsigned timeout_ms)
{
    daemon_prefetch_stop(&mirror->prefetch);
    swarm_node_drain(mirror->node, timeout_ms);
}

void
daemon_mirror_free(struct daemon_mirror **mirror_ref)
{
    struct daemon_mirror *mirror = *mirror_ref;
    if (mirror == NULL) {
        return;
    }
    daemon_prefetch_stop(&mirror->prefetch);
    swarm_node_free(&mirror->node);
    rpc_tls_server_free(&mirror->tls);
    rpc_tls_client_free(&mirror->origin_tls);
    bytes_free(&mirror->ready_line);
    digest_wipe(mirror->token, sizeof(mirror->token));
    free(mirror);
    *mirror_ref = NULL;
}
