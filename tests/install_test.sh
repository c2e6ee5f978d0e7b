#!/bin/sh
# meson install into a DESTDIR: everything is where a package wants it, two packages have nothing in common, and the programs run.
#   install_test.sh BUILD_DIR
set -eu
dest=$(mktemp -d)
trap 'rm -rf "$dest"' EXIT
verifier='bin/quotemill share/man/man1/quotemill.1 share/bash-completion/completions/quotemill share/doc/quotemill/README.md
  share/doc/quotemill/LICENSE share/doc/quotemill/crontab lib/systemd/system/quotemill.service lib/systemd/system/quotemill.timer
  lib/systemd/system/quotemill-beacon.service lib/systemd/system/quotemill-beacon.timer
  lib/tmpfiles.d/quotemill.conf lib/sysusers.d/quotemill.conf'
collector='bin/quotemill-collect share/man/man1/quotemill-collect.1 share/bash-completion/completions/quotemill-collect
  lib/systemd/system/quotemill-collect.service lib/systemd/system/quotemill-collect.timer lib/tmpfiles.d/quotemill-collect.conf
  lib/sysusers.d/quotemill-collect.conf'
[ -x "$1/tools/collect/quotemill-collect" ] || collector=

# installs PLACE WHAT FILE…: these and no others; WHAT is an option of meson install, or empty.
installs() {
  place=$dest/$1 option=$2; shift 2
  # shellcheck disable=SC2086 # none or two words
  DESTDIR=$place meson install -C "$build" --no-rebuild $option >/dev/null
  for f in "$@"; do
    [ -f "$place/usr/local/$f" ] || { echo "not installed: $f"; exit 1; }
  done
  n=$(find "$place" -type f | wc -l)
  [ "$n" = $# ] || { echo "$n files installed, $# expected:"; find "$place" -type f; exit 1; }
}
build=$1
# shellcheck disable=SC2086 # lists of words
installs all '' $verifier $collector
# shellcheck disable=SC2086
installs verifier '--tags quotemill' $verifier
if [ -n "$collector" ]; then
  # shellcheck disable=SC2086
  installs collector '--tags collect' $collector
fi

root=$dest/all/usr/local
for program in $root/bin/*; do
  "$program" --version
done
if command -v man >/dev/null; then
  for page in "$root"/share/man/man1/*; do
    said=$(man --warnings -l "$page" 2>&1 >/dev/null)
    [ -z "$said" ] || { echo "man: $said"; exit 1; }
  done
fi
for f in "$root"/share/bash-completion/completions/*; do
  bash -n "$f"
done
! grep -rn '@[a-z]*@' "$root/lib" "$root/share/doc/quotemill/crontab" || { echo "a name was not filled in"; exit 1; }
if command -v systemd-analyze >/dev/null; then
  sed -i "s:^ExecStart=/usr/local:ExecStart=$root:" "$root"/lib/systemd/system/*.service
  said=$(SYSTEMD_UNIT_PATH=$root/lib/systemd/system: systemd-analyze verify --man=no "$root"/lib/systemd/system/* 2>&1) || true
  [ -z "$said" ] || { echo "systemd-analyze: $said"; exit 1; }
fi
