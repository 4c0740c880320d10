//! `rtpg doctor`.

use serde::Serialize;
use trainer::device::{self, DeviceChoice};
use trainer::doctor::{Check, Verdict, examine};

use super::{Failure, Outcome, print_line};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Device to examine, as in `rtpg train`
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: DeviceChoice,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    device: &'a str,
    passed: bool,
    checks: &'a [Check],
}

/// Checks every kernel on the user's own device and prints a verdict for each.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let selected = device::select(&arguments.device).map_err(Failure::input)?;
    let checks = examine(&selected).map_err(Failure::run)?;
    let failed = checks.iter().filter(|check| check.verdict == Verdict::Failed).count();
    if arguments.json {
        let report = Report { device: &selected.name, passed: failed == 0, checks: &checks };
        print_line(serde_json::to_string_pretty(&report).map_err(Failure::run)?);
    } else {
        print_line(format_args!("device {}: {}", selected.name, selected.reason));
        let width = checks.iter().map(|check| check.name.len()).max().unwrap_or_default();
        print_line(format_args!("{:width$} {:>13} {:>9}  verdict", "check", "largest error", "allowed"));
        for check in &checks {
            print_line(line(check, width));
        }
        if !cfg!(feature = "device") {
            print_line("GPU kernels are not in this program: build it with --features wgpu to check them");
        }
    }
    if failed > 0 {
        let message = format!(
            "{failed} of {} checks failed: do not trust results of this device; --set kernels=generic turns fused \
             kernels off, --device cpu the GPU",
            checks.len()
        );
        return Err(Failure::run(anyhow::anyhow!(message)));
    }
    Ok(())
}

fn line(check: &Check, width: usize) -> String {
    let Check { name, error, allowed, verdict } = check;
    let error = error.map_or_else(|| "-".to_owned(), |error| format!("{error:.1e}"));
    let verdict = match verdict {
        Verdict::Ok => "ok".to_owned(),
        Verdict::Failed => "FAILED".to_owned(),
        Verdict::Skipped(reason) => format!("skipped: {reason}"),
    };
    format!("{name:width$} {error:>13} {allowed:>9.0e}  {verdict}")
}
