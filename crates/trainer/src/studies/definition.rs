//! Study files.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::StudyError;
use super::plan::slug;
use crate::config::layers::{Layer, OVERRIDE, Places, merge, parse_overrides};
use crate::config::load::{Parent, from_table, read};
use crate::config::{ConfigError, Source};

/// A study as its file says it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// Title of figures and tables.
    pub title: String,
    /// What is measured.
    #[serde(default)]
    pub kind: Kind,
    /// Presets (or configuration files) that each algorithm is run on.
    pub environments: Vec<String>,
    /// Runs of each algorithm on each environment; of a `gradient` study, repetitions of each estimate.
    pub runs: u32,
    /// Key that the seeds of all runs are derived from.
    #[serde(default)]
    pub seed: u64,
    /// Fresh trajectories of each run, unless the algorithm has its own budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<u64>,
    /// Return that counts as learned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// Fresh trajectories over which returns are averaged before they are compared with the threshold, or drawn.
    #[serde(default = "default_smoothing")]
    pub smoothing: u64,
    /// Horizontal axis of the curves.
    #[serde(default)]
    pub horizontal: Horizontal,
    /// Whether each run has a process of its own, so that its peak of memory can be told.
    #[serde(default)]
    pub isolated: bool,
    /// What is estimated over runs, and how its interval is made.
    #[serde(default)]
    pub interval: Interval,
    /// Label of the algorithm that the others are compared with; without it, the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// What a sensitivity plot shows below its horizontal axis; entries then have a `position`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position_label: Option<String>,
    /// Where a `gradient` study estimates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<Frozen>,
    /// Keys of the configuration of every run.
    #[serde(default)]
    pub settings: Table,
    /// What is compared.
    #[serde(default)]
    pub algorithm: Vec<Entry>,
}

/// One algorithm of a study.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Name in tables and figures.
    pub label: String,
    /// Series of sensitivity plots that this belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Place on the horizontal axis of sensitivity plots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<f64>,
    /// Fresh trajectories of each run, in place of the study's budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<u64>,
    /// In a `gradient` study of a variance-reduced algorithm, the iterations since its last large batch; without it, 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age: Option<u32>,
    /// Keys of the table `optimizer`.
    #[serde(default)]
    pub optimizer: Table,
    /// Keys of the table `policy`.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub policy: Table,
    /// Keys of the table `algorithm`.
    #[serde(flatten)]
    pub options: Table,
}

/// What a study measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Returns while policies are trained.
    #[default]
    Training,
    /// Gradient estimates at frozen parameters.
    Gradient,
}

/// Horizontal axis of the curves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Horizontal {
    /// Cumulative fresh trajectories.
    #[default]
    Trajectories,
    /// Seconds since the run began.
    Seconds,
}

/// What is estimated over runs, and how its interval is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Interval {
    /// The interquartile mean with a stratified percentile bootstrap.
    #[default]
    Bootstrap,
    /// The mean with Student's t interval.
    StudentT,
}

/// Where a `gradient` study estimates: along the last iterations of a training run, of which nothing is learned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frozen {
    /// Iterations of the environment's own configuration after which parameters are frozen.
    pub iterations: u32,
    /// Trajectories of the on-policy estimate that stands for the true gradient.
    #[serde(default = "default_reference_size")]
    pub reference_size: usize,
}

fn default_smoothing() -> u64 {
    100
}

fn default_reference_size() -> usize {
    100_000
}

/// A study compiled into the program.
#[derive(Clone, Copy, Debug)]
pub struct BuiltIn {
    /// The name on the command line.
    pub name: &'static str,
    /// The TOML text, of which the first comment line is the summary.
    pub text: &'static str,
}

impl BuiltIn {
    /// The first comment line.
    pub fn summary(&self) -> &'static str {
        self.text.lines().next().unwrap_or_default().trim_start_matches('#').trim()
    }
}

