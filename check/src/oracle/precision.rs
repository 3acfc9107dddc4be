//! The precision that an engine claims.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::case::{ElementType, Named, named_enum};

named_enum! {
    /// How an engine rounds the operands of its products, its sums and what it stores.
    pub enum Preset {
        /// Products and sums in f64.
        Fp64 = "fp64",
        /// Products of f32 operands, sums in f32 or better.
        Fp32 = "fp32",
        /// Operands of products rounded or cut to TF32 (11 significant bits), sums in f32.
        Tf32 = "tf32",
        /// Operands and stored results in bf16, sums in f32.
        Bf16 = "bf16",
        /// Operands and stored results in f16, sums in f32.
        F16 = "f16",
    }
}

named_enum! {
    /// What an engine does in another way than its preset says. Each but `fused` loosens the claim.
    pub enum Modifier {
        /// The sum over the slots is kept in the element type, with a rounding for each slot.
        SlotsInElement = "slots-in-element",
        /// A product is split along its depth into up to 16 parts whose sums are stored in the element type.
        PartialsInElement = "partials-in-element",
        /// The sums of the products are kept in the element type, with a rounding for each term.
        SumsInElement = "sums-in-element",
        /// The sigmoid has an absolute error of a few roundings, as that of tanh(z/2)/2 + 1/2 has.
        AbsoluteSigmoid = "absolute-sigmoid",
        /// Stricter: nothing is stored in the element type between the operands of the products and the output.
        Fused = "fused",
        /// Subnormal operands, products, sums and results may be taken as 0.
        Flush = "flush",
    }
}

/// Modifiers of which one contradicts the other, or leaves it no sense.
const APART: [(Modifier, Modifier); 3] = [
    (Modifier::PartialsInElement, Modifier::SumsInElement),
    (Modifier::PartialsInElement, Modifier::Fused),
    (Modifier::SumsInElement, Modifier::Fused),
];

/// The precision that an engine claims: a preset and what is different from it, such as `bf16` or
/// `bf16+slots-in-element+flush`. It is read with its modifiers in any order, and printed with them in the order of
/// [`Modifier::ALL`].
///
/// ```
/// use binned_experts_check::Precision;
/// use binned_experts_check::oracle::Modifier;
///
/// let precision: Precision = "bf16+flush+slots-in-element".parse()?;
/// assert_eq!(precision, Precision::BF16.with(Modifier::SlotsInElement)?.with(Modifier::Flush)?);
/// assert_eq!(precision.to_string(), "bf16+slots-in-element+flush");
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Precision {
    preset: Preset,
    /// A bit for each modifier.
    modifiers: u8,
}

impl Precision {
    /// [`Preset::Fp64`].
    pub const FP64: Precision = Precision::plain(Preset::Fp64);
    /// [`Preset::Fp32`].
    pub const FP32: Precision = Precision::plain(Preset::Fp32);
    /// [`Preset::Tf32`].
    pub const TF32: Precision = Precision::plain(Preset::Tf32);
    /// [`Preset::Bf16`].
    pub const BF16: Precision = Precision::plain(Preset::Bf16);
    /// [`Preset::F16`].
    pub const F16: Precision = Precision::plain(Preset::F16);

    const fn plain(preset: Preset) -> Precision {
        Precision { preset, modifiers: 0 }
    }

    /// The precision of arithmetic in an element type.
    pub fn of(element: ElementType) -> Precision {
        match element {
            ElementType::F64 => Precision::FP64,
            ElementType::F32 => Precision::FP32,
            ElementType::Bf16 => Precision::BF16,
            ElementType::F16 => Precision::F16,
        }
    }

