//! The profiles that a case is made of, by name.

use serde::{Deserialize, Serialize};

use super::{Named, named_enum};

named_enum! {
    /// How sizes are drawn.
    pub enum SizeProfile {
        /// Every size at most 8.
        Tiny = "tiny",
        /// Sizes on and around 1, 16, 32, 64, 128 and 256.
        TileEdges = "tile-edges",
        /// Up to 150,000 assignments of small experts.
        ManyAssignments = "many-assignments",
        /// Up to 1,025 experts, the last of them used.
        ManyExperts = "many-experts",
        /// More than eight panels of 128 rows on one expert, in more than one tile of columns.
        ManyRows = "many-rows",
        /// One of H and I from 640 to 8,193, the other at most 8. Up to 1,024 tokens.
        Long = "long",
        /// H and I from 258 to 1,024, and more than one panel of 128 rows on an expert.
        Medium = "medium",
        /// No token at all.
        NoTokens = "no-tokens",
    }
}

named_enum! {
    /// Which experts the tokens choose.
    ///
    /// With more than 64 experts the last one is always used, except by [`AllToFirst`](RoutingProfile::AllToFirst),
    /// [`AllToMiddle`](RoutingProfile::AllToMiddle) and [`EmptyRuns`](RoutingProfile::EmptyRuns).
    pub enum RoutingProfile {
        /// Any expert, duplicates within a token included.
        Uniform = "uniform",
        /// Any experts, none twice in one token (where E ≥ K).
        Distinct = "distinct",
        /// Expert e with a weight of 1 / (e + 1).
        Zipf = "zipf",
        /// Expert 0 only.
        AllToFirst = "all-to-first",
        /// Expert E / 2 only.
        AllToMiddle = "all-to-middle",
        /// Expert E − 1 only.
        AllToLast = "all-to-last",
        /// Runs of experts that no token chooses, the first and the last among them (where E ≥ 5).
        EmptyRuns = "empty-runs",
        /// Nearly all on expert 0, one assignment in sixteen elsewhere.
        FirstFull = "first-full",
        /// Ascending by flat index: already sorted.
        Sorted = "sorted",
        /// Descending by flat index.
        Reversed = "reversed",
        /// The first two slots of every token equal (where K ≥ 2).
        TwoEqual = "two-equal",
        /// All slots of a token equal (where K ≥ 2).
        AllEqual = "all-equal",
        /// The first and the last slot equal, the second different (where K ≥ 3 and E ≥ 2).
        ApartEqual = "apart-equal",
        /// Expert counts of b − 1, b and b + 1 for a tile size b (where T·K allows).
        TileCounts = "tile-counts",
    }
}

named_enum! {
    /// The capacity, relative to the largest expert count n.
    pub enum CapacityProfile {
        /// C = 0: everything is dropped.
        CapacityZero = "capacity-zero",
        /// C = 1.
        CapacityOne = "capacity-one",
        /// C = n: the fullest expert is exactly full.
        ExactlyFull = "exactly-full",
        /// C = n − 1: the fullest expert is one over.
        OneOver = "one-over",
        /// C = n / 4: far over.
        FarOver = "far-over",
        /// C = (T·K·2) / E, as the PyTorch benchmark has it.
        CapacityRule = "capacity-rule",
        /// C > T·K.
        CapacityHuge = "capacity-huge",
    }
}

named_enum! {
    /// Hidden states, projections and biases.
    pub enum ValueProfile {
        /// Pre-activations of standard deviation about 1.
        Gentle = "gentle",
        /// Pre-activations far beyond the limit on both sides.
        Clamping = "clamping",
        /// Large biases, distinct for each expert and channel.
        LargeBias = "large-bias",
        /// x = 0: nothing but biases.
        PureBias = "pure-bias",
        /// x encodes token and column, the biases encode the expert, and the products copy single values. So each
        /// output value names its sources.
        Provenance = "provenance",
        /// Integers from −2 to 2.
        SmallIntegers = "small-integers",
        /// Tokens, columns, single weights or features scaled by powers of two from 2^-60 to 2^60 (2^-5 to 2^5 in f16),
        /// and subnormal values. Biases have the same scale, or are 0.
        WideRange = "wide-range",
        /// Large terms in ± pairs whose sum is small against them: in the first product of even experts, in the second
        /// of odd ones.
        Cancelling = "cancelling",
        /// Hidden states near 2^±118, and a first matrix near the inverse (2^±10 in f16). The terms of their sums are
        /// of ordinary size.
        OppositeScales = "opposite-scales",
        /// Gates and ups near one power of two, from 2^16 to 2^56 (2^2 to 2^5 in f16). Three in four gates are
        /// positive, and the limit clamps few of them or none.
        HugeGates = "huge-gates",
        /// Gates from −12 to −40 (−3 to −6 in f16). Nearly all activations are then far below the bound that the norms
        /// of token and weights give. The second biases are as small as the activations, or zero.
        LowGates = "low-gates",
        /// Gentle, but one token in 32 is 2^44 times as large as the others, near 2^64 (2^5 times in f16).
        Outliers = "outliers",
        /// Hidden states near 2^-81, whose squares underflow, and a first matrix near 2^55, whose squares do not
        /// overflow (2^-12 and 2^6 in f16). The first biases are far below the sums. The second biases are as large as
        /// the sums, or zero.
        LostSquares = "lost-squares",
        /// Every value of every stage is exact in every precision: one product in each sum of the first matrix, gates
        /// of 0 or ups of −1, and second biases of few bits. With the routing weights `powers-of-two`, which it is
        /// drawn with, any order of summation in f32 gives the same bits.
        Exact = "exact",
    }
}

