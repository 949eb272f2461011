#!/bin/sh
# Installs the library and uses it as a C project would: through CMake's find_package and through pkg-config.
#
#   tests/c/run.sh <build directory of piquant>
set -eu
build=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
CC=${CC:-cc}
CXX=${CXX:-c++}
strict="-pedantic -Wall -Wextra -Werror"

# Into a staging prefix, then moved: an installation must not remember where it was made.
cmake --install "$build" --prefix "$work/staging" >/dev/null
mv "$work/staging" "$work/prefix"
prefix=$work/prefix
library=$(find "$prefix" -name 'libpiquant.so')
directory=$(dirname "$library")

run() {
    env -u PIQUANT_NUM_THREADS -u PIQUANT_ISA -u PIQUANT_SERIAL_CUTOFF -u PIQUANT_STREAM_THRESHOLD \
        LD_LIBRARY_PATH="$directory" "$@"
}
try() {
    echo "$1: $2"
    run "$2"
    for bad in PIQUANT_NUM_THREADS=0 PIQUANT_ISA=mmx PIQUANT_SERIAL_CUTOFF=1k PIQUANT_STREAM_THRESHOLD=-1; do
        run env "$bad" "$2" bad-environment
    done
}

cmake -S "$here" -B "$work/cmake" -DCMAKE_PREFIX_PATH="$prefix" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
cmake --build "$work/cmake" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
try find_package "$work/cmake/consumer"

export PKG_CONFIG_PATH="$directory/pkgconfig"
# shellcheck disable=SC2046,SC2086
$CC -std=c99 $strict $(pkg-config --cflags piquant) "$here/consumer.c" -o "$work/consumer" $(pkg-config --libs piquant)
try pkg-config "$work/consumer"
echo "version: $(pkg-config --modversion piquant)"

# The header alone, in both languages.
for standard in c99 c11 c17; do
    echo '#include <piquant/quant.h>' | $CC -std=$standard $strict -I"$prefix/include" -x c -fsyntax-only -
done
for standard in c++98 c++11 c++20; do
    echo '#include <piquant/quant.h>
piquant_options_t options = PIQUANT_OPTIONS_INIT;' |
        $CXX -std=$standard $strict -Wno-long-long -I"$prefix/include" -x c++ -fsyntax-only -
done

# Nothing but the C API is visible. exported_symbols.txt changes only together with the header.
nm -D --defined-only "$library" | awk '{ print $3 }' | LC_ALL=C sort >"$work/symbols"
diff -u "$here/exported_symbols.txt" "$work/symbols"
echo "symbols: $(wc -l <"$work/symbols")"
