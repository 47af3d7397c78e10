#!/bin/sh
# Installs boundary from a release: takes the archive for this machine, checks its sum, and puts the
# program where it is found. Changes nothing else.
#
# The sums come from the same place as the archive: they find a broken download, not a false release.
# With --signers, the sums must be signed by one of those that the file names, which came another way.
set -eu

releases=${BOUNDARY_RELEASES:-https://github.com/coder/boundary/releases}
signers=${BOUNDARY_SIGNERS:-}
version=latest
folder=${INSTALL_DIR:-/usr/local/bin}

usage() {
  cat <<EOF
Installs boundary.

  install.sh [--version TAG] [--install-dir DIR] [--signers FILE]

  --version TAG       a release instead of the latest
  --install-dir DIR   where the program goes (INSTALL_DIR; default /usr/local/bin)
  --signers FILE      installs nothing that none of these has signed: the keys of ssh that are
                      trusted, as ssh-keygen(1) calls ALLOWED SIGNERS (BOUNDARY_SIGNERS)
  -h, --help          this

BOUNDARY_RELEASES names another place that keeps releases: a mirror, or file:///DIR.
EOF
}

fail() {
  echo "install.sh: $*" >&2
  exit 1
}

# An option's value: the next word.
value() {
  [ $# -ge 2 ] && [ -n "$2" ] || fail "$1 needs a value"
  printf '%s\n' "$2"
}

while [ $# -gt 0 ]; do
  case $1 in
    --version) version=$(value "$@") || exit 1 && shift 2 ;;
    --version=*) version=${1#*=} && shift ;;
    --install-dir) folder=$(value "$@") || exit 1 && shift 2 ;;
    --install-dir=*) folder=${1#*=} && shift ;;
    --signers) signers=$(value "$@") || exit 1 && shift 2 ;;
    --signers=*) signers=${1#*=} && shift ;;
    -h | --help) usage && exit 0 ;;
    *) usage >&2 && fail "unknown option $1" ;;
  esac
done

# A tag becomes part of a URL.
case $version in
  '' | *[!A-Za-z0-9._+-]*) fail "not a version: $version" ;;
esac

[ "$(uname -s)" = Linux ] || fail "boundary runs on Linux, this is $(uname -s)"
case $(uname -m) in
  x86_64 | amd64) arch=amd64 ;;
  aarch64 | arm64) arch=arm64 ;;
  *) fail "there is no boundary for $(uname -m), only for x86_64 and aarch64" ;;
esac
command -v tar >/dev/null || fail "tar is needed"
command -v sha256sum >/dev/null || fail "sha256sum is needed"
if [ -n "$signers" ]; then
  [ -r "$signers" ] || fail "$signers cannot be read"
  command -v ssh-keygen >/dev/null || fail "ssh-keygen is needed for --signers"
fi

# Downloads $1 into $2.
download() {
  case $1 in
    file://*) cp -- "${1#file://}" "$2" ;;
    *)
      if command -v curl >/dev/null; then
        curl -fsSL --retry 3 -o "$2" -- "$1"
      elif command -v wget >/dev/null; then
        wget -q -O "$2" -- "$1"
      else
        fail "curl or wget is needed"
      fi
      ;;
  esac || fail "cannot download $1"
}

name=boundary-linux-$arch
if [ "$version" = latest ]; then
  place=$releases/latest/download
else
  place=$releases/download/$version
fi
scratch=$(mktemp -d)
trap 'rm -rf -- "$scratch"' EXIT
trap 'exit 1' HUP INT TERM

download "$place/$name.tar.gz" "$scratch/$name.tar.gz"
download "$place/SHA256SUMS" "$scratch/SHA256SUMS"
# A signature is of the sums, and they are of all that is in a release.
if [ -n "$signers" ]; then
  download "$place/SHA256SUMS.sig" "$scratch/SHA256SUMS.sig"
  who=$(ssh-keygen -Y find-principals -f "$signers" -s "$scratch/SHA256SUMS.sig" 2>/dev/null) ||
    fail "$place/SHA256SUMS is signed by nobody in $signers; nothing was installed"
  ssh-keygen -Y verify -f "$signers" -I "${who%%[,
]*}" -n boundary -s "$scratch/SHA256SUMS.sig" <"$scratch/SHA256SUMS" >/dev/null 2>&1 ||
    fail "$place/SHA256SUMS is not what was signed; nothing was installed"
fi
# No sum for the archive is as bad as a wrong one.
grep -- " [ *]*$name\.tar\.gz\$" "$scratch/SHA256SUMS" >"$scratch/sum" ||
  fail "$place/SHA256SUMS has no sum for $name.tar.gz"
(cd "$scratch" && sha256sum -c sum >/dev/null 2>&1) ||
  fail "$name.tar.gz is not what its sum says; nothing was installed"
tar -xzf "$scratch/$name.tar.gz" -C "$scratch" "$name"

# Asks for root only where it is needed.
as_owner=
if [ "$(id -u)" != 0 ]; then
  existing=$folder
  while [ ! -d "$existing" ]; do existing=$(dirname -- "$existing"); done
  if [ ! -w "$existing" ]; then
    command -v sudo >/dev/null || fail "$folder cannot be written and there is no sudo; see --install-dir"
    as_owner=sudo
  fi
fi
$as_owner mkdir -p -- "$folder"
# Put beside and renamed, so that a boundary that runs is left alone.
$as_owner install -m 755 "$scratch/$name" "$folder/.boundary.new"
$as_owner mv -f -- "$folder/.boundary.new" "$folder/boundary"
echo "installed $("$folder/boundary" --version) as $folder/boundary"
