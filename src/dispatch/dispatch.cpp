#include "dispatch/dispatch.hpp"

#include "isa_list.hpp"  // PIQUANT_ISA_LIST(X): the sets that CMake compiles for this machine, best first

namespace piquant {

PIQUANT_RUNS_BEFORE_THE_CHECK;

namespace isa {
#define X(name)                     \
    namespace name {                \
    extern const KernelTable table; \
    }
PIQUANT_ISA_LIST(X)
#undef X
}  // namespace isa

namespace {

// Every ISA of every architecture, best first within one. Names of another architecture are known, and never chosen.
constexpr const char* known_names[] = {"avx512", "avx2", "sse42", "neon", "scalar"};
constexpr size_t known_count = sizeof known_names / sizeof known_names[0];

constexpr bool equal(const char* a, const char* b) {
    while (*a != 0 && *a == *b) {
        ++a;
        ++b;
    }
    return *a == *b;
}

constexpr size_t rank_of(const char* name) {
    size_t i = 0;
    while (i < known_count && !equal(known_names[i], name)) {
        ++i;
    }
    return i;
}

}  // namespace

const Isa isas[] = {
#define X(name) {#name, isa::name::table.required, &isa::name::table},
    PIQUANT_ISA_LIST(X)
#undef X
};
const size_t isa_count = sizeof isas / sizeof isas[0];

bool cpu_runs_this_build() {
    return (isas[isa_count - 1].required & ~cpu_features()) == 0;
}

size_t select_isa(uint64_t features, const char* limit) {
    const size_t best_rank = limit != nullptr ? rank_of(limit) : 0;
    if (best_rank == known_count) {
        return isa_count;
    }
    size_t i = 0;
    while (i < isa_count && ((isas[i].required & ~features) != 0 || rank_of(isas[i].name) < best_rank)) {
        ++i;
    }
    return i;
}

}  // namespace piquant
