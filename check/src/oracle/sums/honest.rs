//! What the errors of honest engines add up to.
//!
//! Measured over cases of up to 32 tokens, 8,000 of any sizes, 8,000 whose H and I are multiples of 8 with nothing dropped,
//! and 8,000 whose H and I are multiples of 32 with finite inputs: sums forward, backward, pairwise, in blocks and as
//! tensor cores form them; exponentials that are wrong by 2 ulp; 16-bit results stored after each operation or only where
//! they must be; f32 operands rounded to bf16, and rounded or cut to TF32; the reference, and the definition rounded once.
//! The tests `sums::honest_engines_of_CLASS_agree` print the numbers anew.
//!
//! A spread is the largest of these engines, rounded up. A shift is how far an estimate may lie from 0 however many cases
//! there are; no engine is rounded evenly by chance alone. It is two to four times the largest of these engines, since it
//! depends on the sizes in a domain:
//!
//! - in fp32, tensor cores cut their sums, and alpha is rounded to f32;
//! - in tf32, operands are cut, which makes results smaller and none larger: shifts to the other side are small;
//! - in bf16 and f16, a result that is stored after each operation is rounded from one that has few bits itself. This is
//!   more where the function of the gate is stored by itself before it is multiplied: the shifts with another activation
//!   than that of gpt-oss are about three times the largest of the reference with mixtral, llama4, nemotron-h, both GELUs
//!   and clamped SiLU, each over 5,000 cases in each of the three domains.
//!
//! The last two directions are of layers with wide biases or routing weights, in three domains and 1,000 cases of each:
//! `types::honest_engines_are_not_biased_where_something_is_wide` prints them.
//!
//! The share is above that of every engine on every single value profile and on cases of every size. It is larger where
//! bounds allow for fewer roundings than there are: with another activation than that of gpt-oss whose function of the gate
//! is stored, and more so with one that has no sigmoid. There the reference shows up to 0.062 in fp32, 0.24 in bf16 and
//! 0.13 in f16, each with gates far below 0, and else a tenth in bf16 and f16; with a sigmoid 0.087 at most. The share is a
//! third above that or more. tf32, which no engine here computes with such a layer, has what bf16 has in proportion.

use binned_experts_reference::{Activation, ActivationKind};

use super::Direction;
use crate::oracle::{ActivationFunction, Precision, Rounding};

/// What honest engines of a precision show.
#[derive(Debug)]
pub(super) struct Honest {
    /// The unit roundoff of the precision.
    unit: f64,
    /// More than the root mean square of the errors in any domain, in units of the bound.
    pub(super) share: f64,
    /// The same with another activation than that of gpt-oss, one with a sigmoid and one without.
    shares_of_others: [f64; 2],
    /// By direction.
    along: [Shown; Direction::ALL.len()],
}

/// What honest engines show along a direction.
#[derive(Debug)]
struct Shown {
    /// The standard deviation of an estimate times the root of its denominator, in units of the bound.
    spread: f64,
    /// How far an estimate may lie below 0 and above it, in unit roundoffs where the direction is a factor.
    shifts: [f64; 2],
    /// The same with another activation than that of gpt-oss.
    shifts_of_others: [f64; 2],
}

/// What an estimate may be: so far to either side of a middle.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    pub(super) middle: f64,
    pub(super) shift: f64,
}

const fn shown(spread: f64, shift: f64) -> Shown {
    Shown {
        spread,
        shifts: [shift; 2],
        shifts_of_others: [shift; 2],
    }
}

/// Of a direction that no case has beside an element type that is as wide as any.
const NO_WIDER: Shown = shown(0.0, 0.0);

impl Shown {
    const fn others(self, shift: f64) -> Shown {
        Shown {
            shifts_of_others: [shift; 2],
            ..self
        }
    }

    /// With gpt-oss's activation only so far below 0.
    const fn below(self, below: f64) -> Shown {
        Shown {
            shifts: [below, self.shifts[1]],
            ..self
        }
    }

    /// With gpt-oss's activation only so far above 0.
    const fn above(self, above: f64) -> Shown {
        Shown {
            shifts: [self.shifts[0], above],
            ..self
        }
    }
}

impl Honest {
    /// None for f64, where the errors are as much those of the definition as of the engine, and for claims with modifiers.
    pub(super) fn of(precision: Precision) -> Option<&'static Honest> {
        match precision {
            Precision::FP32 => Some(&FP32),
            Precision::TF32 => Some(&TF32),
            Precision::BF16 => Some(&BF16),
            Precision::F16 => Some(&F16),
            _ => None,
        }
    }

    /// The share with an activation.
    pub(super) fn share_of(&self, kind: ActivationKind) -> f64 {
        let [with_sigmoid, without] = self.shares_of_others;
        match kind {
            ActivationKind::ClampedSwiglu => self.share,
            _ if ActivationFunction::new(kind, Activation::GPT_OSS).has_sigmoid() => with_sigmoid,
            _ => without,
        }
    }

    pub(super) fn spread(&self, direction: Direction) -> f64 {
        self.along[direction as usize].spread
    }

    pub(super) fn range(&self, direction: Direction, activation: ActivationKind) -> Range {
        let shown = &self.along[direction as usize];
        let [below, above] = match activation {
            ActivationKind::ClampedSwiglu => shown.shifts,
            _ => shown.shifts_of_others,
        };
        let scale = self.scale(direction);
        Range {
            middle: 0.5 * (above - below) * scale,
            shift: 0.5 * (above + below) * scale,
        }
    }

    /// The most that the errors of one case count, as a sum of slope²: what tells a thirty-second of a unit roundoff.
    pub(super) fn most_of_a_case(&self, direction: Direction) -> f64 {
        const SPREAD: f64 = 0.01;
        (32.0 * SPREAD / self.scale(direction)).powi(2)
    }

    fn scale(&self, direction: Direction) -> f64 {
        if direction.is_factor() { self.unit } else { 1.0 }
    }
}

