// Pins the floating-point control state for as long as it lives: round to nearest even, subnormals kept, exceptions
// masked. Callers (audio engines, other numeric libraries) run threads with flush-to-zero or directed rounding, and a
// result must not depend on that. Their state, flags included, comes back unchanged.
//
// The compiler does not order arithmetic against these accesses, so the arithmetic must sit behind a call it cannot
// see through: a kernel table entry, or a function of another translation unit.
#pragma once

#include <stdint.h>

#if defined(__x86_64__) || defined(_M_X64)
#include <xmmintrin.h>
#endif

namespace piquant {
namespace {

class FloatEnvironment {
public:
    FloatEnvironment() : saved_(read()) {
        if ((saved_ & controls) != standard) {
            write(standard);
        }
    }
    ~FloatEnvironment() { write(saved_); }
    FloatEnvironment(const FloatEnvironment&) = delete;
    FloatEnvironment& operator=(const FloatEnvironment&) = delete;

private:
#if defined(__x86_64__) || defined(_M_X64)
    using State = uint32_t;
    static constexpr State standard = 0x1f80;        // MXCSR after reset: all exceptions masked, FTZ = DAZ = RC = 0
    static constexpr State controls = ~State{0x3f};  // all but the sticky exception flags
    static State read() { return _mm_getcsr(); }
    static void write(State s) { _mm_setcsr(s); }
#elif defined(__aarch64__)
    using State = uint64_t;
    static constexpr State standard = 0;  // FPCR: FZ = FZ16 = RMode = DN = AH = 0
    static constexpr State controls = ~State{0};
    static State read() {
        State s;
        __asm__ volatile("mrs %0, fpcr" : "=r"(s));
        return s;
    }
    static void write(State s) { __asm__ volatile("msr fpcr, %0" : : "r"(s)); }
#elif defined(__riscv_flen)
    using State = uint64_t;
    static constexpr State standard = 0;  // fcsr: round to nearest even; subnormals are kept always, and nothing traps
    static constexpr State controls = ~State{0x1f};  // all but the sticky exception flags
    static State read() {
        State s;
        __asm__ volatile("frcsr %0" : "=r"(s));
        return s;
    }
    static void write(State s) { __asm__ volatile("fscsr %0" : : "r"(s)); }
#elif defined(__powerpc64__)
    using State = uint64_t;
    static constexpr State standard = 0;     // FPSCR: VE = OE = UE = ZE = XE = NI = RN = 0
    static constexpr State controls = 0xff;  // the rest are flags, which nothing here reads, and decimal rounding
    static State read() { return __builtin_bit_cast(State, __builtin_mffs()); }
    static void write(State s) { __builtin_mtfsf(0xff, __builtin_bit_cast(double, s)); }
#else
    // Architectures that HACKING.md does not name: the caller's rounding mode is taken as it is.
    using State = int;
    static constexpr State standard = 0;
    static constexpr State controls = 0;
    static State read() { return standard; }
    static void write(State) {}
#endif

    State saved_;
};

}  // namespace
}  // namespace piquant