/// Every built-in study, by name.
pub fn built_in() -> &'static [BuiltIn] {
    macro_rules! studies {
        ($($name:literal),* $(,)?) => {
            &[$(BuiltIn {
                name: $name,
                text: include_str!(concat!("../../../../assets/studies/", $name, ".toml")),
            }),*]
        };
    }
    studies![
        "cartpole-baselines",
        "cartpole-batch",
        "cartpole-equal-data",
        "cartpole-snapshots",
        "cartpole-window",
        "coefficients",
        "divergence-noise",
        "gradient-variance",
        "half-cheetah-baselines",
        "half-cheetah-window",
        "recursion-error",
        "sanity-lambda-one",
        "swimmer-baselines",
        "window-memory",
        "window-wall-clock",
    ]
}

/// Reads a study: a file when `text` names one or ends in `.toml`, else a built-in one. `overrides` are `key=value` of the
/// study's own keys (`runs=3`, `settings.policy.variance=0.1`).
///
/// Returns its name and its definition.
///
/// # Errors
/// [`StudyError`], which names the place and the key.
pub fn load(text: &str, overrides: &[String]) -> Result<(String, Definition), StudyError> {
    let (name, place, table) = match Source::parse(text) {
        Source::File(path) => (stem(&path), path.display().to_string(), read(&path)?),
        Source::Preset(name) => {
            let table = built_in_table(&name)?;
            (name.clone(), format!("study {name}"), table)
        }
    };
    let layer = Layer { place: OVERRIDE.to_owned(), table: parse_overrides(overrides)? };
    let table = merge(table, layer.table.clone());
    let places = Places { place, layers: vec![layer], also_known: &[] };
    if table.get("algorithm").is_some_and(Value::is_table) {
        let reason = "invalid type: table, expected a list of tables [[algorithm]]; this looks like the configuration of a \
                      run, which `rtpg train` makes";
        let (place, key, reason) = (places.of("algorithm"), "algorithm".to_owned(), reason.to_owned());
        return Err(ConfigError::Type { place, key, reason }.into());
    }
    let definition: Definition = from_table(table, Parent::TOP, &places)?;
    definition.check(&places)?;
    Ok((name, definition))
}

