#!/usr/bin/env bash
# Counts, with valgrind, the instructions and the allocations that single steps of the state machine take, and compares
# them with limits. Both are counted for N steps and for 2N, so that what is set up once does not count. Fails beyond a
# limit. That of instructions is a fifth above what was measured on x86-64 with Rust 1.95.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# case, steps, most instructions per step, most allocations per 100 steps
LIMITS='
place              20000   530   0
join               20000    80   0
merge              10000  1390  10
merge-known        10000   620   0
encode             20000  1010   0
decode             20000  2520 300
datagram            2000 15400   0
datagram-keyed      2000 35000   0
seal-100            2000  9900   0
seal-1400           1000 22000   0
open-100            2000  9900   0
open-1400           1000 22000   0
refuse-long         5000  1280   0
refuse-noise        5000  1160   0
refuse-cluster      5000  1180   0
refuse-key          5000  1200   0
refuse-repeated     5000  1300   0
refuse-rate         5000  1440   0
refuse-forged-100   2000 10300   0
refuse-forged-1400  1000 16800   0
'

main() {
  command -v valgrind >/dev/null || { echo "valgrind is not installed (apt-get install valgrind)"; exit 2; }
  local binary case steps limit allocations_max worst=0
  binary=$(cargo bench --no-default-features --bench instructions --no-run 2>&1 | sed -nE 's/.*\((.*)\)$/\1/p' | tail -n 1)
  printf '%-18s %22s %22s\n' step 'instructions (limit)' 'allocations (limit)'
  while read -r case steps limit allocations_max; do
    local i1 i2 a1 a2
    i1=$(instructions "$case" "$steps") i2=$(instructions "$case" $((2 * steps)))
    a1=$(allocations "$case" "$steps") a2=$(allocations "$case" $((2 * steps)))
    # Rounded up: one allocation in all counts.
    local each=$(((i2 - i1) / steps)) allocated=$(((100 * (a2 - a1) + steps - 1) / steps))
    printf '%-18s %13d %8s %13s %8s\n' "$case" "$each" "($limit)" \
      "$(hundredths $allocated)" "($(hundredths "$allocations_max"))"
    if ((each > limit)); then echo "  more than $limit instructions"; worst=1; fi
    if ((allocated > allocations_max)); then echo "  more than $allocations_max allocations in 100 steps"; worst=1; fi
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
