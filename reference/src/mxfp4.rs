//! MXFP4, as gpt-oss stores its projections.

use std::ops::RangeInclusive;

use ndarray::{Array3, Array4, ArrayView3, Dim};

use crate::element::widened;
use crate::memory::try_filled;
use crate::problem::expect_shape;
use crate::{Element, Error};

/// Bytes of a block.
const BYTES: usize = Mxfp4::BLOCK / 2;
/// The exponent of the scale 0.
const LEAST: i32 = -127;
/// The exponent of the scale 254. The scale 255 stands for none.
const GREATEST: i32 = 127;
/// The magnitudes of the codes 0 to 7. Code 8 + n is that of code n with a minus.
const MAGNITUDES: [f64; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];

/// A projection `[E,out,in]` in blocks of 32 values along its last axis. A value is that of its code times the scale of its
/// block. A code has a sign, two bits of exponent and one of fraction (e2m1); the scale s stands for 2^(s − 127).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mxfp4 {
    /// `[E,out,in/32,16]`. The low four bits of byte j are the code of value 2j of the block, the high four that of value
    /// 2j + 1.
    pub blocks: Array4<u8>,
    /// `[E,out,in/32]`.
    pub scales: Array3<u8>,
}

impl Mxfp4 {
    /// Values that have a scale in common.
    pub const BLOCK: usize = 32;

    /// The exponents of scales whose products with every code are values of an element type.
    pub fn exponents<T: Element>() -> RangeInclusive<i32> {
        let fits = |exponent: &i32| {
            [MAGNITUDES[1], MAGNITUDES[7]]
                .iter()
                .all(|code| exact::<T>(code * power(*exponent)).is_some())
        };
        let least = (LEAST..=GREATEST).find(fits).unwrap_or(GREATEST);
        let greatest = (LEAST..=GREATEST).rev().find(fits).unwrap_or(LEAST);
        least..=greatest
    }

    /// Blocks of `values` `[E,out,in]`. Where several of the [`exponents`](Mxfp4::exponents) give the same values, a block
    /// at an even place of its row has the least of them and one at an odd place the greatest, so that neighbours differ.
    /// `tensor` is for errors.
    ///
    /// # Errors
    /// [`Error::BlockSize`] if the last axis is no multiple of 32, [`Error::NoBlock`] if 32 values have no scale in common.
    pub fn encode<T: Element>(tensor: &'static str, values: ArrayView3<T>) -> Result<Mxfp4, Error> {
        let (experts, rows, width) = values.dim();
        expect_blocks(tensor, width)?;
        let number = width / Mxfp4::BLOCK;
        let mut bytes = try_filled(tensor, Dim([experts, rows, width / 2]), 0)?;
        let mut scales = try_filled(tensor, Dim([experts, rows, number]), 0)?;
        let exponents = Mxfp4::exponents::<T>();
        let places = bytes.rows_mut().into_iter().zip(scales.rows_mut());
        for (at, (row, (mut bytes, mut scales))) in values.rows().into_iter().zip(places).enumerate() {
            let row: Vec<f64> = row.iter().map(|value| widened(value.widen())).collect();
            for (block, values) in row.chunks(Mxfp4::BLOCK).enumerate() {
                let refused = || Error::NoBlock {
                    tensor,
                    expert: at / rows,
                    row: at % rows,
                    block,
                };
                let exponent = exponent(values, &exponents, block % 2 == 1).ok_or_else(refused)?;
                scales[block] = (exponent - LEAST) as u8;
                for (place, pair) in values.chunks(2).enumerate() {
                    let code = |at: usize| code(pair[at], exponent).ok_or_else(refused);
                    bytes[block * BYTES + place] = code(1)? << 4 | code(0)?;
                }
            }
        }
        let blocks = bytes.into_shape_with_order((experts, rows, number, BYTES));
        let blocks = blocks.map_err(|_| Error::SizeOverflow {
            what: tensor,
            sizes: vec![experts, rows, width],
        })?;
        Ok(Mxfp4 { blocks, scales })
    }

