# shellcheck shell=bash
# What the scripts share; to be sourced, from the root of the repository.

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
        test-exhaustive | coverage | speed-gate) echo "$compiler $gtest" ;;
        test-cpus) echo "$compiler $clang $gtest qemu-x86_64-static=qemu-user-static /usr/include/simde/x86/avx512.h=libsimde-dev" ;;
        test-aarch64) echo "$compiler aarch64-linux-gnu-g++=g++-aarch64-linux-gnu qemu-aarch64-static=qemu-user-static" \
            /usr/src/googletest/CMakeLists.txt=googletest ;;
        test-sanitizers) echo "$compiler $clang $gtest $libraries.asan-*=libclang-rt-dev spin=spin" ;;
        fuzz) echo "$compiler $clang $libraries.fuzzer-*=libclang-rt-dev" ;;
        test-avx512) echo "$compiler $gtest bochs=bochs /usr/share/bochs/BIOS-bochs-latest=bochsbios xorriso=xorriso" \
            /usr/share/doc/busybox-static=busybox-static /usr/lib/ISOLINUX/isolinux.bin=isolinux \
            /usr/lib/syslinux/modules/bios/ldlinux.c32=syslinux-common ;;
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
        test-sanitizers | fuzz) echo build test ;;
        check-platforms) echo build platforms ;;
        lint) echo lint ;;
        *) echo build ;;
    esac
}

# Of these scripts: packages of the system that are missing.
missing_packages() {
    local script needs need
    for script; do
        read -ra needs < <(system_needs "$script" | tr '\n' ' ')
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

# Enters .venv, if all is there that the script of this name needs. Nothing is installed: that is for scripts/setup.
needs() {
    local packages groups
    packages=$(missing_packages "$1")
    groups=$(missing_groups "$1")
    if [ -n "$packages$groups" ]; then
        [ -z "$packages" ] || echo "scripts/$1 needs of the system (Debian's names):" $packages
        [ -z "$groups" ] || echo "scripts/$1 needs in .venv the dependency groups:" $groups
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

# A program of GoogleTest and its arguments. That no test was chosen, as by a mistyped filter, is a failure too.
run_tests() { "$@" --gtest_brief=1 | awk '{ print; fflush() } /PASSED  \] [1-9]/ { some = 1 } END { exit !some }'; }
