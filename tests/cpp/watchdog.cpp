// A test that never ends, as when a wake-up is lost, fails with its name instead of keeping everyone waiting. The
// slowest takes seconds; under AddressSanitizer, without optimization and beside other work, minutes.
#include <gtest/gtest.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "sanitizers.hpp"

namespace piquant {
namespace {

constexpr unsigned limit = address_sanitizer ? 3000 : 300;  // seconds
char words[512];

void give_up(int) {
    size_t length = 0;
    while (words[length] != 0) {
        ++length;
    }
    (void)!write(STDERR_FILENO, words, length);
    _exit(1);
}

class Watchdog : public testing::EmptyTestEventListener {
    void OnTestStart(const testing::TestInfo& test) override {
        snprintf(words, sizeof words, "%s.%s did not end within %u s: it hangs\n", test.test_suite_name(), test.name(),
                 limit);
        signal(SIGALRM, give_up);
        alarm(limit);
    }
    void OnTestEnd(const testing::TestInfo&) override { alarm(0); }
};

[[maybe_unused]] const bool watching = [] {
    testing::UnitTest::GetInstance()->listeners().Append(new Watchdog);  // gtest owns it
    return true;
}();

}  // namespace
}  // namespace piquant
