//! Fetches the library into the cache folder.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::search;

/// A library file that can be fetched: version, processor as Rust calls it, SHA-256 in hexadecimal digits.
const RELEASES: [(&str, &str, &str); 2] = [
    ("3.17.0", "x86_64", "23496b023ee80fb61ab71167e94bc649f9941710fde96b18bb8204fb332523ad"),
    ("3.17.0", "aarch64", "e2edd0204fb9229f75f332a4fcd1a32345bb9f90651dc0fddfa20ec0670db789"),
];

/// Why the library was not installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// There is no release of that version for this system in the table.
    #[error(
        "MuJoCo {version} cannot be fetched for {system}; fetched can be 3.17.0 for Linux on x86_64 and aarch64. By \
         hand: install the Python package `mujoco` (from 4.0 `mujoco-core`) or a release from mujoco.org, and set {} \
         to its library file",
        search::VARIABLE
    )]
    NotAvailable {
        /// The version asked for.
        version: String,
        /// Operating system and processor.
        system: String,
    },
    /// Neither `XDG_CACHE_HOME` nor `HOME` is set.
    #[error("there is no cache folder: set XDG_CACHE_HOME or HOME")]
    NoCache,
    /// No Python was found.
    #[error(
        "neither `python3` nor `python` can be started ({reason}); install Python with pip, or install MuJoCo by \
             hand and set {} to its library file",
        search::VARIABLE
    )]
    NoPython {
        /// The operating system's message.
        reason: String,
    },
    /// A command failed.
    #[error("`{command}` failed: {output}")]
    Command {
        /// The command line.
        command: String,
        /// The first and the last line that it wrote to its standard error.
        output: String,
    },
    /// The package does not contain what it should.
    #[error("the package of MuJoCo {version} does not contain {missing}")]
    Package {
        /// The version.
        version: String,
        /// The file that is not there.
        missing: String,
    },
    /// The library is not the one that was published.
    #[error("the library fetched has SHA-256 {found}, expected {expected}; it was not installed")]
    Digest {
        /// From the table.
        expected: &'static str,
        /// Of the file.
        found: String,
    },
    /// A file could not be read or written; the message names it.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl InstallError {
    /// Whether other input or another machine is what it takes; else the work failed.
    pub fn is_input(&self) -> bool {
        matches!(self, Self::NotAvailable { .. } | Self::NoCache | Self::NoPython { .. })
    }
}

/// Fetches MuJoCo's shared library with the user's own pip, checks it, and puts it with its licence into the cache
/// folder, where it is found from then on. Returns the path of the library. One that is there already, with the right
/// digest, is left alone.
///
/// The package is downloaded for a fixed version of Python, so the local one does not matter; nothing is installed
/// into it.
///
/// # Errors
/// When there is no such release, no Python with pip, no network, or the digest differs.
pub fn install(version: &str) -> Result<PathBuf, InstallError> {
    let cache = search::cache(search::variable).ok_or(InstallError::NoCache)?;
    install_into(&cache, version)
}

/// [`install`] with the cache folder of all versions given.
fn install_into(cache: &Path, version: &str) -> Result<PathBuf, InstallError> {
    let (digest, platform) = release(version)?;
    let folder = cache.join(version);
    let library = folder.join(search::file_name(version));
    if library.is_file() && sha256(&library)? == digest {
        return Ok(library);
    }
    fs_err::create_dir_all(cache)?;
    remove_leftovers(cache)?;
    // In the cache itself, so that the last step is a rename within one file system.
    let work = tempfile::Builder::new().prefix(WORK).tempdir_in(cache)?;
    let package = fetch(version, &platform, work.path())?;
    let complete = work.path().join("complete");
    collect(version, digest, &package, &complete)?;
    if folder.exists() {
        fs_err::rename(&folder, work.path().join("replaced"))?;
    }
    match fs_err::rename(&complete, &folder) {
        Ok(()) => Ok(library),
        // Another process was faster.
        Err(_) if library.is_file() && sha256(&library)? == digest => Ok(library),
        Err(source) => Err(source.into()),
    }
}

