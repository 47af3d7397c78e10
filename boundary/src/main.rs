//! The edge: parse, run, exit code.

fn main() {}
