#!/usr/bin/env bash
# Explores the model of the thread pool in every interleaving, and sees that each way to break it is found.
set -euo pipefail
cd "$(dirname "$0")"

command -v spin >/dev/null || { echo 'Spin is missing. To install it: ./scripts/setup test-sanitizers' >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

explore() { # BREAK=$1, optimization of the compiler: a fault is found sooner than code that finds it soon compiles
    (cd "$work" && spin -DBREAK="$1" -a "$OLDPWD/thread_pool.pml" >spin.log &&
        ${CC:-cc} "$2" -w -DSAFETY -DCOLLAPSE -DVECTORSZ=2048 -o pan pan.c && ./pan -m100000 >pan.log)
    grep -q 'max search depth too small' "$work/pan.log" && { cat "$work/pan.log"; exit 1; }
    errors=$(sed -n 's/.*errors: \([0-9]*\).*/\1/p' "$work/pan.log")
    states=$(sed -n 's/ *\([0-9.e+]*\) states, stored.*/\1/p' "$work/pan.log")
}

explore 0 -O2
echo "thread pool model: $states states, $errors errors"
[ "$errors" -eq 0 ] || { cat "$work/pan.log"; exit 1; }
for broken in 1 2 3 4 5 6 7 8; do
    explore $broken -O0
    [ "$errors" -gt 0 ] || { echo "broken in way $broken, and the model does not notice"; exit 1; }
done
echo "thread pool model: each of 8 ways to break it is found"
