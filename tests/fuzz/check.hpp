#pragma once

#include <cstddef>
#include <string>

namespace piquant::fuzz {

// Makes the call that the bytes stand for, and says which promise of the library it broke, or nothing.
std::string broken_promise(const unsigned char* data, size_t size);

}  // namespace piquant::fuzz
