//! Ranges of values.

use std::ops::RangeInclusive;

use estimator::{Baseline, EXPONENTS, is_exponent};
use policy_nets::Initialization;
use toml::Table;

use super::layers::Places;
use super::{
    AlgorithmConfig, CoefficientKind, Config, ConfigError, CorrectionRule, OptimizerConfig, PowerMeanConfig,
    SnapshotSchedule, VarianceReduction,
};

/// The most trajectories, steps, widths or batches: beyond it products overflow the address space of small machines.
const LARGEST_SIZE: usize = 1 << 24;

/// Variances whose reciprocals, and squares of actions that they lead to, are within single precision.
const VARIANCES: RangeInclusive<f64> = 1e-30..=1e36;

/// The logarithms of their square roots, but for the last digits.
const LOG_STDS: RangeInclusive<f64> = -34.5..=41.4;

/// The largest key of random draws: TOML's integers have a sign.
const LARGEST_SEED: u64 = i64::MAX as u64;

/// The most worker threads: no machine has more use for them, and each costs memory.
pub const MOST_THREADS: usize = 1024;

impl Config {
    /// Checks every value's range, as [`load`](super::load()) does, for a configuration that was changed or made by a program.
    ///
    /// # Errors
    /// [`ConfigError::Range`] for the first value that is out of its range.
    pub fn check(&self) -> Result<(), ConfigError> {
        check(self, &Places { place: "configuration".to_owned(), layers: vec![], also_known: &[] })
    }
}

/// Checks every value's range.
pub(super) fn check(config: &Config, places: &Places) -> Result<(), ConfigError> {
    let checker = Checker { places };
    let Config { environment, policy, evaluation, checkpoint, .. } = config;
    if config.seed > LARGEST_SEED {
        return checker.refuse("seed", config.seed, "at most 9223372036854775807");
    }
    if config.iterations == 0 {
        return checker.refuse("iterations", 0, "at least 1");
    }
    if config.threads > MOST_THREADS {
        return checker.refuse("threads", config.threads, "at most 1024");
    }
    if let Some(horizon) = environment.horizon {
        checker.size("environment.horizon", horizon)?;
    }
    for (index, width) in policy.hidden.iter().enumerate() {
        checker.size(&format!("policy.hidden[{index}]"), *width)?;
    }
    if let Some(start) = policy.start.as_deref().filter(|start| start.to_str().is_none()) {
        return checker.refuse(
            "policy.start",
            start.display(),
            "a path in UTF-8, which config.toml can record",
        );
    }
    // A start takes the place of what is drawn.
    let is_drawn = policy.start.is_none();
    if is_drawn && !policy.hidden.is_empty() && policy.initialization == Initialization::Zero {
        // Who chose the layers is asked for the other.
        return Err(ConfigError::Range {
            place: checker.places.of("policy.hidden"),
            key: "policy.initialization".to_owned(),
            found: "zero".to_owned(),
            expected: "xavier-uniform: hidden layers (policy.hidden) of zeros would never move".to_owned(),
        });
    }
    if !VARIANCES.contains(&policy.variance) {
        return checker.refuse("policy.variance", policy.variance, "1e-30 to 1e36");
    }
    for (key, bound) in [
        ("policy.log_std_bounds.min", policy.log_std_bounds.min),
        ("policy.log_std_bounds.max", policy.log_std_bounds.max),
    ] {
        if !LOG_STDS.contains(&bound) {
            return checker.refuse(key, bound, "-34.5 to 41.4");
        }
    }
    if policy.log_std_bounds.min >= policy.log_std_bounds.max {
        return checker.refuse(
            "policy.log_std_bounds.min",
            policy.log_std_bounds.min,
            "less than the maximum",
        );
    }
    let bounds = policy.log_std_bounds.min..=policy.log_std_bounds.max;
    if policy.learn_variance && !bounds.contains(&(0.5 * policy.variance.ln())) {
        let [least, most] = [bounds.start(), bounds.end()].map(|log_std| (2.0 * log_std).exp());
        let expected = format!("{least:e} to {most:e}, which policy.log_std_bounds allow a learned one");
        return checker.refuse("policy.variance", policy.variance, &expected);
    }
    check_algorithm(&config.algorithm, &checker)?;
    match &config.optimizer {
        OptimizerConfig::Adam(adam) => {
            checker.step("optimizer.learning_rate", adam.learning_rate)?;
            checker.below_one("optimizer.beta_1", adam.beta_1)?;
            checker.below_one("optimizer.beta_2", adam.beta_2)?;
            checker.step("optimizer.epsilon", adam.epsilon)?;
            if adam.epsilon > f64::from(f32::MAX) {
                return checker.refuse("optimizer.epsilon", format!("{:e}", adam.epsilon), "at most 3.4e38");
            }
        }
        OptimizerConfig::Constant(constant) => {
            checker.step("optimizer.learning_rate", constant.learning_rate)?;
        }
    }
    checker.size("evaluation.episodes", evaluation.episodes)?;
    if !(checkpoint.seconds.is_finite() && checkpoint.seconds >= 0.0) {
        return checker.refuse("checkpoint.seconds", checkpoint.seconds, "a number of at least 0");
    }
    Ok(())
}

