// Parameters of blocks whose elements lie in several panels: extents are found by each thread apart, then merged.
#include <string.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "cpu/stores.hpp"
#include "engine/block_converter.hpp"
#include "engine/context.hpp"
#include "engine/scratch.hpp"
#include "engine/strips.hpp"
#include "engine/tiles.hpp"

namespace piquant {
namespace {

constexpr size_t panel_elements = 4096;

// Extents of all blocks as patterns of the float type, see MergeKernel.
class Patterns {
public:
    static size_t scratch_bytes(const BlockPlan& plan, size_t blocks) { return 2 * side_bytes(plan, blocks); }
    Patterns(const BlockPlan& plan, size_t blocks, unsigned char* scratch)
        : item_(info(plan.float_type).format.bytes),
          tops_(scratch),
          bottoms_(scratch + side_bytes(plan, blocks)),
          merge_(merge_kernel(plan)) {}

    void clear(size_t blocks) const {
        memset(tops_, 0, blocks * item_);
        memset(bottoms_, 0, blocks * item_);
    }
    // Of elements side by side, each of its own block, from `first` on.
    void add(const unsigned char* elements, size_t n, size_t first) const {
        merge_(elements, n, tops_ + first * item_, bottoms_ + first * item_);
    }
    void add(const Patterns& other, size_t first, size_t n) const {
        add(other.tops_ + first * item_, n, first);
        add(other.bottoms_ + first * item_, n, first);
    }
    const unsigned char* top(size_t block) const { return tops_ + block * item_; }
    const unsigned char* bottom(size_t block) const { return bottoms_ + block * item_; }

private:
    static size_t side_bytes(const BlockPlan& plan, size_t blocks) {
        return (blocks * info(plan.float_type).format.bytes + 63) / 64 * 64;
    }
    static MergeKernel merge_kernel(const BlockPlan& plan) {
        const MergeKernel own = plan.table->panels.merge[float_index(plan.float_type)];
        return own != nullptr ? own : plan.scalar->merge[float_index(plan.float_type)];
    }

    size_t item_;
    unsigned char* tops_;
    unsigned char* bottoms_;
    MergeKernel merge_;
};

// Elements of a tile side by side, of one block; or each of the next block after that of the one before.
struct Part {
    size_t first;
    size_t count;
    size_t block;
    bool is_each;
};

class Parts {
public:
    Parts(unsigned char* memory) : parts_(reinterpret_cast<Part*>(memory)) {}

