# Cross build for another architecture on a Debian or Ubuntu machine; tests run under QEMU's user mode.
#   apt-get install g++-aarch64-linux-gnu qemu-user-static googletest
#   cmake -S . -B build-aarch64 -DCMAKE_TOOLCHAIN_FILE=cmake/linux-gnu.cmake -DPIQUANT_ARCHITECTURE=aarch64 \
#         -DPIQUANT_BUILD_TESTS=ON
# Architectures are named as GCC does: aarch64, riscv64, powerpc64le.
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES PIQUANT_ARCHITECTURE)
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR ${PIQUANT_ARCHITECTURE})
set(CMAKE_C_COMPILER ${PIQUANT_ARCHITECTURE}-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER ${PIQUANT_ARCHITECTURE}-linux-gnu-g++)

set(CMAKE_FIND_ROOT_PATH /usr/${PIQUANT_ARCHITECTURE}-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
