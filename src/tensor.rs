//! Tensors whose element type is known only at run time.

use binned_experts_reference::{Bins, Dims, Element, Problem};
use half::{bf16, f16};
use ndarray::{Array, ArrayD, Dimension};
use serde::{Deserialize, Serialize};

/// The element type of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ElementType {
    /// IEEE binary32.
    F32,
    /// IEEE binary64.
    F64,
    /// bfloat16.
    Bf16,
    /// IEEE binary16.
    F16,
}

impl ElementType {
    /// All element types.
    pub const ALL: [ElementType; 4] = [ElementType::F32, ElementType::F64, ElementType::Bf16, ElementType::F16];

    /// The largest finite value.
    pub fn max(self) -> f64 {
        match self {
            ElementType::F32 => f64::from(f32::MAX),
            ElementType::F64 => f64::MAX,
            ElementType::Bf16 => bf16::MAX.to_f64(),
            ElementType::F16 => f16::MAX.to_f64(),
        }
    }

    /// The smallest positive value that is not subnormal.
    pub fn smallest_normal(self) -> f64 {
        match self {
            ElementType::F32 => f64::from(f32::MIN_POSITIVE),
            ElementType::F64 => f64::MIN_POSITIVE,
            ElementType::Bf16 => bf16::MIN_POSITIVE.to_f64(),
            ElementType::F16 => f16::MIN_POSITIVE.to_f64(),
        }
    }

    /// The smallest positive subnormal value.
    pub fn tiny(self) -> f64 {
        match self {
            ElementType::F32 => f64::from(f32::from_bits(1)),
            ElementType::F64 => f64::from_bits(1),
            ElementType::Bf16 => bf16::from_bits(1).to_f64(),
            ElementType::F16 => f16::from_bits(1).to_f64(),
        }
    }
}

impl std::fmt::Display for ElementType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ElementType::F32 => "f32",
            ElementType::F64 => "f64",
            ElementType::Bf16 => "bf16",
            ElementType::F16 => "f16",
        })
    }
}

/// An [`Element`] that a case can be made of.
pub trait CaseElement: Element {
    /// Its name at run time.
    const TYPE: ElementType;

    /// The exact value.
    fn to_f64(self) -> f64;

