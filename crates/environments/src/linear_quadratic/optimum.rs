//! What is known about the LQR: the return of every linear Gaussian policy, and the best one.
//!
//! With `h` steps left, the best return from the state `s` is `-sᵀ P_h s`, reached by the action `a = K_h s`. Both
//! follow from the Riccati recursion
//!
//! ```text
//! P_0 = 0
//! K_h = -(R + Bᵀ P_{h-1} B)⁻¹ Bᵀ P_{h-1} A
//! P_h = Q + Aᵀ P_{h-1} (A + B K_h)
//! ```
//!
//! in which every matrix is diagonal here. Exploration noise of variance `σ²` added to the actions leaves `K_h` the best
//! gain and costs `σ² tr(R + Bᵀ P_{h-1} B)` a step.

use super::{ACTION_COST, ACTION_DYNAMICS, RESET_BOUND, STATE_COST, STATE_DYNAMICS};

/// Matrix `M` of the mean action `M s`, by rows (`[action, state]`).
pub type Gain = [[f64; 2]; 2];

/// Variance of every component of an initial state, which is uniform.
const RESET_VARIANCE: f64 = RESET_BOUND * RESET_BOUND / 3.0;

/// The gain `K_h` of the best action with `steps_left = h` steps left, this one included.
///
/// The last action (`steps_left` 1) leads to no further cost, and its best gain is 0. From about ten steps on the gain
/// changes little: the gain for the whole horizon, kept for all steps, is nearly the best stationary policy.
pub fn optimal_gain(steps_left: usize) -> Gain {
    let [first, second] = riccati(steps_left).1;
    [[first, 0.0], [0.0, second]]
}

/// The diagonal of `P_h`: the best return from `s` with `steps_left = h` steps left is `-(p_0 s_0² + p_1 s_1²)`.
pub fn optimal_cost(steps_left: usize) -> [f64; 2] {
    riccati(steps_left).0
}

/// The best expected return of a trajectory of `horizon` steps, over initial states and actions with exploration noise
/// of `variance` `σ²` (0 for a deterministic policy).
///
/// The maximum is over policies whose gain depends on the time; no stationary policy does better.
pub fn optimal_return(horizon: usize, variance: f64) -> f64 {
    let (mut next, mut noise) = ([0.0; 2], 0.0);
    for _ in 0..horizon {
        noise += (0..2).map(|d| ACTION_COST[d] + ACTION_DYNAMICS[d].powi(2) * next[d]).sum::<f64>();
        next = riccati_step(next).0;
    }
    let initial: f64 = next.iter().map(|p| p * RESET_VARIANCE).sum();
    -initial - variance * noise
}

/// The expected return of a trajectory of `horizon` steps with actions from `N(M s, σ² I)`, where `M` is `gain` and `σ²`
/// is `variance`.
///
/// Exact, by carrying the second moment `S_t = E[s sᵀ]` along: with `C = A + B M`,
///
/// ```text
/// S_{t+1} = C S_t Cᵀ + σ² B Bᵀ ,      return = -Σ_t ( tr((Q + Mᵀ R M) S_t) + σ² tr R )
/// ```
pub fn expected_return(gain: &Gain, variance: f64, horizon: usize) -> f64 {
    let closed_loop: Gain = matrix(|row, column| {
        let free = if row == column { STATE_DYNAMICS[row] } else { 0.0 };
        free + ACTION_DYNAMICS[row] * gain[row][column]
    });
    let mut moment = matrix(|row, column| if row == column { RESET_VARIANCE } else { 0.0 });
    let mut return_ = 0.0;
    for _ in 0..horizon {
        let action_moment = congruence(gain, &moment);
        for d in 0..2 {
            return_ -= STATE_COST[d] * moment[d][d] + ACTION_COST[d] * (action_moment[d][d] + variance);
        }
        let carried = congruence(&closed_loop, &moment);
        moment = matrix(|row, column| {
            let noise = if row == column { variance * ACTION_DYNAMICS[row].powi(2) } else { 0.0 };
            carried[row][column] + noise
        });
    }
    return_
}