    /// The values `[E,out,in]`. `tensor` is for errors.
    ///
    /// # Errors
    /// [`Error::Shape`] if the blocks are not those of the scales, [`Error::BlockScale`] for a scale of 255,
    /// [`Error::Inexact`] for a value that the element type does not hold.
    pub fn decode<T: Element>(&self, tensor: &'static str) -> Result<Array3<T>, Error> {
        let (experts, rows, number) = self.scales.dim();
        expect_shape(tensor, &[experts, rows, number, BYTES], self.blocks.shape())?;
        let width = number.saturating_mul(Mxfp4::BLOCK);
        let mut values = try_filled(tensor, Dim([experts, rows, width]), T::ZERO)?;
        let mut places = values.iter_mut();
        for (at, (bytes, &scale)) in self.blocks.rows().into_iter().zip(&self.scales).enumerate() {
            let (expert, row, block) = (at / number / rows, at / number % rows, at % number);
            let exponent = i32::from(scale) + LEAST;
            if exponent > GREATEST {
                return Err(Error::BlockScale {
                    tensor,
                    expert,
                    row,
                    block,
                });
            }
            let codes = bytes.iter().flat_map(|byte| [byte & 15, byte >> 4]);
            for (code, place) in codes.zip(&mut places) {
                *place = exact(value(code) * power(exponent)).ok_or(Error::Inexact {
                    tensor,
                    expert,
                    row,
                    block,
                })?;
            }
        }
        Ok(values)
    }
}

/// Refuses an axis that is not made of whole blocks.
pub(crate) fn expect_blocks(what: &'static str, found: usize) -> Result<(), Error> {
    if found.is_multiple_of(Mxfp4::BLOCK) {
        return Ok(());
    }
    Err(Error::BlockSize {
        what,
        block: Mxfp4::BLOCK,
        found,
    })
}

/// The least exponent, or the greatest, of a scale that gives these values.
fn exponent(values: &[f64], exponents: &RangeInclusive<i32>, wants_greatest: bool) -> Option<i32> {
    let largest = values.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    let (mut least, mut greatest) = (*exponents.start(), *exponents.end());
    if largest > 0.0 {
        // The largest value is 0.5 to 6 times the scale.
        let own = (largest.to_bits() >> 52) as i32 - 1023;
        (least, greatest) = (least.max(own - 2), greatest.min(own + 1));
    }
    let fits = |exponent: &i32| values.iter().all(|value| code(*value, *exponent).is_some());
    if wants_greatest {
        (least..=greatest).rev().find(fits)
    } else {
        (least..=greatest).find(fits)
    }
}

/// The code of a value with a scale; none if it is that of no code.
fn code(value: f64, exponent: i32) -> Option<u8> {
    let magnitude = value.abs() * power(-exponent);
    let code = MAGNITUDES.iter().position(|known| *known == magnitude)?;
    Some(code as u8 | u8::from(value.is_sign_negative()) << 3)
}

/// The value of a code with a scale of 1.
fn value(code: u8) -> f64 {
    let magnitude = MAGNITUDES[usize::from(code & 7)];
    if code & 8 == 0 { magnitude } else { -magnitude }
}

/// A value of an element type that is this number; none if there is none.
fn exact<T: Element>(number: f64) -> Option<T> {
    let rounded = T::narrow(T::scalar(number));
    (widened(rounded.widen()) == number).then_some(rounded)
}

