//! The policy on a Burn device.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};

use crate::{Architecture, Deviation, Normalizer, PolicyState, gaussian, network};

/// Gaussian policy `a ~ N(mu(s), diag(sigma^2))` whose mean is a multilayer perceptron.
///
/// As a Burn module it has one parameter, the flat trainable vector: the mean network in the order of
/// [`Architecture`], then `ln sigma` when it is learned. Differentiable calls take that vector as an argument
/// ([`mean_at`](Self::mean_at), [`log_std_at`](Self::log_std_at)), so that one backward pass gives one flat gradient.
#[derive(Module, Debug)]
pub struct GaussianPolicy {
    parameters: Param<Tensor<1>>,
    #[module(skip)]
    fixed_log_std: Vec<f64>,
    #[module(skip)]
    architecture: Architecture,
    #[module(skip)]
    deviation: Deviation,
    #[module(skip)]
    normalizer: Option<Normalizer>,
}

impl GaussianPolicy {
    /// Puts a policy on `device`, in the device's float type.
    ///
    /// # Panics
    /// When [`PolicyState::check_sizes`] refuses it.
    pub fn from_state(state: &PolicyState, device: &Device) -> Self {
        if let Err(error) = state.check_sizes() {
            panic!("{error}");
        }
        let flat = state.flat_parameters();
        let length = flat.len();
        let parameters = Tensor::<1>::from_data(TensorData::new(flat, [length]), device);
        Self {
            parameters: Param::from_tensor(parameters),
            fixed_log_std: state.log_std.clone(),
            architecture: state.architecture.clone(),
            deviation: state.deviation,
            normalizer: state.normalizer.clone(),
        }
    }

    /// Copies the policy to the host: one transfer of the flat vector.
    pub fn state(&self) -> PolicyState {
        let flat = self.parameters().into_data().iter::<f64>().collect();
        self.state_at(flat)
    }

    /// Length of the flat trainable vector, `P`.
    pub fn parameter_count(&self) -> usize {
        let learned =
            if matches!(self.deviation, Deviation::Learned(_)) { self.fixed_log_std.len() } else { 0 };
        self.architecture.parameter_count() + learned
    }

    fn assert_count(&self, found: usize) {
        assert_eq!(found, self.parameter_count(), "numbers of the flat trainable vector");
    }

    /// The policy with the flat parameters `flat`, on the host.
    ///
    /// # Panics
    /// When they are not [`parameter_count`](Self::parameter_count).
    pub fn state_at(&self, mut flat: Vec<f64>) -> PolicyState {
        self.assert_count(flat.len());
        let log_std = match self.deviation {
            Deviation::Fixed => self.fixed_log_std.clone(),
            Deviation::Learned(_) => flat.split_off(self.architecture.parameter_count()),
        };
        PolicyState {
            architecture: self.architecture.clone(),
            deviation: self.deviation,
            mean_parameters: flat,
            log_std,
            normalizer: self.normalizer.clone(),
        }
    }

    /// Shape of the mean network.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// Whether the standard deviation is trained.
    pub fn deviation(&self) -> Deviation {
        self.deviation
    }

    /// Logarithms of the standard deviations, `[action]`; those of the start when they are trained.
    pub fn fixed_log_std(&self) -> &[f64] {
        &self.fixed_log_std
    }

    /// Replaces the standardisation of observations.
    ///
    /// # Panics
    /// When it has another number of components than an observation.
    pub fn set_normalizer(&mut self, normalizer: Normalizer) {
        let sizes = [normalizer.mean().len(), normalizer.std().len()];
        assert_eq!(sizes, [self.architecture.observation_size; 2], "statistics of every component");
        self.normalizer = Some(normalizer);
    }

    /// The flat trainable vector `[P]`, not tracked for differentiation.
    pub fn parameters(&self) -> Tensor<1> {
        self.parameters.val().without_autodiff()
    }

