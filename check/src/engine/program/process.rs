//! A running program with all its descendants.

use std::collections::VecDeque;
use std::io::{BufReader, Read, Write};
use std::path::Path;
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use process_wrap::std::{ChildWrapper, CommandWrap};

use super::limits::Limits;
use super::protocol::{Answer, Broken, DescribeRequest, Description, Request, read_line};
use crate::engine::text::clean;
use crate::engine::{Fault, MachineError, Stop};

/// Lines that are read ahead. A program that prints more waits.
const LINES_AHEAD: usize = 16;
/// How long a program that closed its standard output may take to end.
const GRACE: Duration = Duration::from_secs(1);
/// How often a wait looks whether the run is stopped.
const GLANCE: Duration = Duration::from_millis(50);
/// The most of a standard error that is kept, in bytes.
const MAX_TAIL: usize = 2048;
/// The most of a line that is no answer, in characters.
const MAX_GARBAGE: usize = 200;
/// The most of an error that a program reports, in characters.
const MAX_MESSAGE: usize = 4096;

/// What answers a case.
const ANSWERS: &str = r#"{"ok": true}, {"skip": …} or {"error": …}"#;
/// What answers the question what a program takes.
const DESCRIPTION: &str = r#"{"domain": {…}, "name": …}"#;

/// A running program. All processes of its group are killed when it is dropped.
#[derive(Debug)]
pub(super) struct Process {
    group: Box<dyn ChildWrapper>,
    stdin: ChildStdin,
    lines: Receiver<Vec<u8>>,
    stderr: Arc<Mutex<VecDeque<u8>>>,
    /// Whether it has printed a line since its start.
    is_ready: bool,
}

impl Process {
    pub(super) fn start(words: &[String]) -> std::io::Result<Process> {
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut command = CommandWrap::from(command);
        #[cfg(unix)]
        command.wrap(process_wrap::std::ProcessGroup::leader());
        #[cfg(windows)]
        command.wrap(process_wrap::std::JobObject);
        let mut group = command.spawn()?;
        let no_pipe = || std::io::Error::other("no pipe");
        let stdin = group.stdin().take().ok_or_else(no_pipe)?;
        let stdout = group.stdout().take().ok_or_else(no_pipe)?;
        let stderr = group.stderr().take().ok_or_else(no_pipe)?;
        Ok(Process {
            group,
            stdin,
            lines: read_lines(stdout),
            stderr: read_tail(stderr),
            is_ready: false,
        })
    }

    /// The number of its group: that of the process that was started.
    pub(super) fn group(&self) -> u32 {
        self.group.id()
    }

    /// Has a case computed.
    pub(super) fn exchange(&mut self, request: &Request, limits: Limits, stop: &Stop) -> Result<(), Fault> {
        let line = self.asked(request, limits, stop)?;
        match Answer::parse(&line) {
            Some(Answer::Ok(true)) => Ok(()),
            Some(Answer::Skip(reason)) => Err(Fault::declined(clean(&reason, MAX_MESSAGE))),
            Some(Answer::Error(message)) => Err(Fault::refused(clean(&message, MAX_MESSAGE))),
            Some(Answer::Broken(Broken { rule, message })) => Err(Fault::Broken {
                rule,
                message: clean(&message, MAX_MESSAGE),
            }),
            Some(Answer::Ok(false) | Answer::Ready(_)) | None => Err(self.garbage(ANSWERS, &line)),
        }
    }

    /// Asks the program what it takes.
    pub(super) fn describe(&mut self, limits: Limits, stop: &Stop) -> Result<Description, Fault> {
        let request = Request::Describe(DescribeRequest { describe: true });
        let line = self.asked(&request, limits, stop)?;
        match (serde_json::from_slice(&line), Answer::parse(&line)) {
            (Ok(description), _) => Ok(description),
            (_, Some(Answer::Error(message))) => Err(Fault::refused(clean(&message, MAX_MESSAGE))),
            (Err(error), _) => Err(self.garbage(&format!("{DESCRIPTION} ({error})"), &line)),
        }
    }