named_enum! {
    /// The dense routing weights.
    pub enum WeightProfile {
        /// Positive, summing to one over the experts.
        Normalised = "normalised",
        /// Positive, of any sum.
        Unnormalised = "unnormalised",
        /// Positive and negative.
        Negative = "negative",
        /// Half of them are zero.
        SomeZero = "some-zero",
        /// One expert of each token has all the weight; its weight is not 1.
        OneHot = "one-hot",
        /// Powers of two of either sign. Those of two slots are up to 2^12 times as large as the others; their sum,
        /// in the scale of each expert, is 0.
        PowersOfTwo = "powers-of-two",
    }
}

named_enum! {
    /// A special value that a case contains in one place.
    pub enum SpecialValue {
        /// Not a number.
        Nan = "nan",
        /// +∞.
        Inf = "inf",
        /// −∞.
        NegativeInf = "negative-inf",
        /// Subnormal values.
        Subnormal = "subnormal",
        /// −0.
        NegativeZero = "negative-zero",
        /// Close to the largest finite value.
        NearOverflow = "near-overflow",
    }
}

named_enum! {
    /// The place of a [`SpecialValue`].
    pub enum Place {
        /// The hidden state of one token with a kept assignment.
        Token = "token",
        /// The weights of one expert that is used.
        Expert = "expert",
        /// One routing weight that is used.
        Weight = "weight",
        /// The hidden state of a token all of whose assignments are dropped.
        DroppedToken = "dropped-token",
        /// The weights of an expert that no token chooses.
        UnusedExpert = "unused-expert",
    }
}

/// A special value in a place; its name is `value-in-place`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Special {
    /// The value.
    pub value: SpecialValue,
    /// The place.
    pub place: Place,
}

named_enum! {
    /// What a [`Special`] value meets in a product or in the sum over the slots. Without it, it meets values of the
    /// case.
    pub enum Against {
        /// The other factor of its product is exactly 0: what it is multiplied with in the first product, an
        /// activation, or the row of an expert.
        Zero = "zero",
        /// Another slot of the same token has the opposite infinity.
        Opposite = "opposite",
    }
}

named_enum! {
    /// Calls that the engine gets just before a case, to leave state behind. Their results are judged too.
    pub enum Warmup {
        /// The same case: an engine that claims to be deterministic must give the same bits.
        Same = "same",
        /// A case of the same shape with other values.
        OtherValues = "other-values",
        /// Three cases of the same shape with other values, one after the other.
        ThreeOthers = "three-others",
        /// A larger case.
        Larger = "larger",
    }
}

named_enum! {
    /// An explicit order of the assignments: sorted by expert, with equal experts in an order that an unstable sort may
    /// give.
    pub enum OrderProfile {
        /// Equal experts in descending flat index.
        TiesReversed = "ties-reversed",
        /// Equal experts in a random order.
        TiesShuffled = "ties-shuffled",
    }
}

named_enum! {
    /// What stands in slots whose expert is not local: that of another rank of an expert-parallel program, or none.
    pub enum ForeignIds {
        /// −1. The local experts are 0 to E − 1.
        MinusOne = "minus-one",
        /// The id of an expert of another rank. Ids count the experts of all ranks.
        OtherRanks = "other-ranks",
    }
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
    /// What the special value meets.
    Against(Against),
    /// A call before the case.
    Warmup(Warmup),
    /// An explicit order.
    Order(OrderProfile),
}

impl Profile {
    /// All profiles, axis by axis.
    pub fn all() -> Vec<Profile> {
        std::iter::empty()
            .chain(SizeProfile::ALL.iter().copied().map(Profile::Size))
            .chain(RoutingProfile::ALL.iter().copied().map(Profile::Routing))
            .chain(CapacityProfile::ALL.iter().copied().map(Profile::Capacity))
            .chain(ValueProfile::ALL.iter().copied().map(Profile::Values))
            .chain(WeightProfile::ALL.iter().copied().map(Profile::Weights))
            .chain(Special::all().into_iter().map(Profile::Special))
            .chain(Against::ALL.iter().copied().map(Profile::Against))
            .chain(Warmup::ALL.iter().copied().map(Profile::Warmup))
            .chain(OrderProfile::ALL.iter().copied().map(Profile::Order))
            .collect()
    }

