//! What a command found, and the exit status that says so.

/// What a command found. A command that could not do its work gives a [`Failure`](super::Failure) instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conclusion {
    /// What was asked for is done; nothing was to be compared.
    Done,
    /// Something was compared, and all of it agrees.
    Agree,
    /// An engine disagrees, gave no answer, or is biased.
    Finding,
    /// Nothing was compared, or too little, so that nothing is known.
    NothingCompared,
    /// A signal ended the command early; the status that says which.
    Interrupted(u8),
}

impl Conclusion {
    /// The status of a command that could not do its work.
    pub(crate) const FAILURE: u8 = 2;

    pub(crate) fn status(self) -> u8 {
        match self {
            Conclusion::Done | Conclusion::Agree => 0,
            Conclusion::Finding => 1,
            Conclusion::NothingCompared => Conclusion::FAILURE,
            Conclusion::Interrupted(status) => status,
        }
    }
}
