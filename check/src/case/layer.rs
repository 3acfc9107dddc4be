//! A kind of layer as text.

use std::fmt;

use binned_experts_reference::{
    ActivationKind, GateUpLayout, Layer, ProjectionLayout, RoutingWeightLayout, TensorType, WeightOn,
};
use serde::{Deserialize, Deserializer, Serialize};

use super::by_name;

/// A kind of layer as the table `layer` of a case, an entry of a domain's `layers`, and the metadata `layer` of a file.
/// What is left out is that of gpt-oss. A name of [`LayerSpec::NAMED`] may stand in place of the table.
///
/// ```
/// use binned_experts_check::case::LayerSpec;
///
/// let mixtral: LayerSpec = serde_json::from_str("\"mixtral\"")?;
/// let table = r#"{"activation":"silu","gate_up":"concatenated","bias":false,"projections":"out-in","routing_weights":"by-slot"}"#;
/// assert_eq!(serde_json::to_string(&mixtral)?, table);
/// assert_eq!(serde_json::from_str::<LayerSpec>(table)?, mixtral);
/// assert_eq!(mixtral.to_string(), "mixtral");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LayerSpec {
    /// The activation, whose alpha and limit are those of the case.
    #[serde(with = "by_name", skip_serializing_if = "is_usual")]
    pub activation: ActivationKind,
    /// The columns of the first projection.
    #[serde(with = "by_name", skip_serializing_if = "is_usual")]
    pub gate_up: GateUpLayout,
    /// Whether the projections have biases.
    #[serde(skip_serializing_if = "Clone::clone")]
    pub bias: bool,
    /// How the projections are stored.
    #[serde(with = "by_name", skip_serializing_if = "is_usual")]
    pub projections: ProjectionLayout,
    /// The axes of the routing weights.
    #[serde(with = "by_name", skip_serializing_if = "is_usual")]
    pub routing_weights: RoutingWeightLayout,
    /// What the routing weight is multiplied with.
    #[serde(with = "by_name", skip_serializing_if = "is_usual")]
    pub weight_on: WeightOn,
    /// A factor on the sum over the slots.
    #[serde(skip_serializing_if = "is_one")]
    pub scale: f64,
    /// The type of both biases.
    #[serde(with = "by_name", skip_serializing_if = "is_usual")]
    pub bias_type: TensorType,
    /// The type of the routing weights.
    #[serde(with = "by_name", skip_serializing_if = "is_usual")]
    pub routing_weight_type: TensorType,
    /// The type of the output.
    #[serde(with = "by_name", skip_serializing_if = "is_usual")]
    pub output_type: TensorType,
    /// Experts that every token passes through besides those of its slots. There are none beside blocks.
    #[serde(skip_serializing_if = "is_usual")]
    pub shared_experts: usize,
}

impl LayerSpec {
    /// Layers of published models, as most kernels for them have the tensors.
    pub const NAMED: [(&'static str, LayerSpec); 10] = [
        ("gpt-oss", LayerSpec::GPT_OSS),
        (
            "gpt-oss-mxfp4",
            LayerSpec {
                projections: ProjectionLayout::Mxfp4,
                ..LayerSpec::GPT_OSS
            },
        ),
        (
            "gpt-oss-f32-biases",
            LayerSpec {
                bias_type: TensorType::Wide,
                ..LayerSpec::GPT_OSS
            },
        ),
        ("mixtral", LayerSpec::MIXTRAL),
        (
            "mixtral-f32-weights",
            LayerSpec {
                routing_weight_type: TensorType::Wide,
                ..LayerSpec::MIXTRAL
            },
        ),
        ("deepseek-v3", LayerSpec::scaled(2.5)),
        (
            "deepseek-v3-shared",
            LayerSpec {
                shared_experts: 1,
                ..LayerSpec::scaled(2.5)
            },
        ),
        ("llama4", LayerSpec::LLAMA4),
        (
            "llama4-shared",
            LayerSpec {
                shared_experts: 1,
                ..LayerSpec::LLAMA4
            },
        ),
        (
            "nemotron-h",
            LayerSpec {
                activation: ActivationKind::ReluSquared,
                scale: 2.5,
                ..LayerSpec::MIXTRAL
            },
        ),
    ];

    pub(super) const GPT_OSS: LayerSpec = LayerSpec {
        activation: ActivationKind::ClampedSwiglu,
        gate_up: GateUpLayout::Interleaved,
        bias: true,
        projections: ProjectionLayout::InOut,
        routing_weights: RoutingWeightLayout::ByExpert,
        weight_on: WeightOn::Output,
        scale: 1.0,
        bias_type: TensorType::Element,
        routing_weight_type: TensorType::Element,
        output_type: TensorType::Element,
        shared_experts: 0,
    };

    pub(super) const MIXTRAL: LayerSpec = LayerSpec {
        activation: ActivationKind::Silu,
        gate_up: GateUpLayout::Concatenated,
        bias: false,
        projections: ProjectionLayout::OutIn,
        routing_weights: RoutingWeightLayout::BySlot,
        ..LayerSpec::GPT_OSS
    };

    const LLAMA4: LayerSpec = LayerSpec {
        projections: ProjectionLayout::InOut,
        weight_on: WeightOn::Input,
        ..LayerSpec::MIXTRAL
    };

    /// That of Mixtral with a factor on the sum.
    pub(super) const fn scaled(scale: f64) -> LayerSpec {
        LayerSpec {
            scale,
            ..LayerSpec::MIXTRAL
        }
    }

    /// Whether it is that of gpt-oss.
    pub fn is_default(&self) -> bool {
        *self == LayerSpec::GPT_OSS
    }

    /// Whether its projections are stored in blocks, which have no special values.
    pub(crate) fn has_blocks(&self) -> bool {
        self.projections.block() > 1
    }
}

impl Default for LayerSpec {
    fn default() -> LayerSpec {
        LayerSpec::GPT_OSS
    }
}

impl From<LayerSpec> for Layer {
    fn from(spec: LayerSpec) -> Layer {
        Layer {
            activation: spec.activation,
            gate_up: spec.gate_up,
            has_bias: spec.bias,
            projections: spec.projections,
            routing_weights: spec.routing_weights,
            weight_on: spec.weight_on,
            scale: spec.scale,
            bias_type: spec.bias_type,
            routing_weight_type: spec.routing_weight_type,
            output_type: spec.output_type,
            shared_experts: spec.shared_experts,
        }
    }
}

impl From<Layer> for LayerSpec {
    fn from(layer: Layer) -> LayerSpec {
        LayerSpec {
            activation: layer.activation,
            gate_up: layer.gate_up,
            bias: layer.has_bias,
            projections: layer.projections,
            routing_weights: layer.routing_weights,
            weight_on: layer.weight_on,
            scale: layer.scale,
            bias_type: layer.bias_type,
            routing_weight_type: layer.routing_weight_type,
            output_type: layer.output_type,
            shared_experts: layer.shared_experts,
        }
    }
}

impl fmt::Display for LayerSpec {
    /// Its name, or what is not as in gpt-oss.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((name, _)) = LayerSpec::NAMED.iter().find(|(_, layer)| layer == self) {
            return f.write_str(name);
        }
        let usual = LayerSpec::default();
        let parts = [
            (self.activation != usual.activation).then(|| self.activation.to_string()),
            (self.gate_up != usual.gate_up).then(|| format!("{} gate and up", self.gate_up)),
            (!self.bias).then(|| "no biases".to_owned()),
            (self.projections != usual.projections).then(|| format!("{} projections", self.projections)),
            (self.routing_weights != usual.routing_weights).then(|| format!("{} weights", self.routing_weights)),
            (self.weight_on != usual.weight_on).then(|| format!("weight on {}", self.weight_on)),
            (self.scale != usual.scale).then(|| format!("scale {}", self.scale)),
            (self.bias_type != usual.bias_type).then(|| format!("{} biases", self.bias_type)),
            (self.routing_weight_type != usual.routing_weight_type)
                .then(|| format!("{} routing weights", self.routing_weight_type)),
            (self.output_type != usual.output_type).then(|| format!("{} output", self.output_type)),
            (self.shared_experts > 0).then(|| format!("{} shared", self.shared_experts)),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        f.write_str(&parts.join(" + "))
    }
}

