//! The value of each cell of the hidden states, projections and biases; a file for each value profile.

mod cancelling;
mod clamping;
mod exact;
mod gentle;
mod huge_gates;
mod large_bias;
mod lost_squares;
mod low_gates;
mod opposite_scales;
mod outliers;
mod provenance;
mod pure_bias;
mod scales;
mod small_integers;
mod spread;
mod wide_range;

use gentle::Gentle;

use crate::case::{CaseSpec, ValueProfile};

/// A value profile: draws a cell by its position. A function that a profile leaves out is that of [`Gentle`].
pub(super) trait Values: Sync {
    /// The values that the profile starts from.
    fn gentle(&self) -> &Gentle;

    /// Feature h of a token.
    fn hidden(&self, token: usize, h: usize) -> f64 {
        self.gentle().hidden(token, h)
    }

    /// Column j of row h of the first matrix of expert e; even columns are gates.
    fn gate_up(&self, e: usize, h: usize, j: usize) -> f64 {
        self.gentle().gate_up(e, h, j)
    }

    /// Column j of the first bias of expert e.
    fn gate_up_bias(&self, e: usize, j: usize) -> f64 {
        self.gentle().gate_up_bias(e, j)
    }

    /// Column h of row i of the second matrix of expert e.
    fn down(&self, e: usize, i: usize, h: usize) -> f64 {
        self.gentle().down(e, i, h)
    }

    /// Column h of the second bias of expert e.
    fn down_bias(&self, e: usize, h: usize) -> f64 {
        self.gentle().down_bias(e, h)
    }
}

/// The profile of a case.
pub(super) fn values(spec: &CaseSpec) -> Box<dyn Values> {
    match spec.values {
        ValueProfile::Gentle => Box::new(Gentle::new(spec)),
        ValueProfile::Clamping => Box::new(clamping::Clamping::new(spec)),
        ValueProfile::LargeBias => Box::new(large_bias::LargeBias::new(spec)),
        ValueProfile::PureBias => Box::new(pure_bias::PureBias::new(spec)),
        ValueProfile::Provenance => Box::new(provenance::Provenance::new(spec)),
        ValueProfile::SmallIntegers => Box::new(small_integers::SmallIntegers::new(spec)),
        ValueProfile::WideRange => Box::new(wide_range::WideRange::new(spec)),
        ValueProfile::Cancelling => Box::new(cancelling::Cancelling::new(spec)),
        ValueProfile::OppositeScales => Box::new(opposite_scales::OppositeScales::new(spec)),
        ValueProfile::HugeGates => Box::new(huge_gates::HugeGates::new(spec)),
        ValueProfile::LowGates => Box::new(low_gates::LowGates::new(spec)),
        ValueProfile::Outliers => Box::new(outliers::Outliers::new(spec)),
        ValueProfile::LostSquares => Box::new(lost_squares::LostSquares::new(spec)),
        ValueProfile::Exact => Box::new(exact::Exact::new(spec)),
    }
}
