//! The roundings that follow from a precision.

use super::precision::{Modifier, Precision, Preset};
use crate::case::{ElementType, power_of_two};
use binned_experts_reference::{Layer, TensorType};

/// A rounding: relative error `unit`, and `step` between the smallest values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rounding {
    /// Unit roundoff, half the distance from 1 to the next value.
    pub unit: f64,
    /// Distance between the smallest values.
    pub step: f64,
}

impl Rounding {
    /// No rounding.
    pub const NONE: Rounding = Rounding { unit: 0.0, step: 0.0 };
    /// Round to f64.
    pub const F64: Rounding = Rounding::new(53, -1074);
    /// Round to f32.
    pub const F32: Rounding = Rounding::new(24, -149);
    /// Round to TF32.
    pub const TF32: Rounding = Rounding::new(11, -136);
    /// Round to bf16.
    pub const BF16: Rounding = Rounding::new(8, -133);
    /// Round to f16.
    pub const F16: Rounding = Rounding::new(11, -24);

    const fn new(significant_bits: i32, step_exponent: i32) -> Rounding {
        Rounding {
            unit: power_of_two(-significant_bits),
            step: power_of_two(step_exponent),
        }
    }

    /// The distance between the smallest values is that from 0 to the smallest normal value.
    fn flushed(self) -> Rounding {
        let step = if self.unit > 0.0 {
            self.step / (2.0 * self.unit)
        } else {
            0.0
        };
        Rounding { step, ..self }
    }

    /// The largest error of rounding a value.
    pub fn error(self, value: f64) -> f64 {
        self.unit * value.abs() + self.step
    }

    pub(crate) fn coarser(self, other: Rounding) -> Rounding {
        Rounding {
            unit: self.unit.max(other.unit),
            step: self.step.max(other.step),
        }
    }

    fn of(element: ElementType) -> Rounding {
        match element {
            ElementType::F64 => Rounding::F64,
            ElementType::F32 => Rounding::F32,
            ElementType::Bf16 => Rounding::BF16,
            ElementType::F16 => Rounding::F16,
        }
    }
}

/// The roundings that an engine of a precision makes on a case of an element type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Roundings {
    /// The rounding of a product's operands.
    pub operand: Rounding,
    /// The rounding after each step of a product's sum.
    pub accumulate: Rounding,
    /// The rounding of the sums of a product's parts; none where a product has no parts that are stored.
    pub partial: Rounding,
    /// The rounding of each result that is stored before the output.
    pub between: Rounding,
    /// The rounding of activations as operands of the second product, where they are stored more finely.
    pub activated: Rounding,
    /// The rounding after each step of the sum over the slots.
    pub combine: Rounding,
    /// The rounding of the output, where it is of the element type.
    pub store: Rounding,
    /// The rounding to the wide type; none where that is the element type.
    pub wide: Option<Rounding>,
    /// Whether any operand, product or partial sum below the smallest normal value may be taken as 0.
    pub flushes: bool,
    /// The largest finite value.
    pub max: f64,
    /// The absolute error of a sigmoid whose exponential overflows.
    pub sigmoid_step: f64,
    /// The absolute error of any sigmoid besides.
    pub sigmoid_error: f64,
}

/// Roundings of a sigmoid with an absolute error, in units of u.
const ABSOLUTE_SIGMOID: f64 = 4.0;

impl Roundings {
    /// Takes the coarser rounding of precision and element type at each place.
    pub fn new(precision: Precision, element: ElementType) -> Roundings {
        let plain = Roundings::of_preset(precision.preset(), element);
        let modify = |roundings: Roundings, modifier| roundings.modified(modifier, element);
        precision.modifiers().fold(plain, modify)
    }

    fn of_preset(preset: Preset, element: ElementType) -> Roundings {
        let (operand, accumulate) = match preset {
            Preset::Fp64 => (Rounding::F64, Rounding::F64),
            Preset::Fp32 => (Rounding::F32, Rounding::F32),
            Preset::Tf32 => (Rounding::TF32, Rounding::F32),
            Preset::Bf16 => (Rounding::BF16, Rounding::F32),
            Preset::F16 => (Rounding::F16, Rounding::F32),
        };
        // Operands that the element type already rounds as coarsely do not change again.
        let rounded = Rounding::of(element);
        let operand = if operand.coarser(rounded) == rounded {
            Rounding::NONE
        } else {
            operand
        };
        let accumulate = if element == ElementType::F64 {
            accumulate
        } else {
            accumulate.coarser(Rounding::F32)
        };
        let store = Rounding::of(preset.element()).coarser(rounded);
        let wide = preset == Preset::Fp64 && element == ElementType::F64;
        Roundings {
            operand,
            accumulate,
            partial: Rounding::NONE,
            between: store,
            activated: Rounding::NONE,
            combine: accumulate,
            store,
            wide: Some(element.of_tensor(TensorType::Wide))
                .filter(|wide| *wide != element)
                .map(Rounding::of),
            flushes: false,
            max: preset.element().max().min(element.max()),
            sigmoid_step: if wide { power_of_two(-1022) } else { power_of_two(-126) },
            sigmoid_error: 0.0,
        }
    }

