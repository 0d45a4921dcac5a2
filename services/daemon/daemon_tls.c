#include "services/daemon/daemon_tls.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

enum {
    PATH_MAX_BYTES = DAEMON_PATH_MAX_BYTES + sizeof("/tls/certificate.pem"),
    NAMES_MAX = 64,
    NAME_MAX_BYTES = 256,
};

// The names that the certificate is for.
struct names {
    char texts[NAMES_MAX][NAME_MAX_BYTES];
    const char *pointers[NAMES_MAX];
    size_t count;
};

static void
add_name(struct names *names, const char *name)
{
    for (size_t i = 0; i < names->count; i++) {
        if (strcmp(names->texts[i], name) == 0) {
            return;
        }
    }
    if (names->count < NAMES_MAX && name[0] != '\0' && strlen(name) < NAME_MAX_BYTES) {
        names->pointers[names->count] = strcpy(names->texts[names->count], name);
        names->count++;
    }
}

static bool
is_host_name(const char *name)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.";
    return name[0] != '\0' && name[0] != '.' && strspn(name, allowed) == strlen(name);
}

// Adds the addresses of this machine, but for those that change from link to link.
static void
add_addresses(struct names *names)
{
    struct ifaddrs *all = NULL;
    if (getifaddrs(&all) != 0) {
        return; // the certificate is for fewer names then
    }
    for (const struct ifaddrs *one = all; one != NULL; one = one->ifa_next) {
        char text[INET6_ADDRSTRLEN] = "";
        if (one->ifa_addr != NULL && one->ifa_addr->sa_family == AF_INET) {
            const struct sockaddr_in *address = (const struct sockaddr_in *)(const void *)one->ifa_addr;
            (void)inet_ntop(AF_INET, &address->sin_addr, text, sizeof(text));
        } else if (one->ifa_addr != NULL && one->ifa_addr->sa_family == AF_INET6) {
            const struct sockaddr_in6 *address = (const struct sockaddr_in6 *)(const void *)one->ifa_addr;
            if (!IN6_IS_ADDR_LINKLOCAL(&address->sin6_addr)) {
                (void)inet_ntop(AF_INET6, &address->sin6_addr, text, sizeof(text));
            }
        }
        add_name(names, text);
    }
    freeifaddrs(all);
}

static enum err
make(const char *folder, const char *certificate, const char *key, struct err_detail *why)
{
    struct names names = {.count = 0};
    char host[NAME_MAX_BYTES] = "";
    enum err err = file_make_dirs(folder, S_IRWXU);
    if (err != ERR_OK) {
        return err_fail(why, err, "the folder %s cannot be made: %s", folder, err_sentence(err));
    }
    add_name(&names, "localhost");
    if (gethostname(host, sizeof(host) - 1) == 0 && is_host_name(host)) {
        add_name(&names, host);
    }
    add_name(&names, "127.0.0.1");
    add_name(&names, "::1");
    add_addresses(&names);
    return rpc_tls_server_make_certificate(certificate, key, names.pointers, names.count, why);
}

enum err
daemon_tls_open(const struct daemon_options *options, const char *data_dir, bool may_make, struct rpc_tls_server **out,
    struct err_detail *why)
{
    char folder[PATH_MAX_BYTES];
    char certificate[PATH_MAX_BYTES];
    char key[PATH_MAX_BYTES];
    struct rpc_tls_server_options tls = {
        .certificate_path = options->tls_certificate,
        .key_path = options->tls_key,
        .client_ca_path = options->tls_client_ca,
    };
    if (options->tls_certificate == NULL) {
        (void)snprintf(folder, sizeof(folder), "%s/tls", data_dir);
        (void)snprintf(certificate, sizeof(certificate), "%s/tls/certificate.pem", data_dir);
        (void)snprintf(key, sizeof(key), "%s/tls/key.pem", data_dir);
        tls.certificate_path = certificate;
        tls.key_path = key;
        // Made only when there is no certificate: clients have pinned the one there is.
        if (may_make && access(certificate, F_OK) != 0) {
            enum err err = make(folder, certificate, key, why);
            if (err != ERR_OK) {
                return err;
            }
        }
    }
    return rpc_tls_server_new(&tls, out, why);
}
