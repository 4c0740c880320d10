//! Whole sessions with the command `rtpg`: what it prints, how it exits, and what it leaves on the disk.

#![allow(clippy::unwrap_used, reason = "a test ends where its own preparation fails")]

mod bad_input;
mod commands;
mod damaged_files;
mod estimate;
#[cfg(unix)]
mod interruptions;
mod kills;
mod recovery;
mod session;
mod studies;
mod study_folders;
mod tensors;
