//! Lines to documents: what does a line say, which vectors belong to it, and why can it not be taken?
//!
//! Row i of a .npy file belongs to the i-th line that is not blank, also where that line can't be taken.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, bail};
use granum_client::{DocId, Document};
use serde_json::{Map, Value};

use crate::npy::{Component, Npy, NpyError, components};

/// Longest line taken; a payload may have 1 MiB.
const LINE_BYTES_MAX: usize = 16 << 20;
/// Bytes of a file read at once.
const BUFFER_BYTES: usize = 256 << 10;

/// Where a document's id comes from.
#[derive(Clone, Debug)]
pub enum IdFrom {
    /// A field of the line.
    Field(String),
    /// The number of the line, from 1.
    Line,
}

/// Texts that become a vector.
#[derive(Clone, Debug)]
pub struct Texts {
    /// Of the vector field.
    pub name: String,
    /// Fields of the line, joined by a space in this order.
    pub fields: Vec<String>,
}

/// Vectors that are given.
pub struct Vectors {
    /// Of the vector field.
    pub name: String,
    /// A row a line.
    pub npy: Npy,
}

/// What a line came to.
pub struct Line {
    /// From 1.
    pub number: u64,
    /// Of the .npy files, from 0.
    pub row: u64,
    /// Length of the line and its vectors.
    pub bytes: usize,
    /// Bytes of the file read so far, as they lie on disk.
    pub file_bytes: u64,
    /// The document, or why there is none.
    pub document: Result<Document, String>,
}

/// A row of a .npy file and the field it is for.
struct Row {
    name: String,
    component: Component,
    bytes: Vec<u8>,
}

/// Reads one line after the other.
pub struct Source {
    input: Box<dyn BufRead + Send>,
    file_bytes: Arc<AtomicU64>,
    id: IdFrom,
    texts: Vec<Texts>,
    vectors: Vec<Vectors>,
    /// Lines read.
    lines: u64,
    /// Lines read that were not blank.
    rows: u64,
}

impl Source {
    /// Opens a file; one that ends in .zst is decompressed on the way.
    pub fn open(path: &Path, id: IdFrom, texts: Vec<Texts>, vectors: Vec<Vectors>) -> anyhow::Result<Source> {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        let compressed = path.extension().is_some_and(|extension| extension == "zst");
        Source::read(file, compressed, id, texts, vectors)
    }

    /// Reads JSON lines from anything.
    pub fn read(
        input: impl Read + Send + 'static,
        compressed: bool,
        id: IdFrom,
        texts: Vec<Texts>,
        vectors: Vec<Vectors>,
    ) -> anyhow::Result<Source> {
        let file_bytes = Arc::new(AtomicU64::new(0));
        let counted = Counted {
            inner: input,
            bytes: file_bytes.clone(),
        };
        let input: Box<dyn BufRead + Send> = match compressed {
            true => Box::new(BufReader::with_capacity(BUFFER_BYTES, zstd::Decoder::new(counted)?)),
            false => Box::new(BufReader::with_capacity(BUFFER_BYTES, counted)),
        };
        Ok(Source {
            input,
            file_bytes,
            id,
            texts,
            vectors,
            lines: 0,
            rows: 0,
        })
    }

    /// Passes over the first `lines`, `rows` of them not blank.
    pub fn skip(&mut self, lines: u64, rows: u64) -> anyhow::Result<()> {
        while self.lines < lines {
            if self.next_text()?.is_none() {
                bail!(
                    "the file has {} lines, and {lines} were in already: is it the same file?",
                    self.lines
                );
            }
        }
        self.rows = rows;
        for vectors in &mut self.vectors {
            vectors.npy.seek(rows)?;
        }
        Ok(())
    }

    /// The next line that is not blank. An error ends the source: it can't be read on.
    pub fn next(&mut self) -> anyhow::Result<Option<Line>> {
        loop {
            let Some(text) = self.next_text()? else {
                self.check_all_rows_used()?;
                return Ok(None);
            };
            if text.as_ref().is_ok_and(|text| text.iter().all(u8::is_ascii_whitespace)) {
                continue;
            }
            let row = self.rows;
            self.rows += 1;
            let mut bytes = text.as_ref().map_or(0, Vec::len);
            // Rows are read for a bad line too, so that the next one gets its own.
            let rows = self.next_rows(row)?;
            let document = text.and_then(|text| {
                let rows = rows?;
                bytes += rows.iter().map(|row| row.bytes.len()).sum::<usize>();
                self.document(&text, rows)
            });
            return Ok(Some(Line {
                number: self.lines,
                row,
                bytes,
                file_bytes: self.file_bytes.load(Ordering::Relaxed),
                document,
            }));
        }
    }

