// Numbers of bytes for people.
#ifndef CLI_CLI_SIZE_H
#define CLI_CLI_SIZE_H

enum {
    CLI_SIZE_BYTES = 24, // with its NUL
};

// cli_size_format writes 1023 B, 1.0 KiB and so on.
void cli_size_format(double bytes, char out[CLI_SIZE_BYTES]);

#endif
