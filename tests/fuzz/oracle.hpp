// What the library promises for a call, in other terms than the library's own.
#pragma once

#include <string>
#include <vector>

#include "case.hpp"

namespace piquant::fuzz {

// Every status that the arguments of the case deserve: none for a call that must succeed.
std::vector<piquant_status_t> deserved(const Case& c, bool overlap);

// The dtypes that a case reads and writes.
int in_dtype(const Case& c);
int out_dtype(const Case& c);

// Compares elements of the output with exact arithmetic, up to `count` of them, spread over the whole. Says what is
// wrong, or nothing.
std::string wrong_elements(const Case& c, const unsigned char* in, const unsigned char* before,
                           const unsigned char* out, size_t count);

// Whether element i of a block whose scale is a NaN is a code of 0, or a NaN.
bool is_right_without_scale(const Case& c, const unsigned char* out, size_t i);
// Whether element i is what exact arithmetic gives.
bool is_right(const Case& c, const unsigned char* in, const unsigned char* before, const unsigned char* out, size_t i);

// The same of a call with blocks, but for what is wrong with one of them.
std::vector<piquant_status_t> deserved_with_blocks(const Case& c, bool overlap);

// The parameters of a block: the given ones, or those of its data, which are these elements; and what is wrong with them.
struct BlockResult {
    piquant_status_t status;
    double scale;
    int64_t zero_point;
};
BlockResult expected_of_block(const Case& c, const unsigned char* in, const std::vector<size_t>& elements,
                              const unsigned char* scales, const unsigned char* zeros, size_t block);
bool is_zero_point(const unsigned char* zeros, const Case& c, size_t block, int64_t expected);

// The statuses and the numbers that compute_quant_params may give for the data.
std::string wrong_parameters(const Case& c, const unsigned char* in, piquant_status_t status, double scale,
                             int64_t zero_point);

// How far quantizing data with their own parameters may move an element of at most `largest` (docs/numerics.md).
double error_bound(int dtype, double scale, double lo, double hi);

// One element of a floating-point dtype.
double real_at(const unsigned char* p, int dtype, size_t i);

}  // namespace piquant::fuzz
