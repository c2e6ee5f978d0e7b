#!/bin/sh
# meson install into a DESTDIR: everything is where a package wants it, and the installed program runs.
#   install_test.sh BUILD_DIR
set -eu
dest=$(mktemp -d)
trap 'rm -rf "$dest"' EXIT
DESTDIR=$dest meson install -C "$1" --no-rebuild >/dev/null
for f in bin/quotemill bin/quotemill-collect share/man/man1/quotemill.1 share/bash-completion/completions/quotemill share/doc/quotemill/README.md \
    share/doc/quotemill/crontab lib/systemd/system/quotemill.service lib/systemd/system/quotemill.timer lib/tmpfiles.d/quotemill.conf \
    lib/sysusers.d/quotemill.conf; do
  [ -f "$dest/usr/local/$f" ] || { echo "not installed: $f"; exit 1; }
done
"$dest/usr/local/bin/quotemill" --version
n=$(find "$dest" -type f | wc -l)
[ "$n" = 11 ] || { echo "$n files installed, 11 expected:"; find "$dest" -type f; exit 1; }
if command -v man >/dev/null; then
  said=$(man --warnings -l "$dest/usr/local/share/man/man1/quotemill.1" 2>&1 >/dev/null)
  [ -z "$said" ] || { echo "man: $said"; exit 1; }
fi
bash -n "$dest/usr/local/share/bash-completion/completions/quotemill"
! grep -rn '@[a-z]*@' "$dest/usr/local/lib" "$dest/usr/local/share/doc/quotemill/crontab" || { echo "a name was not filled in"; exit 1; }
if command -v systemd-analyze >/dev/null; then
  sed -i "s:^ExecStart=/usr/local:ExecStart=$dest/usr/local:" "$dest/usr/local/lib/systemd/system/quotemill.service"
  said=$(SYSTEMD_UNIT_PATH=$dest/usr/local/lib/systemd/system: systemd-analyze verify --man=no \
    "$dest/usr/local/lib/systemd/system/quotemill.service" "$dest/usr/local/lib/systemd/system/quotemill.timer" 2>&1) || true
  [ -z "$said" ] || { echo "systemd-analyze: $said"; exit 1; }
fi