    /// Rounds to nearest, through the type that operations compute in.
    fn from_f64(value: f64) -> Self {
        Self::narrow(Self::scalar(value))
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

impl CaseElement for f32 {
    const TYPE: ElementType = ElementType::F32;

    fn to_f64(self) -> f64 {
        f64::from(self)
    }

    fn tensor(array: ArrayD<f32>) -> Tensor {
        Tensor::F32(array)
    }

    fn array(tensor: Tensor) -> Result<ArrayD<f32>, Tensor> {
        if let Tensor::F32(array) = tensor {
            Ok(array)
        } else {
            Err(tensor)
        }
    }

    fn problem(problem: Problem<f32>) -> AnyProblem {
        AnyProblem::F32(problem)
    }
}

impl CaseElement for f64 {
    const TYPE: ElementType = ElementType::F64;

    fn to_f64(self) -> f64 {
        self
    }

    fn tensor(array: ArrayD<f64>) -> Tensor {
        Tensor::F64(array)
    }

    fn array(tensor: Tensor) -> Result<ArrayD<f64>, Tensor> {
        if let Tensor::F64(array) = tensor {
            Ok(array)
        } else {
            Err(tensor)
        }
    }

    fn problem(problem: Problem<f64>) -> AnyProblem {
        AnyProblem::F64(problem)
    }
}

impl CaseElement for bf16 {
    const TYPE: ElementType = ElementType::Bf16;

    fn to_f64(self) -> f64 {
        bf16::to_f64(self)
    }

    fn tensor(array: ArrayD<bf16>) -> Tensor {
        Tensor::Bf16(array)
    }

    fn array(tensor: Tensor) -> Result<ArrayD<bf16>, Tensor> {
        if let Tensor::Bf16(array) = tensor {
            Ok(array)
        } else {
            Err(tensor)
        }
    }

    fn problem(problem: Problem<bf16>) -> AnyProblem {
        AnyProblem::Bf16(problem)
    }
}

impl CaseElement for f16 {
    const TYPE: ElementType = ElementType::F16;

    fn to_f64(self) -> f64 {
        f16::to_f64(self)
    }

    fn tensor(array: ArrayD<f16>) -> Tensor {
        Tensor::F16(array)
    }

    fn array(tensor: Tensor) -> Result<ArrayD<f16>, Tensor> {
        if let Tensor::F16(array) = tensor {
            Ok(array)
        } else {
            Err(tensor)
        }
    }

    fn problem(problem: Problem<f16>) -> AnyProblem {
        AnyProblem::F16(problem)
    }
}

/// A tensor of one of the case's element types, or of indices.
#[derive(Debug, Clone, PartialEq)]
pub enum Tensor {
    /// `f32` values.
    F32(ArrayD<f32>),
    /// `f64` values.
    F64(ArrayD<f64>),
    /// `bf16` values.
    Bf16(ArrayD<bf16>),
    /// `f16` values.
    F16(ArrayD<f16>),
    /// Indices.
    I64(ArrayD<i64>),
}

impl Tensor {
    /// Values rounded to an element type.
    pub fn from_f64(values: ArrayD<f64>, element: ElementType) -> Tensor {
        match element {
            ElementType::F32 => values.mapv(f32::from_f64).into(),
            ElementType::F64 => values.into(),
            ElementType::Bf16 => values.mapv(<bf16 as CaseElement>::from_f64).into(),
            ElementType::F16 => values.mapv(<f16 as CaseElement>::from_f64).into(),
        }
    }

    /// Its sizes.
    pub fn shape(&self) -> &[usize] {
        match self {
            Tensor::F32(array) => array.shape(),
            Tensor::F64(array) => array.shape(),
            Tensor::Bf16(array) => array.shape(),
            Tensor::F16(array) => array.shape(),
            Tensor::I64(array) => array.shape(),
        }
    }

    /// Its element type; none for indices.
    pub fn element(&self) -> Option<ElementType> {
        match self {
            Tensor::F32(_) => Some(ElementType::F32),
            Tensor::F64(_) => Some(ElementType::F64),
            Tensor::Bf16(_) => Some(ElementType::Bf16),
            Tensor::F16(_) => Some(ElementType::F16),
            Tensor::I64(_) => None,
        }
    }

    /// The name of its type, as an error prints it.
    pub fn type_name(&self) -> String {
        self.element()
            .map_or_else(|| "i64".to_owned(), |element| element.to_string())
    }

    /// Its values in row-major order. Exact for every element type, and for indices below 2^53.
    pub fn to_f64(&self) -> Vec<f64> {
        match self {
            Tensor::F32(array) => array.iter().map(|value| value.to_f64()).collect(),
            Tensor::F64(array) => array.iter().copied().collect(),
            Tensor::Bf16(array) => array.iter().map(|value| value.to_f64()).collect(),
            Tensor::F16(array) => array.iter().map(|value| value.to_f64()).collect(),
            Tensor::I64(array) => array.iter().map(|value| *value as f64).collect(),
        }
    }
}

impl<T: CaseElement, D: Dimension> From<Array<T, D>> for Tensor {
    fn from(array: Array<T, D>) -> Tensor {
        T::tensor(array.into_dyn())
    }
}

/// A problem of any element type.
#[derive(Debug, Clone, PartialEq)]
pub enum AnyProblem {
    /// `f32`.
    F32(Problem<f32>),
    /// `f64`.
    F64(Problem<f64>),
    /// `bf16`.
    Bf16(Problem<bf16>),
    /// `f16`.
    F16(Problem<f16>),
}

impl AnyProblem {
    /// The element type.
    pub fn element(&self) -> ElementType {
        match self {
            AnyProblem::F32(_) => ElementType::F32,
            AnyProblem::F64(_) => ElementType::F64,
            AnyProblem::Bf16(_) => ElementType::Bf16,
            AnyProblem::F16(_) => ElementType::F16,
        }
    }

    /// The sizes.
    pub fn dims(&self) -> Dims {
        match self {
            AnyProblem::F32(problem) => problem.dims(),
            AnyProblem::F64(problem) => problem.dims(),
            AnyProblem::Bf16(problem) => problem.dims(),
            AnyProblem::F16(problem) => problem.dims(),
        }
    }

    /// The shape of the output, `[B,S,H]`.
    pub fn output_shape(&self) -> Vec<usize> {
        match self {
            AnyProblem::F32(problem) => problem.hidden_states().shape().to_vec(),
            AnyProblem::F64(problem) => problem.hidden_states().shape().to_vec(),
            AnyProblem::Bf16(problem) => problem.hidden_states().shape().to_vec(),
            AnyProblem::F16(problem) => problem.hidden_states().shape().to_vec(),
        }
    }

    /// The assignments in the order that decides which of them are dropped.
    pub fn bins(&self) -> &Bins {
        match self {
            AnyProblem::F32(problem) => problem.bins(),
            AnyProblem::F64(problem) => problem.bins(),
            AnyProblem::Bf16(problem) => problem.bins(),
            AnyProblem::F16(problem) => problem.bins(),
        }
    }

    /// Whether the assignments stand in another order than the stable one.
    pub fn has_explicit_order(&self) -> bool {
        match self {
            AnyProblem::F32(problem) => problem.explicit_order().is_some(),
            AnyProblem::F64(problem) => problem.explicit_order().is_some(),
            AnyProblem::Bf16(problem) => problem.explicit_order().is_some(),
            AnyProblem::F16(problem) => problem.explicit_order().is_some(),
        }
    }

    /// The same problem with an explicit order of the assignments in place of the stable sort.
    ///
    /// # Errors
    /// An `Order…` variant if `order` is not a permutation of `0..T·K` sorted by expert.
    pub fn with_order(self, order: Vec<usize>) -> Result<AnyProblem, binned_experts_reference::Error> {
        Ok(match self {
            AnyProblem::F32(problem) => AnyProblem::F32(problem.with_order(order)?),
            AnyProblem::F64(problem) => AnyProblem::F64(problem.with_order(order)?),
            AnyProblem::Bf16(problem) => AnyProblem::Bf16(problem.with_order(order)?),
            AnyProblem::F16(problem) => AnyProblem::F16(problem.with_order(order)?),
        })
    }
}
