//! The drawing of a body, from its model and its positions.
//!
//! All bodies here move in a plane, so their pose follows from the generalised positions by forward kinematics in two
//! dimensions. The geometry is read from the same MJCF text that MuJoCo compiles.

use roxmltree::{Document, Node};

use super::definition::Definition;
use super::error::MujocoError;
use crate::drawing::{Point, Role, Scene};

/// The plane in which a body moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plane {
    /// Seen from the side: x to the right, z up.
    Side,
    /// Seen from above: x to the right, y up.
    Top,
}

impl Plane {
    /// The components of a vector in the plane.
    fn project(self, [x, y, z]: [f64; 3]) -> Point {
        match self {
            Self::Side => [x, z],
            Self::Top => [x, y],
        }
    }

    /// Counter-clockwise angle in the plane of a unit rotation about `axis`.
    fn turn(self, [_, y, z]: [f64; 3]) -> f64 {
        match self {
            Self::Side => -y,
            Self::Top => z,
        }
    }
}

/// A capsule in the frame of its body.
struct Capsule {
    role: Role,
    ends: [Point; 2],
    radius: f64,
}

/// How a generalised position moves a body in its parent's frame.
enum Joint {
    Slide { axis: Point, reference: f64 },
    Hinge { turn: f64, anchor: Point, reference: f64 },
}

/// A rigid body; the joints take the generalised positions in their order in the model.
struct Body {
    parent: Option<usize>,
    offset: Point,
    joints: Vec<Joint>,
    capsules: Vec<Capsule>,
}

/// The moving parts of a model.
pub(super) struct Skeleton {
    plane: Plane,
    view_height: f64,
    floor: bool,
    bodies: Vec<Body>,
}

/// A position and a counter-clockwise rotation.
#[derive(Clone, Copy, Default)]
struct Frame {
    origin: Point,
    angle: f64,
}

impl Frame {
    fn place(self, [x, y]: Point) -> Point {
        let (sin, cos) = self.angle.sin_cos();
        [self.origin[0] + cos * x - sin * y, self.origin[1] + sin * x + cos * y]
    }

    fn moved(self, joint: &Joint, position: f64) -> Self {
        match *joint {
            Joint::Slide { axis: [x, y], reference } => {
                let distance = position - reference;
                Self { origin: self.place([distance * x, distance * y]), ..self }
            }
            Joint::Hinge { turn, anchor, reference } => {
                let pivot = self.place(anchor);
                let angle = self.angle + turn * (position - reference);
                let [x, y] = Self { origin: [0.0; 2], angle }.place(anchor);
                Self { origin: [pivot[0] - x, pivot[1] - y], angle }
            }
        }
    }
}

impl Skeleton {
    /// Reads the bodies of a definition's model.
    ///
    /// # Errors
    /// When the text uses something that the drawing does not know.
    pub(super) fn parse(definition: &Definition) -> Result<Self, MujocoError> {
        let invalid = |reason| MujocoError::Model { name: definition.name, reason };
        let document = Document::parse(definition.xml).map_err(|source| invalid(source.to_string()))?;
        Reader::new(&document, definition.plane).read(definition.view_height).map_err(invalid)
    }

    /// The capsules at the generalised `positions`: role, ends, radius.
    pub(super) fn capsules(&self, positions: &[f64]) -> Vec<(Role, [Point; 2], f64)> {
        let mut frames: Vec<Frame> = Vec::with_capacity(self.bodies.len());
        let mut placed = Vec::new();
        let mut positions = positions.iter();
        for body in &self.bodies {
            let parent = body.parent.map_or_else(Frame::default, |index| frames[index]);
            let rest = Frame { origin: parent.place(body.offset), ..parent };
            let frame = body
                .joints
                .iter()
                .zip(&mut positions)
                .fold(rest, |frame, (joint, position)| frame.moved(joint, *position));
            placed.extend(
                body.capsules
                    .iter()
                    .map(|capsule| (capsule.role, capsule.ends.map(|end| frame.place(end)), capsule.radius)),
            );
            frames.push(frame);
        }
        placed
    }

    /// Draws the body, the floor below it, and points the camera at it.
    pub(super) fn draw(&self, positions: &[f64], scene: &mut Scene) {
        let mut capsules = self.capsules(positions);
        let ends = || capsules.iter().flat_map(|(_, ends, _)| ends);
        let mean = |axis: usize| ends().map(|end| end[axis]).sum::<f64>() / ends().count().max(1) as f64;
        let (centre, height) = ([mean(0), mean(1)], self.view_height);
        match (self.plane, self.floor) {
            (Plane::Top, _) => {
                scene.look_at(centre, height);
                scene.grid(1.0);
            }
            (Plane::Side, true) => {
                scene.look_at([centre[0], 0.38 * height], height);
                scene.ground(0.0);
            }
            (Plane::Side, false) => {
                scene.look_at([0.0, 0.2 * height], height);
                scene.line(Role::Track, [-1.0, 0.0], [1.0, 0.0], 0.02);
            }
        }
        // Far limbs are hidden by the trunk, and that by near ones.
        capsules.sort_by_key(|(role, ..)| match role {
            Role::FarLimb => 0,
            Role::Trunk => 1,
            _ => 2,
        });
        for (role, [from, to], radius) in capsules {
            scene.capsule(role, from, to, radius);
        }
    }
}