fn check_algorithm(algorithm: &AlgorithmConfig, checker: &Checker<'_>) -> Result<(), ConfigError> {
    match algorithm.variance_reduction() {
        None => checker.size("algorithm.batch_size", algorithm.batch_size())?,
        Some(reduction) => check_variance_reduction(&reduction, checker)?,
    }
    checker.size("algorithm.window", algorithm.window())?;
    if algorithm.baseline() == Baseline::Average && algorithm.batch_size() == 1 {
        let expected =
            "none or leave-one-out with batches of one trajectory, whose return is its own average";
        return checker.refuse("algorithm.baseline", "average", expected);
    }
    checker.unit("algorithm.discount", algorithm.discount())?;
    if let AlgorithmConfig::Miw(options) = algorithm
        && (options.clip.is_nan() || options.clip <= 0.0)
    {
        return checker.refuse("algorithm.clip", options.clip, "a number above 0, or inf for no limit");
    }
    if let AlgorithmConfig::RtPg(options) = algorithm {
        if !is_exponent(options.exponent) {
            return checker.refuse("algorithm.exponent", options.exponent, EXPONENTS);
        }
        checker.positive("algorithm.correction_scale", options.correction_scale)?;
        checker.unit("algorithm.lambda", options.lambda)?;
        if !(options.second_moment_bound.is_finite() && options.second_moment_bound >= 1.0) {
            return checker.refuse(
                "algorithm.second_moment_bound",
                options.second_moment_bound,
                "a number of at least 1",
            );
        }
        if !(options.divergence_noise.is_finite() && options.divergence_noise >= 0.0) {
            return checker.refuse(
                "algorithm.divergence_noise",
                options.divergence_noise,
                "a number of at least 0",
            );
        }
        if !(options.confidence_delta > 0.0 && options.confidence_delta < 1.0) {
            let expected = "a probability between 0 and 1, both excluded";
            return checker.refuse("algorithm.confidence_delta", options.confidence_delta, expected);
        }
        refuse_idle_options(options, checker)?;
    }
    Ok(())
}

/// Refuses values of options for which the chosen kind of coefficients has no use. Defaults are accepted: a run's own
/// configuration says every option.
fn refuse_idle_options(options: &PowerMeanConfig, checker: &Checker<'_>) -> Result<(), ConfigError> {
    let tables = [options, &PowerMeanConfig::default()].map(Table::try_from);
    let [Ok(chosen), Ok(defaults)] = tables else { return Ok(()) };
    let kind = options.coefficients;
    for (option, value) in chosen.iter().filter(|(option, _)| !kind.has_use_for(option)) {
        if let Some(default) = defaults.get(option).filter(|default| *default != value) {
            let with = CoefficientKind::ALL.into_iter().filter(|kind| kind.has_use_for(option));
            let expected = format!(
                "its default {default}: algorithm.coefficients is {}, and the option goes with {} only",
                kind.name(),
                with.map(CoefficientKind::name).collect::<Vec<_>>().join(" and ")
            );
            return checker.refuse(&format!("algorithm.{option}"), value, &expected);
        }
    }
    Ok(())
}

fn check_variance_reduction(reduction: &VarianceReduction, checker: &Checker<'_>) -> Result<(), ConfigError> {
    checker.size("algorithm.snapshot_size", reduction.snapshot_size)?;
    checker.size("algorithm.batch_size", reduction.batch_size)?;
    match reduction.schedule {
        SnapshotSchedule::Every(0) => checker.refuse("algorithm.epoch", 0, "at least 1")?,
        SnapshotSchedule::Random(probability) => {
            checker.unit("algorithm.snapshot_probability", probability)?;
        }
        SnapshotSchedule::Every(_) | SnapshotSchedule::First => {}
    }
    match reduction.correction {
        CorrectionRule::Momentum(momentum) => checker.unit("algorithm.momentum", momentum),
        CorrectionRule::Defensive(share) if !(share > 0.0 && share < 1.0) => {
            checker.refuse("algorithm.defensive_share", share, "a number between 0 and 1, both excluded")
        }
        _ => Ok(()),
    }
}

