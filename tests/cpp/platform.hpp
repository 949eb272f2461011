// What tests ask of the operating system, of POSIX or of Windows.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

namespace piquant {

// Memory with access rights, a page at least. Who cannot have it ends the process.
enum class Access { none, read, write };
// On Windows more than the processor's: views begin at multiples of it, too.
size_t page_bytes();
// Address space that nobody may touch, in whole pages.
unsigned char* reserve_pages(size_t bytes);
void set_access(void* pages, size_t bytes, Access access);
void release_pages(void* pages, size_t bytes);

// The same bytes at two places: between guards, with these rights, and where they can be written.
struct TwoViews {
    unsigned char* guarded;
    unsigned char* writable;
};
TwoViews map_twice(size_t bytes, size_t guard, Access access);
void unmap_twice(const TwoViews& views, size_t bytes, size_t guard);

// Called where an access fails, by the thread that tried; true: it tries again. Returns the handler before; null is the
// system's, and what is not tried again ends the process as without one.
using FaultHandler = bool (*)(const void* at);
FaultHandler on_fault(FaultHandler handler);

// To the standard error, within a handler too.
void write_error(const char* words);

// Says these words, which stay where they are, after so many seconds and ends the process. None: not any more.
void end_after(unsigned seconds, const char* words);

// The environment that children get. Null unsets.
std::optional<std::string> environment_variable(const char* name);
void set_environment_variable(const char* name, const char* value);

// Of this process, by the system's count.
#if defined(__linux__) || defined(_WIN32)
#define PIQUANT_TESTS_COUNT_RESOURCES
struct Resources {
    size_t memory;   // resident, bytes
    size_t handles;  // file descriptors, on Windows handles of any kind
    size_t threads;
};
Resources resources();
#endif

}  // namespace piquant
