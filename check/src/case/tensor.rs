//! Element types, and tensors and problems whose element type is known only at run time.
//!
//! An element type is one line of `element_types!` below; everything else follows from it.

use std::any::Any;
use std::sync::Arc;

use binned_experts_reference::{
    Activation, Bins, Dims, Element, Error, ExpertWeights, Layer, Problem, TensorType, Views,
};
use ndarray::{Array, Array3, ArrayD, Dimension, NdFloat};
use safetensors::Dtype;

use super::named_enum;

/// Declares the element types. Each line is all that the crate knows of one.
macro_rules! element_types {
    ($d:tt $($(#[doc = $about:literal])+ $variant:ident = $name:literal, $type:ty, $dtype:ident;)+) => {
        named_enum! {
            /// The element type of a case.
            pub enum ElementType {
                $($(#[doc = $about])+ $variant = $name,)+
            }
        }

        impl ElementType {
            /// The largest finite value.
            pub fn max(self) -> f64 {
                match self {
                    $(ElementType::$variant => <$type>::MAX.into(),)+
                }
            }

            /// The smallest positive value that is not subnormal.
            pub fn smallest_normal(self) -> f64 {
                match self {
                    $(ElementType::$variant => <$type>::MIN_POSITIVE.into(),)+
                }
            }

            /// The smallest positive subnormal value.
            pub fn tiny(self) -> f64 {
                match self {
                    $(ElementType::$variant => <$type>::from_bits(1).into(),)+
                }
            }
        }

        /// A tensor of one of the case's element types, of indices, or of bytes.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Tensor {
            $($(#[doc = $about])+ $variant(ArrayD<$type>),)+
            /// Indices.
            I64(ArrayD<i64>),
            /// Codes and scales of values that are stored in blocks.
            U8(ArrayD<u8>),
        }

        impl Tensor {
            /// Its element type; none for indices and bytes.
            pub fn element(&self) -> Option<ElementType> {
                match self {
                    $(Tensor::$variant(_) => Some(ElementType::$variant),)+
                    Tensor::I64(_) | Tensor::U8(_) => None,
                }
            }

            /// The name of its type, as an error prints it.
            pub fn type_name(&self) -> String {
                let name = match self {
                    $(Tensor::$variant(_) => $name,)+
                    Tensor::I64(_) => "i64",
                    Tensor::U8(_) => "u8",
                };
                name.to_owned()
            }

            /// The name of its type in a safetensors file.
            pub(crate) fn dtype(&self) -> Dtype {
                match self {
                    $(Tensor::$variant(_) => Dtype::$dtype,)+
                    Tensor::I64(_) => Dtype::I64,
                    Tensor::U8(_) => Dtype::U8,
                }
            }
        }

        /// A problem of any element type.
        #[derive(Debug, Clone, PartialEq)]
        pub enum AnyProblem {
            $($(#[doc = $about])+ $variant(Problem<$type>),)+
        }

        impl AnyProblem {
            /// The element type.
            pub fn element(&self) -> ElementType {
                match self {
                    $(AnyProblem::$variant(_) => ElementType::$variant,)+
                }
            }
        }

        $(impl CaseElement for $type {
            type WideElement = <$type as Element>::Wide;
            const TYPE: ElementType = ElementType::$variant;
            const DTYPE: Dtype = Dtype::$dtype;

            fn tensor(array: ArrayD<$type>) -> Tensor {
                Tensor::$variant(array)
            }

            fn array(tensor: Tensor) -> Result<ArrayD<$type>, Tensor> {
                if let Tensor::$variant(array) = tensor {
                    Ok(array)
                } else {
                    Err(tensor)
                }
            }

            fn problem(problem: Problem<$type>) -> AnyProblem {
                AnyProblem::$variant(problem)
            }
        })+

        /// `body` with `T` standing for an element type's Rust type.
        macro_rules! with_element {
            ($d element:expr, $d name:ident => $d body:expr) => {
                match $d element {
                    $($crate::case::ElementType::$variant => {
                        type $d name = $type;
                        $d body
                    })+
                }
            };
        }

        /// `body` with the typed problem.
        macro_rules! with_problem {
            ($d problem:expr, $d name:ident => $d body:expr) => {
                match $d problem {
                    $($crate::case::AnyProblem::$variant($d name) => $d body,)+
                }
            };
        }

        /// `body` with the typed array, or `of_integers` with that of indices or bytes.
        macro_rules! with_tensor {
            ($d tensor:expr, $d name:ident => $d body:expr, $d integers:ident => $d of_integers:expr) => {
                match $d tensor {
                    $($crate::case::Tensor::$variant($d name) => $d body,)+
                    $crate::case::Tensor::I64($d integers) => $d of_integers,
                    $crate::case::Tensor::U8($d integers) => $d of_integers,
                }
            };
        }
    };
}

element_types! { $
    /// IEEE binary32.
    F32 = "f32", f32, F32;
    /// IEEE binary64.
    F64 = "f64", f64, F64;
    /// bfloat16.
    Bf16 = "bf16", half::bf16, BF16;
    /// IEEE binary16.
    F16 = "f16", half::f16, F16;
}

/// An [`Element`] that a case can be made of.
pub trait CaseElement: Element<Wide = <Self as CaseElement>::WideElement> + Into<f64> + bytemuck::Pod {
    /// The type that operations compute in, which is one too.
    type WideElement: CaseElement<WideElement = <Self as CaseElement>::WideElement> + NdFloat;

    /// Its name at run time.
    const TYPE: ElementType;

    /// Its name in a safetensors file.
    const DTYPE: Dtype;

    /// The exact value.
    fn to_f64(self) -> f64 {
        self.into()
    }

    /// Rounds to nearest, through the type that operations compute in.
    fn from_f64(value: f64) -> Self {
        Self::narrow(Self::scalar(value))
    }

    /// A value rounded to a type that a tensor of a case may have.
    fn rounded(value: f64, tensor_type: TensorType) -> Self::Wide {
        match tensor_type {
            TensorType::Element => Self::from_f64(value).widen(),
            TensorType::Wide => Self::Wide::from_f64(value),
        }
    }

    /// A tensor of such a type, of values that are held wide.
    fn narrowed<D: Dimension>(wide: Array<Self::Wide, D>, tensor_type: TensorType) -> Tensor {
        match tensor_type {
            TensorType::Element => wide.mapv(Self::narrow).into(),
            TensorType::Wide => wide.into(),
        }
    }

    /// Forgets the element type of a tensor.
    fn tensor(array: ArrayD<Self>) -> Tensor;

    /// The array of a tensor of this type; the tensor itself where it is of another type.
    ///
    /// # Errors
    /// The tensor.
    fn array(tensor: Tensor) -> Result<ArrayD<Self>, Tensor>;

    /// Forgets the element type of a problem.
    fn problem(problem: Problem<Self>) -> AnyProblem;
}

impl ElementType {
    /// The type of a tensor of a case of this element type.
    pub fn of_tensor(self, tensor_type: TensorType) -> ElementType {
        match tensor_type {
            TensorType::Element => self,
            TensorType::Wide => with_element!(self, T => <T as Element>::Wide::TYPE),
        }
    }
}

impl<T: CaseElement, D: Dimension> From<Array<T, D>> for Tensor {
    fn from(array: Array<T, D>) -> Tensor {
        T::tensor(array.into_dyn())
    }
}

impl Tensor {
    /// Values rounded to an element type.
    pub fn from_f64(values: ArrayD<f64>, element: ElementType) -> Tensor {
        with_element!(element, T => values.mapv(<T as CaseElement>::from_f64).into())
    }

    /// Positions as an index tensor `[n]`.
    pub fn indices(positions: &[usize]) -> Tensor {
        let indices: Vec<i64> = positions.iter().map(|position| *position as i64).collect();
        Tensor::I64(Array::from(indices).into_dyn())
    }

    /// Its values in row-major order. Exact for every element type, for bytes, and for indices below 2^53.
    pub fn to_f64(&self) -> Vec<f64> {
        with_tensor!(self, array => array.iter().map(|value| CaseElement::to_f64(*value)).collect(), integers => {
            integers.iter().map(|value| *value as f64).collect()
        })
    }

    /// Its sizes.
    pub fn shape(&self) -> &[usize] {
        with_tensor!(self, array => array.shape(), integers => integers.shape())
    }
}

impl AnyProblem {
    /// The sizes.
    pub fn dims(&self) -> Dims {
        with_problem!(self, problem => problem.dims())
    }

    /// The kind of layer.
    pub fn layer(&self) -> &Layer {
        with_problem!(self, problem => problem.layer())
    }

    /// The id of the first local expert, where there are others.
    pub fn first_expert(&self) -> Option<usize> {
        with_problem!(self, problem => problem.first_expert())
    }

    /// The type of the output.
    pub fn output_type(&self) -> ElementType {
        self.element().of_tensor(self.layer().output_type)
    }

    /// The shape of the output, `[B,S,H]`.
    pub fn output_shape(&self) -> Vec<usize> {
        with_problem!(self, problem => problem.hidden_states().shape().to_vec())
    }

    /// The parameters of the activation.
    pub fn activation(&self) -> Activation {
        with_problem!(self, problem => problem.activation())
    }

    /// The local expert of each assignment, `[T·K]`; none for an id of an expert that is not local.
    pub fn expert_of(&self) -> &[Option<usize>] {
        with_problem!(self, problem => problem.expert_of())
    }

    /// The views that its tensors are handed over as.
    pub fn views(&self) -> &Views {
        with_problem!(self, problem => problem.views())
    }

    /// Whether no input is NaN or infinite.
    pub fn is_finite(&self) -> bool {
        with_problem!(self, problem => has_finite_inputs(problem))
    }

    /// The experts' weights, to tell whether two problems share them.
    pub(crate) fn weights(&self) -> Arc<dyn Any + Send + Sync> {
        with_problem!(self, problem => problem.weights().clone())
    }

    /// The assignments in the order that decides which of them are dropped.
    pub fn bins(&self) -> &Bins {
        with_problem!(self, problem => problem.bins())
    }

    /// Whether the order of the assignments is another than the stable one.
    pub fn has_explicit_order(&self) -> bool {
        with_problem!(self, problem => problem.explicit_order().is_some())
    }

    /// Replaces the stable sort by an explicit order of the assignments.
    ///
    /// # Errors
    /// An `Order…` variant if `order` is not a permutation of the assignments to local experts sorted by expert.
    pub fn with_order(self, order: Vec<usize>) -> Result<AnyProblem, Error> {
        with_problem!(self, problem => problem.with_order(order).map(CaseElement::problem))
    }
}

fn has_finite_inputs<T: CaseElement>(problem: &Problem<T>) -> bool {
    let is_finite = |value: &T::Wide| CaseElement::to_f64(*value).is_finite();
    let is_plain = |array: &Array3<T>| array.iter().all(|value| value.to_f64().is_finite());
    let are_plain = |weights: &ExpertWeights<T>| {
        let mut biases = weights.gate_up_proj_bias().iter().chain(weights.down_proj_bias());
        is_plain(weights.gate_up_proj()) && is_plain(weights.down_proj()) && biases.all(is_finite)
    };
    is_plain(problem.hidden_states())
        && problem.routing_weights().iter().all(is_finite)
        && are_plain(problem.weights())
        && problem.weights().shared().is_none_or(are_plain)
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
    fn powers_of_two_are_exact_down_to_the_smallest_value() {
        let mut power = 1.0;
        for exponent in 0..=1074 {
            assert_eq!(power_of_two(-exponent), power, "2^-{exponent}");
            power /= 2.0;
        }
        assert_eq!((power_of_two(1023), power_of_two(1)), (2f64.powi(1023), 2.0));
    }
}
