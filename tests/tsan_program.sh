#!/usr/bin/env bash
# The program itself under ThreadSanitizer: every way in, 1 to 8 workers, both ways of reading, interrupted, and with what a run records
# and removes. Run from the root.
set -euo pipefail
[ -f build-tsan/build.ninja ] || meson setup build-tsan -Dtests=disabled -Dbench=disabled -Dwerror=false -Db_sanitize=thread \
  -Db_lundef=false >/dev/null
ninja -C build-tsan tools/quotemill >/dev/null
q=$PWD/build-tsan/tools/quotemill
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export QUOTEMILL_HOME=$work/home TSAN_OPTIONS=exitcode=66
"$q" gen --instances 600 --key p256 --keys 16 --baseline --out "$work/single" >/dev/null 2>&1
mkdir -p "$work/many/spool-1"
for digit in 0 1 2 3 4 5 6 7 8 9; do # the same records, many to a file
  find "$work/single/spool-1" -name "*$digit.mpk" -exec cat {} + >"$work/many/spool-1/$digit.mpk"
done
"$q" init 2>/dev/null
expect() { # expect CODE NAME COMMAND…
  local want=$1 name=$2 code=0; shift 2
  "$@" >"$work/out" 2>"$work/err" || code=$?
  if [ $code != "$want" ] || grep -q 'WARNING: ThreadSanitizer' "$work/err"; then
    echo "FAIL $name: exit $code, expected $want"; head -n 60 "$work/err"; exit 1
  fi
  echo "ok   $name"
}
run_over() { # FLEET OPTION…: a run takes its spool away, so it gets a copy
  local spool=$1; shift
  rm -rf "$work/spool"; cp -r "$spool" "$work/spool"
  "$q" run "$@" "$work/spool" || return
  [ -z "$(find "$work/spool" -name '*.mpk')" ] || { echo "files are left in the spool" >&2; return 1; }
}
stdin_of() { cat "$work"/many/spool-1/*.mpk | "$@"; }
interrupted() { # SIGNAL COMMAND…: the stream stays open, so only the signal ends it
  local signal=$1 feeder pid code=0; shift
  rm -f "$work/stream" "$work/fed"; mkfifo "$work/stream"
  { cat "$work"/many/spool-1/*.mpk; : >"$work/fed"; exec sleep 20; } >"$work/stream" & feeder=$!
  "$@" <"$work/stream" & pid=$!
  until [ -f "$work/fed" ]; do sleep 0.1; done # more than a pipe holds: the workers are reading
  kill -"$signal" $pid
  wait $pid || code=$?
  kill $feeder
  return $code
}
expect 0 "enrolling" "$q" enroll "$work/single/enroll.ndjson"
for io in read uring; do
  "$q" verify --io $io "$work/single/spool-1" >/dev/null 2>&1 || { [ $? = 2 ] && { echo "io_uring cannot be used here"; continue; }; }
  for workers in 1 2 4 8; do
    expect 0 "$io, $workers workers, small files" "$q" verify --io $io --workers $workers "$work/single/spool-1"
    expect 0 "$io, $workers workers, many-record files" "$q" verify --io $io --workers $workers --json "$work/many/spool-1"
    expect 0 "$io, $workers workers, a stream" stdin_of "$q" verify --io $io --workers $workers -
  done
  for workers in 1 2 4 8; do
    expect 0 "$io, $workers workers, a run over small files" run_over "$work/single/spool-1" --io $io --workers $workers
    expect 0 "$io, $workers workers, a run over many-record files" run_over "$work/many/spool-1" --io $io --workers $workers
  done
  expect 3 "$io, SIGINT" interrupted INT "$q" verify --io $io --workers 4 -
  expect 3 "$io, SIGTERM" interrupted TERM "$q" verify --io $io --workers 2 -
done
expect 0 "portable kernels" "$q" verify --crypto openssl --workers 4 "$work/many/spool-1"
"$q" gen --out "$work/single" --round 2 --tamper 0.5 >/dev/null 2>&1
expect 1 "a run that raises alerts" run_over "$work/single/spool-2" --workers 4
