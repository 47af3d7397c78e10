//! The architectures that boundary is built for, under everybody's names for them.

use std::env::consts;
use std::fmt;

use clap::ValueEnum;

/// An architecture that boundary is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Arch {
    /// 64-bit x86.
    #[value(name = "x86_64", alias = "amd64")]
    X86,
    /// 64-bit ARM.
    #[value(name = "aarch64", alias = "arm64")]
    Arm,
}

impl Arch {
    /// All of them.
    pub(crate) const ALL: [Self; 2] = [Self::X86, Self::Arm];

    /// That of this machine.
    pub(crate) fn host() -> Option<Self> {
        Self::ALL.into_iter().find(|arch| arch.is_host())
    }

    /// Whether it is that of this machine.
    pub(crate) fn is_host(self) -> bool {
        self.name() == consts::ARCH
    }

    /// As the kernel, Rust and QEMU call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::X86 => "x86_64",
            Self::Arm => "aarch64",
        }
    }

    /// As Debian calls it.
    pub(crate) const fn debian(self) -> &'static str {
        match self {
            Self::X86 => "amd64",
            Self::Arm => "arm64",
        }
    }

    /// As Debian calls the packages of its compiler.
    pub(crate) const fn of_package(self) -> &'static str {
        match self {
            Self::X86 => "x86-64",
            Self::Arm => "aarch64",
        }
    }

    /// The target whose programs need no library of the machine.
    pub(crate) const fn triple(self) -> &'static str {
        match self {
            Self::X86 => "x86_64-unknown-linux-musl",
            Self::Arm => "aarch64-unknown-linux-musl",
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::Arch;

    #[test]
    fn both_names_of_an_architecture_are_taken() {
        for (name, arch) in [("x86_64", Arch::X86), ("amd64", Arch::X86), ("arm64", Arch::Arm)] {
            assert_eq!(Arch::from_str(name, false), Ok(arch));
        }
    }
}
