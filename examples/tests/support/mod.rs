//! Real programs beside the test: found, started, listened to, and ended with it.

use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStderr, Command},
    time::timeout,
};
use tower::BoxError;

/// How long anything may take before the test fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Where a program is. Without it the test is skipped, or fails where the variable
/// `OUTRIGGER_REQUIRE_TOOLS` is `1`.
pub(crate) fn tool(name: &str) -> Option<PathBuf> {
    let folders = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&folders).map(|folder| folder.join(name));
    let found = found.into_iter().find(|file| file.is_file());
    if found.is_none() {
        let is_required = env::var("OUTRIGGER_REQUIRE_TOOLS").is_ok_and(|required| required == "1");
        assert!(!is_required, "`{name}` is not installed, and OUTRIGGER_REQUIRE_TOOLS asks for it");
        eprintln!("SKIPPED: `{name}` is not installed");
    }
    found
}

/// A program that runs as long as this is there.
pub(crate) struct Program {
    _child: Child,
    /// What follows `announcement` on the line that it says when it is ready.
    pub(crate) announced: String,
}

impl Program {
    /// Starts a program, and waits until it announces on its standard error that it is ready.
    pub(crate) async fn start(
        file: &Path,
        arguments: &[String],
        announcement: &str,
    ) -> Result<Self, BoxError> {
        let mut child = Command::new(file)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let said = child.stderr.take().ok_or("it is piped")?;
        let announced = timeout(DEADLINE, listen(said, announcement)).await??;
        Ok(Self { _child: child, announced })
    }
}

async fn listen(said: ChildStderr, announcement: &str) -> Result<String, BoxError> {
    let mut lines = BufReader::new(said).lines();
    let mut told = String::new();
    while let Some(line) = lines.next_line().await? {
        if let Some((_, announced)) = line.split_once(announcement) {
            // A program that nobody listens to any more might wait for ever.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Ok(announced.to_owned());
        }
        told.extend([&line, "\n"]);
    }
    Err(format!("it ended before it was ready:\n{told}").into())
}