struct Checker<'a> {
    places: &'a Places,
}

impl Checker<'_> {
    fn refuse(&self, key: &str, found: impl ToString, expected: &str) -> Result<(), ConfigError> {
        Err(ConfigError::Range {
            place: self.places.of(key),
            key: key.to_owned(),
            found: found.to_string(),
            expected: expected.to_owned(),
        })
    }

    fn size(&self, key: &str, value: usize) -> Result<(), ConfigError> {
        match value {
            0 => self.refuse(key, value, "at least 1"),
            value if value > LARGEST_SIZE => self.refuse(key, value, "at most 16777216"),
            _ => Ok(()),
        }
    }

    /// A finite number above 0 that does not lose digits in single precision, in which steps are computed, for being small. One
    /// beyond that range is infinite there, and its first step is told as one that is not finite.
    fn step(&self, key: &str, value: f64) -> Result<(), ConfigError> {
        let is_held = value.is_finite() && value >= f64::from(f32::MIN_POSITIVE);
        if is_held { Ok(()) } else { self.refuse(key, value, "a number of at least 1.2e-38") }
    }

    fn positive(&self, key: &str, value: f64) -> Result<(), ConfigError> {
        if value.is_finite() && value > 0.0 { Ok(()) } else { self.refuse(key, value, "a number above 0") }
    }

    fn unit(&self, key: &str, value: f64) -> Result<(), ConfigError> {
        if (0.0..=1.0).contains(&value) {
            Ok(())
        } else {
            self.refuse(key, value, "a number between 0 and 1")
        }
    }

    fn below_one(&self, key: &str, value: f64) -> Result<(), ConfigError> {
        if (0.0..1.0).contains(&value) {
            Ok(())
        } else {
            self.refuse(key, value, "a number of at least 0 and below 1")
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{AlgorithmConfig, Source, load};

    #[test]
    fn values_out_of_range_are_refused_by_key() {
        let cases = [
            ("algorithm.batch_size=0", "at least 1"),
            ("algorithm.window=0", "at least 1"),
            ("environment.horizon=0", "at least 1"),
            ("iterations=0", "at least 1"),
            ("threads=100000", "at most 1024"),
            ("policy.variance=0.0", "1e-30 to 1e36"),
            ("policy.variance=nan", "1e-30 to 1e36"),
            ("policy.log_std_bounds.min=-inf", "-34.5 to 41.4"),
            ("policy.log_std_bounds.max=47.0", "-34.5 to 41.4"),
            ("policy.hidden=[32, 0]", "at least 1"),
            ("algorithm.lambda=1.5", "a number between 0 and 1"),
            ("algorithm.lambda=-0.1", "a number between 0 and 1"),
            ("algorithm.discount=nan", "a number between 0 and 1"),
            ("algorithm.exponent=1.0", "0, or a number from -1000 to -0.001"),
            ("algorithm.exponent=-1e-4", "0, or a number from -1000 to -0.001"),
            ("algorithm.exponent=-1001.0", "0, or a number from -1000 to -0.001"),
            ("algorithm.confidence_delta=0.0", "a probability between 0 and 1, both excluded"),
            ("algorithm.second_moment_bound=0.5", "a number of at least 1"),
            ("algorithm.divergence_noise=-1.0", "a number of at least 0"),
            ("optimizer.learning_rate=-0.1", "a number of at least 1.2e-38"),
            ("optimizer.learning_rate=1e-300", "a number of at least 1.2e-38"),
            ("optimizer.learning_rate=inf", "a number of at least 1.2e-38"),
            ("optimizer.epsilon=1e-46", "a number of at least 1.2e-38"),
            ("optimizer.epsilon=1e300", "at most 3.4e38"),
            ("optimizer.beta_2=1.0", "a number of at least 0 and below 1"),
            ("checkpoint.seconds=-1.0", "a number of at least 0"),
            ("evaluation.episodes=0", "at least 1"),
        ];
        for (text, expected) in cases {
            let error = load(&Source::Preset("cartpole".to_owned()), &[text.to_owned()]).expect_err(text);
            let message = error.to_string();
            let key = text.split('=').next().unwrap();
            assert!(message.starts_with(&format!("--set: key `{key}")), "{message}");
            assert!(message.ends_with(&format!("expected {expected}")), "{message}");
        }
    }

    #[test]
    fn the_average_of_a_batch_of_one_is_no_baseline() {
        for (name, size, baseline, is_refused) in [
            ("rt-pg", 1, "average", true),
            ("reinforce", 1, "average", true),
            ("bh", 1, "average", true),
            ("gpomdp", 2, "average", false),
            ("gpomdp", 1, "leave-one-out", false),
            ("svrpg", 1, "", false),
        ] {
            let mut overrides =
                vec![format!("algorithm.name={name}"), format!("algorithm.batch_size={size}")];
            overrides.extend((!baseline.is_empty()).then(|| format!("algorithm.baseline={baseline}")));
            let outcome =
                load(&Source::Preset("lqr".to_owned()), &overrides).map_err(|error| error.to_string());
            assert_eq!(outcome.is_err(), is_refused, "{name} {size} {baseline}: {outcome:?}");
            if let Err(message) = outcome {
                assert!(
                    message.contains("key `algorithm.baseline` is average, expected none or"),
                    "{message}"
                );
            }
        }
    }

    #[test]
    fn ratios_are_clipped_at_a_number_above_zero_or_not_at_all() {
        let load = |text: &str| {
            let name = "algorithm.name=miw".to_owned();
            load(&Source::Preset("cartpole".to_owned()), &[name, format!("algorithm.clip={text}")])
        };
        for text in ["0.0", "-1", "nan", "-inf"] {
            let message = load(text).expect_err(text).to_string();
            assert!(message.ends_with("expected a number above 0, or inf for no limit"), "{message}");
        }
        for (text, clip) in [("2.5", 2.5), ("3", 3.0), ("inf", f64::INFINITY)] {
            let config = load(text).unwrap();
            assert!(matches!(config.algorithm, AlgorithmConfig::Miw(options) if options.clip == clip));
            let written = toml::to_string(&config).unwrap();
            assert_eq!(
                toml::from_str::<toml::Table>(&written).unwrap()["algorithm"]["clip"].as_float(),
                Some(clip)
            );
        }
    }

    #[test]
    fn options_that_the_coefficients_have_no_use_for_are_refused() {
        let load = |overrides: &[&str]| {
            let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
            load(&Source::Preset("cartpole".to_owned()), &overrides)
        };
        for (kind, idle, with) in [
            ("adaptive", "lambda=0.5", "fixed"),
            ("adaptive", "mixture=adaptive", "fixed"),
            ("theoretical", "correction_scale=2.0", "adaptive"),
            ("fixed", "second_moment_bound=2.0", "theoretical"),
            ("fixed", "confidence_delta=0.1", "theoretical"),
        ] {
            let chosen = format!("algorithm.coefficients={kind}");
            let idle = format!("algorithm.{idle}");
            let message = load(&[&chosen, &idle]).expect_err(&idle).to_string();
            let (key, _) = idle.split_once('=').unwrap();
            assert!(message.starts_with(&format!("--set: key `{key}` is ")), "{message}");
            assert!(message.ends_with(&format!("goes with {with} only")), "{message}");
            let message = load(&[&format!("algorithm.coefficients={with}"), &idle]).map(|_| ());
            assert!(message.is_ok(), "{message:?}");
        }
        // What a layer below chose for another kind is dropped.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fixed.toml");
        std::fs::write(
            &path,
            "preset = \"cartpole\"\nalgorithm = { coefficients = \"fixed\", lambda = 0.5 }",
        )
        .unwrap();
        let source = Source::File(path);
        assert!(super::super::load(&source, &["algorithm.coefficients=adaptive".to_owned()]).is_ok());
        assert!(super::super::load(&source, &["algorithm.batch_size=3".to_owned()]).is_ok());
    }

    #[test]
    fn values_of_variance_reduced_algorithms_out_of_range_are_refused_by_key() {
        let cases = [
            ("svrpg", "algorithm.epoch=0", "at least 1"),
            ("srvr-pg", "algorithm.snapshot_size=0", "at least 1"),
            ("svrpg", "algorithm.batch_size=0", "at least 1"),
            ("storm-pg", "algorithm.momentum=1.5", "a number between 0 and 1"),
            ("page-pg", "algorithm.snapshot_probability=nan", "a number between 0 and 1"),
            ("def-pg", "algorithm.defensive_share=1.0", "a number between 0 and 1, both excluded"),
            ("def-pg", "algorithm.discount=2.0", "a number between 0 and 1"),
        ];
        for (name, text, expected) in cases {
            let overrides = [format!("algorithm.name={name}"), text.to_owned()];
            let error = load(&Source::Preset("cartpole".to_owned()), &overrides).expect_err(text);
            let message = error.to_string();
            let key = text.split('=').next().unwrap();
            assert!(message.starts_with(&format!("--set: key `{key}")), "{message}");
            assert!(message.ends_with(&format!("expected {expected}")), "{message}");
        }
    }
}
