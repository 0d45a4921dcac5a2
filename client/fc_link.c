#include "client/fc_link.h"

#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "client/fc_lend_priv.h"

#include "fc/filestore/v1/filestore.stub.h"

static enum err
link_from_wire(const Fc__Filestore__V1__Link *wire, struct fc_link *out, struct err_detail *why)
{
    struct fc_link link = {0};
    if (wire == NULL || wire->id.len != sizeof(link.id) || wire->file_id.len != sizeof(link.file_id) ||
        strlen(wire->file_name) >= sizeof(link.file_name) ||
        (wire->file_name[0] != '\0' && text_check_file_name(wire->file_name, NULL) != ERR_OK)) {
        return err_fail(why, ERR_PROTOCOL, "what the server says of a link makes no sense");
    }
    memcpy(link.id, wire->id.data, sizeof(link.id));
    memcpy(link.file_id, wire->file_id.data, sizeof(link.file_id));
    memcpy(link.file_name, wire->file_name, strlen(wire->file_name) + 1);
    link.created_unix_ms = wire->created_at_ms;
    link.expires_unix_ms = wire->expires_at_ms;
    link.fetch_count = wire->fetch_count;
    *out = link;
    return ERR_OK;
}

// Whether it can stand in a line and in a shell without harm.
static bool
is_plain_url(const char *text)
{
    for (const char *at = text; *at != '\0'; at++) {
        if (*at <= ' ' || *at >= 0x7F || strchr("\"'`\\<>$;&|(){}*", *at) != NULL) {
            return false;
        }
    }
    return true;
}

// make_url puts the address of the server's web listener before the path, as the server tells it.
static enum err
make_url(const Fc__Filestore__V1__CreateLinkResponse *response, char url_out[FC_LINK_URL_MAX_BYTES], bool *is_path_out,
    struct err_detail *why)
{
    const char *base = response->base_url;
    size_t base_size = strlen(base);
    while (base_size > 0 && base[base_size - 1] == '/') {
        base_size--;
    }
    if (strncmp(response->path, "/f/", 3) != 0 || !is_plain_url(response->path) || !is_plain_url(base)) {
        return err_fail(why, ERR_PROTOCOL, "the link that the server gives makes no sense");
    }
    int size = snprintf(url_out, FC_LINK_URL_MAX_BYTES, "%.*s%s", (int)base_size, base, response->path);
    if (size < 0 || size >= FC_LINK_URL_MAX_BYTES) {
        return err_fail(why, ERR_PROTOCOL, "the link that the server gives is too long");
    }
    *is_path_out = base_size == 0;
    return ERR_OK;
}

enum err
fc_link_create(struct fc_session *session, const char *file, int64_t expires_unix_ms, struct fc_link *out,
    char url_out[FC_LINK_URL_MAX_BYTES], bool *is_path_out, struct err_detail *why)
{
    Fc__Filestore__V1__CreateLinkRequest request = FC__FILESTORE__V1__CREATE_LINK_REQUEST__INIT;
    struct rpc_unary call;
    const Fc__Filestore__V1__CreateLinkResponse *response = NULL;

    request.file = fc_lend_text(file);
    request.expires_at_ms = expires_unix_ms;
    fc_filestore_v1_file_store_init(&call, fc_session_channel(session));
    enum err err = fc_session_explain(&call, fc_filestore_v1_file_store_create_link(&call, &request, &response), why);
    if (err == ERR_OK) {
        err = link_from_wire(response->link, out, why);
    }
    if (err == ERR_OK) {
        err = make_url(response, url_out, is_path_out, why);
    }
    rpc_unary_deinit(&call);
    return err;
}

enum err
fc_link_each(struct fc_session *session, bool (*fn)(void *context, const struct fc_link *link), void *context,
    struct err_detail *why)
{
    Fc__Filestore__V1__ListLinksRequest request = FC__FILESTORE__V1__LIST_LINKS_REQUEST__INIT;
    struct rpc_unary call;
    const Fc__Filestore__V1__ListLinksResponse *response = NULL;
    bool is_wanted = true;

    fc_filestore_v1_file_store_init(&call, fc_session_channel(session));
    call.is_idempotent = true;
    enum err err = fc_session_explain(&call, fc_filestore_v1_file_store_list_links(&call, &request, &response), why);
    for (size_t i = 0; err == ERR_OK && is_wanted && i < response->n_links; i++) {
        struct fc_link link;
        err = link_from_wire(response->links[i], &link, why);
        if (err == ERR_OK) {
            is_wanted = fn(context, &link);
        }
    }
    rpc_unary_deinit(&call);
    return err;
}

enum err
fc_link_revoke(struct fc_session *session, const uint8_t id[16], struct err_detail *why)
{
    Fc__Filestore__V1__RevokeLinkRequest request = FC__FILESTORE__V1__REVOKE_LINK_REQUEST__INIT;
    struct rpc_unary call;
    const Fc__Filestore__V1__RevokeLinkResponse *response = NULL;

    request.id = fc_lend(id, 16);
    fc_filestore_v1_file_store_init(&call, fc_session_channel(session));
    enum err err = fc_session_explain(&call, fc_filestore_v1_file_store_revoke_link(&call, &request, &response), why);
    rpc_unary_deinit(&call);
    return err;
}
