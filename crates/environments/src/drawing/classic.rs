//! What the environments computed here look like.

use super::{Point, Role, Scene};
use crate::{cart_pole, linear_quadratic, mountain_car, pendulum};

/// The point at `distance` from `origin`, at an angle counted counter-clockwise from upright.
fn upwards(origin: Point, distance: f64, angle: f64) -> Point {
    [origin[0] - distance * angle.sin(), origin[1] + distance * angle.cos()]
}

/// A cart on its rail, the limits of which are marked, and the pole on it.
pub(crate) fn cart_pole([position, _, angle, _]: cart_pole::State, scene: &mut Scene) {
    const CART: Point = [0.25, 0.13];
    let limit = cart_pole::MAX_POSITION;
    let hinge = [position, CART[1]];
    scene.look_at([0.0, 0.5], 3.0);
    scene.line(Role::Track, [-limit, 0.0], [limit, 0.0], 0.03);
    for end in [-limit, limit] {
        scene.line(Role::Target, [end, -0.12], [end, 0.12], 0.04);
    }
    scene.rectangle(Role::Trunk, [position, 0.0], CART, 0.0);
    // Upright to the tip; the dynamics count the angle clockwise.
    let tip = upwards(hinge, 2.0 * cart_pole::POLE_HALF_LENGTH, -angle);
    scene.capsule(Role::Limb, hinge, tip, 0.05);
    scene.circle(Role::Joint, hinge, 0.025);
}

/// A rod on a fixed hinge, and the point that its end should reach.
pub(crate) fn pendulum([angle, _]: pendulum::State, scene: &mut Scene) {
    scene.look_at([0.0; 2], 2.8);
    scene.circle(Role::Target, upwards([0.0; 2], pendulum::LENGTH + 0.2, 0.0), 0.05);
    scene.capsule(Role::Limb, [0.0; 2], upwards([0.0; 2], pendulum::LENGTH, angle), 0.09);
    scene.circle(Role::Trunk, [0.0; 2], 0.09);
    scene.circle(Role::Joint, [0.0; 2], 0.03);
}

/// Height of the hill over a position.
fn hill(position: f64) -> f64 {
    0.45 * (3.0 * position).sin() + 0.55
}

/// A car in its valley, and a flag on the goal.
pub(crate) fn mountain_car([position, _]: mountain_car::State, scene: &mut Scene) {
    const PIECES: u32 = 90;
    let [left, right] = [mountain_car::MIN_POSITION, mountain_car::MAX_POSITION];
    scene.look_at([0.5 * (left + right), 0.62], 1.45);
    let along = |piece: u32| left + (right - left) * f64::from(piece) / f64::from(PIECES);
    let surface = (0..=PIECES).map(|piece| [along(piece), hill(along(piece))]).collect();
    scene.path(Role::Track, surface, 0.02);
    let goal = mountain_car::GOAL_POSITION;
    let [foot, top] = [[goal, hill(goal)], [goal, hill(goal) + 0.2]];
    scene.line(Role::Track, foot, top, 0.012);
    scene.rectangle(Role::Target, [goal + 0.045, top[1] - 0.03], [0.045, 0.03], 0.0);

    // The car stands on the tangent of the hill.
    let slope = (0.45 * 3.0 * (3.0 * position).cos()).atan();
    let above = |along: f64, height: f64| {
        let [x, y] = upwards([position, hill(position)], height, slope);
        [x + along * slope.cos(), y + along * slope.sin()]
    };
    scene.rectangle(Role::Trunk, above(0.0, 0.07), [0.07, 0.03], slope);
    for wheel in [-0.042, 0.042] {
        scene.circle(Role::Limb, above(wheel, 0.038), 0.028);
        scene.circle(Role::Joint, above(wheel, 0.038), 0.01);
    }
}

/// The state as a point, and the origin it should reach.
pub(crate) fn linear_quadratic(state: linear_quadratic::State, scene: &mut Scene) {
    scene.look_at([0.0; 2], 2.4 * linear_quadratic::RESET_BOUND);
    scene.grid(1.0);
    scene.circle(Role::Target, [0.0; 2], 0.25);
    scene.line(Role::FarLimb, [0.0; 2], state, 0.06);
    scene.circle(Role::Trunk, state, 0.16);
}
