# shellcheck shell=bash
# What the scripts share; to be sourced, from the root of the repository.

# Images of containers forbid it to write what it compiled. It would then compile torch anew in each process that imports
# it, which is half of the time that the import takes.
unset PYTHONDONTWRITEBYTECODE

step() { printf '\n=== %s\n' "$*"; }

# Says how the script is used, in the words of its first lines, unless the first argument is one of the others.
accept() {
    local given=$1 known
    shift
    for known; do
        [ "$given" != "$known" ] || return 0
    done
    printf '%s: unknown argument "%s"\n\n' "$0" "$given" >&2
    sed -n '2,/^[^#]/s/^# \?//p' "$0" >&2
    exit 2
}

# If --record is among the arguments: runs the script without it, and appends what it prints to docs/runs/<date>-<script>.md.
record_if_asked() {
    local arguments=() argument asked='' code=0 name=${0##*/} file said
    for argument; do
        if [ "$argument" = --record ]; then asked=yes; else arguments+=("$argument"); fi
    done
    [ -n "$asked" ] || return 0
    file=docs/runs/$(date +%F)-$name.md
    said=$(mktemp)
    "scripts/$name" "${arguments[@]}" 2>&1 | tee "$said" || code=$?
    {
        [ -s "$file" ] || printf '# %s, %s\n' "$name" "$(date +%F)"
        printf '\n    scripts/%s\n\n' "$name${arguments[*]+ ${arguments[*]}}"
        printf 'Of %s. On %s, %s CPUs; %s. ' "$(git describe --always --dirty)" \
            "$(sed -n 's/^model name\s*: //p' /proc/cpuinfo | head -n 1)" "$(nproc)" "$(${CC:-cc} --version | head -n 1)"
        if [ $code = 0 ]; then echo It passed.; else echo "It failed, with code $code."; fi
        printf '\n```text\n'
        sed 's/[[:space:]]*$//; s/\x1b\[[0-9;]*m//g' "$said"
        printf '```\n'
    } >>"$file"
    rm -f "$said"
    echo "wrote $file"
    exit $code
}

# What each script needs of the system: a command or a file, by a pattern perhaps, and the package of Debian that it
# comes with. Where there is no apt, the commands and files are what counts.
system_needs() {
    local compiler='g++=g++ git=git' clang='clang++=clang' gtest=/usr/include/gtest/gtest.h=libgtest-dev
    local libraries='/usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt'
    case $1 in
        test) echo "$compiler $gtest pkg-config=pkg-config" ;;
        test-wheel | check-platforms) echo "$compiler" ;;
        test-musl) echo "$compiler /usr/src/googletest/CMakeLists.txt=googletest" ;;
        test-windows)
            echo "$compiler ccache=ccache x86_64-w64-mingw32-g++-posix=g++-mingw-w64-x86-64-posix wine=wine" \
                /usr/src/googletest/CMakeLists.txt=googletest ;;
        test-exhaustive | coverage | speed-gate | test-compilers) echo "$compiler $gtest" ;;
        compilers)  # all that Debian has and test-compilers takes
            apt-cache search --names-only '^(g\+\+|clang)-[0-9]+$' | cut -d ' ' -f 1 | while IFS=- read -r name version; do
                [ "$version" -lt "$([ "$name" = clang ] && echo 13 || echo 11)" ] || echo -n "${name/clang/clang++}-$version=$name-$version "
            done ;;
        test-cpus) echo "$compiler $clang $gtest qemu-x86_64-static=qemu-user-static /usr/include/simde/x86/avx512.h=libsimde-dev" ;;
        test-emulated) system_needs test-emulated-aarch64 ;;
        test-emulated-*)
            local architecture=${1#test-emulated-}
            echo "$compiler $architecture-linux-gnu-g++=g++-$architecture-linux-gnu" \
                "qemu-aarch64-static=qemu-user-static /usr/src/googletest/CMakeLists.txt=googletest" ;;
        test-python-aarch64) echo "$compiler aarch64-linux-gnu-g++=g++-aarch64-linux-gnu qemu-aarch64-static=qemu-user-static" ;;
        test-sanitizers) echo "$compiler $clang $gtest $libraries.asan-*=libclang-rt-dev spin=spin" ;;
        fuzz) echo "$compiler $clang $libraries.fuzzer-*=libclang-rt-dev" ;;
        test-avx512) echo "$compiler $gtest bochs=bochs /usr/share/bochs/BIOS-bochs-latest=bochsbios xorriso=xorriso" \
            /usr/share/doc/busybox-static=busybox-static /usr/lib/ISOLINUX/isolinux.bin=isolinux \
            /usr/lib/syslinux/modules/bios/ldlinux.c32=syslinux-common ;;
        test-pythons) echo "$compiler ccache=ccache dpkg-source=dpkg-dev /usr/include/zlib.h=zlib1g-dev" \
            "/usr/include/openssl/ssl.h=libssl-dev /usr/include/*/ffi.h=libffi-dev" ;;
        links) echo ip=iproute2 tc=iproute2 ;;
        lint) echo git=git ;;
        ci-compile) echo "$compiler $gtest ccache=ccache" ;;
        *) return 1 ;;
    esac
}

