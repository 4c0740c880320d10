//! Layers of a configuration: where keys stand, and how tables are laid over each other.

use serde::Serialize;
use toml::{Table, Value};

use super::{AlgorithmConfig, CoefficientKind, ConfigError, OptimizerConfig};

/// A table that is laid over a configuration, and what messages call it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Layer {
    /// File, preset, `--set`, or whatever else the user knows it by.
    pub(crate) place: String,
    /// Keys and values.
    pub(crate) table: Table,
}

/// What messages call the overrides of the command line.
pub(crate) const OVERRIDE: &str = "--set";

/// Where a key stands, for messages.
pub(crate) struct Places {
    /// The file or preset below all layers.
    pub(crate) place: String,
    /// From the lowest to the highest.
    pub(crate) layers: Vec<Layer>,
    /// Keys at the top that are known beside the fields.
    pub(crate) also_known: &'static [&'static str],
}

impl Places {
    /// The highest layer in which the key stands, else the file or preset.
    pub(crate) fn of(&self, key: &str) -> String {
        // In a list of tables, the key of any of them.
        fn within<'a>(value: &'a Value, part: &str) -> Option<&'a Value> {
            match value {
                Value::Array(tables) => tables.iter().find_map(|table| table.get(part)),
                value => value.get(part),
            }
        }
        let stands = |layer: &&Layer| {
            let mut parts = key.split('.').map(|part| part.split('[').next().unwrap_or(part));
            let first = parts.next().and_then(|part| layer.table.get(part));
            parts.fold(first, |value, part| value.and_then(|value| within(value, part))).is_some()
        };
        self.layers.iter().rev().find(stands).map_or_else(|| self.place.clone(), |layer| layer.place.clone())
    }
}

/// The most parts of a dotted key; no key has as many.
const DEEPEST_KEY: usize = 16;

pub(crate) fn parse_overrides(overrides: &[String]) -> Result<Table, ConfigError> {
    let mut merged = Table::new();
    for text in overrides {
        let malformed = || ConfigError::Override { text: text.clone() };
        let (key, value) = text.split_once('=').ok_or_else(malformed)?;
        let (key, value) = (key.trim(), value.trim());
        let parts = key.split('.').count();
        if key.is_empty() || value.is_empty() || key.split('.').any(str::is_empty) || parts > DEEPEST_KEY {
            return Err(malformed());
        }
        let parsed =
            toml::from_str::<Table>(&format!("value = {value}")).ok().filter(|table| table.len() == 1);
        let value = match parsed.and_then(|mut table| table.remove("value")) {
            Some(value) => value,
            None if value.parse::<i128>().is_ok() => {
                let reason = format!("{value} is beyond the integers of TOML, which have 64 bits");
                return Err(ConfigError::Type { place: OVERRIDE.to_owned(), key: key.to_owned(), reason });
            }
            // A bare word is a string: --set device=cpu.
            None => Value::String(value.to_owned()),
        };
        let nested = key
            .rsplit('.')
            .fold(value, |value, part| Value::Table(Table::from_iter([(part.to_owned(), value)])));
        if let Value::Table(table) = nested {
            merged = merge_with(merged, table, &|_, _, _| ());
        }
    }
    Ok(merged)
}

/// Lays `overlay` over `base`, table by table. Where the overlay chooses another algorithm, optimiser or kind of coefficients,
/// options of the base that have no use with the chosen one are dropped.
pub(crate) fn merge(base: Table, overlay: Table) -> Table {
    merge_with(base, overlay, &|key, below, above| {
        let chosen = |option: &str| above.get(option).and_then(Value::as_str);
        if let Some(known) = chosen("name").and_then(|name| known_options(key, name)) {
            below.retain(|option, _| known.iter().any(|known| known == option));
        }
        if let Some(kind) = chosen("coefficients").and_then(CoefficientKind::from_name) {
            below.retain(|option, _| kind.has_use_for(option));
        }
    })
}

/// Lays `overlay` over `base`, table by table, each once `prepare` was called with its key, what is below and what is above.
fn merge_with(mut base: Table, overlay: Table, prepare: &impl Fn(&str, &mut Table, &Table)) -> Table {
    for (key, value) in overlay {
        let merged = match (base.remove(&key), value) {
            (Some(Value::Table(mut below)), Value::Table(above)) => {
                prepare(&key, &mut below, &above);
                Value::Table(merge_with(below, above, prepare))
            }
            (_, value) => value,
        };
        base.insert(key, merged);
    }
    base
}

/// Options of the algorithm or optimiser `name`.
fn known_options(table: &str, name: &str) -> Option<Vec<String>> {
    match table {
        "algorithm" => AlgorithmConfig::all().iter().find(|config| config.name() == name).map(keys),
        "optimizer" => OptimizerConfig::all().iter().find(|config| config.name() == name).map(keys),
        _ => None,
    }
}

/// Keys of a table of options.
pub(super) fn keys<T: Serialize>(options: &T) -> Vec<String> {
    Table::try_from(options).map(|table| table.keys().cloned().collect()).unwrap_or_default()
}
