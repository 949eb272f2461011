// How a kernel walks over memory: the one loop driver.
//
// A *step* is what one pass over the registers handles. An operation is a class, its constants are the members, and it
// says
//
//   in_bits, out_bits, elements   per element, and elements per step
//   reads_output                  adds to what is there
//   Words                         where it gets random words from, made of a Words::Source for each run of steps;
//                                 NoWords if it needs none
//   template <simd::Store> void run(const unsigned char* in, unsigned char* out, Words& words) const
//   model                         the element loop of the same operation, if it needs random words
//
// Compiled per operation is the loop over whole steps. The walk around it knows the operation by numbers and pointers
// and is there once: copies of it in every operation made the library half as large again.
//
// An incomplete step goes through the same loop on zero-padded copies on the stack, so no access leaves the declared
// bytes and no second version of the arithmetic exists. Elements before the first 64-byte line of the output are
// handled first. Every store after them is aligned, and may bypass the caches.
#pragma once

#include <type_traits>

#include "kernels/random_words.hpp"
#include "kernels/table.hpp"

namespace piquant {
namespace {

constexpr unsigned line_bytes = 64;

// What a step reads at p + distance, which may lie behind the array: an address, not a pointer.
template <size_t Bytes>
PIQUANT_INLINE void prefetch(const unsigned char* p, size_t distance) {
    for (size_t k = 0; k < Bytes; k += line_bytes) {
        __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(p) + distance + k));
    }
}

// What a step of this operation will want, `distance` bytes further on. Measured: input narrower than the output is the
// smaller part of the traffic. Sums into output of 32 and 64 bits run at the speed of memory without prefetches, and
// from a cache prefetches make them slower.
template <class Step>
PIQUANT_INLINE void prefetch_step(const unsigned char* in, const unsigned char* out, size_t distance) {
    if (distance != 0) {
        if constexpr (Step::in_bits >= Step::out_bits) {
            prefetch<bytes_for(Step::elements, Step::in_bits)>(in, distance);
        }
        if constexpr (Step::reads_output && Step::out_bits == 16) {
            prefetch<bytes_for(Step::elements, Step::out_bits)>(out, distance);
        }
    }
}

// n elements from element `index` on, whole steps.
template <class Step, simd::Store Storing>
__attribute__((noinline)) void steps(const void* operation, const KernelArgs& a, const unsigned char* in,
                                     unsigned char* out, uint64_t index, size_t n) {
    constexpr size_t in_bytes = bytes_for(Step::elements, Step::in_bits);
    constexpr size_t out_bytes = bytes_for(Step::elements, Step::out_bits);

    // A local copy: its address never escapes, so the compiler can keep the constants in registers across stores.
    const Step local = *static_cast<const Step*>(operation);
    const typename Step::Words::Source source(a.seed, index, n);
    typename Step::Words words(source);
    const size_t distance = a.prefetch_distance;
    for (size_t i = 0; i < n; i += Step::elements) {
        prefetch_step<Step>(in, out, distance);
        local.template run<Storing>(in, out, words);
        in += in_bytes;
        out += out_bytes;
    }
}

// An operation as the walk sees it.
struct WalkedOperation {
    using Steps = void (*)(const void* operation, const KernelArgs& a, const unsigned char* in, unsigned char* out,
                           uint64_t index, size_t n);
    unsigned in_bits;
    unsigned out_bits;
    size_t elements;
    bool reads_output;
    Kernel model;  // null if it needs no random words
    Steps cached;
    Steps non_temporal;  // null if it reads its output
};

template <class Step>
constexpr WalkedOperation describe_operation() {
    WalkedOperation w{
        Step::in_bits, Step::out_bits, Step::elements, Step::reads_output, nullptr, steps<Step, simd::Store::cached>,
        nullptr};
    if constexpr (!std::is_same_v<typename Step::Words, NoWords>) {
        w.model = Step::model;
    }
    if constexpr (!Step::reads_output) {
        w.non_temporal = steps<Step, simd::Store::non_temporal>;
    }
    return w;
}
template <class Step>
constexpr WalkedOperation walked = describe_operation<Step>();

class Walk {
public:
    // Of a step, both sides together, each in whole lines: 2-bit codes that fill a register, and as many float64.
    static constexpr size_t most_bytes = 33 * simd::width + line_bytes;

    Walk(const WalkedOperation& walked, const void* operation, const KernelArgs& a)
        : w_(walked), operation_(operation), args_(a) {}

