//! Host labels, path segments, methods, ports.
