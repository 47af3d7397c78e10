#!/bin/busybox sh
# The first process of a guest: mounts what a machine has, does what /vm/runs says, and turns the
# machine off. `cargo xtask vm` reads what it says; its own lines begin with ::vm.

# The kernel's first root is no mount that can be left (pivot_root(2)); a mount of it over itself is.
if [ "$1" != again ]; then
  /bin/busybox mount --bind / /run
  cd /run && /bin/busybox mount --move . / && exec /bin/busybox chroot . /init again
fi

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null
# Not over /tmp: this checkout may lie there, and the programs are where they are here.
chmod 1777 /tmp
mkdir -p /dev/pts /dev/shm /root /var/tmp
mount -t devpts -o ptmxmode=0666 devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t securityfs securityfs /sys/kernel/security
mount -t bpf bpf /sys/fs/bpf
ln -sfn /proc/self/fd /dev/fd
ln -sfn /proc/self/fd/0 /dev/stdin
ln -sfn /proc/self/fd/1 /dev/stdout
ln -sfn /proc/self/fd/2 /dev/stderr
ip link set lo up
hostname guest
# What Debian's own start does: any user may make user namespaces, and a packet filter is there.
for setting in kernel/unprivileged_userns_clone; do
  [ -e /proc/sys/$setting ] && echo 1 >/proc/sys/$setting
done
for module in loop tun veth nf_tables nft_tproxy nft_socket nfnetlink_log nf_log_syslog; do
  modprobe -q $module
done

# Says something of its own, on a line of its own whatever was said before.
say() {
  printf '\n::vm %s\n' "$1"
}

# Does one run: its name, its seconds, then a command with its environment before it. Says after it how
# many seconds the guest is up, and for how many its processors had nothing to do.
run() {
  name=$1 seconds=$2
  shift 2
  say "begin $name"
  timeout -k 10 "$seconds" env "$@" </dev/null 2>&1
  say "end $name $?"
  read -r clock </proc/uptime && say "clock $clock"
}

say "booted $(uname -r)"
. /vm/runs
say "tainted $(cat /proc/sys/kernel/tainted)"
say done
poweroff -f
