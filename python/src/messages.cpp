#include "context.hpp"
#include "device.hpp"
#include "unlocked.hpp"

// Blocks of piquant.distributed's messages: n elements side by side, symmetric, with float32 scales, of which a NaN stands
// for a block that is not finite. Memory is given by its addresses, for which the caller vouches: of the process, or of the
// device on which a face carries calls out.
namespace piquant_python {
namespace {

// A call on these blocks. Not to be copied: what it is told holds pointers to what it has.
class MessageCall {
public:
    MessageCall(nb::handle ctx, const Face* face, int device, std::size_t n, std::size_t block_size)
        : context_(context_of(ctx)), face_(face), device_(device), n_(n), block_size_(block_size) {
        options_.threads = ctx.is_none() ? threads_of_torch() : nullptr;
        options_.symmetric = 1;
        options_.nan_scales = 1;
    }
    MessageCall(const MessageCall&) = delete;
    MessageCall& operator=(const MessageCall&) = delete;

    piquant_options_t& options() { return options_; }
    // Runs function(context, blocks, options).
    template <class Function>
    void run(int float_dtype, int code_dtype, const Function& function) {
        const auto call_with = [&](piquant_context_t* context) { return function(context, &blocks_, &options_); };
        piquant_status_t status = PIQUANT_OK;
        if (n_ != 0 && face_ != nullptr) {
            const OnDevice running(*face_, device_);
            status = call_with(running.context());
        } else if (n_ != 0) {
            status = run_unlocked(n_, [&] { return call_with(context_.get()); });
        }
        Call call;
        call.float_dtype = float_dtype;
        call.code_dtype = code_dtype;
        call.scale_given = call.zero_point_given = call.quant_min = call.quant_max = nb::handle(Py_None);
        check(status, call);
    }

private:
    const Context& context_;
    const Face* face_;  // null for the memory of the process
    int device_;
    std::size_t n_;
    std::size_t block_size_;
    piquant_options_t options_ = PIQUANT_OPTIONS_INIT;
    piquant_blocks_t blocks_{sizeof(piquant_blocks_t), 1, &n_, &block_size_, PIQUANT_FLOAT32, PIQUANT_INT8, 0};
};

void encode_blocks(nb::handle ctx, std::uintptr_t in, int float_dtype, std::uintptr_t scales, std::uintptr_t codes,
                   int code_dtype, std::size_t n, std::size_t block_size, bool stochastic, std::uint64_t seed,
                   std::uint64_t offset, const Face* face, int device) {
    MessageCall message(ctx, face, device, n, block_size);
    piquant_options_t& options = message.options();
    options.round_mode = stochastic ? PIQUANT_STOCHASTIC : PIQUANT_NEAREST;
    options.seed = seed;
    options.offset = offset;
    // As many codes below zero as above it: rounded stochastically, the lowest number could take the one more.
    options.has_quant_min = 1;
    std::int64_t highest = 0;
    (void)piquant_dtype_range(static_cast<piquant_dtype_t>(code_dtype), &options.quant_min, &highest);
    options.quant_min = -highest;
    message.run(float_dtype, code_dtype, [&](auto* context, const auto* blocks, const auto* told) {
        return piquant_quantize_dynamic(context, reinterpret_cast<const void*>(in),
                                        static_cast<piquant_dtype_t>(float_dtype), reinterpret_cast<void*>(codes),
                                        static_cast<piquant_dtype_t>(code_dtype), blocks, told,
                                        reinterpret_cast<void*>(scales), nullptr, nullptr);
    });
}

void decode_blocks(nb::handle ctx, std::uintptr_t scales, std::uintptr_t codes, int code_dtype, std::uintptr_t out,
                   int float_dtype, std::size_t n, std::size_t block_size, bool add, const Face* face, int device) {
    MessageCall message(ctx, face, device, n, block_size);
    message.options().reduce_op = add ? PIQUANT_ADD : PIQUANT_SET;
    message.run(float_dtype, code_dtype, [&](auto* context, const auto* blocks, const auto* told) {
        return piquant_dequantize_blocks(context, reinterpret_cast<const void*>(codes),
                                         static_cast<piquant_dtype_t>(code_dtype), reinterpret_cast<void*>(out),
                                         static_cast<piquant_dtype_t>(float_dtype), blocks,
                                         reinterpret_cast<const void*>(scales), nullptr, told, nullptr);
    });
}

}  // namespace

void init_messages(nb::module_& m) {
    using namespace nb::literals;
    constexpr const char* doc =
        "Of the messages of piquant.distributed; arrays are addresses, dtypes numbers of piquant_dtype_t. With a face "
        "they are on its device of this number.";
    m.def("encode_blocks", &encode_blocks, "ctx"_a.none(), "in_address"_a, "float_dtype"_a, "scales_address"_a,
          "codes_address"_a, "code_dtype"_a, "n"_a, "block_size"_a, "stochastic"_a, "seed"_a, "offset"_a,
          "face"_a.none() = nb::none(), "device"_a = 0, doc);
    m.def("decode_blocks", &decode_blocks, "ctx"_a.none(), "scales_address"_a, "codes_address"_a, "code_dtype"_a,
          "out_address"_a, "float_dtype"_a, "n"_a, "block_size"_a, "add"_a, "face"_a.none() = nb::none(),
          "device"_a = 0, doc);
}

}  // namespace piquant_python
