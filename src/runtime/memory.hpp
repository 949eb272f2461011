// Facts and policies about memory.
#pragma once

#include <stddef.h>

namespace piquant {

// Bytes of the last-level cache, or a common size where the system does not tell.
size_t last_level_cache_bytes();

// See piquant_prepare_output.
void prepare_output(void* memory, size_t bytes);

}  // namespace piquant
