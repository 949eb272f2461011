// Tells the core that this is a spin loop.
#pragma once

namespace piquant {

inline void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

}  // namespace piquant
