//! What a program needs of a machine, read from its ELF header.

use anyhow::{Context as _, Result, ensure};

use crate::arch::Arch;

/// Names the loader that a program asks for (`PT_INTERP`).
const INTERPRETER: u32 = 3;

/// Refuses what is not a static program of an architecture.
pub(super) fn require_static(bytes: &[u8], arch: Arch) -> Result<()> {
    ensure!(bytes.starts_with(b"\x7fELF\x02\x01"), "not a 64-bit little-endian program");
    let machine = match arch {
        Arch::X86 => 62,
        Arch::Arm => 183,
    };
    ensure!(half(bytes, 18)? == machine, "not a program for {arch}");
    let (size, count) = (half(bytes, 54)?, half(bytes, 56)?);
    let headers = read::<8>(bytes, 32).map(u64::from_le_bytes)?;
    for number in 0..u64::from(count) {
        let place = usize::try_from(headers + number * u64::from(size))?;
        let kind = read::<4>(bytes, place).map(u32::from_le_bytes)?;
        ensure!(kind != INTERPRETER, "needs a loader: it is not static");
    }
    Ok(())
}

fn half(bytes: &[u8], place: usize) -> Result<u16> {
    read::<2>(bytes, place).map(u16::from_le_bytes)
}

fn read<const N: usize>(bytes: &[u8], place: usize) -> Result<[u8; N]> {
    let field = bytes.get(place..).and_then(|rest| rest.first_chunk());
    field.copied().context("a program that ends in its header")
}

#[cfg(test)]
mod tests {
    use super::require_static;
    use crate::arch::Arch;

    /// A program whose one header is of a kind.
    fn program(kind: u8) -> Vec<u8> {
        let mut bytes = vec![0; 64 + 56];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (bytes[18], bytes[32], bytes[54], bytes[56], bytes[64]) = (62, 64, 56, 1, kind);
        bytes
    }

    #[test]
    fn a_program_that_asks_for_a_loader_is_not_static() {
        assert!(require_static(&program(1), Arch::X86).is_ok());
        assert!(require_static(&program(3), Arch::X86).is_err());
    }

    #[test]
    fn a_program_of_another_architecture_is_refused() {
        assert!(require_static(&program(1), Arch::Arm).is_err());
    }

    #[test]
    fn the_tests_own_program_is_not_static() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        let is_static = cfg!(target_feature = "crt-static");
        assert_eq!(require_static(&own, Arch::host().unwrap()).is_ok(), is_static);
    }
}
