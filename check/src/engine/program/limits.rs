//! How long a program may take.

use std::time::Duration;

/// How long a program may take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// From its start to its first line: `{"ready": true}`, or the answer to its first case.
    pub start: Duration,
    /// For each case after that.
    pub case: Duration,
}

impl Default for Limits {
    /// 60 s to start and 30 s for a case.
    fn default() -> Limits {
        Limits {
            start: Duration::from_secs(60),
            case: Duration::from_secs(30),
        }
    }
}
