//! What is cleared away when this process is gone, however it went.

use std::io::Write;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

/// Reads the number of a process group from each line. At the end of its input, when the process that holds the other
/// side has ended, it kills the last group and removes the folder.
const SCRIPT: &str = r#"while read -r line; do group=$line; done
[ -n "$group" ] && kill -s KILL -- "-$group"
rm -rf -- "$1""#;

/// A shell that outlives this process where it is killed. It ends the group of the program and removes the folder.
#[derive(Debug)]
pub(super) struct Guard {
    shell: Child,
    stdin: Option<ChildStdin>,
}

impl Guard {
    pub(super) fn new(folder: &Path) -> std::io::Result<Guard> {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", SCRIPT, "sh"])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // An interrupt from the terminal goes to the group of this process.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut shell = command.spawn()?;
        let stdin = shell.stdin.take();
        Ok(Guard { shell, stdin })
    }

    /// Names the group that is to be killed; none if there is none now.
    pub(super) fn watch(&mut self, group: Option<u32>) {
        let line = group.map_or_else(String::new, |group| group.to_string());
        if let Some(stdin) = &mut self.stdin {
            // Where the shell is gone, nothing is left to be told.
            let _ = writeln!(stdin, "{line}");
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.watch(None);
        self.stdin = None;
        let _ = self.shell.wait();
    }
}
