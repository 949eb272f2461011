// Scales and zero points of blocks: what a call has in place of two numbers.
#pragma once

#include "view.hpp"

namespace piquant_python {

struct Shape;

// Whether a value is an array and not a number. `one_is_number`: a tensor of one element, which converts to a number,
// counts as that.
bool is_array(const Face& face, nb::handle value, bool one_is_number);

// A tensor on a device, of which a number would have to be waited for.
bool is_on_device(nb::handle value);

// Whether a call has parameters of blocks. Most have none, and pay two comparisons for the question.
inline bool wants_blocks(const Face& face, nb::handle scale, nb::handle block_size) {
    return !block_size.is_none() ||
           (PyFloat_CheckExact(scale.ptr()) == 0 && (is_array(face, scale, true) || is_on_device(scale)));
}

// The blocks that an array is cut into, and their parameters, arrays of its rank.
class Blocks {
public:
    // Reads what is no array, before arrays are looked at.
    explicit Blocks(nb::handle block_size);
    void read_params(const Face& face, nb::handle scale, nb::handle zero_point, nb::handle scale_dtype, Call& call);

    // Cuts an array of this shape. Where no sizes were given, it is one block.
    void cut(const Shape& elements, Call& call);
    // Cuts an array as the given parameters say, and looks at these.
    void find_params(const Face& face, const Shape& elements, Call& call);
    // Looks at arrays that the call writes parameters to, or makes them. `zero_dtype`: null for no zero points.
    void make_params(const Face& face, nb::handle like, const DType& scale_dtype, const DType* zero_dtype,
                     nb::handle given_scale, nb::handle given_zero_point, Call& call);
    // The C API sees only the copy of parameters that have gaps.
    void refuse_overlap(const View& out, const Call& call) const;
    // Nor does it see data of which it is given a copy, when it writes parameters.
    void refuse_overlap_with_copied(const View& in, const Call& call) const;

    const piquant_blocks_t* described() const { return &blocks_; }
    std::size_t count() const { return count_; }
    // Sizes of a block.
    Shape sizes() const;
    // " in block (3, 0)", of the one that `bad` counts.
    std::string place() const;
    bool has_zero_points() const { return zero_point.data != nullptr; }

    View scale;
    View zero_point;  // without data where all blocks have the same
    nb::object made_scale;
    nb::object made_zero_point;
    std::size_t bad = 0;

private:
    bool read_sizes();
    void infer(const Shape& elements, const Call& call);
    bool repeats_along_nothing(const View& view) const;
    void match(const Face& face, const View& view, const char* argument, const Shape& elements, const Call& call);
    nb::object make(const Face& face, View& view, nb::handle like, const DType& dtype, nb::handle given,
                    const char* argument, const Call& call);
    Shape grid() const;

    nb::object spelled_;  // block_size as a tuple; without an object where it was not given
    std::size_t entries_ = 0;
    std::int64_t entry_[PIQUANT_MAX_BLOCK_RANK];
    nb::handle scale_given_;
    nb::handle zero_point_given_;  // without an object where all blocks have the same
    nb::object zero_index_;        // which is then this
    const DType* scale_told_ = nullptr;

    std::size_t rank_ = 0;
    std::size_t count_ = 0;
    std::size_t shape_[PIQUANT_MAX_BLOCK_RANK];
    std::size_t size_[PIQUANT_MAX_BLOCK_RANK];
    std::size_t grid_[PIQUANT_MAX_BLOCK_RANK];
    piquant_blocks_t blocks_{sizeof(piquant_blocks_t), 0, shape_, size_, PIQUANT_FLOAT32, PIQUANT_INT8, 0};
};

// An element of an array of parameters, as the words of an exception show it.
std::string shown_element(const View& view, std::size_t index);

}  // namespace piquant_python