    /// The next line; `Err` inside where it is too long.
    fn next_text(&mut self) -> anyhow::Result<Option<Result<Vec<u8>, String>>> {
        let mut text = Vec::new();
        let line = self.lines + 1;
        let read = (&mut self.input)
            .take(LINE_BYTES_MAX as u64 + 1)
            .read_until(b'\n', &mut text);
        if read.with_context(|| format!("line {line}: cannot read on"))? == 0 {
            return Ok(None);
        }
        self.lines = line;
        if text.len() > LINE_BYTES_MAX && text.last() != Some(&b'\n') {
            self.pass_to_next_line()
                .with_context(|| format!("line {line}: cannot read on"))?;
            return Ok(Some(Err(format!("longer than {LINE_BYTES_MAX} bytes"))));
        }
        Ok(Some(Ok(text)))
    }

    fn pass_to_next_line(&mut self) -> std::io::Result<()> {
        loop {
            let buffered = self.input.fill_buf()?;
            let (used, ended) = match buffered.iter().position(|&byte| byte == b'\n') {
                Some(at) => (at + 1, true),
                None => (buffered.len(), buffered.is_empty()),
            };
            self.input.consume(used);
            if ended {
                return Ok(());
            }
        }
    }

    /// The row of each .npy file; `Err` inside where one is not finite. Rows that run out end the source.
    fn next_rows(&mut self, row: u64) -> anyhow::Result<Result<Vec<Row>, String>> {
        let mut rows = Vec::with_capacity(self.vectors.len());
        let mut bad = None;
        for vectors in &mut self.vectors {
            match vectors.npy.next_row() {
                Ok(Some(bytes)) => rows.push(Row {
                    name: vectors.name.clone(),
                    component: vectors.npy.component(),
                    bytes,
                }),
                Ok(None) => bail!(
                    "line {}: there are only {row} vectors for field {:?}: are lines and vectors of the same data?",
                    self.lines,
                    vectors.name
                ),
                Err(error @ NpyError::Format { .. }) => bad = Some(error.to_string()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(bad.map_or(Ok(rows), Err))
    }

    fn check_all_rows_used(&self) -> anyhow::Result<()> {
        for vectors in &self.vectors {
            let (lines, rows) = (self.rows, vectors.npy.rows());
            if lines != rows {
                bail!(
                    "{lines} lines, but {rows} vectors for field {:?}: are they of the same data?",
                    vectors.name
                );
            }
        }
        Ok(())
    }

    fn document(&self, text: &[u8], rows: Vec<Row>) -> Result<Document, String> {
        let text = text.trim_ascii();
        let fields: Map<String, Value> = serde_json::from_slice(text).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => "not a JSON object".to_owned(),
            _ => format!("not JSON: {error}").replace(" at line 1 column ", " at column "),
        })?;
        let mut document = Document::new(self.id(&fields)?);
        for row in rows {
            document = match row.component {
                Component::F16 => document.vector_f16(row.name, row.bytes),
                Component::F32 => {
                    let values: Vec<f32> = components(row.component, &row.bytes).collect();
                    document.vector(row.name, values)
                }
            };
        }
        for texts in &self.texts {
            document = document.text(&texts.name, joined(&fields, &texts.fields)?);
        }
        Ok(document.payload_json(text.to_vec()))
    }

    fn id(&self, fields: &Map<String, Value>) -> Result<DocId, String> {
        let field = match &self.id {
            IdFrom::Line => return Ok(DocId::Number(self.lines)),
            IdFrom::Field(field) => field,
        };
        match fields.get(field) {
            None => Err(format!("no field {field:?} to take the id from")),
            Some(Value::String(text)) => DocId::from_text(text).map_err(|error| format!("field {field:?}: {error}")),
            Some(value) => match value.as_u64() {
                Some(number) => Ok(DocId::Number(number)),
                None => Err(format!(
                    "field {field:?}: {value}, must be a whole number from 0 or a text"
                )),
            },
        }
    }
}

/// The texts of the fields that there are, joined by a space.
fn joined(fields: &Map<String, Value>, names: &[String]) -> Result<String, String> {
    let mut parts: Vec<&str> = Vec::new();
    for name in names {
        match fields.get(name) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) => parts.push(text),
            Some(Value::Array(items)) => parts.extend(items.iter().filter_map(Value::as_str)),
            Some(other) => return Err(format!("field {name:?}: {other}, must be a text")),
        }
    }
    match parts.is_empty() {
        true => Err(format!("no text in {}", names.join(", "))),
        false => Ok(parts.join(" ")),
    }
}

/// Counts what is read, so that progress is told in bytes of the file also where it is compressed.
struct Counted<R> {
    inner: R,
    bytes: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
