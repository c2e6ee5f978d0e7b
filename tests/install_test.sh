#!/bin/sh
# meson install into a DESTDIR: everything is where a package wants it, and the installed program runs.
#   install_test.sh BUILD_DIR
set -eu
dest=$(mktemp -d)
trap 'rm -rf "$dest"' EXIT
DESTDIR=$dest meson install -C "$1" --no-rebuild >/dev/null
for f in bin/quotemill share/man/man1/quotemill.1 share/bash-completion/completions/quotemill share/doc/quotemill/README.md; do
  [ -f "$dest/usr/local/$f" ] || { echo "not installed: $f"; exit 1; }
done
"$dest/usr/local/bin/quotemill" --version
n=$(find "$dest" -type f | wc -l)
[ "$n" = 5 ] || { echo "$n files installed, 5 expected:"; find "$dest" -type f; exit 1; }
if command -v man >/dev/null; then
  said=$(man --warnings -l "$dest/usr/local/share/man/man1/quotemill.1" 2>&1 >/dev/null)
  [ -z "$said" ] || { echo "man: $said"; exit 1; }
fi
bash -n "$dest/usr/local/share/bash-completion/completions/quotemill"
