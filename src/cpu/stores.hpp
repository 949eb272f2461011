// Orders non-temporal stores.
#pragma once

namespace piquant {

// Non-temporal stores of this thread are seen before any later store, which a release store alone does not promise. Call
// it before others are told that the output is complete.
inline void drain_stores() {
#if defined(__x86_64__)
    __builtin_ia32_sfence();
#endif
}
inline void drain_if(bool non_temporal) {
    if (non_temporal) {
        drain_stores();
    }
}

}  // namespace piquant