    /// The line that answers a request.
    fn asked(&mut self, request: &Request, limits: Limits, stop: &Stop) -> Result<Vec<u8>, Fault> {
        self.tail().clear();
        match self.lines.try_recv() {
            Ok(line) if !self.is_ready && is_ready(&line) => self.is_ready = true,
            Ok(line) => return Err(self.garbage(ANSWERS, &line)),
            Err(TryRecvError::Disconnected) => return Err(self.ended()),
            Err(TryRecvError::Empty) => {}
        }
        let line = serde_json::to_string(request).map_err(|error| MachineError::file(Path::new("request"), &error))?;
        if writeln!(self.stdin, "{line}")
            .and_then(|()| self.stdin.flush())
            .is_err()
        {
            return Err(self.ended());
        }
        if !self.is_ready {
            let line = self.line_within(limits.start, stop)?.ok_or_else(|| Fault::NotReady {
                seconds: limits.start.as_secs_f64(),
                stderr: self.stderr_text(),
            })?;
            self.is_ready = true;
            if !is_ready(&line) {
                return Ok(line);
            }
        }
        self.line_within(limits.case, stop)?.ok_or_else(|| Fault::TimedOut {
            seconds: limits.case.as_secs_f64(),
            stderr: self.stderr_text(),
        })
    }

    /// The next line, or none where there is none in time.
    fn line_within(&mut self, limit: Duration, stop: &Stop) -> Result<Option<Vec<u8>>, Fault> {
        let start = Instant::now();
        loop {
            let left = limit.saturating_sub(start.elapsed());
            match self.lines.recv_timeout(left.min(GLANCE)) {
                Ok(line) => return Ok(Some(line)),
                Err(RecvTimeoutError::Disconnected) => return Err(self.ended()),
                Err(RecvTimeoutError::Timeout) if stop.is_set() => return Err(MachineError::Interrupted.into()),
                Err(RecvTimeoutError::Timeout) if left.is_zero() => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn garbage(&self, expected: &str, line: &[u8]) -> Fault {
        Fault::Garbage {
            expected: expected.to_owned(),
            line: clean(&String::from_utf8_lossy(line), MAX_GARBAGE),
            stderr: self.stderr_text(),
        }
    }

    /// The fault of a program that no longer answers.
    fn ended(&mut self) -> Fault {
        let start = Instant::now();
        let status = loop {
            match self.group.try_wait() {
                Ok(Some(status)) => break status.to_string(),
                Ok(None) if start.elapsed() < GRACE => std::thread::sleep(Duration::from_millis(10)),
                Ok(None) => break "it closed its standard output and went on".to_owned(),
                Err(error) => break error.to_string(),
            }
        };
        // What it wrote last may still be on its way; a descendant that holds the pipe keeps the end open.
        while Arc::strong_count(&self.stderr) > 1 && start.elapsed() < GRACE {
            std::thread::sleep(Duration::from_millis(1));
        }
        Fault::Crashed {
            status,
            stderr: self.stderr_text(),
        }
    }

    fn stderr_text(&self) -> String {
        let bytes = Vec::from(self.tail().clone());
        clean(String::from_utf8_lossy(&bytes).trim(), MAX_TAIL)
    }

    fn tail(&self) -> std::sync::MutexGuard<'_, VecDeque<u8>> {
        self.stderr.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The program may have ended by itself, which is no error here; its descendants may live on.
        let _ = self.group.start_kill();
        let _ = self.group.wait();
    }
}

fn is_ready(line: &[u8]) -> bool {
    Answer::parse(line) == Some(Answer::Ready(true))
}

/// The lines of a program's standard output; the channel closes when the program closes it.
fn read_lines(stdout: ChildStdout) -> Receiver<Vec<u8>> {
    let (sender, lines) = sync_channel(LINES_AHEAD);
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stdout);
        while let Ok(Some(line)) = read_line(&mut reader) {
            if sender.send(line.bytes).is_err() {
                return;
            }
        }
    });
    lines
}

/// Passes a standard error on and keeps its end. The thread gives its share back when the pipe closes.
fn read_tail(mut stderr: ChildStderr) -> Arc<Mutex<VecDeque<u8>>> {
    let tail = Arc::new(Mutex::new(VecDeque::new()));
    let shared = tail.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = stderr.read(&mut buffer) {
            // Nobody may read it.
            let _ = std::io::stderr().write_all(&buffer[..read]);
            let mut tail = shared.lock().unwrap_or_else(PoisonError::into_inner);
            tail.extend(&buffer[..read]);
            let excess = tail.len().saturating_sub(MAX_TAIL);
            tail.drain(..excess);
        }
    });
    tail
}
