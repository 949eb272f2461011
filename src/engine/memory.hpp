// Policies about memory.
#pragma once

#include <stddef.h>

namespace piquant {

// See piquant_prepare_output.
void prepare_output(void* memory, size_t bytes);

}  // namespace piquant
