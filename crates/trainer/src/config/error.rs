//! Errors of configurations.

use std::path::PathBuf;

/// Why a configuration was refused. Every message names where the key stands, what was found, and what was expected.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file was not read; the message names the path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The file is not TOML.
    #[error("{}: not valid TOML: {reason}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What the parser found, with line and column.
        reason: String,
    },
    /// No preset has this name.
    #[error("unknown preset `{name}`{}; presets: {}", suggestion(nearest.as_ref()), known.join(", "))]
    UnknownPreset {
        /// The name asked for.
        name: String,
        /// The nearest preset.
        nearest: Option<String>,
        /// All presets.
        known: Vec<String>,
    },
    /// A key is unknown where it stands.
    #[error(
        "{place}: unknown key `{key}`{}; known keys{}: {}",
        suggestion(nearest.as_ref()),
        of.as_ref().map_or_else(String::new, |of| format!(" of `{of}`")),
        known.join(", ")
    )]
    UnknownKey {
        /// File, preset or `--set`.
        place: String,
        /// The dotted key.
        key: String,
        /// The nearest known key.
        nearest: Option<String>,
        /// Keys known there.
        known: Vec<String>,
        /// The algorithm or optimizer whose keys these are.
        of: Option<String>,
    },
    /// A value has the wrong type or is none of the allowed words.
    #[error("{place}: key `{key}`: {reason}")]
    Type {
        /// File, preset or `--set`.
        place: String,
        /// The dotted key.
        key: String,
        /// What was found and expected.
        reason: String,
    },
    /// A value is outside its range.
    #[error("{place}: key `{key}` is {found}, expected {expected}")]
    Range {
        /// File, preset or `--set`.
        place: String,
        /// The dotted key.
        key: String,
        /// The value.
        found: String,
        /// The range, in words.
        expected: String,
    },
    /// An override is not `key=value`.
    #[error("--set {text}: expected key=value, such as --set algorithm.window=4")]
    Override {
        /// What was given.
        text: String,
    },
}

/// What is added to the message about an unknown name.
pub(crate) fn suggestion(nearest: Option<&String>) -> String {
    nearest.map_or_else(String::new, |nearest| format!(" (did you mean `{nearest}`?)"))
}

/// The known name nearest to `name`, whatever their cases, when it is near enough to be a slip.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let name = name.to_lowercase();
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&name, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= 2.max(candidate.len() / 3))
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}