fn stem(path: &std::path::Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn built_in_table(name: &str) -> Result<Table, StudyError> {
    let known = || built_in().iter().map(|study| study.name);
    let study = built_in().iter().find(|study| study.name == name).ok_or_else(|| StudyError::Unknown {
        name: name.to_owned(),
        nearest: crate::config::nearest(name, known()),
        known: known().map(str::to_owned).collect(),
    })?;
    let syntax = |error: toml::de::Error| ConfigError::Syntax {
        path: PathBuf::from(format!("assets/studies/{name}.toml")),
        reason: error.to_string(),
    };
    Ok(toml::from_str(study.text).map_err(syntax)?)
}

/// The most runs (or repetitions) of each algorithm: each has its place in memory, and in every replicate of a bootstrap.
pub const MOST_RUNS: u32 = 10_000;

/// The most bytes of a label.
const LONGEST_LABEL: usize = 100;

/// The most trajectories of the estimate that stands for the true gradient.
const LARGEST_REFERENCE: usize = 1_000_000_000;
/// Trajectories of one part of the true gradient of a gradient study.
pub(super) const REFERENCE_BATCH: usize = 500;

/// Keys of a run's configuration that follow from the study.
const DERIVED: [&str; 5] = ["seed", "iterations", "threads", "algorithm", "preset"];

impl Definition {
    /// The label that the others are compared with.
    pub fn reference(&self) -> &str {
        let first = self.algorithm.first().map_or("", |entry| entry.label.as_str());
        self.reference.as_deref().unwrap_or(first)
    }

    /// The places of the algorithms on the horizontal axis of sensitivity plots.
    pub(super) fn positions(&self) -> impl Iterator<Item = f64> {
        self.algorithm.iter().filter_map(|entry| entry.position)
    }

    fn check(&self, places: &Places) -> Result<(), StudyError> {
        let refuse = |key: &str, reason: String| {
            Err(StudyError::Value { place: places.of(key), key: key.to_owned(), reason })
        };
        if self.runs == 0 {
            return refuse("runs", "is 0, expected at least 1".to_owned());
        }
        if self.runs > MOST_RUNS {
            return refuse("runs", format!("is {}, expected at most {MOST_RUNS}", self.runs));
        }
        if self.seed > i64::MAX as u64 {
            return refuse("seed", format!("is {}, expected at most {}", self.seed, i64::MAX));
        }
        if self.smoothing == 0 {
            return refuse("smoothing", "is 0, expected at least 1".to_owned());
        }
        if let Some(threshold) = self.threshold.filter(|threshold| !threshold.is_finite()) {
            return refuse("threshold", format!("is {threshold}, expected a finite number"));
        }
        self.check_names(places)?;
        let labels: Vec<_> = self.algorithm.iter().map(|entry| entry.label.as_str()).collect();
        if let Some(reference) = self.reference.as_deref().filter(|label| !labels.contains(label)) {
            return refuse("reference", format!("is `{reference}`, expected one of {}", labels.join(", ")));
        }
        if let Some(key) = DERIVED.into_iter().find(|key| self.settings.contains_key(*key)) {
            let instead = match key {
                "algorithm" => "; options of an algorithm stand in its table [[algorithm]]",
                "iterations" => "; `budget` says for how long a run goes on",
                _ => "",
            };
            let reason = format!("follows from the study's own keys{instead}");
            return refuse(&format!("settings.{key}"), reason);
        }
        if let Some(position) = self.positions().find(|position| !position.is_finite()) {
            return refuse("algorithm.position", format!("is {position}, expected a finite number"));
        }
        match self.kind {
            Kind::Training => self.check_training(&refuse),
            Kind::Gradient => self.check_gradient(&refuse),
        }
    }

    fn check_training(&self, refuse: &Refuse<'_>) -> Result<(), StudyError> {
        if self.position_label.is_some() && self.positions().next().is_none() {
            let reason = "names the axis of a sensitivity plot, but no algorithm has a `position` on it";
            return refuse("position_label", reason.to_owned());
        }
        if self.budget.is_none() && self.algorithm.iter().any(|entry| entry.budget.is_none()) {
            return refuse("budget", "is missing: fresh trajectories of each run".to_owned());
        }
        if self.budget.is_some() && self.algorithm.iter().all(|entry| entry.budget.is_some()) {
            return refuse("budget", "is idle: every algorithm has a budget of its own".to_owned());
        }
        let of_other = [
            ("frozen", self.frozen.is_some()),
            ("algorithm.age", self.algorithm.iter().any(|entry| entry.age.is_some())),
        ];
        match of_other.into_iter().find(|(_, given)| *given) {
            Some((key, _)) => refuse(key, "goes with kind = \"gradient\" only".to_owned()),
            None => Ok(()),
        }
    }

    fn check_gradient(&self, refuse: &Refuse<'_>) -> Result<(), StudyError> {
        let Some(Frozen { reference_size: size, .. }) = self.frozen else {
            return refuse("frozen", "is missing: where gradients are estimated".to_owned());
        };
        if self.runs < 2 {
            return refuse("runs", "is 1, expected at least 2 repetitions for a variance".to_owned());
        }
        if !(2..=LARGEST_REFERENCE).contains(&size) {
            return refuse("frozen.reference_size", format!("is {size}, expected 2 to {LARGEST_REFERENCE}"));
        }
        if !size.is_multiple_of(if size < 2 * REFERENCE_BATCH { 2 } else { REFERENCE_BATCH }) {
            let expected =
                format!("an even number, or from {} on a multiple of {REFERENCE_BATCH}", 2 * REFERENCE_BATCH);
            return refuse("frozen.reference_size", format!("is {size}, expected {expected}"));
        }
        let any = |is_given: fn(&Entry) -> bool| self.algorithm.iter().any(is_given);
        // With its default a key says nothing, and stands in the `study.toml` of every study.
        let of_other = [
            ("budget", self.budget.is_some()),
            ("threshold", self.threshold.is_some()),
            ("smoothing", self.smoothing != default_smoothing()),
            ("horizontal", self.horizontal != Horizontal::default()),
            ("interval", self.interval != Interval::default()),
            ("isolated", self.isolated),
            ("position_label", self.position_label.is_some()),
            ("algorithm.budget", any(|entry| entry.budget.is_some())),
            ("algorithm.optimizer", any(|entry| !entry.optimizer.is_empty())),
            ("algorithm.policy", any(|entry| !entry.policy.is_empty())),
            ("algorithm.group", any(|entry| entry.group.is_some())),
            ("algorithm.position", any(|entry| entry.position.is_some())),
        ];
        match of_other.into_iter().find(|(_, given)| *given) {
            Some((key, _)) => refuse(key, "goes with kind = \"training\" only".to_owned()),
            None => Ok(()),
        }
    }

    /// Environments and labels, which name folders and files.
    fn check_names(&self, places: &Places) -> Result<(), StudyError> {
        let refuse = |key: &str, reason: String| {
            Err(StudyError::Value { place: places.of(key), key: key.to_owned(), reason })
        };
        if self.environments.is_empty() {
            return refuse("environments", "is empty, expected at least one preset".to_owned());
        }
        if let Some(twice) = duplicate(self.environments.iter().map(String::as_str)) {
            return refuse("environments", format!("names `{twice}` twice"));
        }
        if let Some([first, second]) = same_slug(self.environments.iter().map(String::as_str)) {
            return refuse("environments", format!("has `{first}` and `{second}`, {SAME_SLUG}"));
        }
        if self.algorithm.is_empty() {
            return refuse("algorithm", "is missing, expected at least one table [[algorithm]]".to_owned());
        }
        let is_label = |label: &str| {
            let is_plain = |character: char| character != '|' && !character.is_control();
            !slug(label).is_empty() && label.len() <= LONGEST_LABEL && label.chars().all(is_plain)
        };
        if let Some(entry) = self.algorithm.iter().find(|entry| !is_label(&entry.label)) {
            let reason = format!(
                "is {:?}, expected a letter from a to z or a digit in it, no `|`, and at most {LONGEST_LABEL} bytes: it names folders and heads tables",
                entry.label
            );
            return refuse("algorithm.label", reason);
        }
        if let Some(label) = duplicate(self.algorithm.iter().map(|entry| entry.label.as_str())) {
            return Err(StudyError::Duplicate {
                place: places.of("algorithm.label"),
                label: label.to_owned(),
            });
        }
        if let Some([first, second]) = same_slug(self.algorithm.iter().map(|entry| entry.label.as_str())) {
            return refuse("algorithm.label", format!("is `{first}` and `{second}`, {SAME_SLUG}"));
        }
        Ok(())
    }
}

/// What is wrong with two names of one slug.
const SAME_SLUG: &str = "which would name the same files: letters from a to z and digits have to differ";

/// The first two texts that lead to the same names of files.
fn same_slug<'a>(texts: impl Iterator<Item = &'a str>) -> Option<[&'a str; 2]> {
    let mut seen = std::collections::BTreeMap::new();
    texts.into_iter().find_map(|text| Some([seen.insert(slug(text), text)?, text]))
}

/// Refuses a key for a reason.
type Refuse<'a> = dyn Fn(&str, String) -> Result<(), StudyError> + 'a;

/// The first text that occurs twice.
fn duplicate<'a>(texts: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut seen = std::collections::BTreeSet::new();
    texts.into_iter().find(|text| !seen.insert(*text))
}
