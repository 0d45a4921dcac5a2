// The composition. What is asked of the service comes here, and is read on the pool, since what waits for its turn
// under the upload limit is served from a timer. Freed in this order: what announces, the server, what fetches, the
// pool, and last the store that all of them use.
#include "swarm/swarm_node.h"

#include <fc_proto_services_descriptors.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/random.h"
#include "base/text.h"
#include "swarm/swarm_bits.h"
#include "swarm/swarm_url.h"

enum {
    POOL_THREADS = 3, // one more than the cores of a small machine: some wait for the disk
    DIR_MAX_BYTES = 4096,
    ID_HEX_BYTES = 2 * E2E_GRANT_ID_BYTES,
};

struct swarm_node {
    char data_dir[DIR_MAX_BYTES];
    char *origin_url;
    struct rpc_tls_client *origin_tls; // borrowed
    char name[SWARM_NAME_MAX_BYTES];
    char urls[SWARM_URLS_MAX][RPC_URL_MAX_BYTES];
    uint8_t certificate_sha256[RPC_TLS_FINGERPRINT_BYTES];
    struct swarm_self self;
    uint8_t key[CRYPTO_KEY_BYTES]; // by which grants are checked; the announcer's thread
    bool has_key;

    struct work_pool *pool;
    struct swarm_store *store;
    struct rpc_server *server;
    struct swarm_server *swarm;
    struct swarm_pull *pull;
    struct swarm_announcer *announcer;
};

// --- The backend ----------------------------------------------------------------------------------------------------

struct read_op {
    struct work work; // first: the pool gives its address
    struct swarm_node *node;
    struct swarm_ask *ask;
};

static void
submit(struct swarm_node *node, struct swarm_ask *ask, work_fn *run)
{
    struct read_op *op = malloc(sizeof(*op));
    if (op == NULL) {
        swarm_ask_fail(ask, ERR_NO_MEMORY, NULL);
        return;
    }
    *op = (struct read_op){.work = {.run = run}, .node = node, .ask = ask};
    work_pool_submit(node->pool, &op->work);
}

static void
run_segment(struct work *work)
{
    struct read_op *op = (struct read_op *)work;
    struct swarm_node *node = op->node;
    struct swarm_ask *ask = op->ask;
    struct bytes data = {0};
    free(op);
    enum err err = swarm_ask_is_cancelled(ask) ? ERR_CANCELLED
                                               : swarm_store_read(node->store, ask->grant.file_id, ask->index, &data);
    if (err == ERR_OK && data.size != ask->size) {
        err = ERR_NOT_FOUND; // the grant is of another content than the store's
    }
    if (err == ERR_OK) {
        swarm_ask_answer_segment(ask, bytes_as_view(&data));
    } else if (err != ERR_CANCELLED && err != ERR_NO_MEMORY && node->pull != NULL) {
        swarm_pull_segment(node->pull, ask);
    } else {
        swarm_ask_fail(ask, err, NULL);
    }
    bytes_free(&data);
}

static void
read_segment(void *context, struct swarm_ask *ask)
{
    submit(context, ask, run_segment);
}

static void
run_digests(struct work *work)
{
    struct read_op *op = (struct read_op *)work;
    struct swarm_node *node = op->node;
    struct swarm_ask *ask = op->ask;
    struct bytes sha256s = {0};
    free(op);
    enum err err = swarm_store_digests(node->store, ask->grant.file_id, ask->index, SWARM_DIGESTS_MAX, &sha256s);
    if (err == ERR_OK) {
        swarm_ask_answer_digests(ask, bytes_as_view(&sha256s));
    } else if (err == ERR_NOT_FOUND && node->pull != NULL) {
        swarm_pull_digests(node->pull, ask);
    } else {
        swarm_ask_fail(ask, err, NULL);
    }
    bytes_free(&sha256s);
}

static void
read_digests(void *context, struct swarm_ask *ask)
{
    submit(context, ask, run_digests);
}

// What the store has of a file, copied out of its lock.
struct snapshot {
    bool is_complete;
    bool is_nothing;
    struct bytes segments;
    enum err err;
};