    /// The name that `--profile` takes.
    pub fn name(self) -> String {
        match self {
            Profile::Size(profile) => profile.to_string(),
            Profile::Routing(profile) => profile.to_string(),
            Profile::Capacity(profile) => profile.to_string(),
            Profile::Values(profile) => profile.to_string(),
            Profile::Weights(profile) => profile.to_string(),
            Profile::Special(special) => String::from(special),
            Profile::Against(profile) => format!("against-{profile}"),
            Profile::Warmup(profile) => format!("warmup-{profile}"),
            Profile::Order(profile) => profile.to_string(),
        }
    }

    /// What it stands for, in one or two sentences.
    pub fn about(self) -> String {
        match self {
            Profile::Size(profile) => profile.about(),
            Profile::Routing(profile) => profile.about(),
            Profile::Capacity(profile) => profile.about(),
            Profile::Values(profile) => profile.about(),
            Profile::Weights(profile) => profile.about(),
            Profile::Special(Special { value, place }) => format!("{} In: {}", value.about(), place.about()),
            Profile::Against(profile) => format!("NaN or an infinity. {}", profile.about()),
            Profile::Warmup(profile) => format!("Just before: {}", profile.about()),
            Profile::Order(profile) => profile.about(),
        }
    }

    /// What it decides about a case.
    pub fn axis(self) -> &'static str {
        match self {
            Profile::Size(_) => "sizes",
            Profile::Routing(_) => "routing",
            Profile::Capacity(_) => "capacity",
            Profile::Values(_) => "values",
            Profile::Weights(_) => "routing weights",
            Profile::Special(_) => "a special value",
            Profile::Against(_) => "what a special value meets",
            Profile::Warmup(_) => "a call before the case",
            Profile::Order(_) => "an explicit order",
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

impl ValueProfile {
    /// Whether the first biases make its gates what its name says, where the hidden states are of ordinary size.
    pub(crate) fn needs_bias(self) -> bool {
        matches!(
            self,
            ValueProfile::LargeBias | ValueProfile::PureBias | ValueProfile::Provenance | ValueProfile::LowGates
        )
    }

    /// Whether its values are so many that the roundings of its cases have nothing to do with each other. They have where
    /// rows are alike, or where few significands occur and the same ones in every case.
    pub(crate) fn is_varied(self) -> bool {
        match self {
            ValueProfile::PureBias
            | ValueProfile::Provenance
            | ValueProfile::SmallIntegers
            | ValueProfile::HugeGates
            | ValueProfile::Exact => false,
            ValueProfile::Gentle
            | ValueProfile::Clamping
            | ValueProfile::LargeBias
            | ValueProfile::WideRange
            | ValueProfile::Cancelling
            | ValueProfile::OppositeScales
            | ValueProfile::LowGates
            | ValueProfile::Outliers
            | ValueProfile::LostSquares => true,
        }
    }
}

impl Special {
    /// Every value in every place.
    pub fn all() -> Vec<Special> {
        let places = |&value: &SpecialValue| Place::ALL.iter().map(move |&place| Special { value, place });
        SpecialValue::ALL.iter().flat_map(places).collect()
    }
}

impl Against {
    /// Whether a special value can meet it in its place. In projections of blocks there is none.
    pub(crate) fn meets(self, special: Special, has_blocks: bool) -> bool {
        let is_infinite = matches!(special.value, SpecialValue::Inf | SpecialValue::NegativeInf);
        match self {
            Against::Zero => {
                (is_infinite || special.value == SpecialValue::Nan)
                    && match special.place {
                        Place::Token | Place::Weight => true,
                        Place::Expert => !has_blocks,
                        Place::DroppedToken | Place::UnusedExpert => false,
                    }
            }
            Against::Opposite => is_infinite && matches!(special.place, Place::Expert | Place::Weight),
        }
    }
}

impl From<Special> for String {
    fn from(special: Special) -> String {
        format!("{}-in-{}", special.value, special.place)
    }
}

impl TryFrom<String> for Special {
    type Error = String;

    fn try_from(text: String) -> Result<Special, String> {
        let parsed = text.split_once("-in-").and_then(|(value, place)| {
            Some(Special {
                value: value.parse().ok()?,
                place: place.parse().ok()?,
            })
        });
        parsed.ok_or_else(|| format!("expected a value and a place such as nan-in-token, found {text}"))
    }
}
