//! `manifest.json`: how the results of a study came about.

use environments::mujoco;
use serde::Serialize;

use super::plan::configuration;
use super::{Plan, StudyError, StudyFolder};

/// Version of Burn that the workspace asks for.
const BURN: &str = "0.22.1";

#[derive(Serialize)]
struct Manifest<'a> {
    study: &'a str,
    command: Vec<String>,
    versions: Versions,
    operating_system: &'static str,
    architecture: &'static str,
    processor: Option<String>,
    processors: usize,
}

#[derive(Serialize)]
struct Versions {
    rtpg: &'static str,
    burn: &'static str,
    /// Where an environment of the study is simulated by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    mujoco: Option<String>,
}

/// Writes the command of this process, the versions of what computes, and the machine.
///
/// # Errors
/// What the file system refuses.
pub fn write(folder: &StudyFolder, plan: &Plan) -> Result<(), StudyError> {
    let mut command: Vec<String> =
        std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    if let Some(program) = command.first_mut() {
        "rtpg".clone_into(program);
    }
    let manifest = Manifest {
        study: &plan.name,
        command,
        versions: Versions { rtpg: env!("CARGO_PKG_VERSION"), burn: BURN, mujoco: mujoco_version(plan) },
        operating_system: std::env::consts::OS,
        architecture: std::env::consts::ARCH,
        processor: processor(),
        processors: std::thread::available_parallelism().map_or(1, usize::from),
    };
    let json = serde_json::to_string_pretty(&manifest).map_err(std::io::Error::other)?;
    folder.write("manifest.json", format!("{json}\n").as_bytes())
}

/// The version of MuJoCo in use; `None` where no environment needs it, or where there is none, which the runs will tell.
fn mujoco_version(plan: &Plan) -> Option<String> {
    let definition = &plan.definition;
    let names = plan.runs.iter().map(|run| run.config.environment.name.clone());
    // A gradient study has no runs.
    let frozen = (0..definition.environments.len())
        .filter_map(|index| configuration(&plan.name, definition, index, None, definition.seed, 1).ok())
        .map(|config| config.environment.name);
    let simulated = |name: String| mujoco::DEFINITIONS.iter().any(|definition| definition.name() == name);
    if !names.chain(frozen).any(simulated) {
        return None;
    }
    Some(mujoco::library_info().ok()?.version.to_string())
}

/// The processor's name, where the system tells.
fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::BURN;

    #[test]
    fn the_version_of_burn_is_that_of_the_workspace() {
        let manifest = include_str!("../../../../Cargo.toml");
        assert!(manifest.contains(&format!("burn = {{ version = \"={BURN}\"")), "{BURN}");
    }
}
