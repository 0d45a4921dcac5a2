#include "swarm/swarm_url.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

bool
swarm_url_is_local(const char *url)
{
    char host[RPC_URL_MAX_BYTES];
    struct in_addr address;
    const char *begin = strstr(url, "://");
    // A name other than localhost may mean any address.
    if (begin == NULL || strncmp(url, "ipc://", strlen("ipc://")) == 0) {
        return true;
    }
    begin += strlen("://");
    (void)snprintf(host, sizeof(host), "%s", begin);
    char *colon = strrchr(host, ':');
    if (colon != NULL) {
        *colon = '\0';
    }
    if (inet_pton(AF_INET, host, &address) == 1) {
        return ntohl(address.s_addr) >> 24 == IN_LOOPBACKNET;
    }
    return strcmp(host, "[::1]") == 0 || strcmp(host, "localhost") == 0;
}

static bool
write_url(const char *scheme, size_t scheme_size, const char *host, bool is_v6, const char *port,
    char out[RPC_URL_MAX_BYTES])
{
    int length = snprintf(out, RPC_URL_MAX_BYTES, "%.*s%s%s%s%s", (int)scheme_size, scheme, is_v6 ? "[" : "", host,
        is_v6 ? "]" : "", port);
    return length > 0 && length < RPC_URL_MAX_BYTES;
}

// The address of an interface as text; false for those that others cannot use.
static bool
format_address(const struct ifaddrs *one, bool wants_v6, char out[INET6_ADDRSTRLEN])
{
    if (one->ifa_addr == NULL || (one->ifa_flags & IFF_UP) == 0 || (one->ifa_flags & IFF_LOOPBACK) != 0) {
        return false;
    }
    if (!wants_v6 && one->ifa_addr->sa_family == AF_INET) {
        const struct sockaddr_in *address = (const struct sockaddr_in *)(const void *)one->ifa_addr;
        return inet_ntop(AF_INET, &address->sin_addr, out, INET6_ADDRSTRLEN) != NULL;
    }
    if (wants_v6 && one->ifa_addr->sa_family == AF_INET6) {
        const struct sockaddr_in6 *address = (const struct sockaddr_in6 *)(const void *)one->ifa_addr;
        return !IN6_IS_ADDR_LINKLOCAL(&address->sin6_addr) &&
               inet_ntop(AF_INET6, &address->sin6_addr, out, INET6_ADDRSTRLEN) != NULL;
    }
    return false;
}

size_t
swarm_urls_of(const char *url, char out[][RPC_URL_MAX_BYTES], size_t most)
{
    struct ifaddrs *all = NULL;
    size_t count = 0;
    const char *host = strstr(url, "://");
    const char *port = strrchr(url, ':');
    if (host == NULL || strncmp(url, "ipc://", strlen("ipc://")) == 0 || most == 0) {
        return 0;
    }
    host += strlen("://");
    bool is_any_v4 = strncmp(host, "0.0.0.0:", strlen("0.0.0.0:")) == 0;
    bool is_any_v6 = strncmp(host, "[::]:", strlen("[::]:")) == 0;
    if (!is_any_v4 && !is_any_v6) {
        (void)snprintf(out[0], RPC_URL_MAX_BYTES, "%s", url);
        return 1;
    }
    if (getifaddrs(&all) != 0) {
        return 0;
    }
    for (const struct ifaddrs *one = all; one != NULL && count < most; one = one->ifa_next) {
        char text[INET6_ADDRSTRLEN];
        if (format_address(one, is_any_v6, text) &&
            write_url(url, (size_t)(host - url), text, is_any_v6, port, out[count])) {
            count++;
        }
    }
    freeifaddrs(all);
    return count;
}
