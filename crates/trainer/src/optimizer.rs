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
    moments: Option<Moments>,
}

/// Running means of the gradient and of its square, where the last step was made.
#[derive(Clone, Debug)]
enum Moments {
    Device(Box<[Tensor<1>; 2]>),
    Host([Vec<f32>; 2]),
}

impl Moments {
    /// On the device, with zeros before the first step.
    fn on_device(moments: Option<Self>, parameters: &Tensor<1>) -> [Tensor<1>; 2] {
        match moments {
            None => [parameters.zeros_like(), parameters.zeros_like()],
            Some(Self::Device(moments)) => *moments,
            Some(Self::Host(moments)) => {
                let device = parameters.device();
                moments.map(|values| Tensor::from_data(values.as_slice(), &device))
            }
        }
    }

    /// On the host, with zeros before the first step.
    fn on_host(moments: Option<Self>, count: usize) -> [Vec<f32>; 2] {
        match moments {
            None => [vec![0.0; count], vec![0.0; count]],
            Some(Self::Device(moments)) => moments.map(|moment| moment.into_data().iter::<f32>().collect()),
            Some(Self::Host(moments)) => moments,
        }
    }

    fn values(&self) -> [Vec<f64>; 2] {
        match self {
            Self::Device(moments) => {
                moments.each_ref().map(|moment| moment.to_data().iter::<f64>().collect())
            }
            Self::Host(moments) => {
                moments.each_ref().map(|moment| moment.iter().map(|value| f64::from(*value)).collect())
            }
        }
    }
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
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn step(&mut self, parameters: Tensor<1>, gradient: Tensor<1>) -> Tensor<1> {
        assert_eq!(parameters.dims(), gradient.dims(), "a component of the gradient for each parameter");
        match self {
            Self::Constant { learning_rate } => parameters + gradient.mul_scalar(*learning_rate),
            Self::Adam(adam) => adam.step(parameters, gradient),
        }
    }

    /// The same step on the host, to the bit that of single-precision tensors there: `parameters` become those after it.
    ///
    /// # Panics
    /// When the lengths differ, or are others than in the step before.
    pub fn step_on_host(&mut self, parameters: &mut [f32], gradient: &[f32]) {
        assert_eq!(parameters.len(), gradient.len(), "a component of the gradient for each parameter");
        match self {
            Self::Constant { learning_rate } => {
                let rate = *learning_rate as f32;
                for (parameter, gradient) in parameters.iter_mut().zip(gradient) {
                    *parameter += gradient * rate;
                }
            }
            Self::Adam(adam) => adam.step_on_host(parameters, gradient),
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
                let [mean_correction, square_correction] = adam.corrections();
                let rule = StepRule::Adam {
                    rate: (learning_rate / mean_correction) as f32,
                    beta_1: beta_1 as f32,
                    complement_1: (1.0 - beta_1) as f32,
                    beta_2: beta_2 as f32,
                    complement_2: (1.0 - beta_2) as f32,
                    square_correction: square_correction as f32,
                    epsilon: epsilon as f32,
                };
                (rule, Moments::on_device(adam.moments.take(), parameters))
            }
        }
    }

    /// Takes in the moments after the step that [`begin_step`](Self::begin_step) began.
    #[cfg(all(feature = "kernels", not(feature = "fusion")))]
    pub(crate) fn finish_step(&mut self, moments: [Tensor<1>; 2]) {
        if let Self::Adam(adam) = self {
            adam.moments = Some(Moments::Device(Box::new(moments)));
        }
    }

    /// Copies the state to the host, for a checkpoint.
    pub fn save(&self, tensors: &mut BTreeMap<String, HostTensor>) {
        let Self::Adam(adam) = self else { return };
        let Some(moments) = &adam.moments else { return };
        tensors.insert("optimizer.steps".to_owned(), HostTensor::new([1], vec![f64::from(adam.steps)]));
        for (name, values) in ["optimizer.mean", "optimizer.mean_square"].into_iter().zip(moments.values()) {
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
        let moments = [moment("optimizer.mean")?, moment("optimizer.mean_square")?];
        adam.moments = Some(Moments::Device(Box::new(moments)));
        Ok(())
    }
}

impl Adam {
    /// `1 - beta^steps` of both moments.
    fn corrections(&self) -> [f64; 2] {
        [self.config.beta_1, self.config.beta_2].map(|beta| {
            let power =
                i32::try_from(self.steps).map_or_else(|_| beta.powf(f64::from(self.steps)), |n| beta.powi(n));
            1.0 - power
        })
    }

