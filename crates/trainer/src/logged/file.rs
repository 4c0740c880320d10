//! Trajectory files (docs/formats.md).

use std::path::{Path, PathBuf};

use policy_nets::tensor_file::{TensorFile, TensorFileError};

/// What a trajectory file says of the policies that sampled it.
#[derive(Clone, Debug, PartialEq)]
pub enum Behaviour {
    /// Means `[W, N, T, A]` and log-deviations `[W, A]`.
    Gaussian {
        /// Means at every step.
        mean: Vec<f64>,
        /// Log-deviations of every batch.
        log_std: Vec<f64>,
    },
    /// Log-densities of whole trajectories, `[W, N]`.
    LogProb(Vec<f64>),
}

/// Logged trajectories, padded to the horizon with zeros.
#[derive(Clone, Debug, PartialEq)]
pub struct LoggedTrajectories {
    /// Batches, `W`.
    pub window: usize,
    /// Trajectories of a batch, `N`.
    pub batch: usize,
    /// Steps, `T`.
    pub horizon: usize,
    /// Observation components, `O`.
    pub observation_size: usize,
    /// Action components, `A`.
    pub action_size: usize,
    /// `[W, N, T, O]`.
    pub observations: Vec<f64>,
    /// `[W, N, T, A]`.
    pub actions: Vec<f64>,
    /// `[W, N, T]`.
    pub rewards: Vec<f64>,
    /// `[W, N]`, each from 1 to `T`.
    pub lengths: Vec<u32>,
    /// Who sampled them.
    pub behaviour: Behaviour,
}

/// Why a trajectory file was refused.
#[derive(Debug, thiserror::Error)]
pub enum TrajectoryFileError {
    /// The file, or a tensor's shape or type.
    #[error(transparent)]
    File(#[from] TensorFileError),
    /// A value is outside its range.
    #[error("{}: {name}{index:?} is {value}, expected {expected}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: &'static str,
        /// Where in the tensor.
        index: Vec<usize>,
        /// The value.
        value: f64,
        /// What is allowed.
        expected: String,
    },
    /// Neither behaviour means nor log-densities are there.
    #[error(
        "{}: nothing says how the actions were sampled: give behaviour_mean [W, N, T, A] and behaviour_log_std [W, A], \
         or behaviour_log_prob [W, N]",
        path.display()
    )]
    NoBehaviour {
        /// The file.
        path: PathBuf,
    },
}

impl LoggedTrajectories {
    /// Reads and checks a trajectory file. Values of padded steps are ignored, whatever they are.
    ///
    /// # Errors
    /// A missing, truncated or foreign file, shapes that do not fit together, values out of range.
    pub fn load(path: &Path) -> Result<Self, TrajectoryFileError> {
        let file = TensorFile::read(path)?;
        let observations = file.floats("observations")?;
        let [window, batch, horizon, observation_size] = observations.shape[..] else {
            return Err(file.shape_error("observations", &observations.shape, "[W, N, T, O]").into());
        };
        if window * batch * horizon * observation_size == 0 {
            let expected = "[W, N, T, O] without an empty axis";
            return Err(file.shape_error("observations", &observations.shape, expected).into());
        }
        let actions = file.floats("actions")?;
        let action_size = match actions.shape[..] {
            [w, n, t, size] if [w, n, t] == [window, batch, horizon] && size > 0 => size,
            _ => {
                let expected = format!("[{window}, {batch}, {horizon}, A] as `observations`");
                return Err(file.shape_error("actions", &actions.shape, expected).into());
            }
        };
        let lengths = read_lengths(&file, [window, batch, horizon])?;
        let mut logged = Self {
            window,
            batch,
            horizon,
            observation_size,
            action_size,
            observations: observations.values,
            actions: actions.values,
            rewards: floats(&file, "rewards", &[window, batch, horizon])?,
            lengths,
            behaviour: Behaviour::LogProb(vec![]),
        };
        logged.behaviour = read_behaviour(&file, &logged)?;
        let Self { lengths, observations, actions, rewards, behaviour, .. } = &mut logged;
        let padding = Padding { path, lengths, horizon, batch };
        padding.clear("observations", observations, observation_size)?;
        padding.clear("actions", actions, action_size)?;
        padding.clear("rewards", rewards, 1)?;
        if let Behaviour::Gaussian { mean, .. } = behaviour {
            padding.clear("behaviour_mean", mean, action_size)?;
        }
        Ok(logged)
    }
}

