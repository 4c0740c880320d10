//! One scratch folder and the command run in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A scratch folder that commands run in.
pub(crate) struct Session {
    folder: TempDir,
}

impl Session {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file.
    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    /// The command with its arguments, divided at spaces.
    pub(crate) fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rtpg"));
        command.args(arguments.split_whitespace()).current_dir(self.folder.path()).env_remove("RTPG_LOG");
        command
    }

    /// Runs the command to its end.
    pub(crate) fn run(&self, arguments: &str) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that must succeed; returns what it prints.
    pub(crate) fn succeed(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "rtpg {arguments}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must be refused: exit code 2, one line on standard error that starts with `error: `, nothing on
    /// standard output, and every file as it was. Returns the line.
    pub(crate) fn refused(&self, arguments: &str) -> String {
        self.fails(arguments, 2)
    }

    /// As [`refused`](Self::refused), with another exit code.
    pub(crate) fn fails(&self, arguments: &str, code: i32) -> String {
        let before = self.files();
        let output = self.run(arguments);
        let error = String::from_utf8(output.stderr.clone()).unwrap();
        assert_eq!(output.status.code(), Some(code), "rtpg {arguments}: {error}");
        assert!(
            error.starts_with("error: ") && error.ends_with('\n') && error.lines().count() == 1,
            "rtpg {arguments} does not print one line of error:\n{error}"
        );
        assert!(output.stdout.is_empty(), "rtpg {arguments}: {output:?}");
        assert_eq!(names(&before), names(&self.files()), "rtpg {arguments} changed the folder");
        assert!(before == self.files(), "rtpg {arguments} changed a file");
        error.trim_end().to_owned()
    }

    /// Trains three iterations on the LQR, with further options.
    pub(crate) fn run_lqr(&self, folder: &str, options: &str) {
        let short = "--set iterations=3 --set environment.horizon=10 --set evaluation.episodes=2";
        self.succeed(&format!("train lqr --device cpu --out {folder} {short} {options}"));
    }

    /// Replaces a line of a run's resolved configuration.
    pub(crate) fn edit_config(&self, folder: &str, line: &str, replacement: &str) {
        let path = self.path(folder).join("config.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.lines().any(|found| found == line), "no line `{line}` in {text}");
        let replaced =
            |found: &str| if found == line { format!("{replacement}\n") } else { format!("{found}\n") };
        std::fs::write(path, text.lines().map(replaced).collect::<String>()).unwrap();
    }

    /// Rows of a run's metrics without the columns of times.
    pub(crate) fn metrics(&self, folder: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.path(folder).join("metrics.csv")).unwrap();
        let mut lines = text.lines().map(str::to_owned);
        let header = lines.next().unwrap();
        assert!(header.ends_with(",unstable,dropped,flags,seconds,seconds_total"), "{header}");
        lines.map(|line| line.rsplitn(3, ',').last().unwrap_or_default().to_owned()).collect()
    }

    /// Every file and folder below the session's folder; folders have no bytes.
    pub(crate) fn files(&self) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
        let mut files = BTreeMap::new();
        collect(self.folder.path(), &mut files);
        files
    }
}

/// Sends a signal to a command.
#[cfg(unix)]
pub(crate) fn signal(child: &std::process::Child, signal: nix::sys::signal::Signal) {
    let process = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
    nix::sys::signal::kill(process, signal).unwrap();
}

fn names(files: &BTreeMap<PathBuf, Option<Vec<u8>>>) -> Vec<&PathBuf> {
    files.keys().collect()
}

fn collect(folder: &Path, files: &mut BTreeMap<PathBuf, Option<Vec<u8>>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.insert(path.clone(), None);
            collect(&path, files);
        } else {
            let bytes = std::fs::read(&path).unwrap();
            files.insert(path, Some(bytes));
        }
    }
}
