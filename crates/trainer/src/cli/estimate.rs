//! `rtpg estimate`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::FloatDType;
use clap::ValueEnum;
use estimator::{
    Baseline, CoefficientRule, DivergenceEstimator, EXPONENTS, MixtureRule, StepReturn, is_exponent,
};
use policy_nets::PolicyState;
use policy_nets::files::write_atomically;
use policy_nets::tensor_file::{self, StoredFloat, TensorFile};
use trainer::device::{self, DeviceChoice};
use trainer::logged::{LoggedEstimate, LoggedOptions, LoggedTrajectories, LoggedWeights, estimate};
use trainer::run_folder::policy_file;

use super::{Failure, Outcome, check_target, print_line, print_message};

/// Options of `rtpg estimate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Policy file of the target policy, or the folder of a run, whose best one is taken
    #[arg(long, value_name = "RUN_OR_POLICY")]
    policy: PathBuf,
    /// Trajectory file (docs/formats.md)
    #[arg(long, value_name = "T.safetensors")]
    trajectories: PathBuf,
    /// How trajectories are weighted
    #[arg(long, value_enum, default_value_t = Weights::Mpm)]
    weights: Weights,
    /// For bh: the policies of the batches, files or folders of runs, oldest first, as often as there are batches
    #[arg(long, value_name = "RUN_OR_POLICY", num_args = 1..)]
    policies: Vec<PathBuf>,
    /// For mpm: how coefficients are chosen [default: adaptive]
    #[arg(long, value_enum)]
    coefficients: Option<Coefficients>,
    /// For adaptive coefficients: the constant c [default: 1]
    #[arg(long, value_parser = positive)]
    correction_scale: Option<f64>,
    /// For theoretical coefficients: the bound D on second moments [default: 1]
    #[arg(long, value_parser = at_least_one)]
    second_moment_bound: Option<f64>,
    /// For theoretical coefficients: the failure probability [default: 0.2]
    #[arg(long, value_parser = probability)]
    confidence_delta: Option<f64>,
    /// For fixed coefficients: the constant lambda [default: 1]
    #[arg(long, value_parser = unit)]
    lambda: Option<f64>,
    /// For fixed coefficients: how alpha is chosen [default: uniform]
    #[arg(long, value_enum)]
    mixture: Option<Mixture>,
    /// For mpm: exponent of the power mean, 0 or at most -0.001 [default: -1]
    #[arg(long, value_parser = exponent, allow_hyphen_values = true)]
    exponent: Option<f64>,
    /// For mpm: how second moments are estimated; trajectories with `behaviour_log_prob` alone need sample
    /// [default: closed-form]
    #[arg(long, value_enum)]
    divergence: Option<Divergence>,
    /// For miw: the largest importance ratio that a trajectory is weighted with; inf for no limit [default: inf]
    #[arg(long, value_parser = positive_or_infinite)]
    clip: Option<f64>,
    /// Discount
    #[arg(long, default_value_t = 1.0, value_parser = unit)]
    discount: f64,
    /// Rewards to go (GPOMDP) or total returns (REINFORCE)
    #[arg(long, value_enum, default_value_t = Returns::ToGo)]
    returns: Returns,
    /// What is subtracted from returns
    #[arg(long, value_enum, default_value_t = BaselineArgument::None)]
    baseline: BaselineArgument,
    /// auto, cpu, gpu, gpu:N, or a backend by name
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: DeviceChoice,
    /// Float type of the computation; f64 needs a CPU device [default: f64 on the CPU, f32 on a GPU]
    #[arg(long, value_enum)]
    precision: Option<Precision>,
    /// Write the estimate to a safetensors file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Weights {
    /// Power-mean-corrected multiple importance weights
    Mpm,
    /// Uniform multiple importance weights
    Miw,
    /// Balance heuristic
    Bh,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Coefficients {
    Adaptive,
    Theoretical,
    Fixed,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mixture {
    Uniform,
    Adaptive,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Divergence {
    ClosedForm,
    Sample,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Returns {
    ToGo,
    Total,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BaselineArgument {
    None,
    Average,
    LeaveOneOut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Precision {
    F32,
    F64,
}

fn number(text: &str, allowed: impl Fn(f64) -> bool, expected: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && allowed(value) => Ok(value),
        _ => Err(format!("expected {expected}")),
    }
}

fn positive(text: &str) -> Result<f64, String> {
    number(text, |value| value > 0.0, "a number above 0")
}

fn positive_or_infinite(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 => Ok(value),
        _ => Err("expected a number above 0, or inf".to_owned()),
    }
}

fn at_least_one(text: &str) -> Result<f64, String> {
    number(text, |value| value >= 1.0, "a number of at least 1")
}

fn probability(text: &str) -> Result<f64, String> {
    number(text, |value| value > 0.0 && value < 1.0, "a probability between 0 and 1, both excluded")
}

fn unit(text: &str) -> Result<f64, String> {
    number(text, |value| (0.0..=1.0).contains(&value), "a number between 0 and 1")
}

fn exponent(text: &str) -> Result<f64, String> {
    number(text, is_exponent, EXPONENTS)
}

/// Estimates, prints the diagnostics, and writes the estimate.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    refuse_idle_options(arguments)?;
    if let Some(out) = arguments.out.as_ref().and_then(|out| out.canonicalize().ok()) {
        let inputs = [&arguments.policy, &arguments.trajectories].into_iter().chain(&arguments.policies);
        if inputs.filter_map(|input| input.canonicalize().ok()).any(|input| input == out) {
            return Err(Failure::input(anyhow::anyhow!(
                "--out {} is a file that the estimate is made from; name another",
                out.display()
            )));
        }
    }
    arguments.out.as_deref().map_or(Ok(()), |path| check_target(path, "out", "estimate", is_estimate))?;
    let policy = PolicyState::load(&policy_file(&arguments.policy)).map_err(Failure::input)?;
    let logged = LoggedTrajectories::load(&arguments.trajectories).map_err(Failure::input)?;
    if logged.batch == 1 && arguments.baseline == BaselineArgument::Average {
        return Err(Failure::input(anyhow::anyhow!(
            "--baseline average leaves nothing of batches of one trajectory, whose return is its own average; choose none or \
             leave-one-out"
        )));
    }
    let options = LoggedOptions {
        weights: weights(arguments, policy.flat_parameters().len())?,
        discount: arguments.discount,
        returns: match arguments.returns {
            Returns::ToGo => StepReturn::ToGo,
            Returns::Total => StepReturn::Total,
        },
        baseline: match arguments.baseline {
            BaselineArgument::None => Baseline::None,
            BaselineArgument::Average => Baseline::Average,
            BaselineArgument::LeaveOneOut => Baseline::LeaveOneOut,
        },
    };
    let mut selected = device::select(&arguments.device).map_err(Failure::input)?;
    let on_host = selected.is_host();
    let precision = arguments.precision.unwrap_or(if on_host { Precision::F64 } else { Precision::F32 });
    if precision == Precision::F64 {
        selected.device.configure(FloatDType::F64).map_err(|error| {
            Failure::input(anyhow::anyhow!(
                "--precision f64 on {}: {error}; use --precision f32",
                selected.name
            ))
        })?;
    }
    let result = estimate(&policy, &logged, &options, &selected.device).map_err(Failure::input)?;
    result.check().map_err(Failure::run)?;
    if let Some(path) = &arguments.out {
        let float = if precision == Precision::F64 { StoredFloat::F64 } else { StoredFloat::F32 };
        let metadata = BTreeMap::from([("format".to_owned(), FORMAT.to_owned())]);
        let tensors = result.tensors.clone();
        let bytes = tensor_file::to_sealed_bytes(tensors, &metadata, float).map_err(Failure::run)?;
        write_atomically(path, &bytes).map_err(Failure::writing)?;
    }
    print(&result, &logged, &selected.name);
    if let Some(path) = &arguments.out {
        print_line(format_args!("written to {}", path.display()));
    }
    Ok(())
}

/// The format of the file that is written.
const FORMAT: &str = "rtpg-estimate/1";

fn is_estimate(path: &Path) -> bool {
    TensorFile::read(path).is_ok_and(|file| file.metadata("format") == Some(FORMAT))
}

impl Arguments {
    fn coefficients(&self) -> Coefficients {
        self.coefficients.unwrap_or(Coefficients::Adaptive)
    }
}

/// Refuses options that would change nothing.
fn refuse_idle_options(arguments: &Arguments) -> Result<(), Failure> {
    let (mpm, miw) = (arguments.weights == Weights::Mpm, arguments.weights == Weights::Miw);
    let with = |coefficients| mpm && arguments.coefficients() == coefficients;
    let (adaptive, theoretical, fixed) =
        (with(Coefficients::Adaptive), with(Coefficients::Theoretical), with(Coefficients::Fixed));
    for (option, is_given, has_use, place) in [
        ("--policies", !arguments.policies.is_empty(), arguments.weights == Weights::Bh, "--weights bh"),
        ("--clip", arguments.clip.is_some(), miw, "--weights miw"),
        ("--coefficients", arguments.coefficients.is_some(), mpm, "--weights mpm"),
        ("--exponent", arguments.exponent.is_some(), mpm, "--weights mpm"),
        ("--divergence", arguments.divergence.is_some(), mpm, "--weights mpm"),
        ("--correction-scale", arguments.correction_scale.is_some(), adaptive, "--coefficients adaptive"),
        (
            "--second-moment-bound",
            arguments.second_moment_bound.is_some(),
            theoretical,
            "--coefficients theoretical",
        ),
        (
            "--confidence-delta",
            arguments.confidence_delta.is_some(),
            theoretical,
            "--coefficients theoretical",
        ),
        ("--lambda", arguments.lambda.is_some(), fixed, "--coefficients fixed"),
        ("--mixture", arguments.mixture.is_some(), fixed, "--coefficients fixed"),
    ] {
        if is_given && !has_use {
            return Err(Failure::input(anyhow::anyhow!("{option} goes with {place} only; leave it out")));
        }
    }
    Ok(())
}

fn weights(arguments: &Arguments, parameter_count: usize) -> Result<LoggedWeights, Failure> {
    Ok(match arguments.weights {
        Weights::Mpm => LoggedWeights::PowerMean {
            rule: match arguments.coefficients() {
                Coefficients::Adaptive => {
                    CoefficientRule::Adaptive { scale: arguments.correction_scale.unwrap_or(1.0) }
                }
                Coefficients::Theoretical => CoefficientRule::Theoretical {
                    second_moment: arguments.second_moment_bound.unwrap_or(1.0),
                    delta: arguments.confidence_delta.unwrap_or(0.2),
                    parameter_count,
                },
                Coefficients::Fixed => CoefficientRule::Fixed {
                    lambda: arguments.lambda.unwrap_or(1.0),
                    mixture: match arguments.mixture.unwrap_or(Mixture::Uniform) {
                        Mixture::Uniform => MixtureRule::Uniform,
                        Mixture::Adaptive => MixtureRule::Adaptive,
                    },
                },
            },
            divergence: match arguments.divergence.unwrap_or(Divergence::ClosedForm) {
                Divergence::ClosedForm => DivergenceEstimator::ClosedForm,
                Divergence::Sample => DivergenceEstimator::Sample,
            },
            exponent: arguments.exponent.unwrap_or(-1.0),
        },
        Weights::Miw => LoggedWeights::MultipleImportance { clip: arguments.clip.unwrap_or(f64::INFINITY) },
        Weights::Bh => LoggedWeights::BalanceHeuristic(
            arguments
                .policies
                .iter()
                .map(|path| PolicyState::load(&policy_file(path)))
                .collect::<Result<_, _>>()
                .map_err(Failure::input)?,
        ),
    })
}

/// What makes an estimate doubtful.
fn warn(result: &LoggedEstimate, trajectories: usize) {
    /// Of so many trajectories or more.
    const MANY: usize = 10;
    /// A second moment is at least 1; the mean of a sample falls below that by chance, but not far.
    const LEAST_LOG_SECOND_MOMENT: f64 = -1.0;
    let report = &result.diagnostics;
    if report.largest_weight == 0.0 {
        print_message(
            "every weight is 0: the trajectories say nothing about this policy, which is too far from theirs",
        );
    } else if trajectories >= MANY && report.effective_sample_size < 2.0 {
        print_message(format_args!(
            "the effective sample size is {:.2} of {trajectories}: the estimate is that of a single trajectory, since the \
             policy is too far from those that sampled the others",
            report.effective_sample_size
        ));
    }
    let moments = &result.tensors["log_second_moment"].values;
    if let Some((batch, moment)) =
        moments.iter().enumerate().find(|(_, value)| **value < LEAST_LOG_SECOND_MOMENT)
    {
        print_message(format_args!(
            "ln D of batch {batch} is {moment:.2}, and no second moment of ratios is below 1: either the behaviour's densities \
             are not those of the actions in the file, or none of its trajectories is likely under the policy"
        ));
    }
}

fn print(result: &LoggedEstimate, logged: &LoggedTrajectories, device: &str) {
    let report = &result.diagnostics;
    let trajectories = logged.window * logged.batch;
    print_line(format_args!(
        "{} batches of {} trajectories, horizon {}, on {device}",
        logged.window, logged.batch, logged.horizon
    ));
    print_line(format_args!("gradient norm              {:.6e}", result.gradient_norm));
    print_line(format_args!(
        "effective sample size      {:.2} of {trajectories}",
        report.effective_sample_size
    ));
    let largest = report.largest_weight;
    let largest =
        if largest == 0.0 || largest >= 1e-3 { format!("{largest:.4}") } else { format!("{largest:.3e}") };
    print_line(format_args!(
        "largest weight             {largest} times the weight 1/{trajectories} of plain averaging"
    ));
    warn(result, trajectories);
    print_line("batch      ln D     alpha    lambda     share       ESS");
    for batch in 0..logged.window {
        print_line(format_args!(
            "{batch:5} {:9.4} {:9.6} {:9.6} {:9.6} {:9.2}",
            result.tensors["log_second_moment"].values[batch],
            report.alpha[batch],
            report.lambda[batch],
            report.batch_share[batch],
            report.batch_effective_sample_size[batch]
        ));
    }
}
