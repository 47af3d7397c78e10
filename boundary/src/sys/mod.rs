//! Every unsafe call user space makes, behind safe signatures.
