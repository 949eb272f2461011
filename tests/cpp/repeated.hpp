// More elements than 31 and 32 bits count, in little memory. Address ranges of gigabytes map one small file again and
// again, so that all their parts hold the same; windows at the ends, around 2^31 and around 2^32 have pages of their
// own, and data of their own. What belongs into a window lands there, the file holds what its data becomes, and nothing
// lands beside the output, which lies between guards.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "kernel_data.hpp"
#include "platform.hpp"

namespace piquant {
namespace {

constexpr size_t two31 = size_t{1} << 31;
constexpr size_t two32 = size_t{1} << 32;
constexpr size_t chunks_beyond = two32 + (size_t{1} << 24) + 5;  // some chunks of a pool begin beyond 2^32
constexpr size_t period = size_t{1} << 21;                       // elements that a file holds
constexpr size_t window = size_t{1} << 16;                       // elements of a window, at the least
constexpr unsigned char canary = 0xa5;

inline void* checked_map(void* at, size_t bytes, int protection, int flags, int file) {
    void* p = mmap(at, bytes, protection, flags, file, 0);
    if (p == MAP_FAILED) {
        std::perror("mmap");
        std::abort();
    }
    return p;
}

// Starts of windows, in elements: multiples of the window, so that they lie on pages whatever the width.
inline std::vector<size_t> windows(size_t n) {
    std::vector<size_t> starts;
    for (const size_t around : {size_t{0}, two31, two32, n}) {
        for (const size_t back : {window, size_t{0}}) {
            const size_t start = around < back ? 0 : (around - back) / window * window;
            if (start < n && std::find(starts.begin(), starts.end(), start) == starts.end()) {
                starts.push_back(start);
            }
        }
    }
    return starts;
}

// n elements of a type over a repeated file.
class Repeated {
public:
    Repeated(DType type, size_t n) : bits_(info(type).bits), n_(n), bytes_(bytes_for(n, bits_)) {
        const size_t file_bytes = bytes_for(period, bits_);
        const size_t mapped = (bytes_ + page_bytes() - 1) / page_bytes() * page_bytes();
        whole_bytes_ = mapped + 2 * guard;
        whole_ = static_cast<unsigned char*>(
            checked_map(nullptr, whole_bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1));
        begin_ = whole_ + guard;
        const int file = memfd_create("piquant", 0);
        if (file < 0 || ftruncate(file, static_cast<off_t>(file_bytes)) != 0) {
            std::perror("memfd_create");
            std::abort();
        }
        for (size_t at = 0; at < mapped; at += file_bytes) {
            checked_map(begin_ + at, std::min(file_bytes, mapped - at), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                        file);
        }
        file_ = static_cast<unsigned char*>(checked_map(nullptr, file_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file));
        close(file);
        for (const size_t start : windows(n)) {
            checked_map(at(start), std::min(bytes_for(window, bits_), mapped - bytes_for(start, bits_)),
                        PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1);
        }
    }
    ~Repeated() {
        munmap(whole_, whole_bytes_);
        munmap(file_, bytes_for(period, bits_));
    }
    Repeated(const Repeated&) = delete;
    Repeated& operator=(const Repeated&) = delete;

    unsigned char* data() const { return begin_; }
    unsigned char* file() const { return file_; }
    unsigned char* at(size_t element) const { return begin_ + bytes_for(element, bits_); }
    size_t bytes(size_t elements) const { return bytes_for(elements, bits_); }
    // Of a window: the elements that belong to the array, and the bytes to the end of its last page.
    size_t elements_in(size_t start) const { return std::min(window, n_ - start); }
    size_t mapped_in(size_t start) const {
        return std::min(bytes_for(window, bits_), whole_bytes_ - 2 * guard - bytes_for(start, bits_));
    }

private:
    static constexpr size_t guard = size_t{1} << 21;

    int bits_;
    size_t n_;
    size_t bytes_;
    size_t whole_bytes_;
    unsigned char* whole_;
    unsigned char* begin_;
    unsigned char* file_;
};

}  // namespace
}  // namespace piquant
