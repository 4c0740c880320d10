//! An animation of every environment under random actions, one GIF each.
//!
//! ```text
//! cargo run --release -p environments --example gallery [FOLDER]
//! ```

use std::error::Error;
use std::path::PathBuf;

use environments::drawing::Scene;
use environments::drawing::animation::encode_gif;
use environments::registry::{ENTRIES, Entry};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

const FRAMES: usize = 80;

/// Pictures of random actions, each held for some steps so that something happens.
fn film(entry: &Entry) -> Result<Vec<Scene>, Box<dyn Error>> {
    let mut environment = entry.make()?;
    let mut random = SmallRng::seed_from_u64(3);
    let mut observation = vec![0.0; entry.observation_size];
    let mut action = vec![0.0; entry.action_size];
    let mut frames = Vec::with_capacity(FRAMES);
    environment.reset(&mut random, &mut observation);
    for step in 0..FRAMES {
        let mut scene = Scene::new();
        environment.draw(&mut scene);
        frames.push(scene);
        if step % 8 == 0 {
            action.fill_with(|| random.random_range(-1.0..1.0));
        }
        if environment.step(&action, &mut random, &mut observation)?.terminated {
            environment.reset(&mut random, &mut observation);
        }
    }
    Ok(frames)
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| ".".to_owned()));
    for entry in ENTRIES {
        match film(entry) {
            Ok(frames) => {
                let file = folder.join(format!("{}.gif", entry.name));
                fs_err::write(file, encode_gif(&frames, 20.0, [480, 270])?)?;
            }
            Err(error) => eprintln!("{}: left out: {error}", entry.name),
        }
    }
    Ok(())
}
