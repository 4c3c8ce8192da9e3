//! How do token ids become a vector?
//!
//! BERT (Devlin et al. 2019) in its small form, MiniLM: a vector a token, layers of attention and of two dense steps,
//! then the mean over a text's tokens, at unit length. The tokens of all texts of a batch are packed into one matrix
//! (tokens x hidden): the dense steps, 97 % of the work, see no padding and need no mask; attention alone goes
//! text by text. Products are candle's (f32); what lies between them is in `kernels`. Evaluation only, CPU only.

use candle_core::{Device, Result, Storage, Tensor};
use serde::Deserialize;

use super::EmbedError;
use super::kernels::{AddBias, AddBiasGelu, AddNormalise, LayerNorm, Softmax, floats};
use super::tokens::MAX_TOKENS;
use super::weights::{Table, Weights};

/// The shape of the network: the fields of `config.json` that it depends on.
#[derive(Clone, Copy, Deserialize)]
struct Shape {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_attention_heads: usize,
    num_hidden_layers: usize,
    max_position_embeddings: usize,
    type_vocab_size: usize,
    layer_norm_eps: f32,
}

/// A loaded network. Immutable: any number of threads may run it.
pub(super) struct Model {
    shape: Shape,
    words: Table,
    /// `MAX_TOKENS` x hidden: where a token stands, and that it belongs to a single text.
    positions: Vec<f32>,
    norm: LayerNorm,
    layers: Vec<Layer>,
}

struct Layer {
    /// hidden x 3 hidden: queries, keys, values. Queries are scaled by 1 / sqrt(head size) here, once.
    attend: Linear,
    project: Linear,
    project_norm: LayerNorm,
    expand: Linear,
    contract: Linear,
    contract_norm: LayerNorm,
}

/// x -> x weights + bias.
struct Linear {
    /// inputs x outputs, row-major: the file's other way round costs five times as much for the few tokens of a
    /// question, because each product would have to turn it again.
    weights: Tensor,
    bias: Vec<f32>,
}

impl Model {
    /// Reads a BERT's `config.json` and `model.safetensors`.
    pub fn open(config: &[u8], weights: &'static [u8]) -> std::result::Result<Self, EmbedError> {
        let shape: Shape = serde_json::from_slice(config).map_err(|error| EmbedError::Model(error.to_string()))?;
        if shape.max_position_embeddings < MAX_TOKENS || !shape.hidden_size.is_multiple_of(shape.num_attention_heads) {
            return Err(EmbedError::Model(
                "config.json describes a network of another shape".into(),
            ));
        }
        let weights = Weights::open(weights)?;
        let hidden = shape.hidden_size;
        let words = weights.table("embeddings.word_embeddings.weight", shape.vocab_size, hidden)?;
        let positions = positions(&weights, shape)?;
        let norm = layer_norm(&weights, "embeddings.LayerNorm", shape)?;
        let layers = (0..shape.num_hidden_layers).map(|layer| Layer::open(&weights, layer, shape));
        Ok(Self {
            shape,
            words,
            positions,
            norm,
            layers: layers.collect::<std::result::Result<_, _>>()?,
        })
    }

    /// Values a vector has.
    pub fn dimension(&self) -> usize {
        self.shape.hidden_size
    }

    /// Ids this network has words for.
    pub fn vocabulary(&self) -> usize {
        self.shape.vocab_size
    }

    /// A unit vector for each text: `texts` are ids as `Tokens::ids` makes them.
    pub fn embed(&self, texts: &[Vec<u32>]) -> Result<Vec<Vec<f32>>> {
        let lengths: Vec<usize> = texts.iter().map(Vec::len).collect();
        let mut x = self.look_up(texts)?;
        for layer in &self.layers {
            x = layer.forward(x, &lengths, self.shape.num_attention_heads)?;
        }
        let (storage, layout) = x.storage_and_layout();
        let mut rows = cpu_floats(&storage, layout)?;
        let mut vectors = Vec::with_capacity(texts.len());
        for length in lengths {
            let (text, rest) = rows.split_at(length * self.shape.hidden_size);
            vectors.push(unit_mean(text, self.shape.hidden_size));
            rows = rest;
        }
        Ok(vectors)
    }

