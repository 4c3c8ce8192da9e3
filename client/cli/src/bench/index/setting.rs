//! What a line of figures is about.

/// How wide walks are.
#[derive(Clone, Copy, Debug)]
pub enum Setting {
    /// So many candidates.
    Width(u32),
    /// As many as are expected to find this share of the hits.
    Recall(f32),
}

impl Setting {
    pub fn width(self) -> Option<u32> {
        match self {
            Setting::Width(ef) => Some(ef),
            Setting::Recall(_) => None,
        }
    }

    pub fn recall(self) -> Option<f32> {
        match self {
            Setting::Width(_) => None,
            Setting::Recall(target) => Some(target),
        }
    }
}
