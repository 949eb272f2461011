#include "engine/block_converter.hpp"

#include <string.h>

#include <algorithm>
#include <cmath>

#include "core/float_formats.hpp"
#include "core/packing.hpp"
#include "core/semantics.hpp"
#include "cpu/stores.hpp"
#include "engine/with_dtype.hpp"

namespace piquant {
namespace {

// Blocks from this length on are worth a kernel call of their own.
constexpr size_t long_block = 32;

DType kernel_code(DType code, bool in_bytes) {
    return !in_bytes || info(code).bits >= 8 ? code : info(code).is_signed ? DType::int8 : DType::uint8;
}

size_t in_lines(size_t bytes) {
    return (bytes + 63) / 64 * 64;
}

size_t array_bytes(size_t entries, size_t bytes) {
    return in_lines((entries + panel_slack) * bytes);
}

// To compute parameters alone, too: they come along.
bool inverts(const BlockPlan& plan) {
    return plan.operation != BlockOperation::dequantize;
}
bool scales(const BlockPlan& plan) {
    return plan.operation == BlockOperation::dequantize || plan.operation == BlockOperation::quantize_dequantize;
}
size_t code_bytes(const BlockPlan& plan, const BlockKernels& kernels, size_t elements) {
    return plan.operation == BlockOperation::quantize_dequantize
               ? in_lines(bytes_for(elements, info(kernels.code).format))
               : 0;
}
size_t parameter_bytes(const BlockPlan& plan, const BlockKernels& kernels, size_t entries) {
    const size_t factors = array_bytes(entries, kernels.prepared.factor_bytes());
    return (inverts(plan) ? factors : 0) + (scales(plan) ? factors : 0) +
           array_bytes(entries, kernels.prepared.zero_bytes());
}
size_t word_bytes(const BlockPlan& plan, size_t elements) {
    return plan.uses_words ? in_lines((elements + panel_slack) * sizeof(uint16_t)) : 0;
}

// The default NaN, where there is none.
void put_nans(DType type, unsigned char* out, size_t first, size_t count) {
    with_float(type, [&](auto dtype) {
        using Float = decltype(dtype);
        for (size_t i = first; i < first + count; ++i) {
            unsigned char* const at = out + i * sizeof(typename Float::storage);
            if (!std::isnan(load_element<Float>(at))) {
                store_element<Float>(at, default_nan<typename Float::compute>());
            }
        }
    });
}

// Entry k of an array to `count` entries of another one, from entry `begin` on.
void repeat_entry(const unsigned char* from, size_t k, unsigned char* to, size_t begin, size_t count, size_t bytes) {
    if (bytes == 1) {
        memset(to + begin, from[k], count);
    } else if (bytes == sizeof(uint32_t)) {
        const uint32_t entry = reinterpret_cast<const uint32_t*>(from)[k];
        std::fill_n(reinterpret_cast<uint32_t*>(to) + begin, count, entry);
    } else {
        const uint64_t entry = reinterpret_cast<const uint64_t*>(from)[k];
        std::fill_n(reinterpret_cast<uint64_t*>(to) + begin, count, entry);
    }
}

}  // namespace

BlockKernels::BlockKernels(const BlockPlan& plan, bool codes_in_bytes)
    : code(kernel_code(plan.code, codes_in_bytes || plan.operation == BlockOperation::quantize_dequantize)) {
    const PanelKernels& own = plan.table->panels;
    const PanelKernels& scalar = *plan.scalar;
    const int f = float_index(plan.float_type);
    const int w = width_index(info(code).bits);
    const auto round = static_cast<int>(plan.uses_words ? Round::stochastic : Round::nearest);
    const auto reduce = static_cast<int>(plan.reads_output ? Reduce::add : Reduce::set);
    const bool has_own = own.quantize[f][w][round] != nullptr;
    const PanelKernels& used = has_own ? own : scalar;
    granule = used.granule;
    words = own.words != nullptr ? own.words : scalar.words;
    const auto for_one_scale = [&](Operation operation) {
        const bool helps = &own != &scalar && !has_own;
        return helps ? find_kernel(*plan.table, operation, plan.float_type, code,
                                   plan.uses_words ? Round::stochastic : Round::nearest,
                                   plan.reads_output ? Reduce::add : Reduce::set)
                     : nullptr;
    };
    if (inverts(plan)) {
        quantize = used.quantize[f][w][round];
        quantize_block = for_one_scale(Operation::quantize);
    }
    if (scales(plan)) {
        dequantize = used.dequantize[w][f][reduce];
        dequantize_block = for_one_scale(Operation::dequantize);
    }
    dynamic = plan.uses_words || plan.operation != BlockOperation::quantize_dynamic
                  ? nullptr
                  : own.dynamic[f][w][plan.options.symmetric ? 1 : 0];
    const DTypeInfo& type = info(code);
    prepared = {plan.float_type == DType::float64, type.bits <= 8, code_min(type.bits, type.is_signed)};
}

size_t BlockConverter::scratch_bytes(const BlockPlan& plan, const BlockKernels& kernels, const Room& room) {
    const size_t arrays = parameter_bytes(plan, kernels, room.expands ? room.elements : room.parameters);
    return arrays + (room.expands ? parameter_bytes(plan, kernels, room.parameters) : 0) +
           word_bytes(plan, room.elements) + code_bytes(plan, kernels, room.elements);
}

BlockConverter::BlockConverter(const BlockPlan& plan, const BlockKernels& kernels, const Room& room, bool non_temporal,
                               size_t prefetch_distance, unsigned char* scratch)
    : plan_(plan), kernels_(kernels), most_elements_(room.elements) {
    const auto take = [&](size_t bytes) {
        unsigned char* const taken = scratch;
        scratch += bytes;
        return taken;
    };
    const auto take_arrays = [&](size_t entries) {
        const size_t factors = array_bytes(entries, kernels.prepared.factor_bytes());
        Arrays a{};
        const size_t zeros = array_bytes(entries, kernels.prepared.zero_bytes());
        // Kernels may read beyond the last parameter, where it is.
        const auto take_array = [&](size_t bytes, size_t entry) {
            unsigned char* const array = take(bytes);
            memset(array + entries * entry, 0, bytes - entries * entry);
            return array;
        };
        a.inverses = inverts(plan) ? take_array(factors, kernels.prepared.factor_bytes()) : nullptr;
        a.scales = scales(plan) ? take_array(factors, kernels.prepared.factor_bytes()) : nullptr;
        a.zeros = take_array(zeros, kernels.prepared.zero_bytes());
        return a;
    };
    arrays_ = take_arrays(room.expands ? room.elements : room.parameters);
    of_blocks_ = room.expands ? take_arrays(room.parameters) : arrays_;
    words_ = reinterpret_cast<uint16_t*>(take(word_bytes(plan, room.elements)));
    codes_ = scratch;
    common_.quant_min = plan.options.quant_min;
    common_.quant_max = plan.options.quant_max;
    common_.is_signed = info(kernels.code).is_signed;
    common_.non_temporal = non_temporal;
    common_.prefetch_distance = prefetch_distance;
}

void BlockConverter::fill(const Arrays& arrays, size_t first, size_t count) {
    if (arrays.inverses != nullptr) {
        prepare_factors(plan_.parameters, first, count, kernels_.prepared, true, arrays.inverses);
    }
    if (arrays.scales != nullptr) {
        prepare_factors(plan_.parameters, first, count, kernels_.prepared, false, arrays.scales);
    }
    prepare_zeros(plan_.parameters, first, count, kernels_.prepared, arrays.zeros);
}

void BlockConverter::prepare(size_t first, size_t count) {
    if (first != prepared_first_ || count > prepared_count_) {
        fill(of_blocks_, first, count);
        prepared_first_ = first;
        prepared_count_ = count;
    }
}

void BlockConverter::repeat(const Arrays& from, size_t k, size_t begin, size_t count) {
    const PreparedFor& p = kernels_.prepared;
    if (arrays_.inverses != nullptr) {
        repeat_entry(from.inverses, k, arrays_.inverses, begin, count, p.factor_bytes());
    }
    if (arrays_.scales != nullptr) {
        repeat_entry(from.scales, k, arrays_.scales, begin, count, p.factor_bytes());
    }
    repeat_entry(from.zeros, k, arrays_.zeros, begin, count, p.zero_bytes());
}

void BlockConverter::expand(const Panel& panel, size_t block) {
    prepare(panel.parameter, panel.blocks(block));
    for_blocks(panel, block, [&](size_t first, size_t count, size_t k) { repeat(of_blocks_, k, first, count); });
}

void BlockConverter::expand(size_t begin, size_t count, size_t parameter) {
    prepare(parameter, 1);
    repeat(of_blocks_, 0, begin, count);
}

void BlockConverter::convert(const unsigned char* in, unsigned char* out, size_t n, uint64_t index, size_t block,
                             size_t first) {
    PanelArgs panel = common_;
    panel.in = in;
    panel.out = out;
    panel.n = n;
    panel.block = block;
    panel.zeros = arrays_.zeros + first * kernels_.prepared.zero_bytes();
    const size_t factor = first * kernels_.prepared.factor_bytes();
    switch (plan_.operation) {
        case BlockOperation::dequantize:
            panel.factors = arrays_.scales + factor;
            dequantize(panel);
            break;
        case BlockOperation::quantize_dequantize: {
            PanelArgs to_codes = panel;
            to_codes.out = codes_;
            to_codes.non_temporal = false;
            to_codes.factors = arrays_.inverses + factor;
            quantize(to_codes, index);
            panel.in = codes_;
            panel.factors = arrays_.scales + factor;
            panel.prefetch_distance = 0;
            dequantize(panel);
            break;
        }
        default: panel.factors = arrays_.inverses + factor; quantize(panel, index);
    }
}

void BlockConverter::settle(const Panel& panel, size_t block, const BlockFinder& finder, Fault& fault) {
    const bool are_prepared = finder.settle(panel.parameter, panel.blocks(block),
                                            reinterpret_cast<float*>(arrays_.inverses), arrays_.zeros, fault);
    if (!are_prepared && fault.status == PIQUANT_OK && plan_.operation == BlockOperation::quantize_dynamic) {
        prepare(panel.parameter, panel.blocks(block));
    }
}

void BlockConverter::quantize_found(const Panel& panel, size_t block) {
    for (size_t i = 0; i < panel.n; i += most_elements_) {
        convert(panel.in + bytes_for(i, info(plan_.in).format), panel.out + bytes_for(i, info(plan_.out).format),
                std::min(most_elements_, panel.n - i), panel.index + i, block);
    }
}

void BlockConverter::quantize_while_reading(const Panel& panel, size_t block, BlockFinder& finder, const Panel& next) {
    if (kernels_.dynamic == nullptr || block % kernels_.granule != 0 || panel.n != next.n || panel.n % block != 0) {
        quantize_found(panel, block);
        finder.read(next);
        return;
    }
    PanelArgs codes = common_;
    codes.in = panel.in;
    codes.out = panel.out;
    codes.n = panel.n;
    codes.block = block;
    codes.factors = arrays_.inverses;
    codes.zeros = arrays_.zeros;
    finder.read(next, codes, kernels_.dynamic);
    clear_nan_blocks(codes);
}

void BlockConverter::quantize(const PanelArgs& panel, uint64_t index) {
    if (kernels_.quantize_block != nullptr && panel.block >= long_block) {
        block_by_block(panel, kernels_.quantize_block, index);
        clear_nan_blocks(panel);
        return;
    }
    PanelArgs args = panel;
    if (plan_.uses_words) {
        kernels_.words(plan_.options.seed, plan_.options.offset + index, args.n, words_);
        args.words = words_;
    }
    kernels_.quantize(args);
    clear_nan_blocks(panel);
}

// Kernels make quant_min of them.
void BlockConverter::clear_nan_blocks(const PanelArgs& panel) const {
    if (!plan_.options.nan_scales) {
        return;
    }
    for (size_t first = 0, k = 0; first < panel.n; first += panel.block, ++k) {
        const bool is_nan = kernels_.prepared.is_wide ? std::isnan(static_cast<const double*>(panel.factors)[k])
                                                      : std::isnan(static_cast<const float*>(panel.factors)[k]);
        if (is_nan) {
            drain_if(panel.non_temporal);
            clear_codes(static_cast<unsigned char*>(panel.out), first, std::min(panel.block, panel.n - first),
                        info(kernels_.code).bits);
        }
    }
}

void BlockConverter::dequantize(const PanelArgs& panel) {
    if (!plan_.options.nan_scales || plan_.options.reduce == Reduce::set) {
        multiply(panel);
    } else if (kernels_.prepared.is_wide) {
        add_beside_nans<double>(panel);
    } else {
        add_beside_nans<float>(panel);
    }
}

// Of two NaNs a sum keeps the one that comes first among its operands, and compilers change their order. So blocks of NaN get
// their results before the others, and then have zeros added.
template <class T>
void BlockConverter::add_beside_nans(const PanelArgs& panel) {
    T* const factors = static_cast<T*>(const_cast<void*>(panel.factors));  // our own
    const size_t blocks = (panel.n + panel.block - 1) / panel.block;
    for (size_t k = 0, first = 0; k < blocks; ++k, first += panel.block) {
        if (std::isnan(factors[k])) {
            put_nans(plan_.float_type, static_cast<unsigned char*>(panel.out), first,
                     std::min(panel.block, panel.n - first));
            factors[k] = 0;  // as no scale is
        }
    }
    multiply(panel);
    std::replace(factors, factors + blocks, T{0}, default_nan<T>());
}

void BlockConverter::multiply(const PanelArgs& panel) {
    if (kernels_.dequantize_block != nullptr && panel.block >= long_block) {
        block_by_block(panel, kernels_.dequantize_block, 0);
    } else {
        kernels_.dequantize(panel);
    }
}

void BlockConverter::block_by_block(const PanelArgs& panel, Kernel kernel, uint64_t index) {
    const bool to_codes = kernel == kernels_.quantize_block;
    const Format in = to_codes ? info(plan_.float_type).format : info(kernels_.code).format;
    const Format out = to_codes ? info(kernels_.code).format : info(plan_.float_type).format;
    const PreparedFor& p = kernels_.prepared;
    KernelArgs args{};
    args.quant_min = panel.quant_min;
    args.quant_max = panel.quant_max;
    args.is_signed = panel.is_signed;
    args.seed = plan_.options.seed;
    args.non_temporal = panel.non_temporal;
    args.prefetch_distance = panel.prefetch_distance;
    for (size_t first = 0, k = 0; first < panel.n; first += args.n, ++k) {
        args.in = static_cast<const unsigned char*>(panel.in) + bytes_for(first, in);
        args.out = static_cast<unsigned char*>(panel.out) + bytes_for(first, out);
        args.n = std::min(panel.block, panel.n - first);
        args.offset = plan_.options.offset + index + first;
        const double factor = p.is_wide ? static_cast<const double*>(panel.factors)[k]
                                        : static_cast<double>(static_cast<const float*>(panel.factors)[k]);
        args.scale = factor;
        args.inverse = factor;
        args.zero_point = p.is_raised ? static_cast<const uint8_t*>(panel.zeros)[k] + p.lowest
                                      : static_cast<const uint64_t*>(panel.zeros)[k];
        kernel(args);
    }
}

}  // namespace piquant
