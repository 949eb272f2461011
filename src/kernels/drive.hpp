// How a kernel walks over memory: the one loop driver.
//
// An operation handles a *block*, the elements that fill whole registers, and says so in
//
//   in_bits, out_bits, block      per element, and elements per block
//   reads_output                  adds to what is there
//   Words                         where it gets random words from, made of a Words::Source for each run of blocks;
//                                 NoWords if it needs none
//   template <Store S> void block_at(const unsigned char* in, unsigned char* out, Words& words) const
//   model                         the element loop of the same operation, if it needs random words
//
// Compiled per operation is the loop over whole blocks. The walk around it knows the operation by numbers and pointers
// and is there once: copies of it in every operation made the library half as large again.
//
// A partial block goes through the same loop on zero-padded copies on the stack, so no access leaves the declared
// bytes and no second version of the arithmetic exists. Elements before the first 64-byte line of the output are
// peeled, then every store is aligned, and may bypass the caches.
#pragma once

#include <type_traits>

#include "kernels/random_words.hpp"
#include "kernels/table.hpp"

namespace piquant {
namespace {

constexpr unsigned line_bytes = 64;

// What a block reads at p + ahead, which may lie behind the array: an address, no pointer.
template <size_t Bytes>
PIQUANT_INLINE void prefetch(const unsigned char* p, size_t ahead) {
    for (size_t k = 0; k < Bytes; k += line_bytes) {
        __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(p) + ahead + k));
    }
}

// n elements from element `index` on, whole blocks.
template <class Op, simd::Store S>
__attribute__((noinline)) void blocks(const void* operation, const KernelArgs& a, const unsigned char* in,
                                      unsigned char* out, uint64_t index, size_t n) {
    // Measured. Narrower input is the smaller part of the traffic. Output of 32 and 64 bits is added to at the speed of
    // memory already, and from a cache prefetches hinder.
    constexpr bool prefetches_input = Op::in_bits >= Op::out_bits;
    constexpr bool prefetches_output = Op::reads_output && Op::out_bits == 16;
    constexpr size_t in_bytes = bytes_for(Op::block, Op::in_bits);
    constexpr size_t out_bytes = bytes_for(Op::block, Op::out_bits);

    const Op op = *static_cast<const Op*>(operation);  // its address is known to nobody: constants stay in registers
    const typename Op::Words::Source source(a.seed, index, n);
    typename Op::Words words(source);
    const size_t ahead = a.ahead;
    for (size_t i = 0; i < n; i += Op::block) {
        if (ahead != 0) {
            if constexpr (prefetches_input) {
                prefetch<in_bytes>(in, ahead);
            }
            if constexpr (prefetches_output) {
                prefetch<out_bytes>(out, ahead);
            }
        }
        op.template block_at<S>(in, out, words);
        in += in_bytes;
        out += out_bytes;
    }
}

// An operation as the walk sees it.
struct Shape {
    using Blocks = void (*)(const void* operation, const KernelArgs& a, const unsigned char* in, unsigned char* out,
                            uint64_t index, size_t n);
    unsigned in_bits;
    unsigned out_bits;
    size_t block;
    bool reads_output;
    Kernel model;  // null if it needs no random words
    Blocks cached;
    Blocks streamed;  // null if it reads its output
};

template <class Op>
constexpr Shape shape_of() {
    Shape s{Op::in_bits, Op::out_bits, Op::block, Op::reads_output, nullptr, blocks<Op, simd::Store::cached>, nullptr};
    if constexpr (!std::is_same_v<typename Op::Words, NoWords>) {
        s.model = Op::model;
    }
    if constexpr (!Op::reads_output) {
        s.streamed = blocks<Op, simd::Store::stream>;
    }
    return s;
}
template <class Op>
constexpr Shape shape = shape_of<Op>();

class Walk {
public:
    // Of a block, on either side: 2-bit codes that fill a register, as float64.
    static constexpr size_t most_bytes = 32 * simd::width;

    Walk(const Shape& shape, const void* operation, const KernelArgs& a) : s_(shape), operation_(operation), args_(a) {}

