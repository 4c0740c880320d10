//! From TOML to a checked [`Config`].

use std::path::{Path, PathBuf};

use policy_nets::files::read_regular;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::error::{nearest, suggestion};
use super::layers::{Layer, OVERRIDE, Places, keys, merge, parse_overrides};
use super::{
    AlgorithmConfig, BadBatches, CheckpointConfig, Config, ConfigError, EnvironmentConfig, EvaluationConfig,
    KernelChoice, OptimizerConfig, PolicyConfig, check, presets,
};
use crate::device::DeviceChoice;

/// Where a configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A preset by name.
    Preset(String),
    /// A TOML file.
    File(PathBuf),
}

impl Source {
    /// A file when `text` ends in `.toml` or names something that is no folder, else a preset.
    pub fn parse(text: &str) -> Self {
        let path = Path::new(text);
        let is_file = path.extension().is_some_and(|extension| extension == "toml")
            || (path.exists() && !path.is_dir());
        if is_file { Self::File(path.to_owned()) } else { Self::Preset(text.to_owned()) }
    }
}

/// Reads, merges and checks a configuration; `overrides` are `key=value` with dotted keys and TOML values.
///
/// # Errors
/// [`ConfigError`], which names the place and the key.
pub fn load(source: &Source, overrides: &[String]) -> Result<Config, ConfigError> {
    let overrides = Layer { place: OVERRIDE.to_owned(), table: parse_overrides(overrides)? };
    if overrides.table.contains_key("preset") {
        let reason = "is what a file is laid over; name the preset in the place of the file".to_owned();
        return Err(ConfigError::Type { place: OVERRIDE.to_owned(), key: "preset".to_owned(), reason });
    }
    load_layers(source, vec![overrides])
}

/// The configuration that a run recorded in `path`. Its keys and types are checked, and its ranges are not: they are those of
/// runs that start or go on, and an earlier version of the program may have allowed more.
///
/// # Errors
/// [`ConfigError`], which names the place and the key.
pub fn recorded(path: &Path) -> Result<Config, ConfigError> {
    Ok(merged(&Source::File(path.to_owned()), vec![])?.0)
}

/// Reads a configuration, lays every layer over the ones before it, and checks the whole.
pub(crate) fn load_layers(source: &Source, layers: Vec<Layer>) -> Result<Config, ConfigError> {
    let (config, places) = merged(source, layers)?;
    check::check(&config, &places)?;
    Ok(config)
}

/// Reads a configuration and lays every layer over the ones before it.
fn merged(source: &Source, layers: Vec<Layer>) -> Result<(Config, Places), ConfigError> {
    let (place, table) = match source {
        Source::Preset(name) => (format!("preset {name}"), presets::table(name)?),
        Source::File(path) => (path.display().to_string(), read(path)?),
    };
    let places = Places { place, layers, also_known: &["preset"] };
    let table = with_preset(table, &places)?;
    let table = places.layers.iter().fold(table, |table, layer| merge(table, layer.table.clone()));
    let mut config = deserialize(table, &places)?;
    if let Ok(entry) = environments::registry::find(&config.environment.name) {
        config.environment.horizon.get_or_insert(entry.horizon);
    }
    Ok((config, places))
}

/// The most bytes of a configuration or a study: more is some other file.
const LARGEST_FILE: u64 = 1 << 20;

pub(crate) fn read(path: &Path) -> Result<Table, ConfigError> {
    let bytes = read_regular(path, LARGEST_FILE)?;
    let text = String::from_utf8(bytes).map_err(|error| ConfigError::Syntax {
        path: path.to_owned(),
        reason: format!("the text is not UTF-8: {}", error.utf8_error()),
    })?;
    toml::from_str(&text).map_err(|error: toml::de::Error| {
        let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        let place = line.map_or_else(String::new, |line| format!("line {line}: "));
        ConfigError::Syntax {
            path: path.to_owned(),
            reason: format!("{place}{}", error.message().replace('\n', " ")),
        }
    })
}

/// Lays a file over the preset that its key `preset` names.
fn with_preset(mut table: Table, places: &Places) -> Result<Table, ConfigError> {
    match table.remove("preset") {
        None => Ok(table),
        Some(Value::String(name)) => {
            let preset = presets::table(&name).map_err(|error| ConfigError::Type {
                place: places.of("preset"),
                key: "preset".to_owned(),
                reason: error.to_string(),
            })?;
            Ok(merge(preset, table))
        }
        Some(other) => Err(ConfigError::Type {
            place: places.of("preset"),
            key: "preset".to_owned(),
            reason: format!("invalid type: {}, expected the name of a preset", other.type_str()),
        }),
    }
}

