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
// A partial block goes through the same code on zero-padded copies on the stack, so no access leaves the declared
// bytes and no second version of the arithmetic exists. Elements before the first 64-byte line of the output are
// peeled, then every store is aligned, and may bypass the caches.
#pragma once

#include <type_traits>

#include "kernels/random_words.hpp"
#include "kernels/table.hpp"

namespace piquant {
namespace {

constexpr size_t line_bytes = 64;

template <class Op>
class Drive {
public:
    static void run(const KernelArgs& a) {
        Drive d(a);
        const auto* in = static_cast<const unsigned char*>(a.in);
        auto* out = static_cast<unsigned char*>(a.out);
        size_t head = elements_before_line(out);
        if (head > a.n) {
            head = a.n;
        }
        const bool aligned = head == 0 || head % in_per_byte == 0;
        const size_t begin = aligned ? head : 0;
        d.span<simd::Store::cached>(in, out, a.offset, begin);
        in += bytes_for(begin, Op::in_bits);
        out += bytes_for(begin, Op::out_bits);
        const bool on_line = reinterpret_cast<uintptr_t>(out) % line_bytes == 0;
        if constexpr (!Op::reads_output) {
            if (a.stream && on_line) {
                d.span<simd::Store::stream>(in, out, a.offset + begin, a.n - begin);
                simd::drain_stores();
                return;
            }
        }
        d.span<simd::Store::cached>(in, out, a.offset + begin, a.n - begin);
    }

private:
    static constexpr bool stochastic = !std::is_same_v<typename Op::Words, NoWords>;
    // Measured. Narrower input is the smaller part of the traffic. Output of 32 and 64 bits is added to at the speed of
    // memory already, and from a cache prefetches hinder.
    static constexpr bool prefetches_input = Op::in_bits >= Op::out_bits;
    static constexpr bool prefetches_output = Op::reads_output && Op::out_bits == 16;
    static constexpr size_t in_per_byte = Op::in_bits < 8 ? 8 / Op::in_bits : 1;
    static constexpr size_t out_per_byte = Op::out_bits < 8 ? 8 / Op::out_bits : 1;

    explicit Drive(const KernelArgs& a) : op_(a), args_(a) {}

    // Elements that lie before the first 64-byte line of the output; 0 where no element boundary meets a line.
    static size_t elements_before_line(const unsigned char* out) {
        const size_t bytes = (line_bytes - reinterpret_cast<uintptr_t>(out) % line_bytes) % line_bytes;
        if constexpr (Op::out_bits < 8) {
            return bytes * out_per_byte;
        } else {
            constexpr size_t size = Op::out_bits / 8;
            return bytes % size == 0 ? bytes / size : 0;
        }
    }

    // n elements from the first field of a byte on: whole blocks, then the rest.
    template <simd::Store S>
    void span(const unsigned char* in, unsigned char* out, uint64_t index, size_t n) {
        const size_t whole = n / Op::block * Op::block;
        for (size_t i = 0; i < whole;) {
            const size_t run = within_keys(index + i, whole - i);
            if (run != 0) {
                blocks<S>(in + bytes_for(i, Op::in_bits), out + bytes_for(i, Op::out_bits), index + i, run);
            } else {
                across_keys(in + bytes_for(i, Op::in_bits), out + bytes_for(i, Op::out_bits), index + i, Op::block);
            }
            i += run != 0 ? run : Op::block;
        }
        if (n != whole) {
            partial(in + bytes_for(whole, Op::in_bits), out + bytes_for(whole, Op::out_bits), index + whole, n - whole);
        }
    }

    // How many of n elements, in whole blocks, take their random words by the keys of element `index`.
    static size_t within_keys(uint64_t index, size_t n) {
        if constexpr (stochastic) {
            const size_t left = random_block - static_cast<size_t>(index % random_block);
            return n <= left ? n : left / Op::block * Op::block;
        } else {
            return n;
        }
    }

    // Elements on both sides of a change of keys, which offsets that are no multiple of the block lead to, once in
    // 65,536.
    void across_keys(const unsigned char* in, unsigned char* out, uint64_t index, size_t n) const {
        if constexpr (stochastic) {
            KernelArgs a = args_;
            a.in = in;
            a.out = out;
            a.offset = index;
            a.n = n;
            Op::model(a);
        }
    }

    // Out of line: three callers share it, and register allocation starts afresh.
    template <simd::Store S>
    __attribute__((noinline)) void blocks(const unsigned char* in, unsigned char* out, uint64_t index, size_t n) const {
        const Op op = op_;  // a local whose address no store can reach: its constants stay in registers
        const typename Op::Words::Source source(args_.seed, index, n);
        typename Op::Words words(source);
        const size_t ahead = args_.ahead;
        for (size_t i = 0; i < n; i += Op::block) {
            if (ahead != 0) {
                if constexpr (prefetches_input) {
                    prefetch<Op::in_bits>(in, ahead);
                }
                if constexpr (prefetches_output) {
                    prefetch<Op::out_bits>(out, ahead);
                }
            }
            op.template block_at<S>(in, out, words);
            in += bytes_for(Op::block, Op::in_bits);
            out += bytes_for(Op::block, Op::out_bits);
        }
    }

    // What a block reads at p + ahead, which may lie behind the array: an address, no pointer.
    template <int Bits>
    PIQUANT_INLINE static void prefetch(const unsigned char* p, size_t ahead) {
        for (size_t k = 0; k < bytes_for(Op::block, Bits); k += line_bytes) {
            __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(p) + ahead + k));
        }
    }

    void partial(const unsigned char* in, unsigned char* out, uint64_t index, size_t n) {
        if (stochastic && index % random_block + n > random_block) {
            across_keys(in, out, index, n);
            return;
        }
        alignas(line_bytes) unsigned char from[bytes_for(Op::block, Op::in_bits)] = {};
        alignas(line_bytes) unsigned char to[bytes_for(Op::block, Op::out_bits)] = {};
        __builtin_memcpy(from, in, bytes_for(n, Op::in_bits));
        if constexpr (Op::reads_output) {
            __builtin_memcpy(to, out, bytes_for(n, Op::out_bits));
        }
        blocks<simd::Store::cached>(from, to, index, Op::block);
        if (const size_t fields = n % out_per_byte; fields != 0) {
            to[n / out_per_byte] &= static_cast<unsigned char>((1u << (fields * Op::out_bits)) - 1);
        }
        __builtin_memcpy(out, to, bytes_for(n, Op::out_bits));
    }

    Op op_;
    const KernelArgs& args_;
};

}  // namespace
}  // namespace piquant
