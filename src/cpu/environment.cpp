#include "cpu/environment.hpp"

#include <stdlib.h>

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#endif

namespace piquant {

// Each C runtime in a process of Windows has an environment of its own, copied when it was loaded. The getenv of ours would
// not see what a program with another one has set since, but the system does.
std::string environment_value(const char* name) {
#if defined(_WIN32)
    std::string value(32768, 0);  // none is longer
    value.resize(GetEnvironmentVariableA(name, value.data(), static_cast<DWORD>(value.size())));
    return value;
#else
    const char* value = getenv(name);
    return value != nullptr ? value : "";
#endif
}

}  // namespace piquant
