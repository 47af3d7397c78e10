//! Walls left off on purpose, to show that the escape tests notice: the one seam for it.
//!
//! *Standing*: whoever raises a wall asks [`stands`] first. The answer is a constant `true` in every
//! build but one with the feature `mutations`, which only `cargo xtask escapes --mutations` makes,
//! for itself. There `BOUNDARY_WITHOUT` names the walls to leave off, with commas between.
//! *Never*: in a program that anybody uses. An optimised build with the feature does not compile.

#[cfg(all(feature = "mutations", not(debug_assertions)))]
compile_error!("the feature `mutations` leaves walls off; it is for the escape tests alone");

/// Whether a wall is to be raised.
#[cfg(not(feature = "mutations"))]
pub(crate) const fn stands(_wall: &str) -> bool {
    true
}

/// Whether a wall is to be raised.
#[cfg(feature = "mutations")]
pub(crate) fn stands(wall: &str) -> bool {
    let without = std::env::var("BOUNDARY_WITHOUT").unwrap_or_default();
    !without.split(',').any(|left_off| left_off == wall)
}

/// What the kernel half is told: only a marked socket is a door.
#[cfg(not(feature = "mutations"))]
pub(crate) const fn abi() -> u32 {
    boundary_common::ABI
}

/// What the kernel half is told: whether only a marked socket is a door.
#[cfg(feature = "mutations")]
pub(crate) fn abi() -> u32 {
    if stands("door") { boundary_common::ABI } else { boundary_common::ABI_UNGUARDED }
}

/// A failure ends the run.
#[cfg(not(feature = "mutations"))]
pub const fn carried_on() -> Option<u8> {
    None
}

/// Without the wall `start`, does what must never be done: runs the command all the same when
/// something failed before it. Its exit status.
#[cfg(feature = "mutations")]
pub fn carried_on() -> Option<u8> {
    if stands("start") {
        return None;
    }
    let mut command = std::env::args_os().skip_while(|word| word != "--").skip(1);
    let status = std::process::Command::new(command.next()?).args(command).status().ok()?;
    status.code().and_then(|code| u8::try_from(code).ok())
}
