//! What was meant: flags, environment and file become a Config that cannot be invalid.
