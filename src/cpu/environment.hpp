// Variables of the process's environment.
#pragma once

#include <string>

namespace piquant {

// Empty if it is not set, which means the same to us.
std::string environment_value(const char* name);

}  // namespace piquant