static void
take_snapshot(void *context, const struct swarm_store_item *item)
{
    struct snapshot *snapshot = context;
    size_t size = swarm_bits_bytes(swarm_file_segment_count(item->file));
    snapshot->is_complete = item->held_count == swarm_file_segment_count(item->file);
    snapshot->is_nothing = item->held_count == 0 && !snapshot->is_complete;
    if (!snapshot->is_complete && !snapshot->is_nothing) {
        snapshot->err = bytes_append(&snapshot->segments,
            bytes_view_of(item->held, size < SWARM_HOLDING_MAX_BYTES ? size : SWARM_HOLDING_MAX_BYTES));
    }
}

static void
read_holding(void *context, struct swarm_ask *ask)
{
    struct swarm_node *node = context;
    struct snapshot snapshot = {0};
    bool is_known = swarm_store_look(node->store, ask->grant.file_id, take_snapshot, &snapshot);
    const struct swarm_holding holding = {
        .is_complete = snapshot.is_complete,
        .is_pull_through = node->pull != NULL,
        .segments = bytes_as_view(&snapshot.segments),
    };
    if (snapshot.err != ERR_OK) {
        swarm_ask_fail(ask, snapshot.err, NULL);
    } else if ((!is_known || snapshot.is_nothing) && node->pull == NULL) {
        swarm_ask_fail(ask, ERR_NOT_FOUND, NULL);
    } else {
        swarm_ask_answer_holding(ask, &holding);
    }
    bytes_free(&snapshot.segments);
}

static void
read_stored(void *context, struct swarm_stored *out)
{
    const struct swarm_node *node = context;
    swarm_store_read_stored(node->store, out);
}

static void
on_change(void *context, const struct swarm_file *file, uint64_t first, uint64_t count, bool is_gone)
{
    const struct swarm_node *node = context;
    swarm_announcer_changed(node->announcer, file, first, count, is_gone);
}

// --- The key, and who this is ---------------------------------------------------------------------------------------

static void
write_path(const struct swarm_node *node, const char *name, char out[DIR_MAX_BYTES + ID_HEX_BYTES])
{
    (void)snprintf(out, DIR_MAX_BYTES + ID_HEX_BYTES, "%s/%s", node->data_dir, name);
}

// A new key is remembered, so that a server that is started while the origin is away serves what it has.
static void
on_key(void *context, const uint8_t key[CRYPTO_KEY_BYTES])
{
    struct swarm_node *node = context;
    char path[DIR_MAX_BYTES + ID_HEX_BYTES];
    swarm_server_set_key(node->swarm, key);
    if (node->has_key && memcmp(node->key, key, sizeof(node->key)) == 0) {
        return;
    }
    memcpy(node->key, key, sizeof(node->key));
    node->has_key = true;
    write_path(node, "grant.pub", path);
    enum err err = file_replace(path, bytes_view_of(key, CRYPTO_KEY_BYTES), S_IRUSR | S_IWUSR);
    if (err != ERR_OK) {
        log_warn("SWARM-KEY", NULL, "the key for grants could not be kept in %s: %s", path, err_sentence(err));
    }
}

static void
load_key(struct swarm_node *node)
{
    char path[DIR_MAX_BYTES + ID_HEX_BYTES];
    struct bytes key = {0};
    write_path(node, "grant.pub", path);
    if (file_read(path, CRYPTO_KEY_BYTES, &key) == ERR_OK && key.size == sizeof(node->key)) {
        memcpy(node->key, key.data, sizeof(node->key));
        node->has_key = true;
        swarm_server_set_key(node->swarm, node->key);
    }
    bytes_free(&key);
}

static enum err
load_id(struct swarm_node *node, struct err_detail *why)
{
    char path[DIR_MAX_BYTES + ID_HEX_BYTES];
    struct bytes id = {0};
    write_path(node, "source.id", path);
    enum err err = file_read(path, E2E_GRANT_ID_BYTES, &id);
    if (err == ERR_OK && id.size == sizeof(node->self.id)) {
        memcpy(node->self.id, id.data, sizeof(node->self.id));
    } else {
        random_bytes(node->self.id, sizeof(node->self.id));
        err = file_replace(path, bytes_view_of(node->self.id, sizeof(node->self.id)), S_IRUSR | S_IWUSR);
    }
    bytes_free(&id);
    return err == ERR_OK ? ERR_OK : err_fail(why, err, "%s cannot be written: %s", path, err_sentence(err));
}

