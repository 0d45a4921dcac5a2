// Whole files, for gRPC's credentials, which take the text of certificates.
#ifndef BENCH_GRPC_FILE_H
#define BENCH_GRPC_FILE_H

#include <fstream>
#include <iterator>
#include <string>

#include "bench/load.h"

inline std::string
file_text(const char *path)
{
    std::ifstream file(path);
    if (!file) {
        load_die(path, "cannot be read");
    }
    return {std::istreambuf_iterator<char>(file), {}};
}

#endif
