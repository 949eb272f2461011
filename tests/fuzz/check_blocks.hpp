#pragma once

#include <string>

#include "case.hpp"
#include "guarded.hpp"

namespace piquant::fuzz {

// Makes a call with blocks, and says which promise it broke, or nothing.
std::string wrong_with_blocks(const Case& c, piquant_context_t* context, Guarded& in_memory, Guarded& out_memory);

}  // namespace piquant::fuzz
