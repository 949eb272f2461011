#include "blocks.hpp"

#include <string>

#include "match.hpp"

namespace piquant_python {
namespace {

using namespace std::string_literals;

// What `block_size` may hold, as it is mostly spelled; false for others, and for what is wrong.
bool read_size(PyObject* value, std::int64_t& size) {
    if (PyLong_CheckExact(value) == 0) {
        return false;
    }
    int overflow = 0;
    size = PyLong_AsLongLongAndOverflow(value, &overflow);
    return overflow == 0 && (size >= 1 || size == -1);
}

// Has a function of _shapes.py say what is wrong, by the rule that it shares with `cut` and `infer`.
[[noreturn]] void refuse(const char* function, std::initializer_list<nb::handle> arguments) {
    (void)call(nb::module_::import_("piquant._shapes").attr(function), arguments);
    throw nb::value_error("block_size and the shapes of the parameters do not fit the data");
}

// An attribute; none where there is none, or where it cannot be had.
nb::object attribute(nb::handle value, const char* name) {
    nb::object found = nb::steal(PyObject_GetAttrString(value.ptr(), name));
    if (!found.is_valid()) {
        clear_error();
        return nb::none();
    }
    return found;
}

// Whether a tensor says that it has one element. What fails when it is asked is no tensor, which others say.
bool has_one_element(nb::handle value) {
    const nb::object numel = attribute(value, "numel");
    if (PyCallable_Check(numel.ptr()) == 0) {
        return false;
    }
    const nb::object count = nb::steal(PyObject_CallNoArgs(numel.ptr()));
    const int one = count.is_valid() ? PyObject_RichCompareBool(count.ptr(), nb::int_(1).ptr(), Py_EQ) : -1;
    if (one < 0) {
        clear_error();
    }
    return one == 1;
}

}  // namespace

bool is_on_device(nb::handle value) {
    return nb::getattr(value, "is_cuda", nb::bool_(false)).ptr() == Py_True;
}

bool is_array(const Face& face, nb::handle value, bool one_is_number) {
    // What has no length is a number, or is to be refused as one. The attribute would tell, too, but takes numpy's scalars
    // longer than all else here.
    const PyTypeObject* const type = Py_TYPE(value.ptr());
    const bool has_length = (type->tp_as_mapping != nullptr && type->tp_as_mapping->mp_length != nullptr) ||
                            (type->tp_as_sequence != nullptr && type->tp_as_sequence->sq_length != nullptr);
    if (!has_length) {
        return false;
    }
    const nb::object ndim = attribute(value, "ndim");
    if (ndim.is_none()) {
        return face.flat_outputs && PyObject_CheckBuffer(value.ptr()) != 0;
    }
    const long dimensions = PyLong_AsLong(ndim.ptr());
    if (PyErr_Occurred() != nullptr) {
        clear_error();
        return false;
    }
    if (dimensions == 0 || !one_is_number || !face.one_is_number) {
        return dimensions != 0;
    }
    return !has_one_element(value);
}

Blocks::Blocks(nb::handle block_size) {
    if (block_size.is_none()) {
        return;
    }
    spelled_ = PyLong_CheckExact(block_size.ptr()) != 0 ? nb::make_tuple(block_size) : nb::borrow(block_size);
    if (!read_sizes()) {
        spelled_ = call(nb::module_::import_("piquant._dtypes").attr("read_block_size"), {block_size});
        (void)read_sizes();
    }
}

bool Blocks::read_sizes() {
    if (PyTuple_CheckExact(spelled_.ptr()) == 0 || nb::len(spelled_) > PIQUANT_MAX_BLOCK_RANK) {
        return false;
    }
    entries_ = nb::len(spelled_);
    for (std::size_t i = 0; i < entries_; ++i) {
        if (!read_size(PyTuple_GET_ITEM(spelled_.ptr(), static_cast<Py_ssize_t>(i)), entry_[i])) {
            return false;
        }
    }
    return true;
}

void Blocks::read_params(const Face& face, nb::handle scale_given, nb::handle zero_point_given, nb::handle scale_dtype,
                         Call& call) {
    call.scale_given = scale_given;
    call.zero_point_given = zero_point_given;
    scale_given_ = scale_given;
    if (!scale_dtype.is_none()) {
        scale_told_ = &face.dtype(scale_dtype, "scale_dtype", true);
    }
    if (is_array(face, zero_point_given, false)) {
        zero_point_given_ = zero_point_given;
    } else {
        zero_index_ = as_index(zero_point_given, "zero_point");
    }
}

void Blocks::cut(const Shape& elements, Call& call) {
    call.blocks = this;
    // Right ones, whatever those of blocks are: what else there is can be checked with them.
    call.scale = 1;
    std::int64_t highest = 0;
    (void)piquant_dtype_range(c_dtype(call.code_dtype), &call.zero_point, &highest);
    rank_ = elements.rank;
    if (rank_ > PIQUANT_MAX_BLOCK_RANK) {
        throw nb::value_error((call.input + " must have at most "s + std::to_string(PIQUANT_MAX_BLOCK_RANK) +
                               " dimensions where blocks have parameters, got " + std::to_string(rank_))
                                  .c_str());
    }
    if (entries_ > rank_) {
        refuse("full_block_size", {spelled_, nb::int_(rank_), nb::str(call.input)});
    }
    const bool whole = !spelled_.is_valid() && entries_ == 0;
    count_ = 1;
    for (std::size_t d = 0; d < rank_; ++d) {
        const std::size_t n = elements.sizes[d];
        const std::size_t before = rank_ - entries_;
        const std::int64_t given = whole ? -1 : d < before ? 1 : entry_[d - before];
        const std::size_t most = n == 0 ? 1 : n;
        shape_[d] = n;
        size_[d] = given == -1 || static_cast<std::size_t>(given) > most ? most : static_cast<std::size_t>(given);
        grid_[d] = n == 0 ? 0 : (n - 1) / size_[d] + 1;
        count_ *= grid_[d];
    }
    blocks_.rank = rank_;
    if (rank_ == 0) {  // to the C API, one element along a dimension
        blocks_.rank = shape_[0] = size_[0] = 1;
    }
}

Shape Blocks::grid() const {
    Shape of;
    of.rank = rank_;
    for (std::size_t d = 0; d < rank_; ++d) {
        of.sizes[d] = grid_[d];
    }
    return of;
}

Shape Blocks::sizes() const {
    Shape of;
    of.rank = rank_;
    for (std::size_t d = 0; d < rank_; ++d) {
        of.sizes[d] = size_[d];
    }
    return of;
}

// Of scales without block sizes: each dimension is the whole, or single elements.
void Blocks::infer(const Shape& elements, const Call& call) {
    // A number, in whatever form; or more dimensions than there may be, which cut() says.
    if (scale.n == 1 || elements.rank > PIQUANT_MAX_BLOCK_RANK) {
        return;
    }
    bool right = scale.rank == elements.rank && scale.rank <= PIQUANT_MAX_BLOCK_RANK;
    for (std::size_t d = 0; right && d < scale.rank; ++d) {
        right = scale.shape[d] == 1 || scale.shape[d] == elements.sizes[d];
        entry_[d] = scale.shape[d] == 1 ? -1 : 1;
    }
    if (!right) {
        refuse("inferred_block_size", {Shape(scale).tuple(), elements.tuple(), nb::str(call.input)});
    }
    entries_ = scale.rank;
}

void Blocks::match(const Face& face, const View& view, const char* argument, const Shape& elements, const Call& call) {
    const bool flat = face.flat_outputs && spelled_.is_valid() && view.rank == 1;
    const bool one = !spelled_.is_valid() && view.n == 1 && count_ <= 1;
    if (!view.has_shape(grid_, rank_) && !one && !(flat && view.n == count_) && !repeats_along_nothing(view)) {
        const nb::object sizes = spelled_.is_valid() ? spelled_ : this->sizes().tuple();
        refuse("check_grid", {nb::str(argument), Shape(view).tuple(), elements.tuple(), sizes, nb::str(call.input)});
    }
}

// Of data without elements: a size of 1 stands for 0 blocks, as in broadcasting.
bool Blocks::repeats_along_nothing(const View& view) const {
    bool right = !spelled_.is_valid() && count_ == 0 && view.rank == rank_;
    for (std::size_t d = 0; right && d < rank_; ++d) {
        right = view.shape[d] == grid_[d] || (grid_[d] == 0 && view.shape[d] == 1);
    }
    return right;
}

void Blocks::find_params(const Face& face, const Shape& elements, Call& call) {
    const Wanted scales{Role::scales, scale_told_};
    if (PyFloat_Check(scale_given_.ptr()) || PyLong_Check(scale_given_.ptr())) {
        cut(elements, call);
        scale.rank = 0;
        match(face, scale, "scale", elements, call);
    }
    face.view(scale_given_, "scale", scales, scale);
    face.match_device(scale, "scale", call);
    if (!spelled_.is_valid()) {
        infer(elements, call);
    }
    cut(elements, call);
    match(face, scale, "scale", elements, call);
    if (!scale.contiguous) {
        face.make_contiguous(scale_given_, "scale", scales, scale);
    }
    blocks_.scale_dtype = c_dtype(scale.type->id);
    if (zero_index_.is_valid()) {
        call.zero_point = code_bits(zero_index_, "zero_point", call.code_dtype, PIQUANT_ERROR_ZERO_POINT, call);
        blocks_.zero_point = call.zero_point;
        return;
    }
    const Wanted zero_points{Role::zero_points};
    face.view(zero_point_given_, "zero_point", zero_points, zero_point);
    face.match_device(zero_point, "zero_point", call);
    if (zero_point.type->carries_params) {
        throw nb::type_error(
            ("zero_point must hold integers of 8 bits or more, got "s + nb::str(zero_point.type->storage).c_str())
                .c_str());
    }
    match(face, zero_point, "zero_point", elements, call);
    if (!zero_point.contiguous) {
        face.make_contiguous(zero_point_given_, "zero_point", zero_points, zero_point);
    }
    blocks_.zero_point_dtype = c_dtype(zero_point.type->id);
}

void Blocks::make_params(const Face& face, nb::handle like, const DType& scale_dtype, const DType* zero_dtype,
                         nb::handle given_scale, nb::handle given_zero_point, Call& call) {
    made_scale = make(face, scale, like, scale_dtype, given_scale, "the scale of out", call);
    blocks_.scale_dtype = c_dtype(scale_dtype.id);
    const bool numbered = PyLong_Check(given_zero_point.ptr()) != 0;
    if (zero_dtype != nullptr && numbered) {
        throw nb::value_error(
            ("out must have zero points of blocks for parameters that are not symmetric, got " + text(given_zero_point))
                .c_str());
    }
    if (zero_dtype != nullptr) {
        made_zero_point = make(face, zero_point, like, *zero_dtype, given_zero_point, "the zero_point of out", call);
        blocks_.zero_point_dtype = c_dtype(zero_dtype->id);
        return;
    }
    if (!given_zero_point.is_none() && !numbered) {
        throw nb::value_error("out must have an int as its zero point for symmetric parameters, got an array of them");
    }
    made_zero_point = nb::int_(symmetric_zero_point(call.code_dtype));
}

nb::object Blocks::make(const Face& face, View& view, nb::handle like, const DType& dtype, nb::handle given,
                        const char* argument, const Call& call) {
    nb::object array = nb::borrow(given);
    if (given.is_none()) {
        const std::size_t bytes = count_ * piquant_size(c_dtype(dtype.stored), 1);
        array = face.new_output(like, false, dtype, grid().tuple(), bytes, call);
    }
    face.view(array, argument, {Role::output, &dtype}, view);
    face.match_device(view, argument, call);
    if (!given.is_none() && !view.contiguous) {
        throw nb::value_error((argument + " must be contiguous, got "s + layout_words(view)).c_str());
    }
    const bool flat = face.flat_outputs && view.n * view.item == count_ * piquant_size(c_dtype(dtype.stored), 1);
    if (!flat && !view.has_shape(grid_, rank_)) {
        throw nb::value_error((argument + " must have shape "s + shape_words(grid_, rank_) + ", got " +
                               shape_words(view.shape, view.rank))
                                  .c_str());
    }
    return array;
}

void Blocks::refuse_overlap_with_copied(const View& in, const Call& call) const {
    for (const View* const view : {&scale, &zero_point}) {
        if (in.original.end != 0 && view->data != nullptr && overlap(in.original, view->extent())) {
            throw_status(PIQUANT_ERROR_OVERLAP, call);
        }
    }
}

void Blocks::refuse_overlap(const View& out, const Call& call) const {
    for (const View* const view : {&scale, &zero_point}) {
        if (view->original.end != 0 && overlap(view->original, out.extent())) {
            throw_status(PIQUANT_ERROR_OVERLAP, call);
        }
    }
}

std::string Blocks::place() const {
    std::size_t index[PIQUANT_MAX_BLOCK_RANK];
    std::size_t rest = bad;
    for (std::size_t d = rank_; d-- > 0;) {
        index[d] = rest % grid_[d];
        rest /= grid_[d];
    }
    return " in block " + shape_words(index, rank_);
}

std::string shown_element(const View& view, std::size_t index) {
    const auto* const bytes = static_cast<const char*>(view.data) + index * view.item;
    const char* const name = piquant_dtype_name(c_dtype(view.type->id));
    return text(
        call(nb::module_::import_("piquant._dtypes").attr("element"), {nb::str(name), nb::bytes(bytes, view.item)}));
}

}  // namespace piquant_python
