// What tests against committed digests share.
#pragma once

#include <cstdio>
#include <cstdlib>

#include "kernel_data.hpp"
#include "portable_data.hpp"
#include "support.hpp"

namespace piquant {
namespace {

constexpr int max_modes = 4;  // of a row; what they are is the table's own

struct Row {
    const char* operation;
    const char* from;
    const char* to;
    uint64_t digests[max_modes];
};

// FNV-1a: for each byte, digest = (digest ^ byte) * prime.
class Digest {
public:
    void add(const void* p, size_t n) {
        for (size_t i = 0; i < n; ++i) {
            value_ = (value_ ^ static_cast<const unsigned char*>(p)[i]) * 0x100000001b3;
        }
    }
    uint64_t value() const { return value_; }

private:
    uint64_t value_ = 0xcbf29ce484222325;
};

// Compares what rows_of(table) finds on every instruction set with the committed rows; or prints those of the scalar set.
template <size_t N, class RowsOf>
void expect_rows(const Row (&expected)[N], const RowsOf& rows_of) {
    if (std::getenv("PIQUANT_PRINT_DIGESTS") != nullptr) {
        for (const Row& r : rows_of(scalar_table())) {
            std::printf("{\"%s\", \"%s\", \"%s\", {", r.operation, r.from, r.to);
            for (int m = 0; m < max_modes && r.digests[m] != 0; ++m) {
                std::printf("%s0x%016llx", m == 0 ? "" : ", ", static_cast<unsigned long long>(r.digests[m]));
            }
            std::printf("}},\n");
        }
        GTEST_SKIP() << "printed the table instead";
    }
    for (const Isa* isa : all_isas()) {
        const std::vector<Row> rows = rows_of(*isa->table);
        ASSERT_EQ(rows.size(), N);
        for (size_t k = 0; k < N; ++k) {
            const Row& r = rows[k];
            const std::string name = std::string(r.operation) + " " + r.from + " -> " + r.to;
            const Row& e = expected[k];
            ASSERT_EQ(name, std::string(e.operation) + " " + e.from + " -> " + e.to);
            for (int m = 0; m < max_modes; ++m) {
                EXPECT_EQ(r.digests[m], e.digests[m]) << isa->name << ": " << name << ", mode " << m;
            }
        }
    }
}

}  // namespace
}  // namespace piquant
