#!/bin/sh
# Puts boundary into a Coder workspace, or into its image, with its policy and two programs that run
# others behind it:
#
#   PLACE/bin/behind COMMAND…   a command, on record in a file of its own
#   PLACE/bin/tool 'LINE'       a line of shell, as Claude Code hands over its tool calls
#
# All of it is root's, by `sudo -n` where the workspace's user is not root: what runs behind boundary may
# write the user's files, in every jail, and would write itself a way out for the next session.
# main.tf sets BOUNDARY_RELEASES, BOUNDARY_VERSION, PLACE and POLICY (base64) in front of it. A Dockerfile
# gives them to its RUN, as root; in a workspace without sudo that is then what there is.
set -eu

say() {
  echo "setup.sh: $*" >&2
}

place=${PLACE:-/usr/local/lib/boundary}
# It becomes part of the programs.
case $place in
  *[!A-Za-z0-9._/-]*) say "not a place: $place" && exit 1 ;;
  /*) ;;
  *) say "not a place: $place" && exit 1 ;;
esac

# Whether root has put all of it there before: in the image.
is_baked() {
  owners=$(stat -c %u -- "$place" "$place/bin" "$place/bin/boundary" "$place/bin/behind" \
    "$place/bin/tool" "$place/policy.yaml" 2>/dev/null) && [ "$(echo "$owners" | sort -u)" = 0 ]
}

as_root='' owner='-o root -g root'
if [ "$(id -u)" = 0 ]; then
  :
elif sudo -n true 2>/dev/null; then
  as_root='sudo -n'
elif is_baked; then
  say "$place is the image's, and so are its release and its policy"
  exit 0
elif mkdir -p -- "$place" 2>/dev/null && [ -w "$place" ]; then
  owner=''
else
  say "$place takes root, and there is no sudo without a password: put boundary into the image, or name" \
    "a place of the user's, where what runs behind boundary can undo it for the next session"
  exit 1
fi
case $owner,$place in
  ,* | *,"$HOME"/*) say "$place is the user's: what runs behind boundary can undo it for the next session" ;;
esac

releases=${BOUNDARY_RELEASES:-https://github.com/coder/boundary/releases}
version=${BOUNDARY_VERSION:-latest}
case $version in
  latest) from=$releases/latest/download ;;
  *) from=$releases/download/$version ;;
esac
scratch=$(mktemp -d)
trap 'rm -rf -- "$scratch"' EXIT
case $from in
  file://*) cp -- "${from#file://}/install.sh" "$scratch/install.sh" ;;
  *) curl -fsSL --retry 3 -o "$scratch/install.sh" -- "$from/install.sh" ;;
esac
# Words, or none: of $as_root and $owner.
# shellcheck disable=SC2086
$as_root install -d $owner -m 755 "$place" "$place/bin"
$as_root env BOUNDARY_RELEASES="$releases" BOUNDARY_SIGNERS="${BOUNDARY_SIGNERS:-}" \
  sh "$scratch/install.sh" --version "$version" --install-dir "$place/bin"

printf '%s' "$POLICY" | base64 -d >"$scratch/policy.yaml"
# Sessions that run at the same time write files of their own: their lines carry a chain of hashes.
cat >"$scratch/behind" <<END
#!/bin/sh
set -eu
mkdir -p -m 700 "\$HOME/.boundary/records"
record=\$HOME/.boundary/records/\$(date +%Y%m%dT%H%M%S)-\$\$.jsonl
exec "$place/bin/boundary" --config "$place/policy.yaml" --audit-log "\$record" -- "\$@"
END
cat >"$scratch/tool" <<END
#!/bin/sh
exec "$place/bin/behind" bash -c "\$1"
END
# shellcheck disable=SC2086
$as_root install $owner -m 644 "$scratch/policy.yaml" "$place/policy.yaml"
# shellcheck disable=SC2086
$as_root install $owner -m 755 "$scratch/behind" "$scratch/tool" "$place/bin"

# A finding is no mistake, and a mistake stops each session by itself, with 125.
"$place/bin/boundary" check --config "$place/policy.yaml" ||
  say "the policy has what is said above; a session that cannot read it does not start"