static enum err
set_name(struct swarm_node *node, const char *name, struct err_detail *why)
{
    char host[SWARM_NAME_MAX_BYTES] = "";
    struct bytes printable = {0};
    if (name == NULL && gethostname(host, sizeof(host) - 1) == 0) {
        name = host;
    }
    struct bytes_view text = bytes_view_of_text(name);
    enum err err = text_append_printable(&printable, text, false);
    bool is_name = err == ERR_OK && text.size > 0 && text.size < SWARM_NAME_MAX_BYTES &&
                   bytes_view_equal(bytes_as_view(&printable), text);
    bytes_free(&printable);
    if (err == ERR_OK && !is_name) {
        return err_fail(why, ERR_INVALID, "the name of a server has 1 to %d bytes without control characters",
            SWARM_NAME_MAX_BYTES - 1);
    }
    (void)snprintf(node->name, sizeof(node->name), "%s", name != NULL ? name : "");
    return err;
}

// --- Lifecycle ------------------------------------------------------------------------------------------------------

static enum err
open_store(struct swarm_node *node, const struct swarm_node_options *options, struct err_detail *why)
{
    char path[DIR_MAX_BYTES + ID_HEX_BYTES];
    int length = snprintf(node->data_dir, sizeof(node->data_dir), "%s", options->data_dir);
    if (length <= 0 || (size_t)length >= sizeof(node->data_dir)) {
        return err_fail(why, ERR_INVALID, "the path of the data folder is too long");
    }
    write_path(node, "segments", path);
    const struct swarm_store_options store = {
        .dir = path,
        .budget_bytes = options->budget_bytes,
        .on_change = on_change,
        .context = node,
    };
    enum err err = swarm_store_open(&store, &node->store, why);
    return err == ERR_OK ? load_id(node, why) : err;
}

static enum err
make_server(struct swarm_node *node, const struct swarm_node_options *options)
{
    size_t rule_count = 0;
    const struct rpc_server_options server = {.tls = options->tls, .has_public_metrics = options->has_public_metrics};
    enum err err = rpc_server_new(&server, &node->server);
    if (err != ERR_OK) {
        return err;
    }
    const struct swarm_server_options swarm = {
        .server = node->server,
        .backend =
            {
                .read_segment = read_segment,
                .read_digests = read_digests,
                .read_holding = read_holding,
                .read_stored = read_stored,
                .context = node,
            },
        .limit_bytes_per_s = options->limit_bytes_per_s,
    };
    err = swarm_server_new(&swarm, &node->swarm);
    if (err == ERR_OK) {
        const struct rpc_method_rule *rules = swarm_server_rules(&rule_count);
        err = rpc_server_add_service(node->server, swarm_server_rpc(node->swarm), rules, rule_count);
    }
    if (err == ERR_OK) {
        err = swarm_server_add_metrics(node->swarm);
    }
    if (err == ERR_OK) {
        err = rpc_server_describe(node->server,
            bytes_view_of(fc_proto_services_descriptors, fc_proto_services_descriptors_bytes));
    }
    return err;
}

static enum err
make_pull(struct swarm_node *node, struct err_detail *why)
{
    const struct swarm_pull_options pull = {
        .store = node->store,
        .pool = node->pool,
        .origin_url = node->origin_url,
        .origin_tls = node->origin_tls,
    };
    return swarm_pull_new(&pull, &node->pull, why);
}

static enum err
make_announcer(struct swarm_node *node, const char *token, struct err_detail *why)
{
    const struct swarm_announcer_options announcer = {
        .store = node->store,
        .server = node->swarm,
        .pool = node->pool,
        .origin_url = node->origin_url,
        .origin_tls = node->origin_tls,
        .token = token,
        .self = &node->self,
        .on_key = on_key,
        .context = node,
    };
    return swarm_announcer_new(&announcer, &node->announcer, why);
}

