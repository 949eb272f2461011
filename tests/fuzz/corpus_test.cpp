// Inputs that the fuzzer has found worth keeping, without the fuzzer.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "check.hpp"

namespace piquant {
namespace {

TEST(FuzzCorpus, KeepsEveryPromise) {
    size_t replayed = 0;
    for (const auto& entry : std::filesystem::directory_iterator(PIQUANT_FUZZ_CORPUS)) {
        std::ifstream file(entry.path(), std::ios::binary);
        const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
        EXPECT_EQ(fuzz::broken_promise(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size()), "")
            << entry.path().filename();
        ++replayed;
    }
    EXPECT_GT(replayed, 100u) << "the corpus is missing";
}

}  // namespace
}  // namespace piquant