/// Reads the part of MJCF that the models in `assets/mujoco/` use.
struct Reader<'input> {
    root: Node<'input, 'input>,
    plane: Plane,
    degrees: bool,
}

impl<'input> Reader<'input> {
    fn new(document: &'input Document<'input>, plane: Plane) -> Self {
        let root = document.root_element();
        let unit = children(root, "compiler").find_map(|compiler| compiler.attribute("angle"));
        Self { root, plane, degrees: unit == Some("degree") }
    }

    fn read(&self, view_height: f64) -> Result<Skeleton, String> {
        let world = children(self.root, "worldbody").next().ok_or("it has no worldbody")?;
        let floor = children(world, "geom").any(|geom| geom.attribute("type") == Some("plane"));
        let mut bodies = Vec::new();
        for body in children(world, "body") {
            self.body(body, None, &mut bodies)?;
        }
        Ok(Skeleton { plane: self.plane, view_height, floor, bodies })
    }

    fn body(
        &self,
        node: Node<'input, 'input>,
        parent: Option<usize>,
        bodies: &mut Vec<Body>,
    ) -> Result<(), String> {
        let offset = self.plane.project(self.vector(node, "pos")?);
        let joints = children(node, "joint").map(|joint| self.joint(joint)).collect::<Result<_, _>>()?;
        let capsules = children(node, "geom").map(|geom| self.capsule(geom)).collect::<Result<_, _>>()?;
        let index = bodies.len();
        bodies.push(Body { parent, offset, joints, capsules });
        children(node, "body").try_for_each(|child| self.body(child, Some(index), bodies))
    }

    fn joint(&self, node: Node<'input, 'input>) -> Result<Joint, String> {
        let axis = self.vector(node, "axis")?;
        let reference = self.numbers(node, "ref")?.first().copied().unwrap_or(0.0);
        if self.attribute(node, "type") == Some("slide") {
            return Ok(Joint::Slide { axis: self.plane.project(axis), reference });
        }
        let anchor = self.plane.project(self.vector(node, "pos")?);
        Ok(Joint::Hinge { turn: self.plane.turn(axis), anchor, reference })
    }

    fn capsule(&self, node: Node<'input, 'input>) -> Result<Capsule, String> {
        let role = match node.attribute("group") {
            Some("1") => Role::Trunk,
            Some("3") => Role::FarLimb,
            _ => Role::Limb,
        };
        let size = self.numbers(node, "size")?;
        let radius = *size.first().ok_or("a geom has no size")?;
        if let [a, b, c, d, e, f] = self.numbers(node, "fromto")?[..] {
            let ends = [[a, b, c], [d, e, f]].map(|end| self.plane.project(end));
            return Ok(Capsule { role, ends, radius });
        }
        let half = *size.get(1).ok_or("a geom has neither ends nor a length")?;
        let turn = match self.numbers(node, "axisangle")?[..] {
            [] => 0.0,
            [x, y, z, angle] => {
                self.plane.turn([x, y, z]) * if self.degrees { angle.to_radians() } else { angle }
            }
            _ => return Err("an axisangle does not have four numbers".to_owned()),
        };
        let frame = Frame { origin: self.plane.project(self.vector(node, "pos")?), angle: turn };
        Ok(Capsule { role, ends: [[0.0, -half], [0.0, half]].map(|end| frame.place(end)), radius })
    }

    /// An attribute of an element, or of its kind in the top-level defaults.
    fn attribute(&self, node: Node<'input, 'input>, name: &str) -> Option<&'input str> {
        node.attribute(name).or_else(|| {
            let defaults = children(self.root, "default").next()?;
            children(defaults, node.tag_name().name()).next()?.attribute(name)
        })
    }

    /// The numbers of an attribute, none when it is absent.
    fn numbers(&self, node: Node<'input, 'input>, name: &str) -> Result<Vec<f64>, String> {
        let text = self.attribute(node, name).unwrap_or_default();
        let number = |word: &str| word.parse().map_err(|_| format!("{name}=\"{text}\" is not numbers"));
        text.split_whitespace().map(number).collect()
    }

    /// Three numbers; MuJoCo's default when the attribute is absent.
    fn vector(&self, node: Node<'input, 'input>, name: &str) -> Result<[f64; 3], String> {
        match self.numbers(node, name)?[..] {
            [x, y, z] => Ok([x, y, z]),
            [] => Ok(if name == "axis" { [0.0, 0.0, 1.0] } else { [0.0; 3] }),
            _ => Err(format!("{name} does not have three numbers")),
        }
    }
}

fn children<'input>(
    node: Node<'input, 'input>,
    name: &'input str,
) -> impl Iterator<Item = Node<'input, 'input>> {
    node.children().filter(move |child| child.has_tag_name(name))
}