enum err
swarm_node_new(const struct swarm_node_options *options, struct swarm_node **out, struct err_detail *why)
{
    struct swarm_node *node = calloc(1, sizeof(*node));
    if (node == NULL) {
        return ERR_NO_MEMORY;
    }
    node->self.kind = options->kind;
    node->self.name = node->name;
    node->origin_tls = options->origin_tls;
    node->origin_url = strdup(options->origin_url);
    if (options->tls != NULL) {
        rpc_tls_server_fingerprint(options->tls, node->certificate_sha256);
        node->self.certificate_sha256 = node->certificate_sha256;
    }
    enum err err = node->origin_url != NULL ? set_name(node, options->name, why) : ERR_NO_MEMORY;
    if (err == ERR_OK) {
        err = open_store(node, options, why);
    }
    if (err == ERR_OK) {
        err = work_pool_new("segments", POOL_THREADS, &node->pool);
    }
    if (err == ERR_OK) {
        err = make_server(node, options);
    }
    if (err == ERR_OK) {
        load_key(node);
        err = options->kind == SWARM_MIRROR ? make_pull(node, why) : ERR_OK;
    }
    if (err == ERR_OK) {
        err = make_announcer(node, options->token, why);
    }
    if (err != ERR_OK) {
        swarm_node_free(&node);
        return err;
    }
    *out = node;
    return ERR_OK;
}

struct rpc_server *
swarm_node_server(struct swarm_node *node)
{
    return node->server;
}

struct swarm_server *
swarm_node_swarm(struct swarm_node *node)
{
    return node->swarm;
}

struct swarm_store *
swarm_node_store(struct swarm_node *node)
{
    return node->store;
}

struct swarm_pull *
swarm_node_pull(struct swarm_node *node)
{
    return node->pull;
}

enum err
swarm_node_announce(struct swarm_node *node, const char *const *urls, size_t url_count, struct err_detail *why)
{
    for (size_t i = 0; i < url_count; i++) {
        node->self.url_count +=
            swarm_urls_of(urls[i], node->urls + node->self.url_count, SWARM_URLS_MAX - node->self.url_count);
    }
    for (size_t i = 0; i < node->self.url_count; i++) {
        node->self.urls[i] = node->urls[i];
    }
    if (node->self.url_count == 0) {
        return err_fail(why, ERR_INVALID, "there is no address at which others reach this server");
    }
    return swarm_announcer_start(node->announcer);
}

enum err
swarm_node_wait(struct swarm_node *node, unsigned timeout_ms, struct err_detail *why)
{
    return swarm_announcer_wait(node->announcer, timeout_ms, why);
}

bool
swarm_node_is_known(struct swarm_node *node)
{
    return swarm_announcer_is_known(node->announcer);
}

size_t
swarm_node_urls(const struct swarm_node *node, const char *const **urls_out)
{
    *urls_out = node->self.urls;
    return node->self.url_count;
}

void
swarm_node_drain(struct swarm_node *node, unsigned timeout_ms)
{
    swarm_announcer_stop(node->announcer);
    rpc_server_drain(node->server, timeout_ms);
}

void
swarm_node_free(struct swarm_node **node_ref)
{
    struct swarm_node *node = *node_ref;
    if (node == NULL) {
        return;
    }
    if (node->announcer != NULL) {
        swarm_announcer_stop(node->announcer);
    }
    if (node->swarm != NULL) {
        swarm_server_stop(node->swarm);
    }
    if (node->pull != NULL) {
        swarm_pull_stop(node->pull);
    }
    rpc_server_free(&node->server);
    // Now all that was asked is answered, by the pool at the latest.
    work_pool_free(&node->pool);
    swarm_server_free(&node->swarm);
    swarm_pull_free(&node->pull);
    swarm_announcer_free(&node->announcer);
    swarm_store_close(&node->store);
    free(node->origin_url);
    free(node);
    *node_ref = NULL;
}
