//! What layers of different models have different: the activation, where the routing weight goes, and how tensors are
//! laid out.

use crate::activation::ActivationKind;
use crate::mxfp4::Mxfp4;
use crate::named::named;

named! {
    /// The columns of `gate_up_proj` and of its bias.
    pub enum GateUpLayout, "gate_up" {
        /// Even columns gate, odd columns up.
        #[default]
        Interleaved = "interleaved",
        /// All gates, then all ups.
        Concatenated = "concatenated",
    }
}

named! {
    /// How both projections are stored: their axes after that of the experts, and what an element is.
    pub enum ProjectionLayout, "projections" {
        /// What goes in, then what comes out: `[E,H,2I]` and `[E,I,H]`.
        #[default]
        InOut = "in-out",
        /// What comes out, then what goes in: `[E,2I,H]` and `[E,H,I]`.
        OutIn = "out-in",
        /// As `out-in`, in blocks of 32 values: see [`Mxfp4`].
        Mxfp4 = "mxfp4",
    }
}

impl ProjectionLayout {
    /// H and I are multiples of it.
    pub const fn block(self) -> usize {
        match self {
            ProjectionLayout::InOut | ProjectionLayout::OutIn => 1,
            ProjectionLayout::Mxfp4 => Mxfp4::BLOCK,
        }
    }
}

named! {
    /// The axes of `routing_weights`.
    pub enum RoutingWeightLayout, "routing_weights" {
        /// A weight for each token and expert, `[B,S,E]`.
        #[default]
        ByExpert = "by-expert",
        /// A weight for each token and slot, `[T,K]`.
        BySlot = "by-slot",
    }
}

named! {
    /// What the routing weight is multiplied with.
    pub enum WeightOn, "weight_on" {
        /// The row that comes out of the expert.
        #[default]
        Output = "output",
        /// The row that goes into the expert, before its first product.
        Input = "input",
    }
}

named! {
    /// The type of a tensor that need not be of the element type.
    pub enum TensorType, "the type of a tensor" {
        /// The element type.
        #[default]
        Element = "element",
        /// f32 beside bf16 and f16; beside f32 and f64 the element type too.
        Wide = "wide",
    }
}

/// A kind of layer. The default is that of gpt-oss, the PyTorch function `binned_experts_ref`.
///
/// A [`Problem`](crate::Problem) holds its tensors in one layout, that of the default, and biases and routing weights in one
/// type, the wide one. `gate_up`, `projections`, `routing_weights` and the types say how files and kernels have them;
/// see [`Problem::stored_weights`](crate::Problem::stored_weights) and
/// [`Problem::stored_routing_weights`](crate::Problem::stored_routing_weights).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Layer {
    /// The activation.
    pub activation: ActivationKind,
    /// The columns of the first projection.
    pub gate_up: GateUpLayout,
    /// Whether the projections have biases. Without, those of a [`Problem`](crate::Problem) are 0.
    pub has_bias: bool,
    /// How the projections are stored.
    pub projections: ProjectionLayout,
    /// The axes of the routing weights.
    pub routing_weights: RoutingWeightLayout,
    /// What the routing weight is multiplied with.
    pub weight_on: WeightOn,
    /// A factor on the sum over the slots.
    pub scale: f64,
    /// The type of both biases.
    pub bias_type: TensorType,
    /// The type of the routing weights. A product with a wide one is wide, and so is the sum over the slots before it is
    /// stored; on the input it is rounded to the element type, as an operand.
    pub routing_weight_type: TensorType,
    /// The type of the output.
    pub output_type: TensorType,
    /// Experts that every token passes through besides those of its slots, without a routing weight and whatever the
    /// capacity. Together they are one expert whose intermediate size is so many times I. What comes out of it is
    /// rounded to the element type and added to the sum over the slots, after the factor.
    pub shared_experts: usize,
}

impl Layer {
    /// The layer of gpt-oss.
    pub const GPT_OSS: Layer = Layer {
        activation: ActivationKind::ClampedSwiglu,
        gate_up: GateUpLayout::Interleaved,
        has_bias: true,
        projections: ProjectionLayout::InOut,
        routing_weights: RoutingWeightLayout::ByExpert,
        weight_on: WeightOn::Output,
        scale: 1.0,
        bias_type: TensorType::Element,
        routing_weight_type: TensorType::Element,
        output_type: TensorType::Element,
        shared_experts: 0,
    };

    /// The width of the first product of an intermediate size: 2·I, or I where the activation has no ups.
    pub fn gate_up_width(&self, intermediate: usize) -> usize {
        self.activation.columns() * intermediate
    }

    /// For each column of the first product, as the layer has them, the one that it is in a
    /// [`Problem`](crate::Problem).
    pub fn gate_up_columns(&self, intermediate: usize) -> Vec<usize> {
        let width = self.gate_up_width(intermediate);
        match self.gate_up {
            GateUpLayout::Concatenated if self.activation.has_up() => {
                (0..width).step_by(2).chain((1..width).step_by(2)).collect()
            }
            _ => (0..width).collect(),
        }
    }

    /// For each column of the first product in a [`Problem`](crate::Problem), the one that it is as the layer has them.
    pub fn gate_up_places(&self, intermediate: usize) -> Vec<usize> {
        let columns = self.gate_up_columns(intermediate);
        let mut places = vec![0; columns.len()];
        for (place, &column) in columns.iter().enumerate() {
            places[column] = place;
        }
        places
    }
}

impl Default for Layer {
    fn default() -> Layer {
        Layer::GPT_OSS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concatenated_columns_are_gates_then_ups() {
        let concatenated = Layer {
            gate_up: GateUpLayout::Concatenated,
            ..Layer::GPT_OSS
        };
        assert_eq!(concatenated.gate_up_columns(3), [0, 2, 4, 1, 3, 5]);
        assert_eq!(concatenated.gate_up_places(3), [0, 3, 1, 4, 2, 5]);
        assert_eq!(Layer::GPT_OSS.gate_up_columns(2), [0, 1, 2, 3]);
        let without_up = Layer {
            activation: ActivationKind::ReluSquared,
            ..concatenated
        };
        assert_eq!(without_up.gate_up_columns(3), [0, 1, 2]);
    }

    #[test]
    fn a_name_is_read_as_it_is_printed() {
        for kind in ActivationKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(*kind));
        }
        let error = "halves".parse::<GateUpLayout>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "gate_up: expected one of interleaved, concatenated, found halves"
        );
    }
}
