#include <nanobind/stl/unique_ptr.h>

#include <array>
#include <memory>

#include "module.hpp"
#include "unlocked.hpp"

#if defined(__linux__)
#include <sys/mman.h>
#endif

// Memory of large outputs that callers did not pass.
//
// What glibc's malloc allocates beyond 32 MiB goes back to the system when it is freed, and the system clears the next
// such array page by page, which takes two to four times as long as computing it. So blocks of outputs that are gone
// are kept for the next one. They are marked free meanwhile (MADV_FREE): the system takes their pages when it needs
// memory, and clears only what it took.
//
// Outputs are made and deleted by Python objects, on any thread. Where the interpreter has no lock that guards this, a
// mutex does. Who holds it neither calls the system nor lets go of the interpreter, which waits for such threads before
// os.fork(): a child finds it free.
namespace piquant_python {
namespace {

struct Block {
    void* begin;
    std::size_t bytes;
};

#if defined(__linux__) && defined(MADV_FREE)
constexpr std::size_t huge_page = std::size_t{2} << 20;
constexpr std::size_t most_kept = std::size_t{1} << 30;

void unmap(const Block& block) {
    munmap(block.begin, block.bytes);
}

// Whole huge pages, or nothing where there is no room.
Block map(std::size_t bytes) {
    void* mapped = mmap(nullptr, bytes + huge_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) {
        return {nullptr, 0};
    }
    auto* const start = static_cast<char*>(mapped);
    const std::size_t head = (huge_page - reinterpret_cast<std::uintptr_t>(start) % huge_page) % huge_page;
    if (head != 0) {
        munmap(start, head);
    }
    munmap(start + head + bytes, huge_page - head);
    piquant_prepare_output(start + head, bytes);
    return {start + head, bytes};
}

bool mark_free(const Block& block) {
    return madvise(block.begin, block.bytes, MADV_FREE) == 0;
}
#else
constexpr std::size_t huge_page = 1;
constexpr std::size_t most_kept = 0;

void unmap(const Block&) {}
Block map(std::size_t) {
    return {nullptr, 0};
}
bool mark_free(const Block&) {
    return false;
}
#endif

// Oldest first.
class KeptBlocks {
public:
    // The smallest block that is large enough, unless more than a fifth of it would be idle.
    bool take(std::size_t bytes, Block& block) {
        const nb::ft_lock_guard guard(mutex_);
        std::size_t best = count_;
        for (std::size_t i = 0; i < count_; ++i) {
            const std::size_t size = blocks_[i].bytes;
            if (size >= bytes && size - bytes <= size / 5 && (best == count_ || size < blocks_[best].bytes)) {
                best = i;
            }
        }
        if (best == count_) {
            return false;
        }
        block = remove(best);
        return true;
    }
    void keep(const Block& block) {
        if (block.bytes > most_kept || !mark_free(block)) {
            unmap(block);
            return;
        }
        Dropped dropped;
        const nb::ft_lock_guard guard(mutex_);
        while (count_ == blocks_.size() || bytes_ + block.bytes > most_kept) {
            dropped.add(remove(0));
        }
        blocks_[count_++] = block;
        bytes_ += block.bytes;
    }
    std::size_t release() {
        Dropped dropped;
        const nb::ft_lock_guard guard(mutex_);
        const std::size_t released = bytes_;
        while (count_ != 0) {
            dropped.add(remove(count_ - 1));
        }
        return released;
    }

private:
    static constexpr std::size_t most_blocks = 16;

    // Blocks on their way back to the system, which gets them when nobody waits for it.
    class Dropped {
    public:
        Dropped() = default;
        ~Dropped() {
            for (std::size_t i = 0; i < count_; ++i) {
                unmap(blocks_[i]);
            }
        }
        Dropped(const Dropped&) = delete;
        Dropped& operator=(const Dropped&) = delete;
        void add(const Block& block) { blocks_[count_++] = block; }

    private:
        std::array<Block, most_blocks> blocks_;
        std::size_t count_ = 0;
    };

    Block remove(std::size_t i) {
        const Block block = blocks_[i];
        for (--count_; i < count_; ++i) {
            blocks_[i] = blocks_[i + 1];
        }
        bytes_ -= block.bytes;
        return block;
    }

    nb::ft_mutex mutex_;
    std::array<Block, most_blocks> blocks_{};
    std::size_t count_ = 0;
    std::size_t bytes_ = 0;
};

KeptBlocks kept;

class OutputMemory {
public:
    OutputMemory() = default;
    ~OutputMemory() {
        if (block_.begin != nullptr) {
            kept.keep(block_);
        }
    }
    OutputMemory(const OutputMemory&) = delete;
    OutputMemory& operator=(const OutputMemory&) = delete;

    bool acquire(std::size_t bytes) {
        if (bytes > std::size_t{PY_SSIZE_T_MAX} - huge_page) {
            return false;
        }
        bytes_ = bytes;
        const std::size_t whole = (bytes + huge_page - 1) / huge_page * huge_page;
        if (!kept.take(whole, block_)) {
            block_ = map(whole);
            if (block_.begin == nullptr && kept.release() != 0) {
                block_ = map(whole);
            }
        }
        return block_.begin != nullptr;
    }

    static int get_buffer(PyObject* self, Py_buffer* view, int flags) {
        if (!nb::inst_ready(self)) {  // made by __new__, which leaves the address of the block unwritten
            view->obj = nullptr;
            PyErr_SetString(PyExc_BufferError, "an OutputMemory that was not initialized holds no memory");
            return -1;
        }
        const auto* memory = nb::inst_ptr<OutputMemory>(self);
        return PyBuffer_FillInfo(view, self, memory->block_.begin, static_cast<Py_ssize_t>(memory->bytes_), 0, flags);
    }

private:
    Block block_{nullptr, 0};
    std::size_t bytes_ = 0;
};

nb::object output_memory(std::size_t bytes) {
    auto memory = std::make_unique<OutputMemory>();
    if (!memory->acquire(bytes)) {
        return nb::none();
    }
    PyObject* const view = PyMemoryView_FromObject(nb::cast(std::move(memory)).ptr());
    if (view == nullptr) {
        throw nb::python_error();
    }
    return nb::steal(view);
}

}  // namespace

std::size_t release_kept() {
    return kept.release();
}

void init_output(nb::module_& m) {
    static PyType_Slot slots[] = {{Py_bf_getbuffer, reinterpret_cast<void*>(OutputMemory::get_buffer)}, {0, nullptr}};
    nb::class_<OutputMemory>(m, "OutputMemory", nb::type_slots(slots),
                             "What views of output memory refer to; kept for the next output when it dies.");
    m.def("output_memory", &output_memory, nb::arg("bytes"),
          nb::sig("def output_memory(bytes: int) -> memoryview | None"),
          "Uninitialized memory for a large output; None where the system has no room for it or does not tell free "
          "pages apart.");
    m.def("release_memory", &release_kept,
          "Gives the memory that is kept for outputs back to the system; returns how many bytes.");
}

}  // namespace piquant_python