/// The diagonals of `P_h` and `K_h` after `steps` steps of the Riccati recursion.
fn riccati(steps: usize) -> ([f64; 2], [f64; 2]) {
    (0..steps).fold(([0.0; 2], [0.0; 2]), |(cost, _), _| riccati_step(cost))
}

/// The diagonals of `P_h` and `K_h` from that of `P_{h-1}`.
fn riccati_step(mut cost: [f64; 2]) -> ([f64; 2], [f64; 2]) {
    let mut gain = [0.0; 2];
    for d in 0..2 {
        let (a, b) = (STATE_DYNAMICS[d], ACTION_DYNAMICS[d]);
        gain[d] = -(b * cost[d] * a) / (ACTION_COST[d] + b * cost[d] * b);
        cost[d] = STATE_COST[d] + a * cost[d] * (a + b * gain[d]);
    }
    (cost, gain)
}

/// The matrix with the given elements.
fn matrix(element: impl Fn(usize, usize) -> f64) -> Gain {
    std::array::from_fn(|row| std::array::from_fn(|column| element(row, column)))
}

/// `m s mᵀ`.
fn congruence(m: &Gain, s: &Gain) -> Gain {
    matrix(|row, column| {
        (0..2).map(|k| (0..2).map(|l| m[row][k] * s[k][l] * m[column][l]).sum::<f64>()).sum()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{Rng, RngExt};

    use super::*;
    use crate::Environment;
    use crate::linear_quadratic::{HORIZON, LinearQuadratic, State, dynamics, reward};
    use crate::testing::{assert_close, generator};

    fn apply(gain: &Gain, state: State) -> [f64; 2] {
        [0, 1].map(|row| gain[row][0] * state[0] + gain[row][1] * state[1])
    }

    /// The return from `state` when the gain is chosen by the number of steps left.
    fn roll_out(mut state: State, horizon: usize, gain: impl Fn(usize) -> Gain) -> f64 {
        let mut return_ = 0.0;
        for steps_left in (1..=horizon).rev() {
            let action = apply(&gain(steps_left), state);
            return_ += reward(state, action);
            state = dynamics(state, action);
        }
        return_
    }

    /// With two steps left, `K = -0.81 q / (r + 0.81 q)`: `-0.729 / 0.829` and `-0.081 / 0.981`. With fifty, the numbers
    /// of the matrix recursion in numpy.
    #[test]
    fn gains_are_those_computed_by_hand() {
        assert_eq!(optimal_gain(1), [[0.0; 2]; 2]);
        assert_eq!(optimal_cost(1), [0.9, 0.1]);
        let [first, second] = optimal_gain(2);
        assert_close(&[first[0], second[1]], &[-0.729 / 0.829, -0.081 / 0.981], 1e-15);
        let [first, second] = optimal_gain(50);
        assert_close(&[first[0], second[1]], &[-0.889_013_451_505_848_1, -0.202_639_662_364_085_57], 1e-14);
        assert_close(&optimal_cost(50), &[0.988_901_345_150_584_8, 0.282_375_696_127_677], 1e-14);
    }

    /// The same minimum from least squares over all five actions at once (numpy's `lstsq`), which knows no recursion.
    #[test]
    fn the_optimum_is_that_of_a_direct_search_over_all_actions() {
        let state = [1.0, -2.0];
        let least_squares = -2.049_911_763_500_506;
        let [p0, p1] = optimal_cost(5);
        assert_close(&[-(p0 + 4.0 * p1)], &[least_squares], 1e-14);
        assert_close(&[roll_out(state, 5, optimal_gain)], &[least_squares], 1e-14);
        assert_close(
            &apply(&optimal_gain(5), state),
            &[-0.889_013_441_921_408_6, 0.367_228_010_726_868_8],
            1e-13,
        );
    }

    /// Numbers of the same moments in numpy; the third was confirmed there by 400 000 sampled trajectories.
    #[test]
    fn returns_are_those_of_the_matrix_formulas() {
        assert_close(&[optimal_return(50, 0.0)], &[-3.813_831_123_834_785], 1e-13);
        assert_close(&[optimal_return(50, 0.25)], &[-28.825_059_134_344_148], 1e-13);
        let gain = [[-0.5, 0.2], [0.1, -0.3]];
        assert_close(&[expected_return(&gain, 0.25, 50)], &[-33.030_094_699_330_31], 1e-13);
        assert_close(&[expected_return(&[[0.0; 2]; 2], 0.0, 50)], &[-15.789_054_293_701_783], 1e-13);
    }

    /// The environment under a noisy policy earns its expected return: 20 000 trajectories, within five standard errors
    /// (about 0.6 % of the return). The noise is uniform with the right variance; the expectation asks for no more.
    #[test]
    fn sampled_trajectories_earn_the_expected_return() {
        const TRAJECTORIES: usize = 20_000;
        let (gain, variance) = ([[-0.5, 0.2], [0.1, -0.3]], 0.25);
        let bound = (3.0_f64 * variance).sqrt();
        let mut random = generator(7);
        let mut environment = LinearQuadratic::new();
        let mut sample = |random: &mut dyn Rng| {
            let mut state = [0.0; 2];
            environment.reset(random, &mut state);
            let mut return_ = 0.0;
            for _ in 0..HORIZON {
                let action = apply(&gain, state).map(|mean| mean + random.random_range(-bound..bound));
                return_ += environment.step(&action, random, &mut state).unwrap().reward;
            }
            return_
        };
        let returns: Vec<f64> = (0..TRAJECTORIES).map(|_| sample(&mut random)).collect();
        let mean = returns.iter().sum::<f64>() / TRAJECTORIES as f64;
        let variance_of_returns =
            returns.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / TRAJECTORIES as f64;
        let standard_error = (variance_of_returns / TRAJECTORIES as f64).sqrt();
        assert!(standard_error < 0.05, "{standard_error}");
        assert!((mean - expected_return(&gain, variance, HORIZON)).abs() < 5.0 * standard_error, "{mean}");
    }

    proptest! {
        #[test]
        fn no_other_gain_at_any_step_does_better(
            s0 in -3.0..3.0, s1 in -3.0..3.0, step in 2_usize..=8,
            change in [[-0.5..0.5, -0.5..0.5], [-0.5..0.5, -0.5..0.5]],
        ) {
            let best = roll_out([s0, s1], 8, optimal_gain);
            let [p0, p1] = optimal_cost(8);
            assert_close(&[best], &[-(p0 * s0 * s0 + p1 * s1 * s1)], 1e-12);
            let other = roll_out([s0, s1], 8, |left| {
                let gain = optimal_gain(left);
                if left == step { matrix(|r, c| gain[r][c] + change[r][c]) } else { gain }
            });
            prop_assert!(other <= best + 1e-12);
        }

        #[test]
        fn no_stationary_policy_does_better(
            gain in [[-2.0..1.0, -1.0..1.0], [-1.0..1.0, -2.0..1.0]], variance in 0.0..1.0, horizon in 1_usize..60,
        ) {
            prop_assert!(expected_return(&gain, variance, horizon) <= optimal_return(horizon, variance) + 1e-9);
        }
    }

    /// Kept for all steps it loses less than round-off without noise, and 0.04 of 28.8 with it (the number of numpy).
    #[test]
    fn the_gain_of_the_whole_horizon_is_nearly_the_best_for_all_steps() {
        let gain = optimal_gain(HORIZON);
        assert_close(&[expected_return(&gain, 0.0, HORIZON)], &[optimal_return(HORIZON, 0.0)], 1e-12);
        assert_close(&[expected_return(&gain, 0.25, HORIZON)], &[-28.865_345_072_576_194], 1e-12);
    }
}
