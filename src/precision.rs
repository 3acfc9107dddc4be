//! Classes of arithmetic.

use clap::ValueEnum;

use crate::tensor::ElementType;

/// The class of arithmetic that an engine claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub enum Class {
    /// Products and sums in f64.
    Fp64,
    /// Products of f32 operands, sums in f32 or better.
    Fp32,
    /// Operands of products rounded to TF32 (11 significant bits), sums in f32.
    Tf32,
    /// Operands and stored results in bf16, sums in f32.
    Bf16,
    /// Operands and stored results in f16, sums in f32.
    F16,
}

impl Class {
    /// The class that arithmetic in an element type belongs to.
    pub fn of(element: ElementType) -> Class {
        match element {
            ElementType::F64 => Class::Fp64,
            ElementType::F32 => Class::Fp32,
            ElementType::Bf16 => Class::Bf16,
            ElementType::F16 => Class::F16,
        }
    }

    /// The element type of the cases that a program of this class is given.
    pub fn element(self) -> ElementType {
        match self {
            Class::Fp64 => ElementType::F64,
            Class::Fp32 | Class::Tf32 => ElementType::F32,
            Class::Bf16 => ElementType::Bf16,
            Class::F16 => ElementType::F16,
        }
    }
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Class::Fp64 => "fp64",
            Class::Fp32 => "fp32",
            Class::Tf32 => "tf32",
            Class::Bf16 => "bf16",
            Class::F16 => "f16",
        })
    }
}

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

    /// The largest error of rounding a value.
    pub fn error(self, value: f64) -> f64 {
        self.unit * value.abs() + self.step
    }

    fn coarser(self, other: Rounding) -> Rounding {
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

/// The roundings that an engine of a class makes on a case of an element type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Precision {
    /// Of the operands of a product.
    pub operand: Rounding,
    /// Of each step of a sum.
    pub accumulate: Rounding,
    /// Of each stored result.
    pub store: Rounding,
    /// The largest finite value.
    pub max: f64,
    /// What is left of a sigmoid whose exponential overflows.
    pub sigmoid_step: f64,
}

impl Precision {
    /// A class of arithmetic on an element type: the coarser of the two at each place.
    pub fn new(class: Class, element: ElementType) -> Precision {
        let (operand, accumulate) = match class {
            Class::Fp64 => (Rounding::F64, Rounding::F64),
            Class::Fp32 => (Rounding::F32, Rounding::F32),
            Class::Tf32 => (Rounding::TF32, Rounding::F32),
            Class::Bf16 => (Rounding::BF16, Rounding::F32),
            Class::F16 => (Rounding::F16, Rounding::F32),
        };
        // Operands that the element type has rounded as coarsely are not changed again.
        let rounded = Rounding::of(element);
        let operand = if operand.coarser(rounded) == rounded {
            Rounding::NONE
        } else {
            operand
        };
        let store = Rounding::of(class.element()).coarser(Rounding::of(element));
        let wide = class == Class::Fp64 && element == ElementType::F64;
        Precision {
            operand,
            accumulate: if element == ElementType::F64 {
                accumulate
            } else {
                accumulate.coarser(Rounding::F32)
            },
            store,
            max: class.element().max().min(element.max()),
            sigmoid_step: if wide { power_of_two(-1022) } else { power_of_two(-126) },
        }
    }
}

/// 2^exponent, exactly, subnormal values included.
pub(crate) const fn power_of_two(exponent: i32) -> f64 {
    let bits = if exponent >= -1022 {
        ((exponent + 1023) as u64) << 52
    } else {
        1u64 << (exponent + 1074)
    };
    f64::from_bits(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coarser_rounding_rules() {
        let bf16_case = Precision::new(Class::Fp32, ElementType::Bf16);
        assert_eq!(bf16_case.store, Rounding::BF16);
        assert_eq!(bf16_case.operand, Rounding::NONE);
        let tf32 = Precision::new(Class::Tf32, ElementType::F32);
        assert_eq!((tf32.operand, tf32.store), (Rounding::TF32, Rounding::F32));
        assert_eq!(Precision::new(Class::F16, ElementType::F32).max, 65504.0);
    }

    #[test]
    fn units_and_steps_are_those_of_the_types() {
        assert_eq!(Rounding::F32.unit, f64::from(f32::EPSILON) / 2.0);
        for element in ElementType::ALL {
            assert_eq!(Rounding::of(element).step, element.tiny());
        }
    }

    #[test]
    fn powers_of_two_are_exact_down_to_the_smallest_value() {
        let mut power = 1.0;
        for exponent in 0..=1074 {
            assert_eq!(power_of_two(-exponent), power, "2^-{exponent}");
            power /= 2.0;
        }
        assert_eq!((power_of_two(1023), power_of_two(1)), (2f64.powi(1023), 2.0));
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
        for element in ElementType::ALL {
            let class = Class::of(element);
            assert_eq!(class.element(), element);
            let precision = Precision::new(class, element);
            assert_eq!(
                (precision.operand, precision.store),
                (Rounding::NONE, Rounding::of(element))
            );
            assert_eq!(precision.max, element.max());
            let is_f64 = element == ElementType::F64;
            let (accumulate, exponent) = if is_f64 {
                (Rounding::F64, -1022)
            } else {
                (Rounding::F32, -126)
            };
            assert_eq!(
                (precision.accumulate, precision.sigmoid_step),
                (accumulate, 2f64.powi(exponent))
            );
        }
        // On f64 data each class rounds what the data did not.
        let fp32 = Precision::new(Class::Fp32, ElementType::F64);
        assert_eq!(
            (fp32.operand, fp32.accumulate, fp32.store),
            (Rounding::F32, Rounding::F32, Rounding::F32)
        );
        assert_eq!((fp32.max, fp32.sigmoid_step), (f64::from(f32::MAX), 2f64.powi(-126)));
        let wide = Precision::new(Class::Fp64, ElementType::F32);
        assert_eq!(
            (wide.operand, wide.accumulate, wide.store),
            (Rounding::NONE, Rounding::F32, Rounding::F32)
        );
        assert_eq!(wide.sigmoid_step, 2f64.powi(-126));
    }

    #[test]
    fn a_class_is_written_as_it_is_chosen_on_the_command_line() {
        for class in Class::value_variants() {
            let value = class.to_possible_value().unwrap();
            assert_eq!(class.to_string(), value.get_name());
        }
    }
}
