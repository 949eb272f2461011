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

as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi; }

# Pairs: a command or a file, by a pattern perhaps, and the system's package that it comes with if it is missing.
packages() {
    local missing=()
    while [ $# -gt 0 ]; do
        command -v "$1" >/dev/null || compgen -G "$1" >/dev/null || missing+=("$2")
        shift 2
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    as_root apt-get update -qq
    as_root apt-get install -y -qq "${missing[@]}" >/dev/null
}

# Enters .venv, made if need be, with these dependency groups of pyproject.toml. Not compiled: that takes as long again
# as the rest, for all of torch, and Python compiles what it imports.
python_with() {
    [ -d .venv ] || "${PYTHON:-python3}" -m venv .venv
    # shellcheck disable=SC1091
    . .venv/bin/activate
    pip install -q 'pip>=25.1'  # the first that knows groups
    pip install -q --no-compile "${@/#/--group=}"
}

# build/test, or these targets of it. Scripts that come at once wait for each other, and find it built.
build_tests() {
    mkdir -p build
    (
        flock 9
        cmake -S . -B build/test -G Ninja -DPIQUANT_BUILD_TESTS=ON -DPIQUANT_WERROR=ON >/dev/null
        cmake --build build/test ${1:+--target "$@"}
    ) 9>build/test.lock
}

# A program of GoogleTest and its arguments. That no test was chosen, as by a mistyped filter, is a failure too.
run_tests() { "$@" --gtest_brief=1 | awk '{ print; fflush() } /PASSED  \] [1-9]/ { some = 1 } END { exit !some }'; }
