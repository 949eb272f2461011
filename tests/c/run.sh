#!/bin/sh
# Installs the library and uses it as a C project would: through CMake's find_package and through pkg-config; the shared
# library of a build directory, then a static one.
#
#   tests/c/run.sh <build directory of piquant>
set -eu
build=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
CC=${CC:-cc}
CXX=${CXX:-c++}
strict="-pedantic -Wall -Wextra -Wconversion -Wshadow -Werror"

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
quietly() { "$@" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }; }

# A build directory, a name for it, what the library is called, what else pkg-config is told.
install_and_use() {
    # Into a staging prefix, then moved: an installation must not remember where it was made.
    cmake --install "$1" --prefix "$work/staging" >/dev/null
    prefix=$work/$2
    mv "$work/staging" "$prefix"
    library=$(find "$prefix" -name "$3")
    directory=$(dirname "$library")

    quietly cmake -S "$here" -B "$work/cmake-$2" -DCMAKE_PREFIX_PATH="$prefix"
    quietly cmake --build "$work/cmake-$2"
    try "$2, find_package" "$work/cmake-$2/consumer"

    export PKG_CONFIG_PATH="$directory/pkgconfig"
    # shellcheck disable=SC2046,SC2086
    $CC -std=c99 $strict $(pkg-config --cflags piquant) "$here/consumer.c" -o "$work/consumer-$2" \
        $(pkg-config $4 --libs piquant)
    try "$2, pkg-config" "$work/consumer-$2"
    echo "version: $(pkg-config --modversion piquant)"
}

install_and_use "$build" shared libpiquant.so ''

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

# The same objects in a static library, of which the scalar set is enough and soon compiled.
quietly cmake -S "$here/../.." -B "$work/build-static" -DBUILD_SHARED_LIBS=OFF -DPIQUANT_ISAS=scalar -DPIQUANT_WERROR=ON
quietly cmake --build "$work/build-static" --parallel 2
install_and_use "$work/build-static" static libpiquant.a --static
# The API is in it, the rest is hidden from whoever loads the library that this one ends up in, and nothing of it is
# needed at run time.
readelf -Ws "$library" | awk '$4 != "FILE" && $5 == "GLOBAL" && $6 == "DEFAULT" && $7 != "UND" { print $8 }' |
    LC_ALL=C sort >"$work/symbols"
diff -u "$here/exported_symbols.txt" "$work/symbols"
for program in "$work/cmake-static/consumer" "$work/consumer-static"; do
    if readelf -d "$program" | grep 'NEEDED.*piquant'; then exit 1; fi
done
