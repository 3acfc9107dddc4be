//! The names of what a case can be made of.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// How sizes are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SizeProfile {
    /// Every size at most 8.
    Tiny,
    /// Sizes on and around 1, 16, 32, 64, 128 and 256.
    TileEdges,
    /// Up to 150,000 assignments of small experts.
    ManyAssignments,
    /// Up to 1,025 experts, the last of them used.
    ManyExperts,
    /// More rows on one expert than kernels for tensor cores take together, in more than one tile of columns.
    ManyRows,
    /// No token at all.
    NoTokens,
}

/// Which experts the tokens choose.
///
/// Of more than 64 experts the last is always used, except by [`AllToFirst`](RoutingProfile::AllToFirst),
/// [`AllToMiddle`](RoutingProfile::AllToMiddle) and [`EmptyRuns`](RoutingProfile::EmptyRuns).
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoutingProfile {
    /// Any expert, duplicates within a token included.
    Uniform,
    /// Any experts, none twice in one token (where E ≥ K).
    Distinct,
    /// Expert e with a weight of 1 / (e + 1).
    Zipf,
    /// Expert 0 only.
    AllToFirst,
    /// Expert E / 2 only.
    AllToMiddle,
    /// Expert E − 1 only.
    AllToLast,
    /// Runs of experts that no token chooses, the first and the last among them (where E ≥ 5).
    EmptyRuns,
    /// Nearly all on expert 0, one assignment in sixteen elsewhere.
    FirstFull,
    /// Ascending by flat index: already sorted.
    Sorted,
    /// Descending by flat index.
    Reversed,
    /// The first two slots of every token equal (where K ≥ 2).
    TwoEqual,
    /// All slots of a token equal (where K ≥ 2).
    AllEqual,
    /// The first and the last slot equal, the second different (where K ≥ 3 and E ≥ 2).
    ApartEqual,
    /// Expert counts of b − 1, b and b + 1 for a tile size b (where T·K allows).
    TileCounts,
}

/// How the capacity lies to the largest expert count n.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CapacityProfile {
    /// C = 0: everything is dropped.
    CapacityZero,
    /// C = 1.
    CapacityOne,
    /// C = n: the fullest expert is exactly full.
    ExactlyFull,
    /// C = n − 1: the fullest expert is one over.
    OneOver,
    /// C = n / 4: far over.
    FarOver,
    /// C = (T·K·2) / E, the rule of the PyTorch benchmark.
    CapacityRule,
    /// C > T·K.
    CapacityHuge,
}

/// Hidden states, projections and biases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ValueProfile {
    /// Pre-activations of standard deviation about 1.
    Gentle,
    /// Pre-activations far beyond the limit on both sides.
    Clamping,
    /// Large biases, distinct for each expert and channel.
    LargeBias,
    /// x = 0: nothing but biases.
    PureBias,
    /// x tells token and column, the biases tell the expert, and the products copy single values, so that each output
    /// value names its sources.
    Provenance,
    /// Integers from −2 to 2.
    SmallIntegers,
    /// Tokens, columns, single weights or features scaled by powers of two from 2^-60 to 2^60 (2^-5 to 2^5 in f16), and
    /// subnormal values; biases scaled alike, or none.
    WideRange,
    /// Large terms in ± pairs whose sum is a small part of them: of the first product in experts of even number, of the
    /// second in the others.
    Cancelling,
    /// Hidden states near 2^±118 and a first matrix near the inverse (2^±10 in f16), so that the terms of its sums are
    /// neither.
    OppositeScales,
    /// Gates and ups near one power of two from 2^16 to 2^56 (from 2^2 to 2^5 in f16), three in four gates positive, and
    /// a limit that clamps few of them or none.
    HugeGates,
    /// Gates from −12 to −40 (−3 to −6 in f16), so that activations are nearly all far below what the norms of token and
    /// weights let expect; the second biases are of their size or zero.
    LowGates,
    /// Gentle, but that one token in 32 is 2^44 times the others, near 2^64 (2^5 times in f16).
    Outliers,
    /// Hidden states near 2^-81, whose squares leave the range, and a first matrix near 2^55, whose squares do not (2^-12
    /// and 2^6 in f16); the first biases are far below the sums, the second ones of their size or zero.
    LostSquares,
}