/// What the names of folders begin with in which an installation works.
const WORK: &str = ".install-";

/// Removes what killed installations left: no installation works for so long.
fn remove_leftovers(cache: &Path) -> io::Result<()> {
    const LONGEST: Duration = Duration::from_hours(1);
    for entry in fs_err::read_dir(cache)? {
        let entry = entry?;
        let is_work = entry.file_name().to_string_lossy().starts_with(WORK);
        let age = || entry.metadata().and_then(|metadata| metadata.modified()).map(|time| time.elapsed());
        if is_work && age().is_ok_and(|age| age.is_ok_and(|age| age > LONGEST)) {
            fs_err::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Digest and pip's platform name of a release for this system.
fn release(version: &str) -> Result<(&'static str, String), InstallError> {
    let (system, processor) = (std::env::consts::OS, std::env::consts::ARCH);
    let known = RELEASES.iter().find(|(number, cpu, _)| (*number, *cpu) == (version, processor));
    match known {
        Some((_, _, digest)) if system == "linux" => Ok((digest, format!("manylinux_2_28_{processor}"))),
        _ => Err(InstallError::NotAvailable {
            version: version.to_owned(),
            system: format!("{system} on {processor}"),
        }),
    }
}

/// Downloads the package into `work` and unpacks it; returns the folder of its contents.
fn fetch(version: &str, platform: &str, work: &Path) -> Result<PathBuf, InstallError> {
    let (download, package) = (work.join("download"), work.join("package"));
    let requirement = format!("mujoco=={version}");
    let mut pip = python()?;
    pip.args(["-m", "pip", "download", &requirement, "--no-deps", "--only-binary=:all:"])
        .args(["--python-version", "3.12", "--implementation", "cp", "--abi", "cp312"])
        .args(["--platform", platform, "--disable-pip-version-check", "--dest"])
        .arg(&download);
    run(pip)?;
    let wheel = fs_err::read_dir(&download)?.next().transpose()?.map(|entry| entry.path());
    let wheel = wheel.ok_or_else(|| InstallError::Package {
        version: version.to_owned(),
        missing: "a wheel".to_owned(),
    })?;
    let mut unpack = python()?;
    unpack.args(["-m", "zipfile", "-e"]).arg(wheel).arg(&package);
    run(unpack)?;
    Ok(package)
}

/// Puts the library and the licences from an unpacked package into the new folder `target`.
fn collect(version: &str, digest: &'static str, package: &Path, target: &Path) -> Result<(), InstallError> {
    let name = search::file_name(version);
    let library = package.join("mujoco").join(&name);
    let licences = package.join(format!("mujoco-{version}.dist-info")).join("licenses");
    for path in [&library, &licences] {
        if !path.exists() {
            let missing = path.strip_prefix(package).unwrap_or(path).display().to_string();
            return Err(InstallError::Package { version: version.to_owned(), missing });
        }
    }
    let found = sha256(&library)?;
    if found != digest {
        return Err(InstallError::Digest { expected: digest, found });
    }
    fs_err::create_dir(target)?;
    fs_err::rename(&library, target.join(name))?;
    for entry in fs_err::read_dir(&licences)? {
        let entry = entry?;
        fs_err::rename(entry.path(), target.join(entry.file_name()))?;
    }
    Ok(())
}

/// A command that starts the user's Python.
fn python() -> Result<Command, InstallError> {
    let mut reason = String::new();
    for name in ["python3", "python"] {
        match Command::new(name).arg("--version").output() {
            Ok(_) => return Ok(Command::new(name)),
            Err(source) => reason = source.to_string(),
        }
    }
    Err(InstallError::NoPython { reason })
}

fn run(mut command: Command) -> Result<(), InstallError> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    Err(InstallError::Command {
        command: words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" "),
        output: ends(&String::from_utf8_lossy(&output.stderr)),
    })
}

/// The first and the last line of what a command wrote: pip begins with the cause and ends with the consequence.
fn ends(output: &str) -> String {
    let mut lines = output.lines().map(str::trim).filter(|line| !line.is_empty());
    match (lines.next(), lines.next_back()) {
        (None, _) => "it wrote no message".to_owned(),
        (Some(only), None) => only.to_owned(),
        (Some(first), Some(last)) => format!("{first} ... {last}"),
    }
}

/// SHA-256 of a file in hexadecimal digits.
fn sha256(path: &Path) -> io::Result<String> {
    Ok(hex::encode(Sha256::digest(fs_err::read(path)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mujoco::RECOMMENDED_VERSION;

    /// An unpacked package whose library contains `contents`.
    fn package(root: &Path, contents: &str) -> PathBuf {
        let package = root.join("package");
        let licences = package.join("mujoco-3.17.0.dist-info/licenses");
        fs_err::create_dir_all(&licences).unwrap();
        fs_err::create_dir_all(package.join("mujoco")).unwrap();
        fs_err::write(package.join("mujoco").join(search::file_name("3.17.0")), contents).unwrap();
        fs_err::write(licences.join("LICENSE"), "Apache-2.0").unwrap();
        package
    }

    const DIGEST_OF_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn the_library_and_its_licence_are_collected() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("target");
        collect("3.17.0", DIGEST_OF_ABC, &package(root.path(), "abc"), &target).unwrap();
        assert!(target.join(search::file_name("3.17.0")).is_file());
        assert!(target.join("LICENSE").is_file());
    }

    #[test]
    fn another_digest_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("target");
        let outcome = collect("3.17.0", DIGEST_OF_ABC, &package(root.path(), "abd"), &target);
        assert!(matches!(outcome, Err(InstallError::Digest { .. })), "{outcome:?}");
        assert!(!target.exists());
    }

    #[test]
    fn an_incomplete_package_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let outcome = collect("3.17.0", DIGEST_OF_ABC, root.path(), &root.path().join("target"));
        assert!(matches!(outcome, Err(InstallError::Package { .. })), "{outcome:?}");
    }

    // Elsewhere the time of a folder is not set like that of a file.
    #[cfg(unix)]
    #[test]
    fn what_a_killed_installation_left_goes() {
        let cache = tempfile::tempdir().unwrap();
        let folders = [".install-old", ".install-new", "3.17.0"].map(|name| cache.path().join(name));
        for folder in &folders {
            fs_err::create_dir(folder).unwrap();
            fs_err::write(folder.join("file"), "").unwrap();
        }
        let yesterday = std::time::SystemTime::now() - Duration::from_hours(24);
        for folder in [&folders[0], &folders[2]] {
            std::fs::File::open(folder).unwrap().set_modified(yesterday).unwrap();
        }
        remove_leftovers(cache.path()).unwrap();
        assert_eq!(folders.map(|folder| folder.exists()), [false, true, true]);
    }

    #[test]
    #[ignore = "downloads 27 MB"]
    fn the_recommended_version_is_fetched_and_a_broken_one_repaired() {
        let root = tempfile::tempdir().unwrap();
        let library = install_into(root.path(), RECOMMENDED_VERSION).unwrap();
        fs_err::write(&library, "broken").unwrap();
        assert_eq!(install_into(root.path(), RECOMMENDED_VERSION).unwrap(), library);
        assert!(sha256(&library).unwrap() == release(RECOMMENDED_VERSION).unwrap().0);
        assert!(library.with_file_name("LICENSE").is_file());
        assert_eq!(fs_err::read_dir(root.path()).unwrap().count(), 1, "nothing else is left in the cache");
    }

    #[test]
    fn of_a_long_output_the_first_and_the_last_line_are_told() {
        assert_eq!(ends(""), "it wrote no message");
        assert_eq!(ends("no module named pip\n"), "no module named pip");
        assert_eq!(ends("\n  cause \nagain\nconsequence\n\n"), "cause ... consequence");
    }

    #[test]
    fn an_unknown_version_is_refused_with_the_way_by_hand() {
        let message = install("0.0.1").unwrap_err().to_string();
        assert!(message.contains("MuJoCo 0.0.1") && message.contains(search::VARIABLE), "{message}");
    }
}
