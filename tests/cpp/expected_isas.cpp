// Runs before the tests, whatever the filter: this CPU has the instruction sets that it is expected to have, no fewer
// and no more. Tests run what they find; without this, a machine that lost one would pass by testing less.
//
// Expected are those that were compiled and whose instructions Linux lists in /proc/cpuinfo, which the library does not
// read; or those that PIQUANT_TEST_ISAS names ("sse42,scalar"), where emulation changes the CPU but not that file.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
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

Names listed_flags() {
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);) {
        if (line.rfind("flags", 0) == 0) {
            std::istringstream flags(line.substr(line.find(':') + 1));
            return {std::istream_iterator<std::string>(flags), {}};
        }
    }
    return {};
}

// Whether Linux lists what a set needs; those of other architectures belong to the baseline there.
bool listed(const std::string& name) {
    static const Names flags = listed_flags();
    std::istringstream needed(name == "avx512"  ? "avx512f avx512bw avx512dq avx512vl avx2 f16c popcnt"
                              : name == "avx2"  ? "avx2 f16c popcnt"
                              : name == "sse42" ? "sse4_2 popcnt"
                                                : "");
    for (std::string flag; needed >> flag;) {
        if (flags.count(flag) == 0) {
            return false;
        }
    }
    return true;
}

class ExpectedIsas : public testing::Environment {
    void SetUp() override {
        Names expected;
        Names found;
        for (size_t i = 0; i < isa_count; ++i) {
            if ((isas[i].required & ~cpu_features()) == 0) {
                found.insert(isas[i].name);
            }
        }
        if (const char* stated = std::getenv("PIQUANT_TEST_ISAS")) {
            std::istringstream list(stated);
            for (std::string name; std::getline(list, name, ',');) {
                expected.insert(name);
            }
        } else {
            for (size_t i = 0; i < isa_count; ++i) {
                if (listed(isas[i].name)) {
                    expected.insert(isas[i].name);
                } else {
                    std::cout << "This CPU cannot run " << isas[i].name << ", which stays untested here." << std::endl;
                }
            }
        }
        EXPECT_EQ(joined(found), joined(expected))
            << "The instruction sets that the library found are not those of this CPU. Under emulation, say which are: "
            << "PIQUANT_TEST_ISAS=" << joined(found);
    }
};

const testing::Environment* const registered = testing::AddGlobalTestEnvironment(new ExpectedIsas);

}  // namespace
}  // namespace piquant
