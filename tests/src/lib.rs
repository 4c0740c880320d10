//! Float64 oracles and random problems for the tests of the workspace.
//!
//! Nothing here shares code with the crates under test: [`oracle`] computes every quantity of docs/method.md by plain
//! loops over trajectories and steps, which have no padding, and [`problems`] draws inputs for it.

pub mod oracle;
pub mod padded;
pub mod problems;
