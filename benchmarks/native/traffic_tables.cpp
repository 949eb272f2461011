#include "isa_list.hpp"  // PIQUANT_ISA_LIST(X): the sets that CMake compiles for this machine, best first
#include "kernels/traffic_table.hpp"

namespace piquant {

namespace isa {
#define X(name)                        \
    namespace name {                   \
    extern const TrafficTable traffic; \
    }
PIQUANT_TRAFFIC_LIST(X)
#undef X
}  // namespace isa

const TrafficSet traffic_sets[] = {
#define X(name) {#name, &isa::name::traffic},
    PIQUANT_TRAFFIC_LIST(X)
#undef X
        {nullptr, nullptr},  // scalar
};

}  // namespace piquant
