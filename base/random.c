#include "base/random.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

void
random_bytes(void *out, size_t size)
{
    unsigned char *to = out;
    while (size > 0) {
        ssize_t got = getrandom(to, size, 0);
        if (got < 0) {
            if (errno == EINTR) {
                continue;
            }
            perror("getrandom: no random numbers, giving up");
            abort();
        }
        to += got;
        size -= (size_t)got;
    }
}
