#!/bin/sh
# Has `claude` itself run behind boundary, whoever starts it: the module for Claude Code runs this after
# it has installed it. The updater stays off, which would put the program back in the wrapper's place.
#
# The wrapper lies in the user's home, where the module has Claude Code: what runs behind boundary can
# replace it until this has run again. main.tf sets PLACE, as for setup.sh.
set -eu
behind=${PLACE:-/usr/local/lib/boundary}/bin/behind
wrapper=$HOME/.local/bin/claude
claude=$(command -v claude || echo "$wrapper")
real=$(readlink -f -- "$claude")

# The wrapper of a program.
wrapper_of() {
  printf '#!/bin/sh\nexec "%s" "%s" "$@"\n' "$behind" "$1"
}

# Nothing is to be done only where the wrapper is the very one, of a program noted before.
noted=$HOME/.boundary/claude
if [ -r "$noted" ] && wrapper_of "$(cat "$noted")" | cmp -s - "$real"; then
  exit 0
fi
# A place that the module has first in PATH.
mkdir -p "$HOME/.local/bin" "$HOME/.boundary"
if [ "$real" = "$(readlink -f -- "$HOME/.local/bin")/claude" ]; then
  mv -f -- "$real" "$HOME/.boundary/claude-program"
  real=$HOME/.boundary/claude-program
fi
rm -f -- "$wrapper"
printf '%s\n' "$real" >"$noted"
wrapper_of "$real" >"$wrapper"
chmod 755 "$wrapper"
