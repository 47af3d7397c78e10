#!/bin/sh
# Puts boundary into a Coder workspace, with its policy and two programs that run others behind it:
#
#   ~/.boundary/bin/behind COMMAND…   a command, on record in a file of its own
#   ~/.boundary/bin/tool 'LINE'       a line of shell, as Claude Code hands over its tool calls
#
# main.tf sets BOUNDARY_RELEASES, BOUNDARY_VERSION and POLICY (base64) in front of it.
set -eu

place=$HOME/.boundary
mkdir -p "$place/bin" "$place/records" "$HOME/.config/coder_boundary"
chmod 700 "$place/records"

releases=${BOUNDARY_RELEASES:-https://github.com/coder/boundary/releases}
version=${BOUNDARY_VERSION:-latest}
case $version in
  latest) from=$releases/latest/download ;;
  *) from=$releases/download/$version ;;
esac
installer=$(mktemp)
trap 'rm -f -- "$installer"' EXIT
case $from in
  file://*) cp -- "${from#file://}/install.sh" "$installer" ;;
  *) curl -fsSL --retry 3 -o "$installer" -- "$from/install.sh" ;;
esac
sh "$installer" --version "$version" --install-dir "$place/bin"

# Where boundary finds it without being told.
printf '%s' "$POLICY" | base64 -d >"$HOME/.config/coder_boundary/config.yaml"
"$place/bin/boundary" check

# Sessions that run at the same time write files of their own: their lines carry a chain of hashes.
cat >"$place/bin/behind" <<'END'
#!/bin/sh
record=$HOME/.boundary/records/$(date +%Y%m%dT%H%M%S)-$$.jsonl
exec "$HOME/.boundary/bin/boundary" --audit-log "$record" -- "$@"
END
cat >"$place/bin/tool" <<'END'
#!/bin/sh
exec "$HOME/.boundary/bin/behind" bash -c "$1"
END
chmod 755 "$place/bin/behind" "$place/bin/tool"