/// The dense routing weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WeightProfile {
    /// Positive, summing to one over the experts.
    Normalised,
    /// Positive, of any sum.
    Unnormalised,
    /// Of either sign.
    Negative,
    /// One in two is zero.
    SomeZero,
    /// One expert of each token has all the weight, and it is not 1.
    OneHot,
}

/// A value that a case holds in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SpecialValue {
    /// Not a number.
    Nan,
    /// +∞.
    Inf,
    /// −∞.
    NegativeInf,
    /// Subnormal values.
    Subnormal,
    /// −0.
    NegativeZero,
    /// Close to the largest finite value.
    NearOverflow,
}

/// Where a [`SpecialValue`] stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Place {
    /// The hidden state of one token with a kept assignment.
    Token,
    /// The weights of one expert that is used.
    Expert,
    /// One routing weight that is used.
    Weight,
    /// The hidden state of a token all of whose assignments are dropped.
    DroppedToken,
    /// The weights of an expert that no token chooses.
    UnusedExpert,
}

/// A special value in a place; its name is `value-in-place`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Special {
    /// What.
    pub value: SpecialValue,
    /// Where.
    pub place: Place,
}

/// What the same engine computes just before a case, so that state kept between calls shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum After {
    /// The same case: an engine that claims to be repeatable must give the same bits.
    Same,
    /// The same shape with other values.
    OtherValues,
    /// A larger case.
    Larger,
}

/// An explicit order of the assignments: sorted by expert, with equal experts as an unstable sort may leave them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OrderProfile {
    /// Equal experts in descending flat index.
    TiesReversed,
    /// Equal experts in a random order.
    TiesShuffled,
}

/// Any of the names that `--profile` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Sizes.
    Size(SizeProfile),
    /// Routing.
    Routing(RoutingProfile),
    /// Capacity.
    Capacity(CapacityProfile),
    /// Values.
    Values(ValueProfile),
    /// Routing weights.
    Weights(WeightProfile),
    /// A special value in a place.
    Special(Special),
    /// What came before.
    After(After),
    /// An explicit order.
    Order(OrderProfile),
}

impl Profile {
    /// All profiles, axis by axis.
    pub fn all() -> Vec<Profile> {
        let special = SpecialValue::value_variants().iter().flat_map(|&value| {
            Place::value_variants()
                .iter()
                .map(move |&place| Special { value, place })
        });
        std::iter::empty()
            .chain(SizeProfile::value_variants().iter().copied().map(Profile::Size))
            .chain(RoutingProfile::value_variants().iter().copied().map(Profile::Routing))
            .chain(CapacityProfile::value_variants().iter().copied().map(Profile::Capacity))
            .chain(ValueProfile::value_variants().iter().copied().map(Profile::Values))
            .chain(WeightProfile::value_variants().iter().copied().map(Profile::Weights))
            .chain(special.map(Profile::Special))
            .chain(After::value_variants().iter().copied().map(Profile::After))
            .chain(OrderProfile::value_variants().iter().copied().map(Profile::Order))
            .collect()
    }

    /// The name that `--profile` takes.
    pub fn name(self) -> String {
        match self {
            Profile::Size(profile) => name(&profile),
            Profile::Routing(profile) => name(&profile),
            Profile::Capacity(profile) => name(&profile),
            Profile::Values(profile) => name(&profile),
            Profile::Weights(profile) => name(&profile),
            Profile::Special(special) => String::from(special),
            Profile::After(profile) => format!("after-{}", name(&profile)),
            Profile::Order(profile) => name(&profile),
        }
    }
}

impl std::str::FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Profile, String> {
        Profile::all()
            .into_iter()
            .find(|profile| profile.name() == text)
            .ok_or_else(|| {
                let names: Vec<String> = Profile::all().into_iter().map(Profile::name).collect();
                format!("expected one of {}; found {text}", names.join(", "))
            })
    }
}

impl From<Special> for String {
    fn from(special: Special) -> String {
        format!("{}-in-{}", name(&special.value), name(&special.place))
    }
}

impl TryFrom<String> for Special {
    type Error = String;

    fn try_from(text: String) -> Result<Special, String> {
        let parsed = text.split_once("-in-").and_then(|(value, place)| {
            Some(Special {
                value: SpecialValue::from_str(value, false).ok()?,
                place: Place::from_str(place, false).ok()?,
            })
        });
        parsed.ok_or_else(|| format!("expected a value and a place such as nan-in-token, found {text}"))
    }
}

fn name(value: &impl ValueEnum) -> String {
    value
        .to_possible_value()
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default()
}
