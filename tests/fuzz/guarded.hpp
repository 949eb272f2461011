// Memory between two pages that nobody may touch.
#pragma once

#include <cstring>
#include <vector>

#include "../cpp/platform.hpp"

namespace piquant::fuzz {

class Guarded {
public:
    explicit Guarded(size_t bytes) {
        const size_t page = page_bytes();
        size_ = (bytes + page - 1) / page * page;
        mapped_ = size_ + 2 * page;
        begin_ = reserve_pages(mapped_) + page;
        set_access(begin_, size_, Access::write);
    }
    ~Guarded() { release_pages(begin_ - (mapped_ - size_) / 2, mapped_); }
    Guarded(const Guarded&) = delete;
    Guarded& operator=(const Guarded&) = delete;

    size_t size() const { return size_; }

    // `bytes` bytes, `shift` away from the first or the last guard page, with canaries on either side.
    unsigned char* place(size_t bytes, bool at_end, size_t shift) {
        unsigned char* p = at_end ? begin_ + size_ - bytes - shift : begin_ + shift;
        window_ = p - begin_ > margin ? p - margin : begin_;
        unsigned char* end = begin_ + size_ - (p + bytes) > margin ? p + bytes + margin : begin_ + size_;
        window_size_ = static_cast<size_t>(end - window_);
        std::memset(window_, 0xa5, window_size_);
        return p;
    }

    // The placed bytes and the canaries, to compare with later.
    void remember() { before_.assign(window_, window_ + window_size_); }
    // Whether nothing has changed since, but for those of the bytes from `start` on that are `owned`.
    bool unchanged_but_for(const unsigned char* start, const std::vector<bool>& owned) const {
        for (size_t i = 0; i < window_size_; ++i) {
            const unsigned char* p = window_ + i;
            const auto at = static_cast<size_t>(p - start);
            if (*p != before_[i] && (p < start || at >= owned.size() || !owned[at])) {
                return false;
            }
        }
        return true;
    }
    bool unchanged() const { return std::memcmp(window_, before_.data(), window_size_) == 0; }

private:
    static constexpr ptrdiff_t margin = 256;

    unsigned char* begin_;
    size_t size_;
    size_t mapped_;
    unsigned char* window_ = nullptr;
    size_t window_size_ = 0;
    std::vector<unsigned char> before_;
};

}  // namespace piquant::fuzz