    __attribute__((noinline)) void run() const {  // else every operation would have its copy again
        const auto* in = static_cast<const unsigned char*>(args_.in);
        auto* out = static_cast<unsigned char*>(args_.out);
        size_t head = elements_before_line(out);
        if (head > args_.n) {
            head = args_.n;
        }
        const bool aligned = head * s_.in_bits % 8 == 0;
        const size_t begin = aligned ? head : 0;
        if (begin != 0) {
            span(s_.cached, in, out, args_.offset, begin);
            in += bytes(begin, s_.in_bits);
            out += bytes(begin, s_.out_bits);
        }
        const bool on_line = reinterpret_cast<uintptr_t>(out) % line_bytes == 0;
        const bool streams = args_.stream && on_line && s_.streamed != nullptr;
        span(streams ? s_.streamed : s_.cached, in, out, args_.offset + begin, args_.n - begin);
    }

private:
    // bytes_for() without a division. What fits into the address space does not overflow.
    static size_t bytes(size_t n, unsigned bits) { return (n * bits + 7) / 8; }
    size_t whole_blocks(size_t n) const { return n & ~(s_.block - 1); }

    // Elements that lie before the first 64-byte line of the output; 0 where no element boundary meets a line.
    size_t elements_before_line(const unsigned char* out) const {
        const auto address = static_cast<unsigned>(reinterpret_cast<uintptr_t>(out) % line_bytes);
        const unsigned bits = 8 * ((line_bytes - address) % line_bytes);
        return (bits & (s_.out_bits - 1)) == 0 ? bits >> __builtin_ctz(s_.out_bits) : 0;
    }

    // n elements from the first field of a byte on: whole blocks, then the rest.
    void span(Shape::Blocks run_blocks, const unsigned char* in, unsigned char* out, uint64_t index, size_t n) const {
        const size_t whole = whole_blocks(n);
        for (size_t i = 0; i < whole;) {
            const size_t run = within_keys(index + i, whole - i);
            if (run != 0) {
                run_blocks(operation_, args_, in + bytes(i, s_.in_bits), out + bytes(i, s_.out_bits), index + i, run);
            } else {
                across_keys(in + bytes(i, s_.in_bits), out + bytes(i, s_.out_bits), index + i, s_.block);
            }
            i += run != 0 ? run : s_.block;
        }
        if (n != whole) {
            partial(in + bytes(whole, s_.in_bits), out + bytes(whole, s_.out_bits), index + whole, n - whole);
        }
    }

    // How many of n elements, in whole blocks, take their random words by the keys of element `index`.
    size_t within_keys(uint64_t index, size_t n) const {
        const size_t left = random_block - static_cast<size_t>(index % random_block);
        return s_.model == nullptr || n <= left ? n : whole_blocks(left);
    }

    // Elements on both sides of a change of keys, which offsets that are no multiple of the block lead to, once in
    // 65,536.
    void across_keys(const unsigned char* in, unsigned char* out, uint64_t index, size_t n) const {
        KernelArgs a = args_;
        a.in = in;
        a.out = out;
        a.offset = index;
        a.n = n;
        s_.model(a);
    }

    void partial(const unsigned char* in, unsigned char* out, uint64_t index, size_t n) const {
        if (s_.model != nullptr && index % random_block + n > random_block) {
            across_keys(in, out, index, n);
            return;
        }
        alignas(line_bytes) unsigned char from[most_bytes];
        alignas(line_bytes) unsigned char to[most_bytes];
        copy_padded(from, in, n, s_.in_bits);
        if (s_.reads_output) {
            copy_padded(to, out, n, s_.out_bits);
        }
        s_.cached(operation_, args_, from, to, index, s_.block);
        if (const size_t used = n * s_.out_bits % 8; used != 0) {
            to[n * s_.out_bits / 8] &= static_cast<unsigned char>((1u << used) - 1);
        }
        __builtin_memcpy(out, to, bytes(n, s_.out_bits));
    }
    void copy_padded(unsigned char* to, const unsigned char* from, size_t n, unsigned bits) const {
        const size_t size = bytes(n, bits);
        __builtin_memcpy(to, from, size);
        __builtin_memset(to + size, 0, bytes(s_.block, bits) - size);
    }

    const Shape& s_;
    const void* operation_;
    const KernelArgs& args_;
};

template <class Op>
void drive(const KernelArgs& a) {
    static_assert((Op::block & (Op::block - 1)) == 0);
    static_assert(bytes_for(Op::block, Op::in_bits) <= Walk::most_bytes);
    static_assert(bytes_for(Op::block, Op::out_bits) <= Walk::most_bytes);
    const Op op(a);
    Walk(shape<Op>, &op, a).run();
}

}  // namespace
}  // namespace piquant
