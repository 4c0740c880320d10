//! Files that are read whole or not at all, and written so.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::path::Path;

/// How the names of temporary files start that [`write_atomically`] leaves behind when the process is killed.
pub const TEMPORARY_PREFIX: &str = ".rtpg-";

/// Writes a file so that it is there whole or not at all: temporary file in the same folder, sync, rename, and sync of the
/// folder.
///
/// # Errors
/// What the file system refuses, with the path.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, bytes, None)
}

/// As [`write_atomically`]; what stood at `path` before is kept at `previous` in the same folder. At every moment one of
/// the two is whole.
///
/// # Errors
/// What the file system refuses, with the path.
pub fn replace(path: &Path, bytes: &[u8], previous: Option<&Path>) -> Result<()> {
    let named =
        |error: Error| Error::new(error.kind(), format!("failed to write {}: {error}", path.display()));
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // A name that a rename would take away from a device or a pipe, or from a link to one.
    if path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        return Err(named(Error::new(ErrorKind::InvalidInput, "there is something that is no regular file")));
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY_PREFIX);
    // As any new file, less what the process's mask takes away; temporary files would be private.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder).map_err(|error| named(without_path(error)))?;
    file.write_all(bytes).map_err(|error| named(without_path(error)))?;
    file.as_file().sync_all().map_err(named)?;
    if let Some(previous) = previous.filter(|_| path.exists()) {
        keep(path, previous, folder).map_err(named)?;
    }
    file.persist(path).map_err(|error| named(error.error))?;
    // A rename is on the disk when its folder is.
    #[cfg(unix)]
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(named)?;
    Ok(())
}

/// The system's error alone, to which the name of a temporary file was added.
fn without_path(error: Error) -> Error {
    let text = error.to_string();
    match text.split_once(" at path ") {
        Some((cause, _)) => Error::new(error.kind(), cause),
        None => error,
    }
}

/// Gives the file at `path` a second name, in the place of what had it; where file systems know no second names, it loses
/// its first one.
fn keep(path: &Path, previous: &Path, folder: &Path) -> Result<()> {
    let link = tempfile::Builder::new()
        .prefix(TEMPORARY_PREFIX)
        .make_in(folder, |temporary| std::fs::hard_link(path, temporary));
    let Ok(link) = link else { return std::fs::rename(path, previous) };
    let temporary = link.into_temp_path();
    let place = temporary.to_path_buf();
    temporary.persist(previous).map_err(|error| error.error)?;
    // After a kill between the two renames, `previous` is a name of the file already, and renaming does nothing.
    match std::fs::remove_file(place) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// The bytes of a regular file of at most `most` bytes. Devices, pipes and folders are refused: they may have no end.
///
/// # Errors
/// What the file system refuses, with the path.
pub fn read_regular(path: &Path, most: u64) -> Result<Vec<u8>> {
    let refuse = |reason: String| {
        let message = format!("failed to read {}: {reason}", path.display());
        Err(Error::new(ErrorKind::InvalidInput, message))
    };
    let named =
        |error: Error| Error::new(error.kind(), format!("failed to read {}: {error}", path.display()));
    let metadata = std::fs::metadata(path).map_err(named)?;
    if !metadata.is_file() {
        return refuse("it is not a regular file".to_owned());
    }
    if metadata.len() > most {
        return refuse(format!("it has {} bytes, expected at most {most}", metadata.len()));
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    // A file that grows meanwhile is read no further than it was.
    fs_err::File::open(path)?.take(metadata.len()).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn atomic_writes_replace_whole_files_and_leave_no_temporary_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write_atomically(&path, b"one").unwrap();
        write_atomically(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        std::fs::create_dir(folder.path().join("folder")).unwrap();
        let error = write_atomically(&folder.path().join("folder"), b"").unwrap_err().to_string();
        assert!(error.contains("no regular file"), "{error}");
        let error = write_atomically(&folder.path().join("absent/file"), b"").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(
            error.to_string().contains("absent/file: ") && !error.to_string().contains(TEMPORARY_PREFIX),
            "{error}"
        );
        #[cfg(unix)]
        {
            let link = folder.path().join("link");
            std::os::unix::fs::symlink("/dev/null", &link).unwrap();
            let error = write_atomically(&link, b"").unwrap_err().to_string();
            assert!(error.contains("no regular file") && link.is_symlink(), "{error}");
        }
        let error = write_atomically(&folder.path().join("absent/file"), b"").unwrap_err().to_string();
        assert!(error.contains("absent"), "{error}");
    }

    #[test]
    fn the_previous_file_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (path, previous) = (folder.path().join("file"), folder.path().join("previous"));
        for text in ["one", "two", "three"] {
            replace(&path, text.as_bytes(), Some(&previous)).unwrap();
        }
        assert_eq!(std::fs::read(&path).unwrap(), b"three");
        assert_eq!(std::fs::read(&previous).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
        // As a kill leaves it after the first of the two renames.
        std::fs::remove_file(&previous).unwrap();
        std::fs::hard_link(&path, &previous).unwrap();
        replace(&path, b"four", Some(&previous)).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"four");
        assert_eq!(std::fs::read(&previous).unwrap(), b"three");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn folders_devices_and_files_beyond_the_limit_are_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, [0; 10]).unwrap();
        assert_eq!(read_regular(&path, 10).unwrap().len(), 10);
        let error = read_regular(&path, 9).unwrap_err().to_string();
        assert!(error.ends_with("it has 10 bytes, expected at most 9"), "{error}");
        for path in [folder.path(), Path::new("/dev/zero")] {
            let error = read_regular(path, u64::MAX).unwrap_err().to_string();
            assert!(error.contains("not a regular file") || cfg!(not(unix)), "{error}");
        }
    }
}