fn floats(file: &TensorFile, name: &str, shape: &[usize]) -> Result<Vec<f64>, TensorFileError> {
    let tensor = file.floats(name)?;
    if tensor.shape == shape {
        Ok(tensor.values)
    } else {
        Err(file.shape_error(name, &tensor.shape, format!("{shape:?} to fit `observations`")))
    }
}

fn read_lengths(
    file: &TensorFile,
    [window, batch, horizon]: [usize; 3],
) -> Result<Vec<u32>, TrajectoryFileError> {
    if !file.contains("lengths") {
        return Ok(vec![horizon as u32; window * batch]);
    }
    let (shape, lengths) = file.integers("lengths")?;
    if shape != [window, batch] {
        let expected = format!("[{window}, {batch}] to fit `observations`");
        return Err(file.shape_error("lengths", &shape, expected).into());
    }
    if let Some(place) = lengths.iter().position(|length| *length < 0 || *length > horizon as i64) {
        return Err(TrajectoryFileError::Value {
            path: file.path().to_owned(),
            name: "lengths",
            index: vec![place / batch, place % batch],
            value: lengths[place] as f64,
            expected: format!("0 to {horizon}"),
        });
    }
    Ok(lengths.into_iter().map(|length| length as u32).collect())
}

fn read_behaviour(file: &TensorFile, logged: &LoggedTrajectories) -> Result<Behaviour, TrajectoryFileError> {
    let LoggedTrajectories { window, batch, horizon, action_size, .. } = *logged;
    let finite = |name: &'static str, values: &[f64], width: usize| match values
        .iter()
        .position(|value| !value.is_finite())
    {
        None => Ok(()),
        Some(place) => Err(TrajectoryFileError::Value {
            path: file.path().to_owned(),
            name,
            index: vec![place / width, place % width],
            value: values[place],
            expected: "a finite number".to_owned(),
        }),
    };
    if file.contains("behaviour_mean") {
        let mean = floats(file, "behaviour_mean", &[window, batch, horizon, action_size])?;
        let log_std = floats(file, "behaviour_log_std", &[window, action_size])?;
        finite("behaviour_log_std", &log_std, action_size)?;
        Ok(Behaviour::Gaussian { mean, log_std })
    } else if file.contains("behaviour_log_prob") {
        let log_prob = floats(file, "behaviour_log_prob", &[window, batch])?;
        finite("behaviour_log_prob", &log_prob, batch)?;
        Ok(Behaviour::LogProb(log_prob))
    } else {
        Err(TrajectoryFileError::NoBehaviour { path: file.path().to_owned() })
    }
}

struct Padding<'a> {
    path: &'a Path,
    lengths: &'a [u32],
    horizon: usize,
    batch: usize,
}

impl Padding<'_> {
    /// Sets padded steps to zero and refuses numbers that are not finite in the others.
    fn clear(&self, name: &'static str, values: &mut [f64], size: usize) -> Result<(), TrajectoryFileError> {
        for (trajectory, values) in values.chunks_exact_mut(self.horizon * size).enumerate() {
            let (steps, padding) = values.split_at_mut(self.lengths[trajectory] as usize * size);
            padding.fill(0.0);
            if let Some(place) = steps.iter().position(|value| !value.is_finite()) {
                let mut index = vec![trajectory / self.batch, trajectory % self.batch, place / size];
                if name != "rewards" {
                    index.push(place % size);
                }
                return Err(TrajectoryFileError::Value {
                    path: self.path.to_owned(),
                    name,
                    index,
                    value: steps[place],
                    expected: "a finite number".to_owned(),
                });
            }
        }
        Ok(())
    }
}
