//! Whole sessions with the command `rtpg`: what it prints, how it exits, and what it leaves on the disk.

mod session;
mod tensors;

mod bad_input;
mod estimate;
