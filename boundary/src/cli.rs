//! What was typed: shapes only.
