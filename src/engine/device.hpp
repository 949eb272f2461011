// A device: what carries out plans in place of this process's threads. Their arrays may lie where nobody here can read.
#pragma once

#include "engine/block_plan.hpp"
#include "engine/plan.hpp"

namespace piquant {

class Device {
public:
    // False if the device lacks what it needs.
    bool set(const piquant_device_t& device);
    bool is_there() const { return device_.run != nullptr; }

    piquant_status_t run(const Plan& plan, const TransformCall& call) const;
    piquant_status_t run(const BlockPlan& plan, const BlockCall& call) const;

private:
    piquant_status_t run(piquant_plan_t& plan, const CallOptions& options, const Lines& lines) const;

    piquant_device_t device_{};
};

}  // namespace piquant