# The same of Python: dependency groups of pyproject.toml.
python_needs() {
    case $1 in
        test | test-wheel) echo build test wheel ;;
        coverage) echo build test coverage ;;
        test-sanitizers | fuzz | links) echo build test ;;
        check-platforms | test-musl) echo build platforms ;;
        test-python-aarch64 | test-pythons) echo build wheel ;;
        lint) echo lint ;;
        *) echo build ;;
    esac
}

# And what scripts/setup brings that no package of these is: directories.
directory_needs() {
    case $1 in
        test-windows) echo build/windows-host ;;
    esac
}

# Of these scripts: packages of the system that are missing.
missing_packages() {
    local script needs need
    for script; do
        read -ra needs <<<"$(system_needs "$script")"
        for need in "${needs[@]}"; do
            command -v "${need%=*}" >/dev/null || compgen -G "${need%=*}" >/dev/null || echo "${need##*=}"
        done
    done | sort -u
}

# Of these scripts: dependency groups that .venv lacks, as they are in pyproject.toml now. scripts/setup keeps a list of
# what it installed.
missing_groups() {
    local script group version
    version=$(groups_version)
    for script; do
        for group in $(python_needs "$script"); do
            grep -qsx "$group $version" .venv/groups || echo "$group"
        done
    done | sort -u
}
groups_version() { sed -n '/^\[dependency-groups\]/,/^\[tool/p' pyproject.toml | cksum | cut -d ' ' -f 1; }

# Of these scripts: directories that are not there.
missing_directories() {
    local script directory
    for script; do
        for directory in $(directory_needs "$script"); do
            [ -d "$directory" ] || echo "$directory"
        done
    done
}

# Enters .venv, if all is there that the script of this name needs. Nothing is installed: that is for scripts/setup.
needs() {
    local packages groups directories
    packages=$(missing_packages "$1")
    groups=$(missing_groups "$1")
    directories=$(missing_directories "$1")
    if [ -n "$packages$groups$directories" ]; then
        [ -z "$packages" ] || echo "scripts/$1 needs of the system (Debian's names):" $packages
        [ -z "$groups" ] || echo "scripts/$1 needs in .venv the dependency groups:" $groups
        [ -z "$directories" ] || echo "scripts/$1 needs what scripts/setup brings to:" $directories
        echo "To install that: ./scripts/setup $1"
        exit 1
    fi >&2
    # shellcheck disable=SC1091
    . .venv/bin/activate
}

# An environment in this directory that sees the packages of .venv, but no piquant installed there, editable perhaps; and
# instead that of a wheel, if one is given.
environment() {
    rm -rf "$1"
    python -m venv --without-pip "$1"
    [ -z "${2:-}" ] || pip --python "$1/bin/python" install -q --no-index --no-deps "$2"
    local site='import site; print(site.getsitepackages()[0])'
    # As a path only: what its own .pth files ask for does not happen.
    python -c "$site" >"$("$1/bin/python" -c "$site")/beside.pth"
}

# build/dev, or these targets of it: the directory of the preset "dev". Scripts that come at once wait for each other,
# and find it built.
build_tests() {
    mkdir -p build
    (
        flock 9
        cmake --preset dev >/dev/null
        cmake --build build/dev ${1:+--target "$@"}
    ) 9>build/dev.lock
}

# Files of the Python tests that import torch nowhere, nor what they import of tests/python. Some tests in them skip
# themselves for want of other packages.
tests_without_torch() {
    local names=torch last=''
    (
        cd tests/python
        while [ "$names" != "$last" ]; do
            last=$names
            names=torch$(grep -lE "^(import|from) (piquant\.)?($last)\>" -- *.py | sed 's/^/|/; s/\.py$//' | tr -d '\n')
        done
        grep -LE "^(import|from) (piquant\.)?($names)\>" test_*.py | sed 's,^,tests/python/,'
    )
}

# The compiler of the package ziglang, as $zig.
find_zig() {
    zig=$(python -c 'import ziglang, pathlib; print(pathlib.Path(ziglang.__file__).with_name("zig"))')
    export ZIG_GLOBAL_CACHE_DIR=$PWD/build/zig-cache ZIG_LOCAL_CACHE_DIR=$PWD/build/zig-cache
}
# build/TARGET, for this target, by $zig with these flags; arguments beyond them go to CMake.
configure_zig() {
    cmake -S . -B "build/$1" -G Ninja -DCMAKE_TOOLCHAIN_FILE=cmake/zig.cmake -DPIQUANT_ZIG="$zig" -DPIQUANT_ZIG_TARGET="$1" \
        -DPIQUANT_WERROR=ON -DCMAKE_BUILD_TYPE=None -DCMAKE_CXX_FLAGS="$2" "${@:3}" >/dev/null
}

# A program of GoogleTest and its arguments. That no test was chosen, as by a mistyped filter, is a failure too.
run_tests() { "$@" --gtest_brief=1 | awk '{ print; fflush() } /PASSED  \] [1-9]/ { some = 1 } END { exit !some }'; }
