#!/bin/sh
# Lets a group have the jail `ebpf` without sudo, by file capabilities on the program; nobody else may run
# it then. An upgrade puts another program in its place: do it again.
#
#   capabilities.sh GROUP [PROGRAM]
#   capabilities.sh --off [PROGRAM]
#
# Take people into the group who may be root: boundary reads and writes the files that they name with more
# rights than they have. What runs behind it has none of them.
set -eu
group=${1:?a group, or --off}
program=${2:-$(command -v boundary)}
if [ "$group" = --off ]; then
  setcap -r "$program" 2>/dev/null || :
  chgrp root "$program"
  chmod 755 "$program"
  exit 0
fi
# All that can be known before: what ends half way may leave the program nobody's.
fail() {
  echo "capabilities.sh: $*" >&2
  exit 1
}
[ -f "$program" ] || fail "there is no program $program"
command -v setcap >/dev/null || fail "setcap is needed (the package libcap2-bin, or libcap); nothing was changed"
getent group -- "$group" >/dev/null ||
  fail "there is no group $group; make it with: groupadd $group; nothing was changed"
before=$(stat -L -c '%a %g' -- "$program")
# Without capabilities it may be whose it was.
undo() {
  setcap -r "$program" 2>/dev/null || :
  chgrp "${before#* }" "$program" && chmod "${before% *}" "$program"
  fail "$program has no capabilities; its mode and its group are as they were"
}
# In this order: whoever may not run it must not be able to for a moment, and chgrp takes capabilities off.
chmod 750 "$program" || undo
chgrp "$group" "$program" || undo
# The kernel half and the session's cgroup; the command's mounts, processes and user.
setcap cap_bpf,cap_net_admin,cap_sys_admin,cap_sys_ptrace,cap_dac_override,cap_setuid,cap_setgid,cap_setpcap,cap_kill,cap_chown+ep "$program" || undo
