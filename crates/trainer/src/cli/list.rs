//! `rtpg list`.

use environments::registry;
use trainer::config::{AlgorithmConfig, presets};
use trainer::studies::built_in;

use super::print_line;

/// Lists presets, studies, environments and algorithms.
pub(crate) fn run() {
    print_line("presets (rtpg train NAME)");
    for preset in presets() {
        print_line(format_args!("  {:22} {}", preset.name, preset.summary()));
    }
    print_line("studies (rtpg study NAME)");
    for study in built_in() {
        print_line(format_args!("  {:22} {}", study.name, study.summary()));
    }
    print_line("environments (environment.name)");
    for entry in registry::ENTRIES {
        print_line(format_args!(
            "  {:22} {} ({} observation, {} action components, horizon {})",
            entry.name, entry.summary, entry.observation_size, entry.action_size, entry.horizon
        ));
    }
    print_line("algorithms (algorithm.name)");
    for algorithm in AlgorithmConfig::all() {
        print_line(format_args!("  {:22} {}", algorithm.name(), algorithm.summary()));
    }
}
