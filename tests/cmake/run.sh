#!/bin/sh
# Builds the library with compiler flags from outside that would change its results, or set flush-to-zero in every process
# that loads it, and calls it. Of the instruction sets the scalar one is enough.
#
#   tests/cmake/run.sh
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset PIQUANT_NUM_THREADS PIQUANT_ISA PIQUANT_SERIAL_CUTOFF PIQUANT_STREAM_THRESHOLD
generator=$(command -v ninja >/dev/null && echo Ninja || echo 'Unix Makefiles')
configure() { cmake -S "$here/../.." -B "$work/$1" -G "$generator" -DPIQUANT_ISAS=scalar >"$work/log" 2>&1; }

# Each flag is named, and compiles nothing.
for flag in -ffast-math -Ofast -funsafe-math-optimizations -fassociative-math -freciprocal-math -ffinite-math-only \
    -fno-signed-zeros -fsingle-precision-constant -ffp-contract=fast -fexcess-precision=fast -mfpmath=387 -mpc32 \
    -mdaz-ftz -mrecip -fshort-enums -fpack-struct=1; do
    rm -rf "$work/one"
    # Those that the compiler of this machine does not know would fail its check, were they not taken out only after that.
    CXXFLAGS="-g $flag -pipe" configure one || { grep -q 'unrecognized\|not supported\|unknown' "$work/log" && continue; cat "$work/log"; exit 1; }
    tr -s '\n ' ' ' <"$work/log" | grep -q -- "piquant is built without $flag:" || { cat "$work/log"; exit 1; }
    if grep -- " $flag " "$work/one/compile_commands.json"; then exit 1; fi
    grep -q -- '-g .*-pipe' "$work/one/compile_commands.json"
done
echo 'flags are refused by name'

# What is left of all of them computes what it should: through CXXFLAGS and LDFLAGS; and through CXX, where CMake does not
# show them and our own flags undo them.
bad='-ffast-math -funsafe-math-optimizations -fassociative-math -freciprocal-math -fsingle-precision-constant'
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
