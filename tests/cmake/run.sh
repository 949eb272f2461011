#!/bin/sh
# Builds the library with compiler flags from outside that would change its results, or set flush-to-zero in every process
# that loads it, and calls it. Of the instruction sets the scalar one is enough. And tries to build it without a compiler,
# and for a big-endian machine.
#
#   tests/cmake/run.sh
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset PIQUANT_NUM_THREADS PIQUANT_ISA PIQUANT_SERIAL_CUTOFF PIQUANT_STREAM_THRESHOLD
generator=$(command -v ninja >/dev/null && echo Ninja || echo 'Unix Makefiles')
configure() { cmake -S "$here/../.." -B "$work/$1" -G "$generator" -DPIQUANT_ISAS=scalar >"$work/log" 2>&1; }

# Without a compiler CMake's words would be of variables that nobody has set.
mkdir "$work/bin"
for tool in cmake ninja make uname; do
    ! found=$(command -v $tool) || ln -s "$found" "$work/bin/$tool"
done
if (unset CXX CC && PATH=$work/bin configure none); then exit 1; fi
tr -s '\n ' ' ' <"$work/log" | grep -q 'needs a C++20 compiler.*apt install g++' || { cat "$work/log"; exit 1; }
echo 'a missing compiler is said to be missing'

# Bytes in the other order: refused by CMake, and by the sources where another build system compiles them.
if CMAKE_TOOLCHAIN_FILE=$here/big_endian.cmake configure big_endian; then exit 1; fi
tr -s '\n ' ' ' <"$work/log" | grep -q 'needs a little-endian machine: s390x' || { cat "$work/log"; exit 1; }
if ${CXX:-c++} -std=c++20 -I"$here/../../src" -I"$here/../../include" -U__BYTE_ORDER__ -D__BYTE_ORDER__=__ORDER_BIG_ENDIAN__ \
    -w -fsyntax-only "$here/../../src/engine/validate.cpp" 2>"$work/log"; then exit 1; fi
grep -q 'needs a little-endian machine' "$work/log" || { cat "$work/log"; exit 1; }
echo 'a big-endian machine is refused'

# Each flag is named, and compiles nothing. Those that this compiler does not know stop CMake before it comes to us.
flags=
for flag in -ffast-math -Ofast -funsafe-math-optimizations -fassociative-math -freciprocal-math -ffinite-math-only \
    -fno-signed-zeros -fsingle-precision-constant -ffp-contract=fast -fexcess-precision=fast -mfpmath=387 -mpc32 \
    -mdaz-ftz -mrecip -fshort-enums -fpack-struct=1 -ffp-model=fast -ffp-eval-method=double -fno-honor-nans \
    -fno-honor-infinities -fapprox-func -fdenormal-fp-math=preserve-sign; do
    if echo 'int main() {}' | ${CXX:-c++} -Werror $flag -x c++ -fsyntax-only - 2>/dev/null; then flags="$flags $flag"; fi
done
CXXFLAGS="-g $flags	-ffast-math -pipe" configure all || { cat "$work/log"; exit 1; }
for flag in $flags; do
    tr -s '\n' ' ' <"$work/log" | grep -q -- "is built without .*$flag" || { echo "$flag is not refused"; exit 1; }
    if grep -- " $flag " "$work/all/compile_commands.json"; then exit 1; fi
done
grep -q -- '-g .*-pipe' "$work/all/compile_commands.json"
echo "refused by name:$flags"

# What is left of all of them computes what it should: through CXXFLAGS and LDFLAGS; and through CXX, where CMake does not
# show them and our own flags undo them.
bad='-ffast-math -funsafe-math-optimizations -freciprocal-math'
case $flags in *-fsingle-precision-constant*) bad="$bad -fsingle-precision-constant" ;; esac
for way in flags compiler; do
    if [ $way = flags ]; then
        CXXFLAGS="-Ofast $bad" LDFLAGS=$bad configure $way || { cat "$work/log"; exit 1; }
    else
        CXX="${CXX:-c++} $bad" configure $way || { cat "$work/log"; exit 1; }
    fi
    cmake --build "$work/$way" --parallel 2 >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
    ${CC:-cc} -std=c99 -O0 -I"$here/../../include" "$here/process.c" -L"$work/$way" -lpiquant -Wl,-rpath,"$work/$way" \
        -o "$work/process"
    "$work/process"
    echo "harmless through: $way"
done
