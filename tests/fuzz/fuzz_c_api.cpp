// libFuzzer's entry: any bytes are a call of the C API.
#include <cstdio>
#include <cstdlib>

#include "check.hpp"

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, size_t size) {
    const std::string broken = piquant::fuzz::broken_promise(data, size);
    if (!broken.empty()) {
        std::fprintf(stderr, "BROKEN PROMISE: %s\n", broken.c_str());
        std::abort();
    }
    return 0;
}