    __attribute__((noinline)) void run() const {  // else every operation would have its copy again
        const auto* in = static_cast<const unsigned char*>(args_.in);
        auto* out = static_cast<unsigned char*>(args_.out);
        size_t head = elements_before_line(out);
        if (head > args_.n) {
            head = args_.n;
        }
        const bool aligned = head * w_.in_bits % 8 == 0;
        const size_t begin = aligned ? head : 0;
        if (begin != 0) {
            span(w_.cached, in, out, args_.offset, begin);
            in += bytes(begin, w_.in_bits);
            out += bytes(begin, w_.out_bits);
        }
        const bool on_line = reinterpret_cast<uintptr_t>(out) % line_bytes == 0;
        const bool bypasses = args_.non_temporal && on_line && w_.non_temporal != nullptr;
        span(bypasses ? w_.non_temporal : w_.cached, in, out, args_.offset + begin, args_.n - begin);
    }

private:
    // bytes_for() without a division. What fits into the address space does not overflow.
    static size_t bytes(size_t n, unsigned bits) { return (n * bits + 7) / 8; }
    static constexpr size_t in_whole_lines(size_t bytes) { return (bytes + line_bytes - 1) / line_bytes * line_bytes; }
    size_t in_whole_steps(size_t n) const { return n & ~(w_.elements - 1); }

    // Elements that lie before the first 64-byte line of the output; 0 where no element boundary meets a line.
    size_t elements_before_line(const unsigned char* out) const {
        const auto address = static_cast<unsigned>(reinterpret_cast<uintptr_t>(out) % line_bytes);
        const unsigned bits = 8 * ((line_bytes - address) % line_bytes);
        return (bits & (w_.out_bits - 1)) == 0 ? bits >> __builtin_ctz(w_.out_bits) : 0;
    }

    // n elements from the first field of a byte on: whole steps, then the rest.
    void span(WalkedOperation::Steps run_steps, const unsigned char* in, unsigned char* out, uint64_t index,
              size_t n) const {
        const size_t whole = in_whole_steps(n);
        for (size_t i = 0; i < whole;) {
            const size_t run = within_period(index + i, whole - i);
            if (run != 0) {
                run_steps(operation_, args_, in + bytes(i, w_.in_bits), out + bytes(i, w_.out_bits), index + i, run);
            } else {
                across_periods(in + bytes(i, w_.in_bits), out + bytes(i, w_.out_bits), index + i, w_.elements);
            }
            i += run != 0 ? run : w_.elements;
        }
        if (n != whole) {
            incomplete_step(in + bytes(whole, w_.in_bits), out + bytes(whole, w_.out_bits), index + whole, n - whole);
        }
    }

    // How many of n elements, in whole steps, take their random words by the keys of element `index`.
    size_t within_period(uint64_t index, size_t n) const {
        const size_t left = key_period - static_cast<size_t>(index % key_period);
        return w_.model == nullptr || n <= left ? n : in_whole_steps(left);
    }

    // Elements on both sides of a change of keys. Offsets that are no multiple of a step lead to it, once in a period.
    void across_periods(const unsigned char* in, unsigned char* out, uint64_t index, size_t n) const {
        KernelArgs a = args_;
        a.in = in;
        a.out = out;
        a.offset = index;
        a.n = n;
        w_.model(a);
    }

    void incomplete_step(const unsigned char* in, unsigned char* out, uint64_t index, size_t n) const {
        if (w_.model != nullptr && index % key_period + n > key_period) {
            across_periods(in, out, index, n);
            return;
        }
        alignas(line_bytes) unsigned char from[most_bytes];
        unsigned char* const to = from + in_whole_lines(bytes(w_.elements, w_.in_bits));
        copy_padded(from, in, n, w_.in_bits);
        if (w_.reads_output) {
            copy_padded(to, out, n, w_.out_bits);
        }
        w_.cached(operation_, args_, from, to, index, w_.elements);
        if (const size_t used = n * w_.out_bits % 8; used != 0) {
            to[n * w_.out_bits / 8] &= static_cast<unsigned char>((1u << used) - 1);
        }
        __builtin_memcpy(out, to, bytes(n, w_.out_bits));
    }
    void copy_padded(unsigned char* to, const unsigned char* from, size_t n, unsigned bits) const {
        const size_t size = bytes(n, bits);
        __builtin_memcpy(to, from, size);
        __builtin_memset(to + size, 0, bytes(w_.elements, bits) - size);
    }

    const WalkedOperation& w_;
    const void* operation_;
    const KernelArgs& args_;
};

template <class Step>
void walk(const KernelArgs& a) {
    static_assert((Step::elements & (Step::elements - 1)) == 0);
    static_assert(bytes_for(Step::elements, Step::in_bits) + line_bytes + bytes_for(Step::elements, Step::out_bits) <=
                  Walk::most_bytes);
    const Step operation(a);
    Walk(walked<Step>, &operation, a).run();
}

}  // namespace
}  // namespace piquant