    /// Replaces the flat trainable vector; a learned log-deviation is projected onto its bounds.
    ///
    /// # Panics
    /// When it has another length than [`parameter_count`](Self::parameter_count).
    pub fn set_parameters(&mut self, parameters: Tensor<1>) {
        self.assert_count(parameters.dims()[0]);
        let parameters = match self.deviation {
            Deviation::Fixed => parameters,
            Deviation::Learned(bounds) => {
                let split = self.architecture.parameter_count();
                let log_std = parameters.clone().slice(split..).clamp(bounds.min, bounds.max);
                parameters.slice_assign(split.., log_std)
            }
        };
        self.set_projected_parameters(parameters);
    }

    /// The flat trainable vector in single precision, on the host.
    pub fn parameters_on_host(&self) -> Vec<f32> {
        // A product is a tensor of its own, whose numbers are handed over; those of a shared one are copied one by one.
        let own = self.parameters().mul_scalar(1.0).into_data().convert::<f32>();
        own.try_into_vec().unwrap_or_else(|_| unreachable!("the numbers are in single precision"))
    }

    /// [`set_parameters`](Self::set_parameters) from the host; `parameters` are projected.
    ///
    /// # Panics
    /// As [`set_parameters`](Self::set_parameters).
    pub fn set_parameters_on_host(&mut self, parameters: &mut [f32]) {
        self.assert_count(parameters.len());
        if let Deviation::Learned(bounds) = self.deviation {
            for log_std in &mut parameters[self.architecture.parameter_count()..] {
                *log_std = log_std.clamp(bounds.min as f32, bounds.max as f32);
            }
        }
        let device = self.parameters().device();
        self.set_projected_parameters(Tensor::from_data(&*parameters, &device));
    }

    /// Replaces the flat trainable vector by one whose learned log-deviation, if any, is within its bounds.
    ///
    /// # Panics
    /// As [`set_parameters`](Self::set_parameters).
    pub fn set_projected_parameters(&mut self, parameters: Tensor<1>) {
        self.assert_count(parameters.dims()[0]);
        self.parameters = Param::from_tensor(parameters);
    }

    /// Means `[rows, action]` at raw `observations` (`[rows, observation]`).
    pub fn mean(&self, observations: Tensor<2>) -> Tensor<2> {
        self.mean_at(&self.parameters(), observations)
    }

    /// Means of the policy with the flat vector `parameters` instead of its own.
    ///
    /// When `parameters` is tracked for differentiation, so is the result.
    pub fn mean_at(&self, parameters: &Tensor<1>, observations: Tensor<2>) -> Tensor<2> {
        let observations = self.standardize(observations);
        let observations = if parameters.is_autodiff() { observations.autodiff() } else { observations };
        network::mean(&self.architecture, parameters, observations)
    }

    /// `ln sigma`, `[action]`.
    pub fn log_std(&self) -> Tensor<1> {
        self.log_std_at(&self.parameters())
    }

    /// `ln sigma` of the policy with the flat vector `parameters` instead of its own; tracked when that is and the
    /// deviation is learned.
    pub fn log_std_at(&self, parameters: &Tensor<1>) -> Tensor<1> {
        match self.deviation {
            Deviation::Learned(_) => parameters.clone().slice(self.architecture.parameter_count()..),
            Deviation::Fixed => Tensor::from_data(self.fixed_log_std.as_slice(), &parameters.device()),
        }
    }

    /// Log-density `[rows]` of `actions` (`[rows, action]`) at raw `observations` (`[rows, observation]`).
    ///
    /// # Panics
    /// When the shapes are others.
    pub fn log_prob(&self, observations: Tensor<2>, actions: Tensor<2>) -> Tensor<1> {
        gaussian::log_prob(self.mean(observations), self.log_std(), actions)
    }

    fn standardize(&self, observations: Tensor<2>) -> Tensor<2> {
        match &self.normalizer {
            None => observations,
            Some(normalizer) => {
                let device = observations.device();
                let row = |values: &[f64]| Tensor::<1>::from_data(values, &device).unsqueeze::<2>();
                // The host subtracts in double precision: what single precision leaves of a mean follows apart.
                let mean: Vec<f64> = normalizer.mean().iter().map(|mean| f64::from(*mean as f32)).collect();
                let rest: Vec<f64> =
                    normalizer.mean().iter().zip(&mean).map(|(exact, mean)| exact - mean).collect();
                (observations - row(&mean) - row(&rest)) / row(normalizer.std())
            }
        }
    }
}