    /// The rounding to the wide type, if a tensor is of that and it is not the element type.
    pub(crate) fn wide_of(self, tensor_type: TensorType) -> Option<Rounding> {
        self.wide.filter(|_| tensor_type == TensorType::Wide)
    }

    /// The rounding of the output of a layer.
    pub(crate) fn output(self, layer: &Layer) -> Rounding {
        self.wide_of(layer.output_type).unwrap_or(self.store)
    }

    /// `Modifier::Flush` is the last: it acts on the roundings that the others leave.
    fn modified(self, modifier: Modifier, element: ElementType) -> Roundings {
        let Roundings { accumulate, store, .. } = self;
        match modifier {
            Modifier::SlotsInElement => Roundings {
                combine: self.combine.coarser(store),
                ..self
            },
            Modifier::PartialsInElement => Roundings { partial: store, ..self },
            Modifier::SumsInElement => Roundings {
                accumulate: accumulate.coarser(store),
                ..self
            },
            Modifier::AbsoluteSigmoid => Roundings {
                sigmoid_error: ABSOLUTE_SIGMOID * store.unit,
                ..self
            },
            Modifier::Fused if accumulate.coarser(store) != accumulate => Roundings {
                between: accumulate,
                // Operands that are rounded again in any case need no rounding of their own.
                activated: if self.operand == Rounding::NONE {
                    store
                } else {
                    Rounding::NONE
                },
                ..self
            },
            Modifier::Fused => self,
            Modifier::Flush => Roundings {
                operand: Rounding {
                    step: self.operand.coarser(Rounding::of(element)).flushed().step,
                    ..self.operand
                },
                accumulate: accumulate.flushed(),
                partial: self.partial.flushed(),
                between: self.between.flushed(),
                activated: self.activated.flushed(),
                combine: self.combine.flushed(),
                store: store.flushed(),
                wide: self.wide.map(Rounding::flushed),
                flushes: true,
                ..self
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coarser_rounding_rules() {
        let bf16_case = Roundings::new(Precision::FP32, ElementType::Bf16);
        assert_eq!(bf16_case.store, Rounding::BF16);
        assert_eq!(bf16_case.operand, Rounding::NONE);
        let tf32 = Roundings::new(Precision::TF32, ElementType::F32);
        assert_eq!((tf32.operand, tf32.store), (Rounding::TF32, Rounding::F32));
        assert_eq!(Roundings::new(Precision::F16, ElementType::F32).max, 65504.0);
    }

    #[test]
    fn units_and_steps_are_those_of_the_types() {
        assert_eq!(Rounding::F32.unit, f64::from(f32::EPSILON) / 2.0);
        for &element in ElementType::ALL {
            assert_eq!(Rounding::of(element).step, element.tiny());
        }
    }

    #[test]
    fn units_are_half_the_distance_from_1_to_the_next_value() {
        let half = |next_after_1: f64| (next_after_1 - 1.0) / 2.0;
        assert_eq!(Rounding::F64.unit, half(1f64.next_up()));
        assert_eq!(Rounding::BF16.unit, half(f64::from(f32::from_bits(0x3f81_0000))));
        assert_eq!(Rounding::F16.unit, half(f64::from(half::f16::from_bits(0x3c01))));
        // TF32 has the range of f32 and the fraction of f16.
        assert_eq!(Rounding::TF32.unit, Rounding::F16.unit);
        assert_eq!(Rounding::TF32.step / Rounding::F32.step, 8192.0);
        let rounding = Rounding { unit: 0.25, step: 0.5 };
        assert_eq!((rounding.error(3.0), rounding.error(-3.0)), (1.25, 1.25));
    }

    #[test]
    fn a_class_rounds_as_it_says_on_the_elements_it_takes() {
        for &element in ElementType::ALL {
            let precision = Precision::of(element);
            assert_eq!(precision.element(), element);
            let roundings = Roundings::new(precision, element);
            assert_eq!(
                (roundings.operand, roundings.store),
                (Rounding::NONE, Rounding::of(element))
            );
            assert_eq!(roundings.max, element.max());
            let is_f64 = element == ElementType::F64;
            let (accumulate, exponent) = if is_f64 {
                (Rounding::F64, -1022)
            } else {
                (Rounding::F32, -126)
            };
            assert_eq!(
                (roundings.accumulate, roundings.sigmoid_step),
                (accumulate, 2f64.powi(exponent))
            );
        }
        // On f64 data each precision rounds what the data did not.
        let fp32 = Roundings::new(Precision::FP32, ElementType::F64);
        assert_eq!(
            (fp32.operand, fp32.accumulate, fp32.store),
            (Rounding::F32, Rounding::F32, Rounding::F32)
        );
        assert_eq!((fp32.max, fp32.sigmoid_step), (f64::from(f32::MAX), 2f64.powi(-126)));
        let wide = Roundings::new(Precision::FP64, ElementType::F32);
        assert_eq!(
            (wide.operand, wide.accumulate, wide.store),
            (Rounding::NONE, Rounding::F32, Rounding::F32)
        );
        assert_eq!(wide.sigmoid_step, 2f64.powi(-126));
    }
}
