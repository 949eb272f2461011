// Runs before the tests, whatever the filter: this CPU has the instruction sets that it is expected to have, no fewer and
// no more. Tests run what they find; without this, a machine that lost one would pass by testing less.
//
// Expected are all that were compiled, or those that PIQUANT_TEST_ISAS names ("sse42,scalar"), for older and emulated CPUs.
#include <gtest/gtest.h>

#include <cstdlib>
#include <set>
#include <sstream>
#include <string>

#include "dispatch/dispatch.hpp"

namespace piquant {
namespace {

using Names = std::set<std::string>;

std::string joined(const Names& names) {
    std::string text;
    for (const std::string& name : names) {
        text += (text.empty() ? "" : ",") + name;
    }
    return text;
}

class ExpectedIsas : public testing::Environment {
    void SetUp() override {
        const char* stated = std::getenv("PIQUANT_TEST_ISAS");
        Names expected;
        Names found;
        for (size_t i = 0; i < isa_count; ++i) {
            if (stated == nullptr) {
                expected.insert(isas[i].name);
            }
            if ((isas[i].required & ~cpu_features()) == 0) {
                found.insert(isas[i].name);
            }
        }
        if (stated != nullptr) {
            std::istringstream list(stated);
            for (std::string name; std::getline(list, name, ',');) {
                expected.insert(name);
            }
        }
        EXPECT_EQ(joined(found), joined(expected))
            << "This CPU runs other instruction sets than expected. If it is meant to, say so: PIQUANT_TEST_ISAS="
            << joined(found);
    }
};

const testing::Environment* const registered = testing::AddGlobalTestEnvironment(new ExpectedIsas);

}  // namespace
}  // namespace piquant