/// The plain part of a configuration; `algorithm` and `optimizer` are read by their names.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain {
    #[serde(default)]
    seed: u64,
    #[serde(default = "default_iterations")]
    iterations: u32,
    #[serde(default)]
    threads: usize,
    #[serde(default)]
    device: DeviceChoice,
    #[serde(default)]
    kernels: KernelChoice,
    #[serde(default)]
    bad_batches: BadBatches,
    environment: EnvironmentConfig,
    #[serde(default)]
    policy: PolicyConfig,
    #[serde(default)]
    algorithm: Table,
    #[serde(default)]
    optimizer: Table,
    #[serde(default)]
    evaluation: EvaluationConfig,
    #[serde(default)]
    checkpoint: CheckpointConfig,
}

fn default_iterations() -> u32 {
    1000
}

/// Keys that are tables; a list would be taken for one by its order.
const TABLES: [&str; 7] =
    ["environment", "policy", "policy.log_std_bounds", "algorithm", "optimizer", "evaluation", "checkpoint"];

fn deserialize(table: Table, places: &Places) -> Result<Config, ConfigError> {
    for key in TABLES {
        let mut parts = key.split('.');
        let first = parts.next().and_then(|part| table.get(part));
        if let Some(value) = parts.fold(first, |value, part| value.and_then(|value| value.get(part)))
            && !value.is_table()
        {
            let hint = match key {
                "algorithm" if value.is_array() => "; this looks like a study, which `rtpg study` makes",
                "environment" => ", such as environment.name = \"cartpole\"",
                _ => "",
            };
            let reason = format!("invalid type: {}, expected a table{hint}", value.type_str());
            return Err(ConfigError::Type { place: places.of(key), key: key.to_owned(), reason });
        }
    }
    if !table.contains_key("environment") {
        let reason = "missing; name one by environment.name = \"cartpole\", or a preset to start from by \
                      preset = \"cartpole\"";
        let (key, reason) = ("environment".to_owned(), reason.to_owned());
        return Err(ConfigError::Type { place: places.of(&key), key, reason });
    }
    let plain: Plain = from_table(table, Parent::TOP, places).map_err(with_table)?;
    Ok(Config {
        seed: plain.seed,
        iterations: plain.iterations,
        threads: plain.threads,
        device: plain.device,
        kernels: plain.kernels,
        bad_batches: plain.bad_batches,
        environment: plain.environment,
        policy: plain.policy,
        algorithm: algorithm(plain.algorithm, places)?,
        optimizer: optimizer(plain.optimizer, places)?,
        evaluation: plain.evaluation,
        checkpoint: plain.checkpoint,
    })
}

/// Suggests the table that has the key, for one that stands outside of it.
fn with_table(error: ConfigError) -> ConfigError {
    let ConfigError::UnknownKey { place, key, nearest, known, of } = error else { return error };
    let tables = [
        ("environment", vec!["name".to_owned(), "horizon".to_owned()]),
        ("policy", [keys(&PolicyConfig::default()), vec!["start".to_owned()]].concat()),
        ("algorithm", AlgorithmConfig::all().each_ref().map(keys).concat()),
        ("optimizer", OptimizerConfig::all().each_ref().map(keys).concat()),
        ("evaluation", keys(&EvaluationConfig::default())),
        ("checkpoint", keys(&CheckpointConfig::default())),
    ];
    let owner =
        tables.iter().find(|(_, keys)| keys.contains(&key)).map(|(table, _)| format!("{table}.{key}"));
    ConfigError::UnknownKey { place, nearest: owner.or(nearest), key, known, of }
}

