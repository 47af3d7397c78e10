//! Empty: gives cargo a library target to watch when it builds the kernel half's binary.

#![no_std]
