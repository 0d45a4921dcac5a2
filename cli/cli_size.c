#include "cli/cli_size.h"

#include <stddef.h>
#include <stdio.h>

void
cli_size_format(double bytes, char out[CLI_SIZE_BYTES])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    size_t unit = 0;
    while (bytes >= 1023.5 && unit + 1 < sizeof units / sizeof units[0]) {
        bytes /= 1024;
        unit++;
    }
    (void)snprintf(out, CLI_SIZE_BYTES, unit == 0 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
}
