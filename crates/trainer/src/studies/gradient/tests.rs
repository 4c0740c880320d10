//! Gradient studies: what is kept and taken again, what is refused, and that threads change nothing.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use policy_nets::tensor_file::StoredFloat;

use super::*;
use crate::studies::load;
use crate::training::preset_policy;

const SMALL: &str = r#"
title = "gradients"
kind = "gradient"
environments = ["lqr"]
runs = 6

[frozen]
iterations = 3
reference_size = 2000

[settings.environment]
horizon = 3

[[algorithm]]
label = "GPOMDP"
name = "gpomdp"
batch_size = 5

[[algorithm]]
label = "RT-PG"
name = "rt-pg"
batch_size = 5
window = 2
"#;

/// A study in a scratch folder.
struct Scratch {
    folder: tempfile::TempDir,
    definition: Definition,
}

/// What a call of [`measure`] gave.
struct Measured {
    outcome: Result<Option<Vec<Samples>>, StudyError>,
    sampled: u64,
}

impl Measured {
    fn samples(self) -> Vec<Samples> {
        self.outcome.unwrap().unwrap()
    }
}

impl Scratch {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let definition = read(folder.path(), text).unwrap();
        Self { folder, definition }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn open(&self, out: &str) -> StudyFolder {
        StudyFolder::open(&self.path(out), &self.definition).unwrap()
    }

    /// Measures; `sample` is called with the trajectories that were sampled so far.
    fn measure(&self, out: &str, jobs: usize, stop: &AtomicBool, sample: impl Fn(u64) + Sync) -> Measured {
        let sampled = AtomicU64::new(0);
        let observe = |event: Event<'_>| {
            if let Event::Trajectories(count) = event {
                sample(sampled.fetch_add(count, Ordering::Relaxed) + count);
            }
        };
        let outcome = measure("small", &self.definition, &self.open(out), jobs, stop, &observe);
        Measured { outcome, sampled: sampled.into_inner() }
    }

    fn complete(&self, out: &str) -> Measured {
        self.measure(out, 2, &AtomicBool::new(false), |_| ())
    }
}

fn read(folder: &Path, text: &str) -> Result<Definition, StudyError> {
    let path = folder.join("small.toml");
    std::fs::write(&path, text).unwrap();
    Ok(load(path.to_str().unwrap(), &[])?.1)
}

/// What produced the frozen parameters is part of what an estimate is.
#[test]
fn estimates_at_other_parameters_are_not_taken_for_these() {
    let mut scratch = Scratch::new(SMALL);
    let environment = scratch.path("environment.toml");
    let start = scratch.path("start.safetensors");
    scratch.definition.environments = vec![environment.display().to_string()];
    let write = |algorithm: &str, parameter: f64| {
        let policy = format!("[policy]\nstart = \"{}\"", start.display());
        let text = format!("preset = \"lqr\"\n[algorithm]\n{algorithm}\n{policy}\n");
        std::fs::write(&environment, text).unwrap();
        let mut state = preset_policy("lqr");
        state.mean_parameters[0] = parameter;
        state.save(&start, StoredFloat::F32).unwrap();
    };
    write("batch_size = 20", 0.0);
    let first = scratch.complete("out").samples();
    write("batch_size = 30", 0.0);
    let second = scratch.complete("out").samples();
    assert_eq!(second, scratch.complete("second").samples());
    write("batch_size = 30", 0.25);
    let third = scratch.complete("out").samples();
    assert_eq!(third, scratch.complete("third").samples());
    assert!(first != second && second != third);
    // Those of the first are there still.
    write("batch_size = 20", 0.0);
    let again = scratch.complete("out");
    assert_eq!((again.sampled, again.samples()), (0, first));
}
