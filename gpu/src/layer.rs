//! What the kernels take of the layers of different models.

use binned_experts_reference::{Activation, ActivationKind, Element, Problem, TensorType, WeightOn};

use crate::GpuError;

/// The layer of a call: what kernels take besides tensors and sizes.
///
/// ```
/// use binned_experts_gpu::CallLayer;
/// use binned_experts_reference::ActivationKind;
///
/// // Mixtral, and the experts of the second of four ranks that have 16 each.
/// let layer = CallLayer {
///     kind: ActivationKind::Silu,
///     first_expert: 16,
///     ..CallLayer::GPT_OSS
/// };
/// # assert_eq!(layer.scale, 1.0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CallLayer {
    /// The activation: clamped SwiGLU, SiLU or clamped SiLU.
    pub kind: ActivationKind,
    /// alpha and limit, where the activation has them.
    pub activation: Activation,
    /// The factor on the sum over the slots.
    pub scale: f64,
    /// The id of the first of the E experts. A slot with an id of none of them adds nothing and takes no room.
    pub first_expert: usize,
}

/// The activation as the kernels compute it: (up + up_offset) · gate · sigmoid(alpha · gate), gate ≤ limit and up in
/// ±limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Swiglu {
    pub(crate) alpha: f64,
    pub(crate) limit: f64,
    pub(crate) up_offset: f64,
}

impl CallLayer {
    /// That of gpt-oss, with ids from 0 on.
    pub const GPT_OSS: CallLayer = CallLayer {
        kind: ActivationKind::ClampedSwiglu,
        activation: Activation::GPT_OSS,
        scale: 1.0,
        first_expert: 0,
    };

    /// The activations that the kernels compute.
    pub const ACTIVATIONS: [ActivationKind; 3] = [
        ActivationKind::ClampedSwiglu,
        ActivationKind::Silu,
        ActivationKind::ClampedSilu,
    ];

    /// That of a problem, whose tensors have one layout whatever its layer.
    pub(crate) fn of<T: Element>(problem: &Problem<T>) -> Result<CallLayer, GpuError> {
        let layer = problem.layer();
        let types = [layer.bias_type, layer.routing_weight_type, layer.output_type];
        if types.contains(&TensorType::Wide) {
            return Err(GpuError::Layer {
                expected: "biases, routing weights and output of the element type",
                found: "one of them wide".to_owned(),
            });
        }
        if layer.shared_experts > 0 {
            return Err(GpuError::Layer {
                expected: "no shared experts",
                found: layer.shared_experts.to_string(),
            });
        }
        match layer.weight_on {
            WeightOn::Output => Ok(CallLayer {
                kind: layer.activation,
                activation: problem.activation(),
                scale: layer.scale,
                first_expert: problem.first_expert().unwrap_or(0),
            }),
            WeightOn::Input => Err(GpuError::Layer {
                expected: "the routing weight on what comes out of an expert",
                found: "it on what goes in".to_owned(),
            }),
        }
    }

    /// Its activation, of those that the kernels compute.
    pub(crate) fn swiglu(&self) -> Result<Swiglu, GpuError> {
        let Activation { alpha, limit } = self.activation;
        match self.kind {
            ActivationKind::ClampedSwiglu => Ok(Swiglu {
                alpha,
                limit,
                up_offset: 1.0,
            }),
            ActivationKind::ClampedSilu => Ok(Swiglu {
                alpha: 1.0,
                limit,
                up_offset: 0.0,
            }),
            ActivationKind::Silu => Ok(Swiglu {
                alpha: 1.0,
                limit: f64::INFINITY,
                up_offset: 0.0,
            }),
            _ => Err(GpuError::Layer {
                expected: "the activation clamped-swiglu, silu or clamped-silu",
                found: self.kind.to_string(),
            }),
        }
    }
}

impl Default for CallLayer {
    fn default() -> CallLayer {
        CallLayer::GPT_OSS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use binned_experts_reference::{ExpertWeights, Layer};
    use half::bf16;
    use ndarray::{Array2, Array3, array};

    #[test]
    fn a_layer_with_a_wide_tensor_is_refused() {
        let weights = ExpertWeights::new(
            Array3::from_elem((1, 1, 2), bf16::ZERO),
            Array2::zeros((1, 2)),
            Array3::from_elem((1, 1, 1), bf16::ZERO),
            Array2::zeros((1, 1)),
        );
        let (x, weight) = (Array3::from_elem((1, 1, 1), bf16::ONE), Array3::ones((1, 1, 1)));
        let problem = Problem::new(x, array![[0]], weight, weights.unwrap(), 1).unwrap();
        assert_eq!(CallLayer::of(&problem).unwrap(), CallLayer::GPT_OSS);
        let wide: [fn(&mut Layer); 3] = [
            |layer| layer.bias_type = TensorType::Wide,
            |layer| layer.routing_weight_type = TensorType::Wide,
            |layer| layer.output_type = TensorType::Wide,
        ];
        for widen in wide {
            let mut layer = Layer::GPT_OSS;
            widen(&mut layer);
            let error = CallLayer::of(&problem.clone().with_layer(layer).unwrap()).unwrap_err();
            let text = "layer: expected biases, routing weights and output of the element type, found one of them wide";
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn a_layer_with_shared_experts_is_refused() {
        let weights = || {
            ExpertWeights::new(
                Array3::<f32>::zeros((1, 1, 2)),
                Array2::zeros((1, 2)),
                Array3::zeros((1, 1, 1)),
                Array2::zeros((1, 1)),
            )
            .unwrap()
        };
        let shared = weights().with_shared(weights()).unwrap();
        let (x, weight) = (Array3::zeros((1, 1, 1)), Array3::ones((1, 1, 1)));
        let problem = Problem::new(x, array![[0]], weight, shared, 1).unwrap();
        let error = CallLayer::of(&problem).unwrap_err();
        assert_eq!(error.to_string(), "layer: expected no shared experts, found 1");
    }

    #[test]
    fn the_activations_are_those_that_the_kernels_compute() {
        for &kind in ActivationKind::ALL {
            let layer = CallLayer {
                kind,
                ..CallLayer::GPT_OSS
            };
            assert_eq!(layer.swiglu().is_ok(), CallLayer::ACTIVATIONS.contains(&kind), "{kind}");
        }
    }
}
