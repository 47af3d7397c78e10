#!/bin/sh
# Has `claude` itself run behind boundary, whoever starts it: the module for Claude Code runs this after
# it has installed it. The updater stays off, which would put the program back in the wrapper's place.
set -eu
claude=$(command -v claude || echo "$HOME/.local/bin/claude")
real=$(readlink -f -- "$claude")
if grep -qs '/.boundary/bin/behind' "$real"; then
  exit 0
fi
# A place that the module has first in PATH.
mkdir -p "$HOME/.local/bin"
rm -f -- "$HOME/.local/bin/claude"
cat >"$HOME/.local/bin/claude" <<END
#!/bin/sh
exec "\$HOME/.boundary/bin/behind" "$real" "\$@"
END
chmod 755 "$HOME/.local/bin/claude"