    /// The same with a modifier besides.
    ///
    /// # Errors
    /// What was expected and what was found, if it has the modifier already, or one that goes with it no more.
    pub fn with(self, modifier: Modifier) -> Result<Precision, String> {
        if self.has(modifier) {
            return Err(format!("expected each modifier once; found {modifier} twice"));
        }
        let both = Precision {
            modifiers: self.modifiers | bit(modifier),
            ..self
        };
        match APART.iter().find(|(one, other)| both.has(*one) && both.has(*other)) {
            None => Ok(both),
            Some((one, other)) => Err(format!("expected {one} or {other}; found both")),
        }
    }

    /// Its preset.
    pub fn preset(self) -> Preset {
        self.preset
    }

    /// Whether it has a modifier.
    pub fn has(self, modifier: Modifier) -> bool {
        self.modifiers & bit(modifier) != 0
    }

    /// Its modifiers.
    pub(crate) fn modifiers(self) -> impl Iterator<Item = Modifier> {
        let all = Modifier::ALL.iter().copied();
        all.filter(move |modifier| self.has(*modifier))
    }

    /// The element type of the cases that a program of this precision is given.
    pub fn element(self) -> ElementType {
        self.preset.element()
    }

    /// Those of coarser presets with the same modifiers, the sharpest first.
    pub(crate) fn coarser(self) -> impl Iterator<Item = Precision> {
        const BY_COARSENESS: [Preset; 5] = [Preset::Fp64, Preset::Fp32, Preset::Tf32, Preset::F16, Preset::Bf16];
        let coarser = BY_COARSENESS
            .into_iter()
            .skip_while(move |preset| *preset != self.preset);
        coarser.skip(1).map(move |preset| Precision { preset, ..self })
    }

    /// The same preset with one loosening modifier more; of a fused one also without that.
    pub(crate) fn loosened(self) -> impl Iterator<Item = Precision> {
        let unfused = self.has(Modifier::Fused).then_some(Precision {
            modifiers: self.modifiers & !bit(Modifier::Fused),
            ..self
        });
        let loosening = Modifier::ALL.iter().filter(|modifier| **modifier != Modifier::Fused);
        let more = loosening.filter_map(move |modifier| self.with(*modifier).ok());
        unfused.into_iter().chain(more)
    }
}

impl Precision {
    /// The same preset with every loosening modifier; sums in the element type are looser than those of parts alone.
    pub(crate) fn loosest(self) -> Precision {
        let all = [
            Modifier::SlotsInElement,
            Modifier::SumsInElement,
            Modifier::AbsoluteSigmoid,
            Modifier::Flush,
        ];
        Precision {
            modifiers: all.into_iter().fold(0, |all, modifier| all | bit(modifier)),
            ..self
        }
    }
}

impl Precision {
    /// Whether every result of another claim is one of this as well.
    pub(crate) fn admits(self, sharper: Precision) -> bool {
        let is_coarser =
            self.preset == sharper.preset || sharper.coarser().any(|coarser| coarser.preset == self.preset);
        // f16 has fewer magnitudes than bf16, and more digits.
        let is_apart = sharper.preset == Preset::F16 && self.preset == Preset::Bf16;
        let has = |modifier: Modifier| match modifier {
            Modifier::PartialsInElement => self.has(modifier) || self.has(Modifier::SumsInElement),
            _ => self.has(modifier),
        };
        let mut loosening = Modifier::ALL.iter().filter(|modifier| **modifier != Modifier::Fused);
        is_coarser
            && !is_apart
            && loosening.all(|modifier| !sharper.has(*modifier) || has(*modifier))
            && (sharper.has(Modifier::Fused) || !self.has(Modifier::Fused))
    }
}

impl Preset {
    /// The element type of its cases.
    pub fn element(self) -> ElementType {
        match self {
            Preset::Fp64 => ElementType::F64,
            Preset::Fp32 | Preset::Tf32 => ElementType::F32,
            Preset::Bf16 => ElementType::Bf16,
            Preset::F16 => ElementType::F16,
        }
    }
}