    fn step(&mut self, parameters: Tensor<1>, gradient: Tensor<1>) -> Tensor<1> {
        let AdamConfig { learning_rate, beta_1, beta_2, epsilon } = self.config;
        let [mean, square] = Moments::on_device(self.moments.take(), &parameters);
        self.steps += 1;
        let mean = mean.mul_scalar(beta_1) + gradient.clone().mul_scalar(1.0 - beta_1);
        let square = square.mul_scalar(beta_2) + gradient.square().mul_scalar(1.0 - beta_2);
        let [mean_correction, square_correction] = self.corrections();
        let denominator = square.clone().div_scalar(square_correction).sqrt().add_scalar(epsilon);
        let step = mean.clone() / denominator * (learning_rate / mean_correction);
        self.moments = Some(Moments::Device(Box::new([mean, square])));
        parameters + step
    }

    fn step_on_host(&mut self, parameters: &mut [f32], gradient: &[f32]) {
        let AdamConfig { learning_rate, beta_1, beta_2, epsilon } = self.config;
        let [mut mean, mut square] = Moments::on_host(self.moments.take(), parameters.len());
        assert_eq!(mean.len(), parameters.len(), "as many parameters as in the step before");
        self.steps += 1;
        let [mean_correction, square_correction] = self.corrections();
        let (rate, square_correction) = ((learning_rate / mean_correction) as f32, square_correction as f32);
        let (complement_1, complement_2) = ((1.0 - beta_1) as f32, (1.0 - beta_2) as f32);
        let (beta_1, beta_2, epsilon) = (beta_1 as f32, beta_2 as f32, epsilon as f32);
        let moments = mean.iter_mut().zip(&mut square);
        for ((parameter, gradient), (mean, square)) in parameters.iter_mut().zip(gradient).zip(moments) {
            *mean = *mean * beta_1 + gradient * complement_1;
            *square = *square * beta_2 + gradient * gradient * complement_2;
            *parameter += *mean / ((*square / square_correction).sqrt() + epsilon) * rate;
        }
        self.moments = Some(Moments::Host([mean, square]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConstantConfig;
    use crate::device::{self, DeviceChoice};

    #[test]
    fn moments_are_corrected_however_many_steps_were_made() {
        let config = AdamConfig { beta_2: 1.0 - 1e-10, ..AdamConfig::default() };
        let corrections = |steps| Adam { config, steps, moments: None }.corrections();
        let close = |found: f64, expected: f64| (found - expected).abs() < 1e-12;
        let [mean, square] = corrections(3);
        assert!(close(mean, 1.0 - config.beta_1.powi(3)) && close(square, 3e-10), "{mean} {square}");
        for steps in [i32::MAX as u32, 1 << 31, u32::MAX] {
            let [mean, square] = corrections(steps);
            let expected = -(f64::from(steps) * config.beta_2.ln()).exp_m1();
            assert!(close(mean, 1.0) && close(square, expected), "{steps}: {mean} {square} {expected}");
        }
    }

    #[test]
    fn steps_on_the_host_are_those_of_tensors() {
        let device = device::select(&DeviceChoice::Cpu).unwrap().device;
        let tensor = |values: &[f32]| Tensor::<1>::from_data(values, &device);
        let host = |values: &Tensor<1>| values.to_data().iter::<f32>().collect::<Vec<_>>();
        let constant = OptimizerConfig::Constant(ConstantConfig { learning_rate: 0.3 });
        for config in [OptimizerConfig::Adam(AdamConfig::default()), constant] {
            let [mut by_tensors, mut on_host, mut in_turn] = [(); 3].map(|()| Optimizer::new(&config));
            let start: Vec<f32> = (0..37).map(|index| (index as f32).sin()).collect();
            let (mut tensors, mut values, mut mixed) = (tensor(&start), start.clone(), start);
            for step in 0..20 {
                let gradient: Vec<f32> = (0..37)
                    .map(|index| ((index * 7 + step) as f32).cos() * 10_f32.powi(index - 20))
                    .collect();
                tensors = by_tensors.step(tensors, tensor(&gradient));
                on_host.step_on_host(&mut values, &gradient);
                if step % 3 == 0 {
                    mixed = host(&in_turn.step(tensor(&mixed), tensor(&gradient)));
                } else {
                    in_turn.step_on_host(&mut mixed, &gradient);
                }
                assert_eq!(host(&tensors), values, "{config:?}, step {step}");
                assert_eq!(mixed, values, "{config:?}, step {step}, in turn");
            }
            let [mut of_tensors, mut of_host] = [BTreeMap::new(), BTreeMap::new()];
            by_tensors.save(&mut of_tensors);
            on_host.save(&mut of_host);
            assert_eq!(of_tensors, of_host);
        }
    }
}
