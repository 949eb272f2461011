# Build for a system without a machine of it at hand, by the Clang that the Python package ziglang brings together with the
# headers and libraries of other systems. It shows that everything compiles and links; with musl, it also runs.
#   cmake -S . -B build-macos -DCMAKE_TOOLCHAIN_FILE=cmake/zig.cmake -DPIQUANT_ZIG=<path of zig> \
#         -DPIQUANT_ZIG_TARGET=aarch64-macos|x86_64-windows-gnu|x86_64-linux-musl
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES PIQUANT_ZIG PIQUANT_ZIG_TARGET)
if(PIQUANT_ZIG_TARGET MATCHES "^([^-]+)-macos")
  set(CMAKE_SYSTEM_NAME Darwin)
elseif(PIQUANT_ZIG_TARGET MATCHES "^([^-]+)-windows")
  set(CMAKE_SYSTEM_NAME Windows)
elseif(PIQUANT_ZIG_TARGET MATCHES "^([^-]+)-linux-musl")
  # This machine runs static programs of it. Its own GoogleTest is of another C library.
  set(CMAKE_DISABLE_FIND_PACKAGE_GTest ON)
else()
  message(FATAL_ERROR "PIQUANT_ZIG_TARGET is ${PIQUANT_ZIG_TARGET}")
endif()
set(CMAKE_SYSTEM_PROCESSOR ${CMAKE_MATCH_1})
set(CMAKE_C_COMPILER ${PIQUANT_ZIG} cc)
set(CMAKE_CXX_COMPILER ${PIQUANT_ZIG} c++)
# The first link compiles the C++ library of the system, for minutes; with a target named like this, and libraries to
# try, CMake gets to know the compiler without one.
set(CMAKE_C_COMPILER_TARGET ${PIQUANT_ZIG_TARGET})
set(CMAKE_CXX_COMPILER_TARGET ${PIQUANT_ZIG_TARGET})
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
