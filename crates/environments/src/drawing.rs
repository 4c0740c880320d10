//! Pictures of environments, in one style.
//!
//! An environment describes what it looks like as a [`Scene`]: shapes in world units, coloured by the [`Role`] they
//! play. [`encode_gif`](animation::encode_gif) turns scenes into an animation.

#[cfg(feature = "animation")]
pub mod animation;
pub(crate) mod classic;
#[cfg(feature = "animation")]
mod palette;
#[cfg(feature = "animation")]
mod raster;

/// A point of the drawn plane in metres: to the right, up.
pub type Point = [f64; 2];

/// What a shape stands for; each role has one colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The main body: trunk, cart, car.
    Trunk,
    /// A part that moves relative to the main body.
    Limb,
    /// A limb on the side away from the viewer.
    FarLimb,
    /// Where two parts are joined.
    Joint,
    /// What the environment asks for: a goal, a limit.
    Target,
    /// A fixed support: a rail, a hill.
    Track,
}

/// A shape in world units.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// All points within `radius` of the segment between the ends.
    Capsule {
        /// The two ends.
        ends: [Point; 2],
        /// Distance from the segment to the outline, m.
        radius: f64,
    },
    /// A path of straight lines.
    Path {
        /// Its corners.
        points: Vec<Point>,
        /// Width of the line, m.
        width: f64,
    },
    /// A rectangle.
    Box {
        /// Its centre.
        centre: Point,
        /// Half its width and height before it is turned, m.
        half: Point,
        /// Counter-clockwise turn, rad.
        angle: f64,
    },
    /// A disc.
    Circle {
        /// Its centre.
        centre: Point,
        /// Its radius, m.
        radius: f64,
    },
}

/// What lies behind the shapes, as wide as the picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Backdrop {
    /// Nothing.
    Plain,
    /// Ground below a height, with a mark every metre so that motion shows.
    Ground {
        /// Height of its surface, m.
        height: f64,
    },
    /// A grid, for a plane seen from above.
    Grid {
        /// Distance of its lines, m.
        spacing: f64,
    },
}

/// One picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    centre: Point,
    height: f64,
    backdrop: Backdrop,
    shapes: Vec<(Role, Shape)>,
}

impl Default for Scene {
    fn default() -> Self {
        Self { centre: [0.0; 2], height: 2.0, backdrop: Backdrop::Plain, shapes: Vec::new() }
    }
}

impl Scene {
    /// An empty picture, two metres high, of the origin.
    pub fn new() -> Self {
        Self::default()
    }

    /// The point in the middle of the picture.
    pub fn centre(&self) -> Point {
        self.centre
    }

    /// Height of the picture, m; its width follows from its format.
    pub fn height(&self) -> f64 {
        self.height
    }

    /// What lies behind the shapes.
    pub fn backdrop(&self) -> Backdrop {
        self.backdrop
    }

    /// The shapes in the order of painting.
    pub fn shapes(&self) -> &[(Role, Shape)] {
        &self.shapes
    }

    /// Points the camera at `centre`, with `height` metres from the lower to the upper edge.
    pub fn look_at(&mut self, centre: Point, height: f64) {
        (self.centre, self.height) = (centre, height);
    }

    /// Puts ground below `height`.
    pub fn ground(&mut self, height: f64) {
        self.backdrop = Backdrop::Ground { height };
    }

    /// Puts a grid behind everything.
    pub fn grid(&mut self, spacing: f64) {
        self.backdrop = Backdrop::Grid { spacing };
    }

    /// Adds a capsule.
    pub fn capsule(&mut self, role: Role, from: Point, to: Point, radius: f64) {
        self.shapes.push((role, Shape::Capsule { ends: [from, to], radius }));
    }

    /// Adds a straight line.
    pub fn line(&mut self, role: Role, from: Point, to: Point, width: f64) {
        self.path(role, vec![from, to], width);
    }

    /// Adds a path of straight lines.
    pub fn path(&mut self, role: Role, points: Vec<Point>, width: f64) {
        self.shapes.push((role, Shape::Path { points, width }));
    }

    /// Adds a rectangle, turned counter-clockwise by `angle`.
    pub fn rectangle(&mut self, role: Role, centre: Point, half: Point, angle: f64) {
        self.shapes.push((role, Shape::Box { centre, half, angle }));
    }

    /// Adds a disc.
    pub fn circle(&mut self, role: Role, centre: Point, radius: f64) {
        self.shapes.push((role, Shape::Circle { centre, radius }));
    }
}
