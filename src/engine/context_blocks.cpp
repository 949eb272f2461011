// Calls with blocks, carried out.
#include <string.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "cpu/stores.hpp"
#include "engine/block_converter.hpp"
#include "engine/block_finder.hpp"
#include "engine/context.hpp"
#include "engine/scratch.hpp"
#include "engine/strips.hpp"
#include "engine/tiles.hpp"

namespace piquant {
namespace {

// Elements of a panel: enough that what a call costs does not show. Where something is made of each of them, the first-level
// cache is to hold it.
constexpr size_t near_panel = 4096;
// Of quantize_dynamic: the first and the last panel of a part are read and quantized apart.
constexpr size_t dynamic_panel = 2048;
constexpr size_t far_panel = 16384;
// Up to this many elements a block is read once: its second reading finds it in the second-level cache.
constexpr size_t longest_read_once = size_t{1} << 16;

bool are_blocks_within_lines(const Lines& lines) {
    return std::all_of(lines.dims, lines.dims + lines.rank - 1, [](const Dimension& d) { return d.block == 1; });
}

// Whether the parameters of blocks can be found, and their codes made, panel by panel.
bool are_blocks_within_panels(const BlockPlan& plan) {
    const Dimension& line = plan.lines.last();
    const bool quantizes = plan.operation == BlockOperation::quantize_dynamic;
    return are_blocks_within_lines(plan.lines) && !are_lines_copied(plan) && line.block <= longest_read_once &&
           (!quantizes || !Panels(plan.lines, BlockKernels(plan, false).granule, true, dynamic_panel).expands());
}

// What is prefetched beyond the end of a line is fetched in vain.
size_t prefetch_distance(const Schedule& schedule, const Lines& lines) {
    constexpr size_t ends_per_line = 8;
    const size_t line = bytes_for(lines.last().size, lines.in.format);
    return lines.rank == 1 ? schedule.prefetch_distance
                           : std::min(schedule.prefetch_distance, line / ends_per_line / 64 * 64);
}

// Results are written when every block has its own: an error leaves them as they were.
class ParameterResults {
public:
    ParameterResults(const BlockParameters& results, size_t blocks)
        : results_(results),
          scale_bytes_(bytes_for(blocks, info(results.scale_dtype).format)),
          zero_bytes_(results.zero_point != nullptr ? bytes_for(blocks, info(results.zero_dtype).format) : 0),
          scales_(scale_bytes_, 1),
          zeros_(zero_bytes_, 1) {}

