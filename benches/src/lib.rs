//! What the benchmarks measure: sizes, data and policies, the same for every backend.

pub mod balancing;
pub mod workload;
