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