static FP32: Honest = Honest {
    unit: Rounding::F32.unit,
    share: 0.03,
    shares_of_others: [0.03, 0.1],
    along: [
        shown(0.18, 2.0),
        shown(0.22, 3.5),
        shown(0.35, 9.0),
        shown(0.12, 0.5),
        shown(0.35, 12.0),
        shown(0.06, 0.1),
        shown(0.04, 0.1),
        shown(0.20, 3.5),
        shown(0.18, 3.5),
        NO_WIDER,
        NO_WIDER,
    ],
};

static TF32: Honest = Honest {
    unit: Rounding::TF32.unit,
    share: 0.16,
    shares_of_others: [0.16, 0.7],
    along: [
        shown(0.65, 6.0),
        shown(0.35, 3.0).above(0.3),
        shown(0.75, 6.0).above(0.3),
        shown(0.13, 0.5),
        shown(0.90, 8.0).below(0.4),
        shown(0.16, 0.2),
        shown(0.35, 1.2).below(0.2),
        shown(0.60, 4.0).above(0.3),
        shown(0.10, 0.7),
        NO_WIDER,
        NO_WIDER,
    ],
};

static BF16: Honest = Honest {
    unit: Rounding::BF16.unit,
    share: 0.08,
    shares_of_others: [0.12, 0.35],
    along: [
        shown(0.07, 0.04),
        shown(0.06, 0.07).others(0.25),
        shown(0.10, 0.04).others(0.2),
        shown(0.05, 0.03).others(0.05),
        shown(0.12, 0.05).others(0.3),
        shown(0.06, 0.03).others(0.05),
        shown(0.04, 0.02),
        shown(0.05, 0.03).others(0.12),
        shown(0.06, 0.05).others(0.25),
        shown(0.06, 0.15),
        shown(0.06, 0.11),
    ],
};

static F16: Honest = Honest {
    unit: Rounding::F16.unit,
    share: 0.08,
    shares_of_others: [0.12, 0.2],
    along: [
        shown(0.09, 0.1),
        shown(0.08, 0.05).others(1.0),
        shown(0.08, 0.1).others(0.25),
        shown(0.05, 0.03).others(0.05),
        shown(0.09, 0.14).others(0.3),
        shown(0.05, 0.03).others(0.08),
        shown(0.04, 0.02),
        shown(0.05, 0.06).others(0.12),
        shown(0.06, 0.06).others(0.15),
        shown(0.06, 0.15),
        shown(0.06, 0.11),
    ],
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::Modifier;

    fn range(precision: Precision, direction: Direction, activation: ActivationKind) -> (f64, f64) {
        let Range { middle, shift } = Honest::of(precision).unwrap().range(direction, activation);
        (middle, shift)
    }

    #[test]
    fn an_estimate_may_lie_to_either_side_as_far_as_the_table_says() {
        let (own, other) = (ActivationKind::ClampedSwiglu, ActivationKind::Silu);
        let (tf32, bf16) = (Rounding::TF32.unit, Rounding::BF16.unit);
        // 3 units below and 0.3 above; of other activations 3 to both sides.
        let limit = |activation| range(Precision::TF32, Direction::Limit, activation);
        assert_eq!(limit(own), (0.5 * (0.3 - 3.0) * tf32, 0.5 * (0.3 + 3.0) * tf32));
        assert_eq!(limit(other), (0.0, 3.0 * tf32));
        // 0.4 below and 8 above, and no units: it counts from 0 to 1.
        let cut = |activation| range(Precision::TF32, Direction::ActivationCut, activation);
        assert_eq!(cut(own), (0.5 * (8.0 - 0.4), 0.5 * (8.0 + 0.4)));
        assert_eq!(cut(other), (0.0, 8.0));
        // The same to both sides, and more of other activations.
        let limit = |activation| range(Precision::BF16, Direction::Limit, activation);
        assert_eq!(limit(own), (0.0, 0.07 * bf16));
        assert_eq!(limit(other), (0.0, 0.25 * bf16));
    }

    #[test]
    fn the_share_is_larger_where_bounds_allow_for_fewer_roundings() {
        let share = |kind| Honest::of(Precision::BF16).unwrap().share_of(kind);
        assert_eq!(share(ActivationKind::ClampedSwiglu), 0.08);
        for kind in [ActivationKind::Silu, ActivationKind::ClampedSilu, ActivationKind::Gelu] {
            assert_eq!(share(kind), 0.12, "{kind}");
        }
        assert_eq!(share(ActivationKind::ReluSquared), 0.35);
    }

    #[test]
    fn one_case_tells_a_thirty_second_of_a_unit_at_most() {
        let most = |direction| Honest::of(Precision::BF16).unwrap().most_of_a_case(direction);
        // A spread of 0.01 over the root of it.
        assert_eq!(0.01 / most(Direction::Alpha).sqrt(), Rounding::BF16.unit / 32.0);
        assert_eq!(0.01 / most(Direction::OutputCut).sqrt(), 1.0 / 32.0);
    }

    #[test]
    fn a_claim_without_a_table_is_none_of_another() {
        for precision in [Precision::FP32, Precision::TF32, Precision::BF16, Precision::F16] {
            assert!(Honest::of(precision).is_some());
            assert!(Honest::of(precision.with(Modifier::Flush).unwrap()).is_none());
        }
        assert!(Honest::of(Precision::FP64).is_none());
        let spread = |precision| Honest::of(precision).unwrap().spread(Direction::Alpha);
        assert_eq!((spread(Precision::FP32), spread(Precision::F16)), (0.18, 0.09));
    }
}