fn bit(modifier: Modifier) -> u8 {
    1 << modifier as u8
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.modifiers().fold(self.preset.name().to_owned(), |name, modifier| {
            name + "+" + modifier.name()
        });
        f.pad(&name)
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Precision, String> {
        let mut words = text.split('+');
        let preset = Preset::from_name(words.next().unwrap_or(""))?;
        words.try_fold(Precision::plain(preset), |precision, word| {
            precision.with(Modifier::from_name(word)?)
        })
    }
}

impl Serialize for Precision {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Precision {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Precision, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_precision_is_printed_as_it_is_read() {
        for text in [
            "fp64",
            "fp32+flush",
            "bf16+slots-in-element+absolute-sigmoid+flush",
            "f16+fused",
        ] {
            let precision: Precision = text.parse().unwrap();
            assert_eq!(precision.to_string(), text);
            assert_eq!(serde_json::to_string(&precision).unwrap(), format!("\"{text}\""));
            assert_eq!(
                serde_json::from_str::<Precision>(&format!("\"{text}\"")).unwrap(),
                precision
            );
        }
        let shuffled: Result<Precision, _> = "bf16+flush+absolute-sigmoid+slots-in-element".parse();
        assert_eq!(
            shuffled.unwrap().to_string(),
            "bf16+slots-in-element+absolute-sigmoid+flush"
        );
        assert_eq!(format!("{:>6}|", Precision::F16), "   f16|");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let error = |text: &str| text.parse::<Precision>().unwrap_err();
        assert_eq!(error("half"), "expected one of fp64, fp32, tf32, bf16, f16; found half");
        assert_eq!(
            error("bf16+ftz"),
            "expected one of slots-in-element, partials-in-element, sums-in-element, absolute-sigmoid, fused, flush; \
             found ftz"
        );
        assert_eq!(
            error("bf16+flush+flush"),
            "expected each modifier once; found flush twice"
        );
        assert_eq!(
            error("bf16+fused+sums-in-element"),
            "expected sums-in-element or fused; found both"
        );
        assert!(error("bf16+").ends_with("found "));
    }

    #[test]
    fn weaker_claims_keep_what_they_do_not_loosen() {
        let names = |precisions: &mut dyn Iterator<Item = Precision>| -> Vec<String> {
            precisions.map(|precision| precision.to_string()).collect()
        };
        assert_eq!(names(&mut Precision::FP32.coarser()), ["tf32", "f16", "bf16"]);
        let flushed = Precision::TF32.with(Modifier::Flush).unwrap();
        assert_eq!(names(&mut flushed.coarser()), ["f16+flush", "bf16+flush"]);
        let fused = Precision::BF16.with(Modifier::Fused).unwrap();
        assert_eq!(
            names(&mut fused.loosened()),
            [
                "bf16",
                "bf16+slots-in-element+fused",
                "bf16+absolute-sigmoid+fused",
                "bf16+fused+flush"
            ]
        );
    }

    #[test]
    fn the_loosest_claim_admits_every_other_of_its_preset() {
        let loosest = Precision::BF16.loosest();
        assert_eq!(
            loosest.to_string(),
            "bf16+slots-in-element+sums-in-element+absolute-sigmoid+flush"
        );
        for modifier in Modifier::ALL {
            assert!(loosest.admits(Precision::BF16.with(*modifier).unwrap()), "{modifier}");
        }
    }

    #[test]
    fn a_claim_admits_those_that_it_loosens() {
        let admits = |looser: &str, sharper: &str| -> bool {
            let precision = |text: &str| text.parse::<Precision>().unwrap();
            precision(looser).admits(precision(sharper))
        };
        assert!(admits("bf16", "bf16+fused") && !admits("bf16+fused", "bf16"));
        assert!(admits("bf16+flush", "bf16") && !admits("bf16", "bf16+flush"));
        assert!(admits("bf16+sums-in-element", "bf16+partials-in-element"));
        assert!(admits("tf32+flush", "fp32+flush") && !admits("tf32", "fp32+flush"));
        assert!(!admits("bf16", "f16") && !admits("f16", "bf16"));
    }
}
