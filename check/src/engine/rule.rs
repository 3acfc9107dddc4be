//! What a kernel must not do, however right its values are.

use crate::case::named_enum;

named_enum! {
    /// A rule of how a kernel is called. What calls it sees where one is broken.
    pub enum Rule {
        /// An input is changed in place.
        InputChanged = "input-changed",
        /// Memory just before or behind an input is written.
        GuardTouched = "guard-touched",
        /// The output shares memory with an input.
        OutputAliases = "output-aliases",
        /// A call changes the output of the call before.
        OutputOverwritten = "output-overwritten",
        /// The output of a call changes after its return, before the next call.
        WrittenAfterReturn = "written-after-return",
        /// The output is no plain array of the framework, whose values are there when the call returns.
        NotAnArray = "not-an-array",
        /// The output is of an element type that no case has.
        WrongType = "wrong-type",
        /// The output is on another device than the inputs.
        WrongDevice = "wrong-device",
    }
}
