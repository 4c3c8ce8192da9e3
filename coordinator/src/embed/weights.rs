//! How are numbers read out of the model file, and what is each checked for?
//!
//! The file is safetensors; a matrix lies there as signed bytes (`NAME`, rows x columns) with one f32 scale a row
//! (`NAME.scale`): weight = byte x scale, so the file is a quarter of its f32 size and cosine stays above 0.999.
//! candle has no signed-byte type, hence the views of the `safetensors` crate. Matrices that are multiplied become
//! f32 once; tables that are looked up stay bytes in the binary, and a row is widened when a token asks for it.
//! Every name, type and shape is checked here, so that the model trusts what it holds.

use safetensors::{Dtype, SafeTensors};

use super::EmbedError;

/// The tensors of a model file that lives as long as the program.
pub(super) struct Weights {
    file: SafeTensors<'static>,
}

/// Rows of signed bytes with a scale each: rows x columns, looked up by row.
pub(super) struct Table {
    codes: &'static [u8],
    scales: Vec<f32>,
    columns: usize,
}

impl Weights {
    /// Reads the header of `bytes`; the tensors are read when they are asked for.
    pub fn open(bytes: &'static [u8]) -> Result<Self, EmbedError> {
        let file = SafeTensors::deserialize(bytes).map_err(|error| EmbedError::Model(error.to_string()))?;
        Ok(Self { file })
    }

    /// An f32 tensor of `shape`, flattened row-major.
    pub fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, EmbedError> {
        let bytes = self.bytes(name, Dtype::F32, shape)?;
        let (floats, _) = bytes.as_chunks::<4>();
        Ok(floats.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }

    /// A table of `rows` x `columns` bytes and its `rows` scales.
    pub fn table(&self, name: &str, rows: usize, columns: usize) -> Result<Table, EmbedError> {
        let codes = self.bytes(name, Dtype::I8, &[rows, columns])?;
        let scales = self.floats(&format!("{name}.scale"), &[rows])?;
        Ok(Table { codes, scales, columns })
    }

    fn bytes(&self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<&'static [u8], EmbedError> {
        let view = self
            .file
            .tensor(name)
            .map_err(|error| EmbedError::Model(error.to_string()))?;
        if view.dtype() != dtype || view.shape() != shape {
            let (has, is) = (view.dtype(), view.shape());
            return Err(EmbedError::Model(format!(
                "tensor {name} is {has:?} {is:?}, expected {dtype:?} {shape:?}"
            )));
        }
        Ok(view.data())
    }
}

impl Table {
    /// Adds row `row` to `out` (`columns` values).
    pub fn add_row(&self, row: usize, out: &mut [f32]) {
        let scale = self.scales[row];
        let codes = &self.codes[row * self.columns..][..self.columns];
        for (value, code) in out.iter_mut().zip(codes) {
            *value += f32::from(code.cast_signed()) * scale;
        }
    }

    /// All rows as f32: rows x columns, row-major.
    pub fn to_floats(&self) -> Vec<f32> {
        let mut floats = vec![0.0; self.codes.len()];
        for (row, out) in floats.chunks_exact_mut(self.columns).enumerate() {
            self.add_row(row, out);
        }
        floats
    }
}
