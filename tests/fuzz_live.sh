#!/usr/bin/env bash
# Runs every fuzz target live for QM_FUZZ_SECONDS (60), two at a time, under ASan and UBSan. Run from the root of the tree.
# Exit 77 with one line where clang or its fuzzer runtime is missing.
set -euo pipefail
seconds=${QM_FUZZ_SECONDS:-60}
targets=(eventlog evidence tpm2 enrolment table explain ceremony corim)
command -v clang >/dev/null && echo 'int LLVMFuzzerTestOneInput(void){return 0;}' |
  clang -x c -fsanitize=fuzzer - -o /dev/null 2>/dev/null || { echo "clang or its fuzzer runtime is not installed"; exit 77; }
[ -f build-fuzz/build.ninja ] || CC=clang meson setup build-fuzz -Dfuzzers=enabled -Dbench=disabled -Dwerror=false \
  -Db_sanitize=address,undefined -Db_lundef=false >/dev/null
ninja -C build-fuzz "${targets[@]/#/tests/fuzz_}" >/dev/null
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fuzz() {
  mkdir "$work/$1"
  local code=0
  UBSAN_OPTIONS=halt_on_error=1 "build-fuzz/tests/fuzz_$1" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=65536 \
    -artifact_prefix="$work/$1/" -print_final_stats=1 "$work/$1" "tests/corpus/$1" >"$work/$1.log" 2>&1 || code=$?
  if [ $code = 0 ]; then echo "$1: $(sed -n 's/^stat::number_of_executed_units: *//p' "$work/$1.log") runs, no finding"
  else echo "$1: a finding:"; tail -n 40 "$work/$1.log"; fi
  return $code
}
bad=0
for ((i = 0; i < ${#targets[@]}; i += 2)); do
  pids=()
  for t in "${targets[@]:i:2}"; do fuzz "$t" & pids+=($!); done
  for p in "${pids[@]}"; do wait "$p" || bad=1; done
done
exit $bad
