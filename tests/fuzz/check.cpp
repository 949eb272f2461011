#include "check.hpp"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "calls.hpp"
#include "check_blocks.hpp"
#include "guarded.hpp"
#include "oracle.hpp"

namespace piquant::fuzz {
namespace {

piquant_status_t call(const Case& c, piquant_context_t* context, const void* in, void* out, double* scale,
                      int64_t* zero_point) {
    const GivenOptions given(c);
    const piquant_options_t* options = given.pointer();
    const piquant_dtype_t real = dtype(c.real);
    const piquant_dtype_t code = dtype(c.code);
    switch (c.operation) {
        case Operation::quantize:
            return piquant_quantize(context, in, real, out, code, c.n, c.scale, c.zero_point, options);
        case Operation::dequantize:
            return piquant_dequantize(context, in, code, out, real, c.n, c.scale, c.zero_point, options);
        case Operation::quantize_dequantize:
            return piquant_quantize_dequantize(context, in, out, real, code, c.n, c.scale, c.zero_point, options);
        default: return piquant_compute_quant_params(context, in, real, code, c.n, options, scale, zero_point);
    }
}

// The same call on n elements side by side.
Case flat(Case c, size_t n) {
    c.options.rank = 0;
    c.layout = {};
    c.n = n;
    return c;
}

// The same in parts: a slice with its offset gives the slice of the whole.
std::string parts_differ(const Case& c, piquant_context_t* context, const unsigned char* in, const Bytes& before,
                         const unsigned char* out) {
    Bytes parts = before;
    const size_t cut = c.n / 3 / 4 * 4;  // whole bytes of codes on either side
    for (const auto& [begin, end] : {std::pair{size_t{0}, cut}, std::pair{cut, c.n}}) {
        Case part = c;
        part.n = end - begin;
        part.options.offset += begin;
        call(part, context, in + piquant_size(dtype(in_dtype(c)), begin),
             parts.data() + piquant_size(dtype(out_dtype(c)), begin), nullptr, nullptr);
    }
    return std::equal(parts.begin(), parts.end(), out) ? "" : "two parts differ from the whole";
}

std::string two_steps_differ(const Case& c, piquant_context_t* context, const unsigned char* in, const Bytes& before,
                             const unsigned char* out) {
    Bytes codes(piquant_size(dtype(c.code), c.n));
    Bytes result = before;
    Case step = c;
    step.operation = Operation::quantize;
    call(step, context, in, codes.data(), nullptr, nullptr);
    step.operation = Operation::dequantize;
    call(step, context, codes.data(), result.data(), nullptr, nullptr);
    return std::equal(result.begin(), result.end(), out) ? "" : "quantize_dequantize differs from the two calls";
}

// Data quantized with their own parameters stay within the documented bound.
std::string bound_exceeded(Case c, piquant_context_t* context, const unsigned char* in, double scale,
                           int64_t zero_point) {
    c.operation = Operation::quantize_dequantize;
    c.scale = scale;
    c.zero_point = zero_point;
    c.options.round_mode = PIQUANT_NEAREST;
    c.options.reduce_op = PIQUANT_SET;
    Bytes back(piquant_size(dtype(c.real), c.n));
    if (call(c, context, in, back.data(), nullptr, nullptr) != PIQUANT_OK) {
        return "computed parameters are refused";
    }
    double lo = 0;
    double hi = 0;
    for (size_t i = 0; i < c.n; ++i) {
        lo = std::min(lo, real_at(in, c.real, i));
        hi = std::max(hi, real_at(in, c.real, i));
    }
    const double bound = error_bound(c.real, scale, lo, hi);
    const double inverse_normal = c.real == PIQUANT_FLOAT64 ? 0x1p1022 : 0x1p126;
    for (size_t i = 0; i < c.n && scale <= inverse_normal && std::isfinite(bound); ++i) {
        const double x = real_at(back.data(), c.real, i);
        const double error = std::fabs(x - real_at(in, c.real, i));
        if (std::isfinite(x) && error > bound * (1 + 0x1p-40)) {
            std::ostringstream words;
            words << "element " << i << " is off by " << error << ", bound " << bound;
            return words.str();
        }
    }
    return "";
}

// Whether the arrays of a call can be told from its arguments.
bool has_arrays(const Case& c) {
    return piquant_size(dtype(c.real), 1) != 0 && piquant_size(dtype(c.code), 1) != 0 && c.n != 0 &&
           layout_error(c) != PIQUANT_ERROR_SHAPE && layout_error(c) != PIQUANT_ERROR_LENGTH;
}

std::string check_parameters(const Case& c, piquant_context_t* context, Guarded& memory) {
    PlacedArray placed(has_arrays(c) && c.real <= PIQUANT_FLOAT64, c, input_of);
    placed.drop_repetitions();
    placed.put(memory.place(placed.bytes(), c.in_at_end, c.in_shift));
    placed.fill_with(c, 0);
    const unsigned char* const in = placed.first();
    memory.remember();
    const void* given = c.pointers == Pointers::null_in ? nullptr : in;
    constexpr double no_scale = -7;
    constexpr int64_t no_zero = 77;
    double scale = no_scale;
    int64_t zero_point = no_zero;
    const piquant_status_t status = call(c, context, given, nullptr, &scale, &zero_point);
    if (!memory.unchanged()) {
        return "the input was written to";
    }
    if (status != PIQUANT_OK && (scale != no_scale || zero_point != no_zero)) {
        return "an error changed the results";
    }
    const std::vector<piquant_status_t> errors = deserved(c, false);
    if (!errors.empty()) {
        return std::find(errors.begin(), errors.end(), status) != errors.end() ? "" : "the wrong status";
    }
    double expected_scale = no_scale;
    int64_t expected_zero = no_zero;
    const Bytes dense = placed.elements();
    const Case side_by_side = flat(c, elements_of(placed.array()));
    if (call(side_by_side, reference(), dense.data(), nullptr, &expected_scale, &expected_zero) != status ||
        expected_scale != scale || expected_zero != zero_point) {
        return "the scalar instruction set finds other parameters";
    }
    const std::string wrong = wrong_parameters(side_by_side, dense.data(), status, scale, zero_point);
    return !wrong.empty() || status != PIQUANT_OK
               ? wrong
               : bound_exceeded(side_by_side, context, dense.data(), scale, zero_point);
}

std::string check_transform(Case c, piquant_context_t* context, Guarded& in_memory, Guarded& out_memory) {
    const bool overlapping = c.pointers == Pointers::overlapping;
    if (overlapping && c.n_fits && c.options.rank == 0) {
        c.n %= 1100;
    }
    const bool known = has_arrays(c);
    PlacedArray in(known, c, input_of);
    PlacedArray out(known, c, output_of);
    // An overlapping output lies in the input's memory, at most a byte away from it.
    const size_t room = overlapping ? out.bytes() + 1 : 0;
    if (in.bytes() + 2 * room > arena - 256) {
        return "";
    }
    in.put(in_memory.place(in.bytes() + 2 * room, c.in_at_end, c.in_shift) + room);
    out.put(out_memory.place(out.bytes(), c.out_at_end, c.out_shift));
    if (overlapping) {
        const auto span = static_cast<int64_t>(in.bytes() + out.bytes() + 3);
        out.put(in.lowest() - room + (c.distance % span + span) % span);
        const ptrdiff_t moved = in.first() - out.first();
        const ptrdiff_t lowest = out.lowest() - (in.lowest() - room) + moved;
        if (c.layout.same_place && lowest >= 0 && static_cast<size_t>(lowest) <= in.bytes() + room + 1) {
            out.put(out.lowest() + moved);
        }
    }
    in.fill_with(c, 0);
    if (!overlapping) {
        out.fill_with(c, 1);
    }
    in_memory.remember();
    out_memory.remember();
    const Bytes before = out.elements();
    const Bytes input = in.elements();
    const ptrdiff_t distance = out.first() - in.first();
    const bool in_place =
        known && c.operation == Operation::quantize_dequantize && are_same(in.array(), out.array(), distance);
    const bool overlap = known && overlapping && !in_place && share_bytes(in.array(), out.array(), distance);
    const bool seen_apart = !known || !overlapping || in_place || are_seen_apart(in.array(), out.array(), distance);
    if (overlap && seen_apart) {
        return "this test takes for apart what shares bytes";
    }

    const void* given_in = c.pointers == Pointers::null_in ? nullptr : in.first();
    void* given_out = c.pointers == Pointers::null_out ? nullptr : out.first();
    const piquant_status_t status =
        call(c, c.pointers == Pointers::null_context ? nullptr : context, given_in, given_out, nullptr, nullptr);

    std::vector<piquant_status_t> errors = deserved(c, overlap);
    const bool refused =
        errors.empty() && !seen_apart && status == PIQUANT_ERROR_OVERLAP;  // for what takes more to see
    const bool right = errors.empty() ? status == PIQUANT_OK || refused
                                      : std::find(errors.begin(), errors.end(), status) != errors.end();
    if (!right) {
        return std::string("the wrong status: ") + piquant_status_string(status);
    }
    const bool written = status == PIQUANT_OK && given_out != nullptr && known;
    const std::vector<bool> owned = written ? owned_bytes(out.array()) : std::vector<bool>();
    if (!in_memory.unchanged_but_for(out.lowest(), owned) || !out_memory.unchanged_but_for(out.lowest(), owned)) {
        return status == PIQUANT_OK ? "bytes outside of the output were written" : "an error changed the output";
    }
    if (!written) {
        return "";
    }
    const Case dense = flat(c, c.n);
    const Bytes result = out.elements();
    Bytes expected = before;
    if (call(dense, reference(), input.data(), expected.data(), nullptr, nullptr) != PIQUANT_OK) {
        return "the scalar instruction set refuses the call";
    }
    if (expected != result) {
        return "the scalar instruction set gives other bytes";
    }
    if (out.array().packed && !rows_are_padded(out.array(), out.first())) {
        return "a row's last byte is not padded with zeros";
    }
    std::string wrong = wrong_elements(dense, input.data(), before.data(), result.data(), 24);
    if (wrong.empty() && c.n <= 1100) {
        const bool slices = c.options.rank == 0 && (c.has_options || c.operation == Operation::dequantize);
        wrong = slices ? parts_differ(dense, context, input.data(), before, result.data()) : "";
        if (wrong.empty() && c.operation == Operation::quantize_dequantize) {
            wrong = two_steps_differ(dense, context, input.data(), before, result.data());
        }
    }
    return wrong;
}

// Contexts of their own: any number of threads, any name of an instruction set.
std::string check_settings(const Case& c) {
    const size_t threads = c.n_fits ? c.n : SIZE_MAX - c.n;
    piquant_context_t* context = nullptr;
    piquant_status_t status = piquant_context_create(&context, threads);
    if ((status == PIQUANT_OK) != (threads <= PIQUANT_MAX_THREADS) || (context != nullptr) != (status == PIQUANT_OK)) {
        return "a context of " + std::to_string(threads) + " threads: " + piquant_status_string(status);
    }
    if (status != PIQUANT_OK) {
        return status == PIQUANT_ERROR_NUM_THREADS ? "" : "the wrong status";
    }
    const std::string name(c.fill.begin(),
                           c.fill.begin() + static_cast<ptrdiff_t>(std::min<size_t>(c.fill.size(), 20)));
    const char* before = nullptr;
    const char* after = nullptr;
    piquant_context_get_isa(context, &before);
    status = piquant_context_set_isa(context, name.c_str());
    piquant_context_get_isa(context, &after);
    bool known = false;
    for (size_t i = 0; const char* available = piquant_available_isa(i); ++i) {
        known = known || std::string(available) == name.c_str();
    }
    std::string wrong;
    if ((status == PIQUANT_OK) != known || std::string(after) != (known ? name.c_str() : before)) {
        wrong = "instruction set " + name + ": " + piquant_status_string(status);
    }
    size_t count = 0;
    piquant_context_get_num_threads(context, &count);
    if (threads != 0 && count != threads) {
        wrong = "the context has another number of threads";
    }
    if (piquant_status_string(static_cast<piquant_status_t>(c.real)) == nullptr) {
        wrong = "a status without words";
    }
    return piquant_context_destroy(context) == PIQUANT_OK ? wrong : "the context is busy";
}

}  // namespace

std::string broken_promise(const unsigned char* data, size_t size) {
    static Guarded in_memory(arena);
    static Guarded out_memory(arena);
    const Case c = decode(data, size);
    if (c.operation == Operation::settings) {
        return check_settings(c);
    }
    if (!c.blocks.exist && has_arrays(c) && is_too_large(c, arena / 2)) {
        return "";
    }
    piquant_context_t* context = prepared(c);
    std::string wrong = c.blocks.exist ? wrong_with_blocks(c, context, in_memory, out_memory)
                        : c.operation == Operation::compute_quant_params
                            ? check_parameters(c, c.pointers == Pointers::null_context ? nullptr : context, in_memory)
                            : check_transform(c, context, in_memory, out_memory);
    if (!wrong.empty()) {
        const char* isa = nullptr;
        piquant_context_get_isa(context, &isa);
        std::ostringstream words;
        words << wrong << " (operation " << static_cast<int>(c.operation) << ", dtypes " << c.real << " " << c.code
              << ", n " << c.n << ", " << isa << ", threads " << c.threads << ", scale " << c.scale << ", zero point "
              << c.zero_point;
        for (size_t d = 0; d < c.layout.shape.size() && d < 6; ++d) {
            words << " [" << c.layout.shape[d] << ": " << c.layout.in_strides[d] << ", " << c.layout.out_strides[d]
                  << "]";
        }
        words << ", rank " << c.layout.shape.size();
        for (const size_t& along : c.blocks.block_size) {
            words << (&along == c.blocks.block_size.data() ? ", blocks of " : " x ") << along;
        }
        words << ")";
        wrong = words.str();
    }
    return wrong;
}

}  // namespace piquant::fuzz
