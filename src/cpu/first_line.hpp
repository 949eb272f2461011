// Files of /proc and /sys, of which one line counts.
#pragma once

#include <fstream>
#include <string>

namespace piquant {

// Empty if there is none.
inline std::string first_line(const std::string& path) {
    std::ifstream file(path);
    std::string line;
    std::getline(file, line);
    return line;
}

}  // namespace piquant
