//! Rows of numbers in a file, told from damaged ones and from those of something else.
//!
//! The file is CSV below two lines: `# of HASH`, the hash of all that the numbers follow from, and `# sha256 HASH`, that of
//! the rows. Numbers are decimal and come back to the bit.

use std::path::PathBuf;

use policy_nets::files::{read_regular, write_atomically};

use crate::studies::plan::{sha256, slug};
use crate::studies::{Event, StudyError, StudyFolder};

/// A file in `runs/`.
#[derive(Debug)]
pub(super) struct RowFile {
    path: PathBuf,
    hash: String,
}

impl RowFile {
    /// The file of `what` in an environment; `key` is all that its numbers follow from.
    pub(super) fn new(folder: &StudyFolder, what: &str, environment: &str, key: &str) -> Self {
        let hash = sha256(key.as_bytes());
        let name = format!("{}-{}-{}.csv", slug(what), slug(environment), &hash[..8]);
        Self { path: folder.file("runs").join(name), hash }
    }

    /// The rows, of `width` numbers each. Without a file there are none; nor in a damaged one, which is told and removed.
    ///
    /// # Errors
    /// What may not be read, or is no regular file.
    pub(super) fn read(
        &self,
        width: usize,
        observe: &(dyn Fn(Event<'_>) + Sync),
    ) -> Result<Vec<Vec<f64>>, StudyError> {
        let rows = if self.path.is_symlink() {
            Err("it is a symbolic link, which is not followed".to_owned())
        } else if self.path.exists() {
            self.decode(&read_regular(&self.path, u64::MAX)?, width)
        } else {
            Ok(vec![])
        };
        rows.or_else(|reason| {
            observe(Event::Notice(&format!("{}: {reason}; it is made again", self.path.display())));
            fs_err::remove_file(&self.path)?;
            Ok(vec![])
        })
    }

    /// Writes the rows in the place of those that are there.
    ///
    /// # Errors
    /// What the file system refuses.
    pub(super) fn write(&self, rows: &[Vec<f64>]) -> Result<(), StudyError> {
        let lines = rows.iter().map(|row| {
            let numbers: Vec<String> = row.iter().map(f64::to_string).collect();
            numbers.join(",") + "\n"
        });
        let body: String = lines.collect();
        let text = format!("{}{body}", self.head(&body));
        Ok(write_atomically(&self.path, text.as_bytes())?)
    }

    fn head(&self, body: &str) -> String {
        format!("# of {}\n# sha256 {}\n", self.hash, sha256(body.as_bytes()))
    }

    /// What [`write`](Self::write) wrote.
    fn decode(&self, bytes: &[u8], width: usize) -> Result<Vec<Vec<f64>>, String> {
        let damaged = || "it is not what the study wrote".to_owned();
        let text = std::str::from_utf8(bytes).map_err(|_| damaged())?;
        let (_, below) = text.split_once('\n').ok_or_else(damaged)?;
        let (_, body) = below.split_once('\n').ok_or_else(damaged)?;
        if !text.starts_with(&self.head(body)) {
            return Err(damaged());
        }
        let row = |line: &str| -> Option<Vec<f64>> {
            let row: Vec<f64> = line.split(',').map(str::parse).collect::<Result<_, _>>().ok()?;
            (row.len() == width).then_some(row)
        };
        body.lines().map(|line| row(line).ok_or_else(damaged)).collect()
    }
}
