// Which sanitizer the tests are built with, and whether they run under emulation: each of them takes its time.
#pragma once

namespace piquant {

#if defined(__has_feature)
#define PIQUANT_HAS_FEATURE(x) __has_feature(x)
#else
#define PIQUANT_HAS_FEATURE(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || PIQUANT_HAS_FEATURE(address_sanitizer)
constexpr bool address_sanitizer = true;
#else
constexpr bool address_sanitizer = false;
#endif
#if defined(__SANITIZE_THREAD__) || PIQUANT_HAS_FEATURE(thread_sanitizer)
constexpr bool thread_sanitizer = true;
#else
constexpr bool thread_sanitizer = false;
#endif
#undef PIQUANT_HAS_FEATURE

#if defined(PIQUANT_TESTS_EMULATED)
constexpr bool emulated = true;
#else
constexpr bool emulated = false;
#endif

}  // namespace piquant
