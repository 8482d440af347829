//! Signals, and the command that the demo may run.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::demo::DemoError;

/// Listens for the signals that end a demo, from its first moment on.
pub(super) struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

/// A signal that ends a demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl Asked {
    /// What a shell reports for a program that such a signal ended.
    pub(super) fn status(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

impl Stop {
    pub(super) fn listen() -> Result<Self, DemoError> {
        let listen = |kind| {
            signal(kind).map_err(|source| DemoError::Io {
                doing: "listen for signals",
                source,
            })
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// Waits for a signal.
    pub(super) async fn asked(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::Interrupt,
            _ = self.terminate.recv() => Asked::Terminate,
        }
    }

    /// Runs `command` in a shell with `KEYWAY_URL` set and returns its status. Ctrl-C is the command's own affair (the
    /// terminal sends it to both); SIGTERM is passed on. Cancel safe: the command is killed.
    pub(super) async fn run(&mut self, command: &str, url: &str) -> Result<u8, DemoError> {
        let mut child = Command::new("/bin/sh")
            .args(["-c", command])
            .env("KEYWAY_URL", url)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| DemoError::Io {
                doing: "run the command",
                source,
            })?;
        loop {
            tokio::select! {
                status = child.wait() => {
                    let status = status.map_err(|source| DemoError::Io { doing: "wait for the command", source })?;
                    return Ok(shell_status(status));
                }
                asked = self.asked() => if asked == Asked::Terminate {
                    terminate(&child).await;
                },
            }
        }
    }
}

/// As a shell does: the program's own status, or 128 and the signal that ended it.
fn shell_status(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

async fn terminate(child: &Child) {
    if let Some(pid) = child.id() {
        let _ = Command::new("/bin/sh")
            .args(["-c", r#"kill "$0""#, &pid.to_string()])
            .status()
            .await;
    }
}
