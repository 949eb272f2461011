// A test that never ends, as when a wake-up is lost, fails with its name instead of keeping everyone waiting. The
// slowest takes seconds; under AddressSanitizer, without optimization and beside other work, minutes.
#include <gtest/gtest.h>
#include <stdio.h>

#include "platform.hpp"
#include "sanitizers.hpp"

namespace piquant {
namespace {

constexpr unsigned limit = address_sanitizer ? 3000 : 300;  // seconds
char words[512];

class Watchdog : public testing::EmptyTestEventListener {
    void OnTestStart(const testing::TestInfo& test) override {
        snprintf(words, sizeof words, "%s.%s did not end within %u s: it hangs\n", test.test_suite_name(), test.name(),
                 limit);
        end_after(limit, words);
    }
    void OnTestEnd(const testing::TestInfo&) override { end_after(0, words); }
};

[[maybe_unused]] const bool watching = [] {
    testing::UnitTest::GetInstance()->listeners().Append(new Watchdog);  // gtest owns it
    return true;
}();

}  // namespace
}  // namespace piquant
