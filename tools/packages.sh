# Debian packages, and how missing ones are installed; sourced by the scripts beside it.
build_packages=(gcc libc6-dev meson ninja-build pkg-config libssl-dev liburing-dev libxxhash-dev libmsgpack-dev libsqlite3-dev
  libcbor-dev libtss2-dev)
test_packages=(libcriterion-dev python3 openssl clang libclang-rt-14-dev llvm swtpm swtpm-tools tpm2-tools valgrind libtss2-tcti-device0
  libtss2-tcti-mssim0 libtss2-tcti-swtpm0 faketime)

install_missing() {
  local missing=() p
  for p in "$@"; do
    dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
  done
  [ ${#missing[@]} = 0 ] && return
  echo "installing: ${missing[*]}" >&2
  local as_root=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { echo "these packages are missing and need root to install: ${missing[*]}" >&2; return 3; }
    as_root=(sudo)
  fi
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}
