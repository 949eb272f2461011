// One kernel call between guard pages, checked for what it touched and what it returned.
//
// The input is read-only for the kernel; bytes beside the output hold a canary. Each buffer lies against the guard
// before or behind it, or at some distance (`shift`, in bytes), which then is the misalignment.
#pragma once

#include <bit>
#include <cmath>

#include "guarded_region.hpp"
#include "instances.hpp"
#include "kernel_data.hpp"

namespace piquant {

struct Placement {
    bool in_at_end;
    size_t in_shift;
    bool out_at_end;
    size_t out_shift;
};

struct Subject {
    const char* isa;
    Kernel kernel;  // as the instance's shape says, perhaps a MinMaxKernel in disguise
};

class GuardedCaller {
public:
    explicit GuardedCaller(size_t most_bytes) : in_(most_bytes, false), out_(most_bytes, true) {
        std::memset(out_.data(), canary, out_.size());
    }

    // Calls with copies of `in` and `before`; `result` is the output afterwards, or the extent. Empty, or what went
    // wrong.
    std::string call(const Instance& instance, const Subject& subject, KernelArgs args, const Bytes& in,
                     const Bytes& before, const Placement& p, Bytes& result) {
        const size_t in_start = start(in_, in.size(), p.in_at_end, p.in_shift);
        const size_t out_start = start(out_, before.size(), p.out_at_end, p.out_shift);
        std::copy(in.begin(), in.end(), in_.data() + in_start);
        unsigned char* out = out_.data() + out_start;
        std::copy(before.begin(), before.end(), out);
        args.in = in_.view() + in_start;
        args.out = out_.view() + out_start;
        const GuardedAccess access = {subject.isa, instance.name.c_str(),   args.n,       in_.view() + in_start,
                                      in.size(),   out_.view() + out_start, before.size()};
        guarded_access = &access;
        if (instance.shape == Shape::transform) {
            subject.kernel(args);
            result.assign(out, out + before.size());
        } else {
            const auto kernel = std::bit_cast<MinMaxKernel>(subject.kernel);
            const Extent e = kernel(args.in, args.n);
            // Which zero stands for both is unspecified, and so are the ends beside a NaN.
            const double ends[] = {e.has_nan ? NAN : e.lo + 0.0, e.has_nan ? NAN : e.hi + 0.0};
            result.resize(sizeof ends);
            std::memcpy(result.data(), ends, sizeof ends);
        }
        guarded_access = nullptr;
        std::string wrong;
        if (!is_canary(0, out_start) || !is_canary(out_start + before.size(), out_.size())) {
            wrong = "wrote beside the output";
        } else if (!std::equal(in.begin(), in.end(), in_.data() + in_start)) {
            wrong = "wrote to the input";
        } else if (const size_t used = args.n * static_cast<size_t>(instance.out_bits()) % 8;
                   used != 0 && instance.computes && result.back() >> used != 0) {
            wrong = "padding is not zero";
        }
        std::memset(wrong.empty() ? out : out_.data(), canary, wrong.empty() ? before.size() : out_.size());
        return wrong;
    }

private:
    static constexpr unsigned char canary = 0xa5;

    static size_t start(const GuardedRegion& region, size_t bytes, bool at_end, size_t shift) {
        return at_end ? region.size() - bytes - shift : shift;
    }

    bool is_canary(size_t begin, size_t end) const {
        const unsigned char* p = out_.data();
        return begin == end || (p[begin] == canary && std::memcmp(p + begin, p + begin + 1, end - begin - 1) == 0);
    }

    GuardedRegion in_;
    GuardedRegion out_;
};

}  // namespace piquant