/// 2^exponent.
fn power(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::{bf16, f16};
    use ndarray::Array;

    fn one_block(scale: u8, byte: impl Fn(usize) -> u8) -> Mxfp4 {
        Mxfp4 {
            blocks: Array::from_shape_fn((1, 1, 1, 16), |(_, _, _, at)| byte(at)),
            scales: Array3::from_elem((1, 1, 1), scale),
        }
    }

    #[test]
    fn the_low_four_bits_come_first_and_eight_is_the_sign() {
        let codes = one_block(128, |at| {
            let even = 2 * at as u8 % 16;
            (even + 1) << 4 | even
        });
        let values = codes.decode::<bf16>("w").unwrap().mapv(|value| value.to_f32());
        let positive = [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0];
        assert_eq!(values.as_slice().unwrap()[..8], positive);
        assert_eq!(values.as_slice().unwrap()[8..16], positive.map(|value: f32| -value));
        assert!(values[[0, 0, 8]].is_sign_negative());
    }

    #[test]
    fn the_ends_are_those_of_the_element_type() {
        assert_eq!(Mxfp4::exponents::<f32>(), -127..=125);
        assert_eq!(Mxfp4::exponents::<bf16>(), -127..=125);
        assert_eq!(Mxfp4::exponents::<f16>(), -23..=13);
        assert_eq!(Mxfp4::exponents::<f64>(), -127..=127);
    }

    #[test]
    fn a_block_has_the_least_scale_at_an_even_place_and_the_greatest_at_an_odd_one() {
        let mut values = Array3::<f32>::zeros((1, 1, 128));
        (values[[0, 0, 0]], values[[0, 0, 32]]) = (3.0, 3.0);
        let encoded = Mxfp4::encode("w", values.view()).unwrap();
        // 3 is 6 · 2^-1, or 1.5 · 2^1; zeros have every scale.
        assert_eq!(encoded.scales.as_slice().unwrap(), [126, 128, 0, 252]);
        assert_eq!([encoded.blocks[[0, 0, 0, 0]], encoded.blocks[[0, 0, 1, 0]]], [7, 3]);
        assert_eq!(encoded.decode::<f32>("w").unwrap(), values);
    }

    #[test]
    fn every_code_with_every_scale_is_read_back() {
        for scale in 0..=254 {
            let codes = one_block(scale, |at| (15 - at as u8) << 4 | at as u8);
            let Ok(values) = codes.decode::<f32>("w") else {
                assert!(scale > 252, "{scale}");
                continue;
            };
            // 6 times a scale and half of it have no other scale in common.
            assert_eq!(Mxfp4::encode("w", values.view()).unwrap(), codes);
        }
    }

    #[test]
    fn what_is_no_block_is_refused() {
        let error = Mxfp4::encode("w", Array3::<f32>::zeros((1, 1, 33)).view()).unwrap_err();
        assert_eq!(error.to_string(), "w: expected a multiple of 32, found 33");
        for (values, place) in [
            ([1.0, 0.25], 0),
            ([5.0, 0.0], 1),
            ([f32::NAN, 1.0], 0),
            ([f32::INFINITY, 0.0], 1),
        ] {
            let mut all = Array3::<f32>::zeros((1, 1, 64));
            (all[[0, 0, 32 * place]], all[[0, 0, 32 * place + 7]]) = (values[0] * 32.0, values[1]);
            let error = Mxfp4::encode("w", all.view()).unwrap_err().to_string();
            let expected = format!("w[0, 0]: expected 32 values that are codes times one scale in block {place}");
            assert_eq!(error, expected);
        }
    }

    #[test]
    fn what_has_no_value_is_refused() {
        let error = one_block(255, |_| 0).decode::<f32>("w").unwrap_err();
        assert_eq!(
            error.to_string(),
            "w[0, 0]: expected a scale of at most 254, found 255 in block 0"
        );
        let error = one_block(254, |_| 0x77).decode::<bf16>("w").unwrap_err();
        assert_eq!(
            error.to_string(),
            "w[0, 0]: expected values that the element type holds, found others in block 0"
        );
        assert!(one_block(100, |_| 0x11).decode::<f16>("w").is_err());
        let mut wrong = one_block(0, |_| 0);
        wrong.scales = Array3::zeros((1, 1, 2));
        assert!(matches!(wrong.decode::<f32>("w"), Err(Error::Shape { .. })));
    }
}