    void add(size_t first, size_t count, size_t block) {
        if (count == 1 && n_ != 0) {
            Part& last = parts_[n_ - 1];
            if (last.is_each && last.block + last.count == block && last.first + last.count == first) {
                ++last.count;
                return;
            }
        }
        parts_[n_++] = {first, count, block, count == 1};
    }
    template <class F>
    void take(const F& f) {
        std::for_each(parts_, parts_ + n_, f);
        n_ = 0;
    }

private:
    Part* parts_;
    size_t n_ = 0;
};

// The blocks of a panel, from `first` on.
void add_panel(const Patterns& patterns, const Panel& p, size_t block, size_t first, const PanelExtents& extents,
               const ExtentArrays& arrays) {
    if (block == 1) {
        patterns.add(p.in, p.n, first);
        return;
    }
    extents.find(p, arrays);
    patterns.add(arrays.lowest, p.blocks(block), first);
    patterns.add(arrays.highest, p.blocks(block), first);
}

// Lines follow each other at a distance, which prefetchers do not.
void prefetch_panel(const Panel& p, Format format) {
    for (size_t k = 0; k < bytes_for(p.n, format); k += 64) {
        __builtin_prefetch(p.in + k);
    }
}

}  // namespace

piquant_status_t Context::find_parameters_across_panels(const BlockPlan& plan, size_t& bad_block) {
    LentThreads lent(plan.options.threads);
    const Team team = team_for(plan.traffic(), lent);
    const size_t threads = team.schedule.threads;
    const Scratch found(Patterns::scratch_bytes(plan, plan.blocks), threads);
    for (size_t t = 0; t < threads; ++t) {
        Patterns(plan, plan.blocks, found.of(t)).clear(plan.blocks);
    }
    are_lines_copied(plan) ? find_extents_in_tiles(plan, team, found) : find_extents_in_panels(plan, team, found);

    const size_t most = panel_elements;
    const PanelExtents extents(plan, 1, plan.options.symmetric);
    const size_t finder_bytes = BlockFinder::scratch_bytes(plan, most);
    const Scratch scratch(finder_bytes + BlockFinder::prepared_bytes(most), threads);
    std::vector<Fault> faults(threads);
    for_chunks(team, partition_tiles((plan.blocks + most - 1) / most, plan.blocks * sizeof(double), threads),
               [&](size_t begin, size_t end, size_t participant) {
                   BlockFinder finder(plan, extents, most, scratch.of(participant));
                   const Patterns all(plan, plan.blocks, found.of(0));
                   for (size_t first = begin * most; first < std::min(end * most, plan.blocks); first += most) {
                       const size_t count = std::min(most, plan.blocks - first);
                       for (size_t t = 1; t < threads; ++t) {
                           all.add(Patterns(plan, plan.blocks, found.of(t)), first, count);
                       }
                       finder.take(all.top(first), all.bottom(first), count);
                       finder.settle(first, count, scratch.of(participant) + finder_bytes, faults[participant]);
                   }
               });
    return first_of(faults, bad_block);
}

// Each strip holds its blocks: codes follow as soon as it has been read.
piquant_status_t Context::quantize_strips(const BlockPlan& plan, const Team& team, const Strips& strips,
                                          size_t& bad_block) {
    const BlockKernels kernels(plan, false);
    const Schedule& s = team.schedule;
    const PanelExtents extents(plan, strips.block(), false);
    const PanelExtents found(plan, strips.block(), plan.options.symmetric);
    const BlockConverter::Room room{strips.columns(), strips.blocks(), false};
    const size_t arrays_bytes = PanelExtents::scratch_bytes(plan, strips.blocks());
    const size_t patterns_bytes = Patterns::scratch_bytes(plan, strips.blocks());
    const size_t finder_bytes = BlockFinder::scratch_bytes(plan, strips.blocks());
    const Scratch scratch(
        arrays_bytes + patterns_bytes + finder_bytes + BlockConverter::scratch_bytes(plan, kernels, room), s.threads);
    std::vector<Fault> faults(s.threads);
    for_chunks(team, partition_tiles(strips.count(), s.traffic, s.threads),
               [&](size_t begin, size_t end, size_t participant) {
                   unsigned char* memory = scratch.of(participant);
                   const ExtentArrays arrays = PanelExtents::arrays(plan, strips.blocks(), memory);
                   const Patterns patterns(plan, strips.blocks(), memory += arrays_bytes);
                   BlockFinder finder(plan, found, strips.blocks(), memory += patterns_bytes);
                   BlockConverter converter(plan, kernels, room, s.is_far, 0, memory + finder_bytes);
                   for (size_t t = begin; t < end; ++t) {
                       const Strip strip = strips.at(t);
                       patterns.clear(strip.blocks);
                       Panel row = strip.row;
                       for (size_t r = 0; r < strip.rows; ++r) {
                           const Panel next = strips.next(row);
                           if (r + 1 < strip.rows && s.prefetch_distance != 0) {
                               prefetch_panel(next, plan.lines.in.format);
                           }
                           add_panel(patterns, row, strips.block(), 0, extents, arrays);
                           row = next;
                       }
                       finder.take(patterns.top(0), patterns.bottom(0), strip.blocks);
                       converter.settle(strip.row, strips.block(), finder, faults[participant]);
                       row = strip.row;
                       for (size_t r = 0; r < strip.rows && faults[participant].status == PIQUANT_OK; ++r) {
                           converter.convert(row.in, row.out, row.n, row.index, strips.block());
                           row = strips.next(row);
                       }
                   }
                   drain_if(s.is_far);
               });
    return first_of(faults, bad_block);
}

void Context::find_extents_in_panels(const BlockPlan& plan, const Team& team, const Scratch& found) {
    const Panels panels(plan.lines, 1, false, panel_elements);
    const PanelExtents extents(plan, panels.block(), false);
    const Scratch scratch(PanelExtents::scratch_bytes(plan, panels.parameters()), team.schedule.threads);
    for_chunks(team, partition_tiles(panels.count(), plan.traffic(), team.schedule.threads),
               [&](size_t begin, size_t end, size_t participant) {
                   const Patterns mine(plan, plan.blocks, found.of(participant));
                   const ExtentArrays arrays = PanelExtents::arrays(plan, panels.parameters(), scratch.of(participant));
                   panels.each(begin, end, [&](const Panel& p) {
                       add_panel(mine, p, panels.block(), p.parameter, extents, arrays);
                   });
               });
}

void Context::find_extents_in_tiles(const BlockPlan& plan, const Team& team, const Scratch& found) {
    const auto tiles =
        std::make_unique<const Tiles>(plan.lines, plan.table->rows, plan.in, plan.in, false, false, tile_elements);
    const size_t tile_bytes = (tiles->scratch_bytes() + 63) / 64 * 64;
    const Scratch scratch(tile_bytes + tiles->elements() * sizeof(Part), team.schedule.threads);
    for_chunks(team, partition_tiles(tiles->count(), plan.traffic(), team.schedule.threads),
               [&](size_t begin, size_t end, size_t participant) {
                   const Patterns mine(plan, plan.blocks, found.of(participant));
                   Parts parts(scratch.of(participant) + tile_bytes);
                   const PanelExtents extents(plan, tile_elements, false);
                   unsigned char ends[2 * sizeof(double)];
                   tiles->run_blocks(
                       begin, end, scratch.of(participant),
                       [&](size_t first, size_t count, size_t block) { parts.add(first, count, block); },
                       [&](const unsigned char* in, unsigned char*, size_t, uint64_t, size_t) {
                           parts.take([&](const Part& part) {
                               const unsigned char* const elements = in + bytes_for(part.first, info(plan.in).format);
                               if (part.is_each) {
                                   mine.add(elements, part.count, part.block);
                                   return;
                               }
                               extents.find_one(elements, part.count, {ends, ends + sizeof(double)});
                               mine.add(ends, 1, part.block);
                               mine.add(ends + sizeof(double), 1, part.block);
                           });
                       });
               });
}

}  // namespace piquant