fn algorithm(mut table: Table, places: &Places) -> Result<AlgorithmConfig, ConfigError> {
    use AlgorithmConfig as Config;
    let all = Config::all();
    let chosen = take_name(&mut table, "algorithm", &all, Config::name, places)?;
    let parent = Parent { key: "algorithm", of: Some(chosen.name()) };
    Ok(match chosen {
        Config::RtPg(_) => Config::RtPg(from_table(table, parent, places)?),
        Config::Gpomdp(_) => Config::Gpomdp(from_table(table, parent, places)?),
        Config::Reinforce(_) => Config::Reinforce(from_table(table, parent, places)?),
        Config::Miw(_) => Config::Miw(from_table(table, parent, places)?),
        Config::Bh(_) => Config::Bh(from_table(table, parent, places)?),
        Config::Svrpg(_) => Config::Svrpg(from_table(table, parent, places)?),
        Config::SrvrPg(_) => Config::SrvrPg(from_table(table, parent, places)?),
        Config::StormPg(_) => Config::StormPg(from_table(table, parent, places)?),
        Config::PagePg(_) => Config::PagePg(from_table(table, parent, places)?),
        Config::DefPg(_) => Config::DefPg(from_table(table, parent, places)?),
    })
}

fn optimizer(mut table: Table, places: &Places) -> Result<OptimizerConfig, ConfigError> {
    use OptimizerConfig as Config;
    let all = Config::all();
    let chosen = take_name(&mut table, "optimizer", &all, Config::name, places)?;
    let parent = Parent { key: "optimizer", of: Some(chosen.name()) };
    Ok(match chosen {
        Config::Adam(_) => Config::Adam(from_table(table, parent, places)?),
        Config::Constant(_) => Config::Constant(from_table(table, parent, places)?),
    })
}

/// Takes `name` out of the table and finds the one of `all` that it chooses; without it, the first.
fn take_name<'a, T>(
    table: &mut Table,
    parent: &str,
    all: &'a [T],
    name_of: impl Fn(&T) -> &'static str,
    places: &Places,
) -> Result<&'a T, ConfigError> {
    let key = format!("{parent}.name");
    let known: Vec<&str> = all.iter().map(&name_of).collect();
    let reason = match table.remove("name") {
        None => return Ok(&all[0]),
        Some(Value::String(name)) => {
            if let Some(place) = known.iter().position(|known| *known == name) {
                return Ok(&all[place]);
            }
            let nearest = suggestion(nearest(&name, known.iter().copied()).as_ref());
            format!("unknown {parent} `{name}`{nearest}, expected one of {}", known.join(", "))
        }
        Some(other) => format!("invalid type: {}, expected one of {}", other.type_str(), known.join(", ")),
    };
    Err(ConfigError::Type { place: places.of(&key), key, reason })
}

/// Where a table that is read stands.
#[derive(Clone, Copy)]
pub(crate) struct Parent<'a> {
    /// Its dotted key, empty at the top.
    pub(crate) key: &'a str,
    /// What was chosen by its `name`.
    pub(crate) of: Option<&'a str>,
}

impl Parent<'_> {
    /// The top of a file.
    pub(crate) const TOP: Self = Self { key: "", of: None };
}

pub(crate) fn from_table<T: DeserializeOwned>(
    table: Table,
    parent: Parent<'_>,
    places: &Places,
) -> Result<T, ConfigError> {
    serde_path_to_error::deserialize(Value::Table(table)).map_err(|error| {
        let path = error.path().to_string();
        let message = error.inner().message().trim().to_owned();
        describe(&path, &message, parent, places)
    })
}

