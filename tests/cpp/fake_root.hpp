// A directory that plays the root of the file system.
#pragma once

#include <filesystem>
#include <fstream>
#include <random>
#include <string>

namespace piquant {

class FakeRoot {
public:
    FakeRoot() {
        std::random_device random;
        std::filesystem::path path;
        do {
            path = std::filesystem::temp_directory_path() / ("piquant." + std::to_string(random()));
        } while (!std::filesystem::create_directory(path));
        path_ = path.string();
    }
    ~FakeRoot() { std::filesystem::remove_all(path_); }
    FakeRoot(const FakeRoot&) = delete;
    FakeRoot& operator=(const FakeRoot&) = delete;

    void write(const std::string& name, const std::string& text) const {
        const std::filesystem::path file = path_ + "/" + name;
        std::filesystem::create_directories(file.parent_path());
        std::ofstream(file) << text;
    }
    const char* path() const { return path_.c_str(); }

private:
    std::string path_;
};

}  // namespace piquant