    void* scale() const { return scales_.of(0); }
    void* zero_point() const { return zero_bytes_ != 0 ? zeros_.of(0) : nullptr; }
    piquant_status_t finish(piquant_status_t status) const {
        if (status == PIQUANT_OK) {
            memcpy(results_.scale, scale(), scale_bytes_);
            if (zero_bytes_ != 0) {
                memcpy(results_.zero_point, zero_point(), zero_bytes_);
            }
        }
        return status;
    }

private:
    const BlockParameters results_;
    size_t scale_bytes_;
    size_t zero_bytes_;
    Scratch scales_;
    Scratch zeros_;
};

}  // namespace

piquant_status_t Context::run_blocks(const BlockCall& call, size_t& bad_block) {
    const FloatEnvironment pinned;
    const auto plan = std::make_unique_for_overwrite<BlockPlan>();  // not on the stack, of which kernels take most
    const bool reads_parameters = !device_.is_there();
    const piquant_status_t status =
        make_plan(*table_.load(std::memory_order_relaxed), call, reads_parameters, *plan, bad_block);
    if (status != PIQUANT_OK || plan->n == 0) {
        return status;
    }
    if (device_.is_there()) {
        return device_.run(*plan, call);
    }
    switch (call.operation) {
        case BlockOperation::compute_parameters: return compute_block_parameters(*plan, bad_block);
        case BlockOperation::quantize_dynamic: return quantize_dynamic(*plan, call, bad_block);
        default: convert_blocks(*plan); return PIQUANT_OK;
    }
}

piquant_status_t Context::compute_block_parameters(BlockPlan& plan, size_t& bad_block) {
    const ParameterResults results(plan.parameters, plan.blocks);
    plan.parameters.scale = results.scale();
    plan.parameters.zero_point = results.zero_point();
    return results.finish(are_blocks_within_panels(plan) ? find_parameters_by_panels(plan, bad_block)
                                                         : find_parameters_across_panels(plan, bad_block));
}

piquant_status_t Context::quantize_dynamic(const BlockPlan& plan, const BlockCall& call, size_t& bad_block) {
    if (are_blocks_within_panels(plan)) {
        return find_parameters_by_panels(plan, bad_block);
    }
    if (!are_lines_copied(plan)) {
        LentThreads lent(plan.options.threads);
        const Team team = team_for(plan.traffic(), lent);
        const Strips strips(plan.lines, BlockKernels(plan, false).granule, team.schedule.threads);
        if (strips.fit()) {
            return quantize_strips(plan, team, strips, bad_block);
        }
    }
    const ParameterResults results(plan.parameters, plan.blocks);
    BlockCall part = call;
    part.operation = BlockOperation::compute_parameters;
    part.out = nullptr;
    part.scale = results.scale();
    part.zero_point = results.zero_point();
    piquant_status_t status = run_blocks(part, bad_block);
    if (status == PIQUANT_OK) {
        part.operation = BlockOperation::quantize;
        part.out = call.out;
        piquant_blocks_t blocks = *call.blocks;
        blocks.struct_size = sizeof blocks;  // of a later version's, no more than this was copied
        blocks.zero_point = static_cast<int64_t>(plan.parameters.zero_of_all);
        part.blocks = &blocks;
        status = run_blocks(part, bad_block);
    }
    return results.finish(status);
}

void Context::convert_blocks(const BlockPlan& plan) {
    const bool copied = are_lines_copied(plan);
    const BlockKernels kernels(plan, copied);
    LentThreads lent(plan.options.threads);
    const Team team = team_for(plan.traffic(), lent);
    const Schedule& s = team.schedule;
    if (copied) {
        const auto tiles = std::make_unique<const Tiles>(plan.lines, plan.table->rows, plan.in, plan.out,
                                                         plan.reads_output, plan.uses_words, tile_elements);
        const size_t elements = tiles->elements();
        const Scratch tile_scratch(tiles->scratch_bytes(), s.threads);
        const BlockConverter::Room room{elements, 1, true};
        const Scratch scratch(BlockConverter::scratch_bytes(plan, kernels, room), s.threads);
        for_chunks(
            team, partition_tiles(tiles->count(), s.traffic, s.threads),
            [&](size_t begin, size_t end, size_t participant) {
                BlockConverter converter(plan, kernels, room, false, 0, scratch.of(participant));
                tiles->run_blocks(
                    begin, end, tile_scratch.of(participant),
                    [&](size_t first, size_t count, size_t parameter) { converter.expand(first, count, parameter); },
                    [&](const unsigned char* in, unsigned char* out, size_t n, uint64_t index, size_t first) {
                        converter.convert(in, out, n, index, 1, first);
                    });
            });
        return;
    }
    const bool has_scratch = plan.uses_words || plan.operation == BlockOperation::quantize_dequantize;
    const Panels panels(plan.lines, kernels.granule, false, has_scratch ? near_panel : far_panel);
    const BlockConverter::Room room{panels.elements(), panels.parameters(), panels.expands()};
    const Scratch scratch(BlockConverter::scratch_bytes(plan, kernels, room), s.threads);
    for_chunks(team, partition_tiles(panels.count(), s.traffic, s.threads),
               [&](size_t begin, size_t end, size_t participant) {
                   BlockConverter converter(plan, kernels, room, s.is_far, prefetch_distance(s, plan.lines),
                                            scratch.of(participant));
                   panels.each(begin, end, [&](const Panel& p) {
                       if (panels.expands()) {
                           converter.expand(p, panels.block());
                           converter.convert(p.in, p.out, p.n, p.index, 1);
                       } else {
                           converter.prepare(p.parameter, p.blocks(panels.block()));
                           converter.convert(p.in, p.out, p.n, p.index, panels.block());
                       }
                   });
                   drain_if(s.is_far);
               });
}

// Each block lies in one panel: its parameters are known before the next panel is looked at.
piquant_status_t Context::find_parameters_by_panels(const BlockPlan& plan, size_t& bad_block) {
    const bool quantizes = plan.operation == BlockOperation::quantize_dynamic;
    const BlockKernels kernels(plan, false);
    const Panels panels(plan.lines, quantizes ? kernels.granule : 1, true, dynamic_panel);
    LentThreads lent(plan.options.threads);
    const Team team = team_for(plan.traffic(), lent);
    const Schedule& s = team.schedule;
    const PanelExtents extents(plan, panels.block(), plan.options.symmetric);
    // A block of many elements is converted piece by piece.
    const BlockConverter::Room room{std::min(panels.elements(), near_panel), panels.parameters(), false};
    const size_t finder_bytes = BlockFinder::scratch_bytes(plan, panels.parameters());
    const Scratch scratch(finder_bytes + BlockConverter::scratch_bytes(plan, kernels, room), s.threads);
    std::vector<Fault> faults(s.threads);
    for_chunks(team, partition_tiles(panels.count(), s.traffic, s.threads),
               [&](size_t begin, size_t end, size_t participant) {
                   unsigned char* const memory = scratch.of(participant);
                   BlockFinder finder(plan, extents, panels.parameters(), memory);
                   BlockConverter converter(plan, kernels, room, s.is_far, prefetch_distance(s, plan.lines),
                                            memory + finder_bytes);
                   Fault fault = faults[participant];
                   Panel before{};
                   panels.each(begin, end, [&](const Panel& p) {
                       if (quantizes && before.n != 0 && fault.status == PIQUANT_OK) {
                           converter.quantize_while_reading(before, panels.block(), finder, p);
                       } else {
                           finder.read(p);
                       }
                       converter.settle(p, panels.block(), finder, fault);
                       before = p;
                   });
                   if (quantizes && fault.status == PIQUANT_OK) {
                       converter.quantize_found(before, panels.block());
                   }
                   drain_if(s.is_far && quantizes);
                   faults[participant] = fault;
               });
    return first_of(faults, bad_block);
}

}  // namespace piquant