    /// Tokens x hidden: word + position, normalised.
    fn look_up(&self, texts: &[Vec<u32>]) -> Result<Tensor> {
        let hidden = self.shape.hidden_size;
        let tokens = texts.iter().map(Vec::len).sum::<usize>();
        let mut rows = vec![0.0; tokens * hidden];
        let placed = texts
            .iter()
            .flat_map(|ids| ids.iter().zip(self.positions.chunks_exact(hidden)));
        for (row, (id, position)) in rows.chunks_exact_mut(hidden).zip(placed) {
            row.copy_from_slice(position);
            self.words.add_row(*id as usize, row);
            self.norm.apply(row);
        }
        Tensor::from_vec(rows, (tokens, hidden), &Device::Cpu)
    }
}

impl Layer {
    fn open(weights: &Weights, layer: usize, shape: Shape) -> std::result::Result<Self, EmbedError> {
        let (hidden, inner) = (shape.hidden_size, shape.intermediate_size);
        let name = |part: &str| format!("encoder.layer.{layer}.{part}");
        Ok(Self {
            attend: attend(weights, &name("attention.self"), shape)?,
            project: Linear::open(weights, &name("attention.output.dense"), hidden, hidden)?,
            project_norm: layer_norm(weights, &name("attention.output.LayerNorm"), shape)?,
            expand: Linear::open(weights, &name("intermediate.dense"), hidden, inner)?,
            contract: Linear::open(weights, &name("output.dense"), inner, hidden)?,
            contract_norm: layer_norm(weights, &name("output.LayerNorm"), shape)?,
        })
    }

    fn forward(&self, x: Tensor, lengths: &[usize], heads: usize) -> Result<Tensor> {
        let attended = x.matmul(&self.attend.weights)?;
        attended.inplace_op1(&AddBias(&self.attend.bias))?;
        let context = attention(&attended, lengths, heads)?;

        let projected = context.matmul(&self.project.weights)?;
        projected.inplace_op2(
            &x,
            &AddNormalise {
                bias: &self.project.bias,
                norm: &self.project_norm,
            },
        )?;

        let inner = projected.matmul(&self.expand.weights)?;
        inner.inplace_op1(&AddBiasGelu(&self.expand.bias))?;
        let out = inner.matmul(&self.contract.weights)?;
        out.inplace_op2(
            &projected,
            &AddNormalise {
                bias: &self.contract.bias,
                norm: &self.contract_norm,
            },
        )?;
        Ok(out)
    }
}

impl Linear {
    fn open(weights: &Weights, name: &str, inputs: usize, outputs: usize) -> std::result::Result<Self, EmbedError> {
        let rows = weights.table(&format!("{name}.weight"), outputs, inputs)?.to_floats();
        Self::new(rows, weights.floats(&format!("{name}.bias"), &[outputs])?)
    }

    /// `rows`: outputs x inputs, row-major.
    fn new(rows: Vec<f32>, bias: Vec<f32>) -> std::result::Result<Self, EmbedError> {
        let (outputs, inputs) = (bias.len(), rows.len() / bias.len());
        let rows = Tensor::from_vec(rows, (outputs, inputs), &Device::Cpu).and_then(|rows| rows.t()?.contiguous());
        Ok(Self {
            weights: rows.map_err(|error| EmbedError::Model(error.to_string()))?,
            bias,
        })
    }
}