/// What is read: a name, or a table whose fields may be left out.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Name(String),
    Table(toml::Table),
}

/// The fields of the table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Fields {
    #[serde(with = "by_name")]
    activation: ActivationKind,
    #[serde(with = "by_name")]
    gate_up: GateUpLayout,
    bias: bool,
    #[serde(with = "by_name")]
    projections: ProjectionLayout,
    #[serde(with = "by_name")]
    routing_weights: RoutingWeightLayout,
    #[serde(with = "by_name")]
    weight_on: WeightOn,
    scale: f64,
    #[serde(with = "by_name")]
    bias_type: TensorType,
    #[serde(with = "by_name")]
    routing_weight_type: TensorType,
    #[serde(with = "by_name")]
    output_type: TensorType,
    shared_experts: usize,
}

impl Default for Fields {
    fn default() -> Fields {
        let LayerSpec {
            activation,
            gate_up,
            bias,
            projections,
            routing_weights,
            weight_on,
            scale,
            bias_type,
            routing_weight_type,
            output_type,
            shared_experts,
        } = LayerSpec::GPT_OSS;
        Fields {
            activation,
            gate_up,
            bias,
            projections,
            routing_weights,
            weight_on,
            scale,
            bias_type,
            routing_weight_type,
            output_type,
            shared_experts,
        }
    }
}

impl<'de> Deserialize<'de> for LayerSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<LayerSpec, D::Error> {
        let wrong = |error: &dyn fmt::Display| serde::de::Error::custom(format!("layer: {error}"));
        match Text::deserialize(deserializer)? {
            Text::Name(name) => {
                let known = LayerSpec::NAMED.iter().find(|(known, _)| *known == name);
                known.map(|(_, layer)| *layer).ok_or_else(|| {
                    let names = LayerSpec::NAMED.map(|(name, _)| name).join(", ");
                    wrong(&format!("expected one of {names}, or a table; found {name}"))
                })
            }
            Text::Table(table) => {
                let fields: Fields = table
                    .try_into()
                    .map_err(|error: toml::de::Error| wrong(&error.message()))?;
                if !fields.scale.is_finite() {
                    return Err(wrong(&format!(
                        "scale: expected a finite number, found {}",
                        fields.scale
                    )));
                }
                if fields.shared_experts > 0 && fields.projections.block() > 1 {
                    return Err(wrong(&format!(
                        "shared_experts: expected 0 where projections are stored in blocks, found {}",
                        fields.shared_experts
                    )));
                }
                Ok(LayerSpec {
                    activation: fields.activation,
                    gate_up: fields.gate_up,
                    bias: fields.bias,
                    projections: fields.projections,
                    routing_weights: fields.routing_weights,
                    weight_on: fields.weight_on,
                    scale: fields.scale,
                    bias_type: fields.bias_type,
                    routing_weight_type: fields.routing_weight_type,
                    output_type: fields.output_type,
                    shared_experts: fields.shared_experts,
                })
            }
        }
    }
}

fn is_usual<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn is_one(scale: &f64) -> bool {
    *scale == 1.0
}
