//! The versions of MuJoCo that were tested.

use std::ffi::c_int;

/// A tested version.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Version {
    /// As in the names of its files.
    pub(super) name: &'static str,
    /// What `mj_version` returns.
    pub(super) number: c_int,
}

/// The tested versions; the first is the one that [`install`](super::install) fetches.
///
/// Version 3.5.0 changed contacts without friction: earlier ones make other steps of the hopper, and have other bits in
/// the state signature.
pub(super) const TESTED: [Version; 15] = [
    Version { name: "3.17.0", number: 3_017_000 },
    Version { name: "4.0.0", number: 4_000_000 },
    Version { name: "3.16.0", number: 3_016_000 },
    Version { name: "3.15.0", number: 3_015_000 },
    Version { name: "3.14.0", number: 3_014_000 },
    Version { name: "3.13.0", number: 3_013_000 },
    Version { name: "3.12.0", number: 3_012_000 },
    Version { name: "3.11.0", number: 3_011_000 },
    Version { name: "3.10.0", number: 3_010_000 },
    Version { name: "3.9.0", number: 3_009_000 },
    Version { name: "3.8.1", number: 3_008_001 },
    Version { name: "3.8.0", number: 3_008_000 },
    Version { name: "3.7.0", number: 3_007_000 },
    Version { name: "3.6.0", number: 3_006_000 },
    Version { name: "3.5.0", number: 3_005_000 },
];

/// The version that [`install`](super::install) fetches and the exactness tests were recorded with.
pub const RECOMMENDED_VERSION: &str = TESTED[0].name;

/// The tested version that `mj_version` reports as `number`.
pub(super) fn tested(number: c_int) -> Option<&'static Version> {
    TESTED.iter().find(|version| version.number == number)
}

/// Names of the tested versions, for messages.
pub(super) fn names() -> String {
    TESTED.map(|version| version.name).join(", ")
}
