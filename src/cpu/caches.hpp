// What this machine's caches hold.
#pragma once

#include <stddef.h>

namespace piquant {

// Bytes of the last-level cache, or a common size where the system does not tell.
size_t last_level_cache_bytes();

}  // namespace piquant
