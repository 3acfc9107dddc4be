//! Published models, by the sizes of their layers of experts.

use super::LayerSpec;

/// The layer of experts of a published model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Model {
    /// Its name.
    pub name: &'static str,
    /// H.
    pub hidden: usize,
    /// I of one expert.
    pub intermediate: usize,
    /// E, without shared experts.
    pub experts: usize,
    /// K.
    pub top_k: usize,
    /// The kind of layer.
    pub layer: LayerSpec,
}

impl Model {
    pub(crate) const MIXTRAL_8X7B: Model = Model::new("mixtral-8x7b", [4096, 14336, 8, 2], LayerSpec::MIXTRAL);
    pub(crate) const DBRX: Model = Model::new("dbrx", [6144, 10752, 16, 4], LayerSpec::MIXTRAL);
    pub(crate) const GPT_OSS_20B: Model = Model::new("gpt-oss-20b", [2880, 2880, 32, 4], LayerSpec::GPT_OSS);
    pub(crate) const GRANITE_3B: Model = Model::new("granite-3.1-3b-a800m", [1536, 512, 40, 8], LayerSpec::MIXTRAL);
    pub(crate) const QWEN_1_5: Model = Model::new("qwen1.5-moe-a2.7b", [2048, 1408, 60, 4], LayerSpec::MIXTRAL);
    pub(crate) const DEEPSEEK_V2_LITE: Model = Model::new("deepseek-v2-lite", [2048, 1408, 64, 6], LayerSpec::MIXTRAL);
    pub(crate) const OLMOE: Model = Model::new("olmoe-1b-7b", [2048, 1024, 64, 8], LayerSpec::MIXTRAL);
    pub(crate) const GPT_OSS_120B: Model = Model::new("gpt-oss-120b", [2880, 2880, 128, 4], LayerSpec::GPT_OSS);
    pub(crate) const QWEN3_30B: Model = Model::new("qwen3-30b-a3b", [2048, 768, 128, 8], LayerSpec::MIXTRAL);
    pub(crate) const DEEPSEEK_V2: Model = Model::new("deepseek-v2", [5120, 1536, 160, 6], LayerSpec::scaled(16.0));
    pub(crate) const DEEPSEEK_V3: Model = Model::new("deepseek-v3", [7168, 2048, 256, 8], LayerSpec::scaled(2.5));
    pub(crate) const KIMI_K2: Model = Model::new("kimi-k2", [7168, 2048, 384, 8], LayerSpec::scaled(2.827));
    pub(crate) const QWEN3_NEXT: Model = Model::new("qwen3-next-80b-a3b", [2048, 512, 512, 10], LayerSpec::MIXTRAL);

    /// Those whose names are known, by the number of experts.
    pub const ALL: [Model; 13] = [
        Model::MIXTRAL_8X7B,
        Model::DBRX,
        Model::GPT_OSS_20B,
        Model::GRANITE_3B,
        Model::QWEN_1_5,
        Model::DEEPSEEK_V2_LITE,
        Model::OLMOE,
        Model::GPT_OSS_120B,
        Model::QWEN3_30B,
        Model::DEEPSEEK_V2,
        Model::DEEPSEEK_V3,
        Model::KIMI_K2,
        Model::QWEN3_NEXT,
    ];

    const fn new(name: &'static str, [hidden, intermediate, experts, top_k]: [usize; 4], layer: LayerSpec) -> Model {
        Model {
            name,
            hidden,
            intermediate,
            experts,
            top_k,
            layer,
        }
    }

    /// E and K.
    pub(crate) const fn experts_and_slots(self) -> (usize, usize) {
        (self.experts, self.top_k)
    }
}

impl std::str::FromStr for Model {
    type Err = String;

    fn from_str(name: &str) -> Result<Model, String> {
        let known = Model::ALL.into_iter().find(|model| model.name == name);
        known.ok_or_else(|| {
            let names = Model::ALL.map(|model| model.name).join(", ");
            format!("expected one of {names}; found {name}")
        })
    }
}
