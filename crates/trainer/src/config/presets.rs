//! Presets: configurations compiled into the program.

use environments::registry;
use toml::Table;

use super::{Config, ConfigError};

/// A named configuration.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// The name on the command line.
    pub name: &'static str,
    /// The TOML text, of which the first comment line is the summary.
    pub text: &'static str,
}

impl Preset {
    /// The first comment line.
    pub fn summary(&self) -> &'static str {
        self.text.lines().next().unwrap_or_default().trim_start_matches('#').trim()
    }
}

/// Every preset, by name.
pub fn presets() -> &'static [Preset] {
    macro_rules! preset {
        ($name:literal) => {
            Preset { name: $name, text: include_str!(concat!("../../../../assets/presets/", $name, ".toml")) }
        };
    }
    const PRESETS: &[Preset] = &[
        preset!("cartpole"),
        preset!("half-cheetah"),
        preset!("hopper"),
        preset!("inverted-pendulum"),
        preset!("lqr"),
        preset!("mountain-car"),
        preset!("pendulum"),
        preset!("swimmer"),
        preset!("walker2d"),
    ];
    PRESETS
}

/// The table of a preset.
pub(super) fn table(name: &str) -> Result<Table, ConfigError> {
    let known = || presets().iter().map(|preset| preset.name);
    let preset =
        presets().iter().find(|preset| preset.name == name).ok_or_else(|| ConfigError::UnknownPreset {
            name: name.to_owned(),
            nearest: registry::nearest(name, known()).map(str::to_owned),
            known: known().map(str::to_owned).collect(),
        })?;
    toml::from_str(preset.text).map_err(|error| ConfigError::Syntax {
        path: format!("assets/presets/{name}.toml").into(),
        reason: error.to_string(),
    })
}

impl Config {
    /// The configuration as TOML, with every default written out.
    pub fn to_toml(&self) -> String {
        // Plain data of strings, numbers and tables has a TOML form; [`check`](Self::check) refuses a path that has none.
        toml::to_string(self).unwrap_or_default()
    }
}