/// Turns a message of serde into one of ours.
fn describe(path: &str, message: &str, parent: Parent<'_>, places: &Places) -> ConfigError {
    let join = |key: &str| match (parent.key, key) {
        ("", key) => key.to_owned(),
        (parent, "." | "") => parent.to_owned(),
        (parent, key) => format!("{parent}.{key}"),
    };
    let key = join(path);
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    if message.starts_with("unknown field") && !quoted.is_empty() {
        let (field, known) = (quoted[0], &quoted[1..]);
        let key = if key.ends_with(field) { key } else { join(&format!("{path}.{field}")) };
        let prefix = key[..key.len() - field.len()].to_owned();
        let mut known: Vec<&str> = known.to_vec();
        if prefix.is_empty() {
            known.extend(places.also_known);
        }
        return ConfigError::UnknownKey {
            place: places.of(&key),
            nearest: nearest(field, known.iter().copied()).map(|nearest| format!("{prefix}{nearest}")),
            known: known.into_iter().map(|known| format!("{prefix}{known}")).collect(),
            of: parent.of.map(str::to_owned),
            key,
        };
    }
    let key = match quoted.first() {
        Some(field) if message.starts_with("missing field") => join(field),
        _ => key,
    };
    let reason = message
        .replace("expected usize", "expected a whole number that is not negative")
        .replace("expected u32", "expected a whole number that is not negative, and at most 4294967295")
        .replace("expected u64", "expected a whole number that is not negative")
        .replace("expected f64", "expected a number")
        // What TOML says of another value in the place of one of several names.
        .replace("invalid type: unit variant, expected string only", "expected a string")
        .replace('\n', " ");
    ConfigError::Type { place: places.of(&key), key, reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{OnPolicyConfig, presets};

    fn refused(overrides: &[&str]) -> String {
        let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
        load(&Source::Preset("cartpole".to_owned()), &overrides).expect_err("refused").to_string()
    }

    #[test]
    fn every_preset_loads_and_its_resolved_form_repeats_it() {
        for preset in presets() {
            let config = load(&Source::Preset(preset.name.to_owned()), &[]).unwrap();
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("config.toml");
            std::fs::write(&path, config.to_toml()).unwrap();
            assert_eq!(load(&Source::File(path), &[]).unwrap(), config);
        }
    }

    #[test]
    fn another_algorithm_keeps_the_options_that_it_has() {
        let overrides = ["algorithm.name=gpomdp".to_owned()];
        let config = load(&Source::Preset("cartpole".to_owned()), &overrides).unwrap();
        assert_eq!(config.algorithm, AlgorithmConfig::Gpomdp(OnPolicyConfig::default()));
    }

    #[test]
    fn the_order_of_overrides_decides_nothing_but_the_last_of_one_key() {
        let [one, other] = ["algorithm.window=4", "algorithm.name=gpomdp"];
        assert_eq!(refused(&[one, other]), refused(&[other, one]));
        assert!(refused(&[one, other]).starts_with("--set: unknown key `algorithm.window`"));
        let overrides = [one, "algorithm.window=5"].map(str::to_owned);
        let config = load(&Source::Preset("cartpole".to_owned()), &overrides).unwrap();
        assert_eq!(config.algorithm.window(), 5);
    }

    #[test]
    fn slips_are_named_with_the_nearest_key() {
        let message = refused(&["policy.hiden=[3]"]);
        assert!(
            message.starts_with(
                "--set: unknown key `policy.hiden` (did you mean `policy.hidden`?); known keys: "
            ),
            "{message}"
        );
        let message = refused(&["algorithm.windw=3"]);
        assert!(message.contains("did you mean `algorithm.window`?"), "{message}");
        let message = refused(&["itertions=3"]);
        assert!(message.contains("did you mean `iterations`?"), "{message}");
        for (key, owner) in [("learning_rate", "optimizer"), ("window", "algorithm"), ("start", "policy")] {
            let message = refused(&[&format!("{key}=1")]);
            assert!(message.contains(&format!("did you mean `{owner}.{key}`?")), "{message}");
        }
        let message = refused(&["algorithm.name=rtpg"]);
        assert!(message.contains("did you mean `rt-pg`?"), "{message}");
        let message = refused(&["algorithm.name=gpomdp", "algorithm.lambda=0.5"]);
        assert!(
            message.starts_with("--set: unknown key `algorithm.lambda`; known keys of `gpomdp`: "),
            "{message}"
        );
    }

    #[test]
    fn wrong_types_are_named() {
        let message = refused(&["algorithm.batch_size=ten"]);
        assert_eq!(
            message,
            "--set: key `algorithm.batch_size`: invalid type: string \"ten\", expected a whole number that is not negative"
        );
        let message = refused(&["evaluation.interval=4294967296"]);
        assert!(
            message.ends_with("expected a whole number that is not negative, and at most 4294967295"),
            "{message}"
        );
        let message = refused(&["seed=9223372036854775808"]);
        assert!(message.ends_with("is beyond the integers of TOML, which have 64 bits"), "{message}");
        let message = refused(&["policy.activation=1"]);
        assert_eq!(message, "--set: key `policy.activation`: expected a string");
        let message = refused(&["iterations=-3"]);
        assert!(message.starts_with("--set: key `iterations`: invalid value: integer `-3`"), "{message}");
        let message = refused(&["policy.hidden=[4, true]"]);
        assert!(message.contains("`policy.hidden[1]`"), "{message}");
        assert!(refused(&["nonsense"]).contains("expected key=value"));
    }
}
