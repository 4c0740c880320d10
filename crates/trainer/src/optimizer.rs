//! Gradient ascent on the flat parameter vector.

use std::collections::BTreeMap;

use burn::tensor::{Tensor, TensorData};
use policy_nets::tensor_file::HostTensor;

use crate::config::{AdamConfig, OptimizerConfig};

/// An optimiser with its state on the device.
#[derive(Clone, Debug)]
pub enum Optimizer {
    /// Adam.
    Adam(Box<Adam>),
    /// A constant step along the gradient.
    Constant {
        /// Step size.
        learning_rate: f64,
    },
}

/// Adam (Kingma and Ba 2015, algorithm 1), ascending: `theta + lr m_hat / (sqrt(v_hat) + epsilon)`.
#[derive(Clone, Debug)]
pub struct Adam {
    config: AdamConfig,
    steps: u32,
    moments: Option<[Tensor<1>; 2]>,
}

impl Optimizer {
    /// An optimiser that has made no step.
    pub fn new(config: &OptimizerConfig) -> Self {
        match config {
            OptimizerConfig::Adam(config) => {
                Self::Adam(Box::new(Adam { config: *config, steps: 0, moments: None }))
            }
            OptimizerConfig::Constant(config) => Self::Constant { learning_rate: config.learning_rate },
        }
    }

    /// The parameters after one step along `gradient`. Both are `[P]` on the same device.
    pub fn step(&mut self, parameters: Tensor<1>, gradient: Tensor<1>) -> Tensor<1> {
        match self {
            Self::Constant { learning_rate } => parameters + gradient.mul_scalar(*learning_rate),
            Self::Adam(adam) => adam.step(parameters, gradient),
        }
    }

    /// The next step as a rule for a kernel, and the moments that it starts from; counts the step. What the kernel makes of
    /// the moments is for [`finish_step`](Self::finish_step).
    #[cfg(all(feature = "kernels", not(feature = "fusion")))]
    pub(crate) fn begin_step(
        &mut self,
        parameters: &Tensor<1>,
    ) -> (kernels::reduce::StepRule, [Tensor<1>; 2]) {
        use kernels::reduce::StepRule;
        match self {
            Self::Constant { learning_rate } => {
                let rule = StepRule::Constant { rate: *learning_rate as f32 };
                (rule, [parameters.clone(), parameters.clone()])
            }
            Self::Adam(adam) => {
                adam.steps += 1;
                let AdamConfig { learning_rate, beta_1, beta_2, epsilon } = adam.config;
                let power = adam.steps.cast_signed();
                let rule = StepRule::Adam {
                    rate: (learning_rate / (1.0 - beta_1.powi(power))) as f32,
                    beta_1: beta_1 as f32,
                    complement_1: (1.0 - beta_1) as f32,
                    beta_2: beta_2 as f32,
                    complement_2: (1.0 - beta_2) as f32,
                    square_correction: (1.0 - beta_2.powi(power)) as f32,
                    epsilon: epsilon as f32,
                };
                let start = || [parameters.zeros_like(), parameters.zeros_like()];
                (rule, adam.moments.take().unwrap_or_else(start))
            }
        }
    }

    /// Takes in the moments after the step that [`begin_step`](Self::begin_step) began.
    #[cfg(all(feature = "kernels", not(feature = "fusion")))]
    pub(crate) fn finish_step(&mut self, moments: [Tensor<1>; 2]) {
        if let Self::Adam(adam) = self {
            adam.moments = Some(moments);
        }
    }

    /// Copies the state to the host, for a checkpoint.
    pub fn save(&self, tensors: &mut BTreeMap<String, HostTensor>) {
        let Self::Adam(adam) = self else { return };
        let Some(moments) = &adam.moments else { return };
        tensors.insert("optimizer.steps".to_owned(), HostTensor::new([1], vec![f64::from(adam.steps)]));
        for (name, moment) in ["optimizer.mean", "optimizer.mean_square"].into_iter().zip(moments) {
            let values: Vec<f64> = moment.to_data().iter::<f64>().collect();
            tensors.insert(name.to_owned(), HostTensor::new([values.len()], values));
        }
    }

    /// Takes back what [`save`](Self::save) gave; `read` finds a tensor by name and checks its shape.
    ///
    /// # Errors
    /// What `read` returns.
    pub fn restore<E>(
        &mut self,
        parameters: &Tensor<1>,
        mut read: impl FnMut(&str, &[usize]) -> Result<Vec<f64>, E>,
    ) -> Result<(), E> {
        let Self::Adam(adam) = self else { return Ok(()) };
        let shape = parameters.dims();
        let device = parameters.device();
        adam.steps = read("optimizer.steps", &[1])?[0] as u32;
        let mut moment = |name: &str| -> Result<Tensor<1>, E> {
            Ok(Tensor::from_data(TensorData::new(read(name, &shape)?, shape), &device))
        };
        adam.moments = Some([moment("optimizer.mean")?, moment("optimizer.mean_square")?]);
        Ok(())
    }
}

impl Adam {
    fn step(&mut self, parameters: Tensor<1>, gradient: Tensor<1>) -> Tensor<1> {
        let AdamConfig { learning_rate, beta_1, beta_2, epsilon } = self.config;
        let [mean, square] =
            self.moments.take().unwrap_or_else(|| [gradient.zeros_like(), gradient.zeros_like()]);
        self.steps += 1;
        let mean = mean.mul_scalar(beta_1) + gradient.clone().mul_scalar(1.0 - beta_1);
        let square = square.mul_scalar(beta_2) + gradient.square().mul_scalar(1.0 - beta_2);
        let power = self.steps.cast_signed();
        let mean_correction = 1.0 - beta_1.powi(power);
        let square_correction = 1.0 - beta_2.powi(power);
        let denominator = square.clone().div_scalar(square_correction).sqrt().add_scalar(epsilon);
        let step = mean.clone() / denominator * (learning_rate / mean_correction);
        self.moments = Some([mean, square]);
        parameters + step
    }
}
