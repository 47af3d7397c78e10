//! The walls: turn every packet toward a door, or drop it. Know no rules.
