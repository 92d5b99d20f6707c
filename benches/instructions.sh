#!/usr/bin/env bash
# Counts, with valgrind, the instructions and the allocations that single steps of the state machine take, and compares
# the instructions with limits. Both are counted for N steps and for 2N, so that what is set up once does not count.
# Fails beyond a limit. A limit is a fifth above what was measured on x86-64 with Rust 1.95.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# case, steps, most instructions per step
LIMITS='
place        20000  530
join         20000   80
merge        10000 2000
merge-known  10000  620
encode       20000 1010
decode       20000 2520
datagram      2000 15400
'

main() {
  command -v valgrind >/dev/null || { echo "valgrind is not installed (apt-get install valgrind)"; exit 2; }
  local binary case steps limit worst=0
  binary=$(cargo bench --no-default-features --bench instructions --no-run 2>&1 | sed -nE 's/.*\((.*)\)$/\1/p' | tail -n 1)
  printf '%-12s %14s %14s %10s\n' step instructions allocations limit
  while read -r case steps limit; do
    local i1 i2 a1 a2
    i1=$(instructions "$case" "$steps") i2=$(instructions "$case" $((2 * steps)))
    a1=$(allocations "$case" "$steps") a2=$(allocations "$case" $((2 * steps)))
    local each=$(((i2 - i1) / steps))
    printf '%-12s %14d %14s %10d\n' "$case" "$each" "$(hundredths $(((100 * (a2 - a1)) / steps)))" "$limit"
    if ((each > limit)); then echo "  more than $limit instructions"; worst=1; fi
  done <<<"$(grep . <<<"$LIMITS")"
  return "$worst"
}

hundredths() {
  printf '%d.%02d' $(($1 / 100)) $(($1 % 100))
}

instructions() {
  valgrind --tool=callgrind --callgrind-out-file=/dev/null "$binary" "$1" "$2" 2>&1 |
    sed -nE 's/.*Collected : ([0-9]+).*/\1/p'
}

allocations() {
  valgrind --tool=memcheck --leak-check=no --undef-value-errors=no "$binary" "$1" "$2" 2>&1 |
    sed -nE 's/.*total heap usage: ([0-9,]+) allocs.*/\1/p' | tr -d ,
}

main
