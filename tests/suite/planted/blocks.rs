//! Engines that are right but for how they read projections of MXFP4.

use binned_experts_check::domain::Taken;
use binned_experts_check::{CaseElement, Domain, Fault, Outcome};
use binned_experts_reference::{Error, ExpertWeights, Layer, Mxfp4, Problem, ProjectionLayout, StoredWeights};
use clap::ValueEnum;
use ndarray::{Array3, ArrayView3};

use super::wrong::{Wrong, output_of};

/// A bug that needs blocks of codes and scales.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BlockBug {
    /// The scale of the next block of the row
    NeighbouringScale,
    /// The scale of the same block of the next row
    ScaleOfNextRow,
    /// The high four bits of a byte come first
    NibblesSwapped,
    /// A scale s stands for 2^(s - 126)
    Bias126,
    /// `[E,2I,H/32,16]` read as `[E,H/32,2I,16]`
    BlocksByColumn,
    /// The scale 0 stands for none, so for 1
    ZeroScaleIsOne,
    /// The bits of f32 are the scale and 23 zeros: 0 is no 2^-127 but 0
    ZeroScaleIsZero,
    /// The sign of a code is lost
    SignIgnored,
    /// Codes from 8 on count down, as integers of four bits
    TwosComplement,
    /// Code 8 stands for -8, as in integers of four bits
    MinusZeroIsEight,
    /// A fraction of one bit in codes 0 and 1 too: 1 stands for 0.75, as if it were not subnormal
    NoSubnormalCode,
    /// Every code of e2m1 read as an integer
    CodesAreIntegers,
}

impl Wrong for BlockBug {
    fn takes(&self, usual: Domain) -> Domain {
        Domain {
            layers: Some(Taken::Any),
            ..usual
        }
    }

    fn run<T: CaseElement>(&mut self, problem: &Problem<T>) -> Result<Outcome, Fault> {
        output_of(&self.taken_for(problem).map_err(Fault::refused)?)
    }
}

impl BlockBug {
    /// The problem that it computes, whose projections are values.
    fn taken_for<T: CaseElement>(self, problem: &Problem<T>) -> Result<Problem<T>, Error> {
        let layer = Layer {
            projections: ProjectionLayout::OutIn,
            ..*problem.layer()
        };
        let stored = problem.stored_weights();
        let weights = StoredWeights {
            gate_up_proj: self.read(stored.gate_up_proj.view())?,
            down_proj: self.read(stored.down_proj.view())?,
            ..stored
        };
        let weights = ExpertWeights::from_stored(weights, &layer)?;
        problem.clone().with_layer(layer)?.with_weights(weights)
    }

    /// A projection `[E,out,in]`, of its blocks.
    fn read<T: CaseElement>(self, values: ArrayView3<T>) -> Result<Array3<T>, Error> {
        let Mxfp4 { blocks, scales } = Mxfp4::encode("projection", values)?;
        let (_, rows, number) = scales.dim();
        let value = |(e, row, place): (usize, usize, usize)| {
            let (block, at) = (place / Mxfp4::BLOCK, place % Mxfp4::BLOCK);
            let (scale_row, scale_block) = match self {
                BlockBug::NeighbouringScale => (row, (block + 1) % number),
                BlockBug::ScaleOfNextRow => ((row + 1) % rows, block),
                _ => (row, block),
            };
            let (code_row, code_block) = match self {
                BlockBug::BlocksByColumn => ((block * rows + row) / number, (block * rows + row) % number),
                _ => (row, block),
            };
            let byte = blocks[[e, code_row, code_block, at / 2]];
            let is_low = (at % 2 == 0) != (self == BlockBug::NibblesSwapped);
            let code = if is_low { byte & 15 } else { byte >> 4 };
            T::from_f64(self.code(code) * self.scale(scales[[e, scale_row, scale_block]]))
        };
        Ok(Array3::from_shape_fn(values.dim(), value))
    }

    fn code(self, code: u8) -> f64 {
        let magnitudes = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
        let (magnitude, is_negative) = match self {
            BlockBug::SignIgnored => (magnitudes[usize::from(code & 7)], false),
            BlockBug::TwosComplement if code > 8 => (magnitudes[usize::from(16 - code)], true),
            BlockBug::MinusZeroIsEight if code == 8 => (8.0, true),
            BlockBug::NoSubnormalCode if code & 7 == 1 => (0.75, code >= 8),
            BlockBug::CodesAreIntegers => (f64::from(code & 7), code >= 8),
            _ => (magnitudes[usize::from(code & 7)], code >= 8),
        };
        if is_negative { -magnitude } else { magnitude }
    }

    fn scale(self, scale: u8) -> f64 {
        let exponent = i32::from(scale) - 127;
        match (self, scale) {
            (BlockBug::ZeroScaleIsOne, 0) => 1.0,
            (BlockBug::ZeroScaleIsZero, 0) => 0.0,
            (BlockBug::Bias126, _) => 2f64.powi(exponent + 1),
            _ => 2f64.powi(exponent),
        }
    }
}
