//! Numbers of the kernel by the names that people know them by.

/// The name of an error number, or the number itself.
pub(crate) fn errno(number: i32) -> String {
    let known = match number {
        libc::EPERM => "EPERM",
        libc::ENOENT => "ENOENT",
        libc::EIO => "EIO",
        libc::ENXIO => "ENXIO",
        libc::EBADF => "EBADF",
        libc::EAGAIN => "EAGAIN",
        libc::EACCES => "EACCES",
        libc::EFAULT => "EFAULT",
        libc::EINVAL => "EINVAL",
        libc::ENOTTY => "ENOTTY",
        libc::EROFS => "EROFS",
        libc::EPIPE => "EPIPE",
        libc::ENOSYS => "ENOSYS",
        libc::ENODEV => "ENODEV",
        libc::EPROTONOSUPPORT => "EPROTONOSUPPORT",
        libc::ESOCKTNOSUPPORT => "ESOCKTNOSUPPORT",
        libc::EAFNOSUPPORT => "EAFNOSUPPORT",
        libc::ENOPROTOOPT => "ENOPROTOOPT",
        libc::EOPNOTSUPP => "EOPNOTSUPP",
        libc::EADDRINUSE => "EADDRINUSE",
        libc::EADDRNOTAVAIL => "EADDRNOTAVAIL",
        libc::ENETUNREACH => "ENETUNREACH",
        libc::EHOSTUNREACH => "EHOSTUNREACH",
        libc::ECONNABORTED => "ECONNABORTED",
        libc::ECONNRESET => "ECONNRESET",
        libc::ECONNREFUSED => "ECONNREFUSED",
        libc::ETIMEDOUT => "ETIMEDOUT",
        libc::EINPROGRESS => "EINPROGRESS",
        libc::ENOTCONN => "ENOTCONN",
        libc::ESRCH => "ESRCH",
        _ => return number.to_string(),
    };
    known.to_owned()
}

/// The number of an address family, socket type or protocol, by name or as digits.
pub(crate) fn number(text: &str) -> Option<i32> {
    let known = match text {
        "inet" => libc::AF_INET,
        "inet6" => libc::AF_INET6,
        "unix" => libc::AF_UNIX,
        "packet" => libc::AF_PACKET,
        "netlink" => libc::AF_NETLINK,
        "vsock" => libc::AF_VSOCK,
        "alg" => libc::AF_ALG,
        "tipc" => libc::AF_TIPC,
        "rds" => libc::AF_RDS,
        "kcm" => 41,
        "smc" => 43,
        "xdp" => libc::AF_XDP,
        "stream" => libc::SOCK_STREAM,
        "dgram" => libc::SOCK_DGRAM,
        "raw" => libc::SOCK_RAW,
        "seqpacket" => libc::SOCK_SEQPACKET,
        "dccp-socket" => 6,
        "icmp" => libc::IPPROTO_ICMP,
        "icmpv6" => libc::IPPROTO_ICMPV6,
        "tcp" => libc::IPPROTO_TCP,
        "udp" => libc::IPPROTO_UDP,
        "sctp" => libc::IPPROTO_SCTP,
        "udplite" => libc::IPPROTO_UDPLITE,
        "dccp" => libc::IPPROTO_DCCP,
        "l2tp" => 115,
        "mptcp" => libc::IPPROTO_MPTCP,
        digits => return digits.parse().ok(),
    };
    Some(known)
}

/// The name of a signal, or its number.
pub(crate) fn signal(number: i32) -> String {
    let known = match number {
        libc::SIGHUP => "HUP",
        libc::SIGINT => "INT",
        libc::SIGQUIT => "QUIT",
        libc::SIGTERM => "TERM",
        libc::SIGCONT => "CONT",
        libc::SIGTSTP => "TSTP",
        libc::SIGWINCH => "WINCH",
        libc::SIGUSR1 => "USR1",
        _ => return number.to_string(),
    };
    known.to_owned()
}
