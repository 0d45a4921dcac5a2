// Random bytes from the kernel.
#ifndef BASE_RANDOM_H
#define BASE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

// random_bytes fills out with bytes fit for keys (getrandom(2)). It cannot fail on a kernel that this
// program supports and aborts the process if it does: nothing sensible could follow.
void random_bytes(void *out, size_t size);

#endif
