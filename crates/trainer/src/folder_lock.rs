//! One process at a time in a folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Error, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The right to write in a folder: a file in it that this process has locked and that names it.
///
/// The lock is the operating system's (`flock` on Unix), which releases it when the process ends, however it ends. What a
/// killed process leaves is a file that nobody holds, and the next process takes it over. Dropping gives the lock back and
/// removes the file.
#[derive(Debug)]
pub struct FolderLock {
    path: PathBuf,
    file: File,
}

/// Why a folder was not locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The file system refused; the message names the path.
    #[error(transparent)]
    Io(#[from] Error),
    /// Another process writes in the folder.
    #[error("{} is in use by {owner}; wait for it to end, or stop it", folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// The process, as it names itself.
        owner: String,
    },
}

impl FolderLock {
    /// Locks `folder` by its file `name`.
    ///
    /// # Errors
    /// [`LockError::InUse`] when another process has it.
    pub fn take(folder: &Path, name: &str) -> Result<Self, LockError> {
        let path = folder.join(name);
        let named = |error: Error| {
            Error::new(error.kind(), format!("failed to lock the folder by {}: {error}", path.display()))
        };
        loop {
            if path.symlink_metadata().is_ok_and(|metadata| !metadata.is_file()) {
                return Err(named(Error::other("it is not a regular file")).into());
            }
            let mut options = OpenOptions::new();
            let mut file =
                options.read(true).write(true).create(true).truncate(false).open(&path).map_err(named)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(LockError::InUse { folder: folder.to_owned(), owner: owner(&path) });
                }
                // Some network file systems have no locks.
                Err(TryLockError::Error(error)) => tracing::warn!(
                    "{} cannot be locked ({error}): see to it that no other process writes in the folder",
                    path.display()
                ),
            }
            // Whoever had the lock has removed the file between the opening and the locking.
            if !is_at(&file, &path) {
                continue;
            }
            file.set_len(0).map_err(named)?;
            file.write_all(this_process().as_bytes()).map_err(named)?;
            return Ok(Self { path, file });
        }
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // The folder may have been removed, and another one made in its place.
        if is_at(&self.file, &self.path) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Whether the open file is the one that stands at `path`.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    let (Ok(open), Ok(found)) = (file.metadata(), path.symlink_metadata()) else { return false };
    identity(open) == identity(found)
}

#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}

/// What the lock's file says of this process.
fn this_process() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let host = host.or_else(|| std::env::var("HOSTNAME").or_else(|_| std::env::var("COMPUTERNAME")).ok());
    let host = host.unwrap_or_else(|| "an unnamed host".to_owned());
    format!("process {} on {}\n", std::process::id(), host.trim())
}

/// The process that the file at `path` names. One that has just taken the lock may not have written its name yet.
fn owner(path: &Path) -> String {
    const LONGEST: u64 = 200;
    for _ in 0..10 {
        let mut text = vec![];
        let read = File::open(path).and_then(|file| file.take(LONGEST).read_to_end(&mut text));
        let text = String::from_utf8_lossy(&text);
        let line = text.lines().next().unwrap_or_default().trim();
        if read.is_ok() && !line.is_empty() {
            return line.chars().filter(|character| !character.is_control()).collect();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    "another process".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_lock_at_a_time_and_the_owner_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let lock = FolderLock::take(folder.path(), "run.lock").unwrap();
        let message = FolderLock::take(folder.path(), "run.lock").unwrap_err().to_string();
        assert!(message.contains(&format!("is in use by process {}", std::process::id())), "{message}");
        drop(lock);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        FolderLock::take(folder.path(), "run.lock").unwrap();
    }

    #[test]
    fn what_a_dead_process_left_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.lock");
        std::fs::write(&path, "process 1 on elsewhere, which is a long line\n").unwrap();
        let lock = FolderLock::take(folder.path(), "run.lock").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), this_process());
        // A folder that was removed and made again is somebody else's.
        std::fs::remove_file(&path).unwrap();
        let other = FolderLock::take(folder.path(), "run.lock").unwrap();
        drop(lock);
        assert!(path.exists());
        drop(other);
        assert!(!path.exists());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("target");
        std::fs::write(&target, "precious").unwrap();
        std::os::unix::fs::symlink(&target, folder.path().join("run.lock")).unwrap();
        let message = FolderLock::take(folder.path(), "run.lock").unwrap_err().to_string();
        assert!(message.ends_with("it is not a regular file"), "{message}");
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "precious");
    }
}