/// The three dense steps before attention as one.
fn attend(weights: &Weights, name: &str, shape: Shape) -> std::result::Result<Linear, EmbedError> {
    let hidden = shape.hidden_size;
    let query_scale = ((hidden / shape.num_attention_heads) as f32).sqrt().recip();
    let (mut rows, mut bias) = (Vec::new(), Vec::new());
    for (part, scale) in [("query", query_scale), ("key", 1.0), ("value", 1.0)] {
        let part_rows = weights
            .table(&format!("{name}.{part}.weight"), hidden, hidden)?
            .to_floats();
        let part_bias = weights.floats(&format!("{name}.{part}.bias"), &[hidden])?;
        rows.extend(part_rows.iter().map(|x| x * scale));
        bias.extend(part_bias.iter().map(|x| x * scale));
    }
    Linear::new(rows, bias)
}

fn layer_norm(weights: &Weights, name: &str, shape: Shape) -> std::result::Result<LayerNorm, EmbedError> {
    let gain = weights.floats(&format!("{name}.weight"), &[shape.hidden_size])?;
    let shift = weights.floats(&format!("{name}.bias"), &[shape.hidden_size])?;
    Ok(LayerNorm {
        gain,
        shift,
        epsilon: shape.layer_norm_eps,
    })
}

fn positions(weights: &Weights, shape: Shape) -> std::result::Result<Vec<f32>, EmbedError> {
    let hidden = shape.hidden_size;
    let types = weights.floats(
        "embeddings.token_type_embeddings.weight",
        &[shape.type_vocab_size, hidden],
    )?;
    let table = weights.table(
        "embeddings.position_embeddings.weight",
        shape.max_position_embeddings,
        hidden,
    )?;
    let mut rows = types[..hidden].repeat(MAX_TOKENS);
    rows.chunks_exact_mut(hidden)
        .enumerate()
        .for_each(|(position, row)| table.add_row(position, row));
    Ok(rows)
}

/// Tokens x 3 hidden (queries, keys, values) in, tokens x hidden out; a token attends to the tokens of its own text.
fn attention(attended: &Tensor, lengths: &[usize], heads: usize) -> Result<Tensor> {
    let (tokens, columns) = attended.dims2()?;
    let hidden = columns / 3;
    let mut context = Vec::with_capacity(tokens * hidden);
    let mut start = 0;
    for &length in lengths {
        // 3 x heads x length x head size: a view, nothing moves.
        let text = attended
            .narrow(0, start, length)?
            .reshape((length, 3, heads, hidden / heads))?;
        let text = text.permute((1, 2, 0, 3))?;
        let (queries, keys, values) = (text.get(0)?, text.get(1)?, text.get(2)?);
        let weights = queries.matmul(&keys.t()?)?;
        weights.inplace_op1(&Softmax)?;
        let mixed = weights.matmul(&values)?;
        let (storage, layout) = mixed.storage_and_layout();
        append_heads(&mut context, cpu_floats(&storage, layout)?, length, hidden / heads);
        start += length;
    }
    Tensor::from_vec(context, (tokens, hidden), &Device::Cpu)
}

/// Appends `mixed` (heads x length x head size) to `context` as length x (heads x head size).
fn append_heads(context: &mut Vec<f32>, mixed: &[f32], length: usize, head_size: usize) {
    for token in 0..length {
        for head in mixed.chunks_exact(length * head_size) {
            context.extend_from_slice(&head[token * head_size..][..head_size]);
        }
    }
}

/// The mean of `rows` (n x hidden), at unit length.
fn unit_mean(rows: &[f32], hidden: usize) -> Vec<f32> {
    let mut mean = vec![0.0; hidden];
    for row in rows.chunks_exact(hidden) {
        mean.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
    }
    let norm = mean.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    mean.iter_mut().for_each(|x| *x /= norm);
    mean
}

fn cpu_floats<'a>(storage: &'a Storage, layout: &candle_core::Layout) -> Result<&'a [f32]> {
    match storage {
        Storage::Cpu(storage) => floats(storage, layout),
        _ => candle_core::bail!("expected a tensor in memory"),
    }
}
