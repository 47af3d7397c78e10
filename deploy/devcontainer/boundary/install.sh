#!/bin/sh
# Installs boundary into a dev container: the release that the feature's option names, by the
# installer of that release. The option arrives as $VERSION. The container keeps its engine's own walls, so
# that `auto` takes `landjail` in it.
set -eu
releases=${BOUNDARY_RELEASES:-https://github.com/coder/boundary/releases}
version=${VERSION:-latest}
if [ "$version" = latest ]; then
  place=$releases/latest/download
else
  place=$releases/download/$version
fi
script=$(mktemp)
trap 'rm -f -- "$script"' EXIT
if command -v curl >/dev/null; then
  curl -fsSL -o "$script" -- "$place/install.sh"
else
  wget -q -O "$script" -- "$place/install.sh"
fi
sh "$script" --version "$version"
