//! Whole sessions with the command `rtpg`: what it prints, how it exits, and what it leaves on the disk.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod bad_input;
mod commands;
mod damaged_files;
mod estimate;
mod interruptions;
mod session;
mod tensors;
