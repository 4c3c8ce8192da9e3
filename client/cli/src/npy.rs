//! NumPy's .npy files, read row by row: is it one, of which shape, and is every number finite?
//!
//! Format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html> (magic, version, length of the header, a Python
//! dictionary, then the array). Taken: little-endian f16 and f32, C order, one or two dimensions. Never more than a row is in memory.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use half::f16;

/// Longest header taken; NumPy's own are under 200 bytes.
const HEADER_BYTES_MAX: usize = 64 << 10;
/// Bytes read at once.
const BUFFER_BYTES: usize = 1 << 20;

/// Why a file is not taken, or not on.
#[derive(Debug, thiserror::Error)]
pub enum NpyError {
    /// It can't be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is not what it should be.
    #[error("{path}: {problem}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// How a component is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// IEEE 754 binary16.
    F16,
    /// IEEE 754 binary32.
    F32,
}

impl Component {
    fn bytes(self) -> usize {
        match self {
            Component::F16 => 2,
            Component::F32 => 4,
        }
    }
}

/// Where an array is read from: a file, or bytes in memory.
pub trait Input: Read + Seek + Send {}

impl<T: Read + Seek + Send> Input for T {}

/// Vectors in a file, one a row.
pub struct Npy {
    path: PathBuf,
    input: Box<dyn Input>,
    component: Component,
    rows: u64,
    dimension: usize,
    next: u64,
    /// Where the first row begins.
    start: u64,
}

impl Npy {
    /// Opens a file and checks its header against its length.
    pub fn open(path: &Path) -> Result<Npy, NpyError> {
        let failed = |source| NpyError::Read {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        Npy::read(path, Box::new(BufReader::with_capacity(BUFFER_BYTES, file)), bytes)
    }

    /// Reads the header of `input`, which is `bytes` long; `path` is for messages.
    pub fn read(path: &Path, mut input: Box<dyn Input>, bytes: u64) -> Result<Npy, NpyError> {
        let problem = |problem: String| NpyError::Format {
            path: path.to_owned(),
            problem,
        };
        let header = read_header(&mut input).map_err(problem)?;
        let start = input.stream_position().map_err(|source| NpyError::Read {
            path: path.to_owned(),
            source,
        })?;
        let (component, rows, dimension) = parse_header(&header).map_err(problem)?;
        let row_bytes = dimension as u64 * component.bytes() as u64;
        let wanted = rows.checked_mul(row_bytes).and_then(|array| array.checked_add(start));
        if wanted != Some(bytes) {
            let wanted = wanted.map_or("more than any file".to_owned(), |wanted| format!("{wanted} bytes"));
            let verdict = "is it cut off?";
            return Err(problem(format!(
                "{bytes} bytes, but {rows} rows of {dimension} make {wanted}: {verdict}"
            )));
        }
        Ok(Npy {
            path: path.to_owned(),
            input,
            component,
            rows,
            dimension,
            next: 0,
            start,
        })
    }

    /// Number of rows.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Components a row.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// How a component is stored.
    pub fn component(&self) -> Component {
        self.component
    }

    /// Goes to a row; one past the last is the end.
    pub fn seek(&mut self, row: u64) -> Result<(), NpyError> {
        if row > self.rows {
            return Err(self.problem(format!("no row {row}, there are {}", self.rows)));
        }
        let offset = self.start + row * (self.dimension * self.component.bytes()) as u64;
        self.input
            .seek(SeekFrom::Start(offset))
            .map_err(|source| self.failed(source))?;
        self.next = row;
        Ok(())
    }

    /// The next row as it is stored, all components finite; `None` after the last one.
    pub fn next_row(&mut self) -> Result<Option<Vec<u8>>, NpyError> {
        if self.next == self.rows {
            return Ok(None);
        }
        let mut row = vec![0; self.dimension * self.component.bytes()];
        self.input.read_exact(&mut row).map_err(|source| self.failed(source))?;
        if let Some(at) = components(self.component, &row).position(|value| !value.is_finite()) {
            let problem = format!("row {}, component {at}: not a finite number", self.next);
            self.next += 1;
            return Err(self.problem(problem));
        }
        self.next += 1;
        Ok(Some(row))
    }

    /// The next row as single precision.
    pub fn next_f32(&mut self) -> Result<Option<Vec<f32>>, NpyError> {
        let row = self.next_row()?;
        Ok(row.map(|row| components(self.component, &row).collect()))
    }

    fn problem(&self, problem: String) -> NpyError {
        NpyError::Format {
            path: self.path.clone(),
            problem,
        }
    }

    fn failed(&self, source: std::io::Error) -> NpyError {
        NpyError::Read {
            path: self.path.clone(),
            source,
        }
    }
}

/// Components of a stored row.
pub fn components(component: Component, row: &[u8]) -> impl Iterator<Item = f32> {
    row.chunks_exact(component.bytes()).map(move |bytes| match component {
        Component::F16 => f16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
        Component::F32 => f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
    })
}

fn read_header(input: &mut impl Read) -> Result<String, String> {
    let short = |_| "too short for a .npy file".to_owned();
    let mut start = [0; 8];
    input.read_exact(&mut start).map_err(short)?;
    if &start[..6] != b"\x93NUMPY" {
        return Err("not a .npy file (it does not begin with \\x93NUMPY)".into());
    }
    let mut length = [0; 4];
    let length_bytes = match start[6] {
        1 => 2,
        2 | 3 => 4,
        version => return Err(format!("version {version} of the .npy format is not known")),
    };
    input.read_exact(&mut length[..length_bytes]).map_err(short)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > HEADER_BYTES_MAX {
        return Err(format!("a header of {length} bytes, at most {HEADER_BYTES_MAX}"));
    }
    let mut header = vec![0; length];
    input.read_exact(&mut header).map_err(short)?;
    String::from_utf8(header).map_err(|_| "the header is not text".into())
}

/// Component, rows and dimension of `{'descr': '<f2', 'fortran_order': False, 'shape': (5000, 384), }`.
fn parse_header(header: &str) -> Result<(Component, u64, usize), String> {
    let descr = entry(header, "descr").ok_or("the header names no descr")?;
    let component = match descr.trim_matches(['\'', '"']) {
        "<f2" => Component::F16,
        "<f4" => Component::F32,
        other => {
            return Err(format!(
                "components are {other}, must be <f2 or <f4 (float16 or float32)"
            ));
        }
    };
    match entry(header, "fortran_order").ok_or("the header names no fortran_order")? {
        "False" => {}
        _ => return Err("columns come first (fortran_order), rows must: save np.ascontiguousarray(a)".into()),
    }
    let shape = entry(header, "shape").ok_or("the header names no shape")?;
    let sizes = shape
        .trim_matches(['(', ')'])
        .split(',')
        .map(str::trim)
        .filter(|size| !size.is_empty());
    let sizes: Vec<u64> = sizes
        .map(str::parse)
        .collect::<Result<_, _>>()
        .map_err(|_| format!("shape {shape:?}"))?;
    let (rows, dimension) = match sizes[..] {
        [dimension] => (1, dimension),
        [rows, dimension] => (rows, dimension),
        _ => return Err(format!("shape {shape}, must be (rows, dimension)")),
    };
    let dimension_max = u64::from(granum_client::limits::DIMENSION_MAX);
    if dimension == 0 || dimension > dimension_max {
        return Err(format!("dimension {dimension}, must be 1..={dimension_max}"));
    }
    Ok((component, rows, dimension as usize))
}

/// The value of a key: up to the comma behind it, or the parenthesis that closes it.
fn entry<'h>(header: &'h str, key: &str) -> Option<&'h str> {
    let quoted = [format!("'{key}'"), format!("\"{key}\"")];
    let after = quoted
        .iter()
        .find_map(|quoted| Some(&header[header.find(quoted)? + quoted.len()..]))?;
    let value = after.trim_start().strip_prefix(':')?.trim_start();
    let end = match value.starts_with('(') {
        true => value.find(')')? + 1,
        false => value.find([',', '}'])?,
    };
    Some(value[..end].trim())
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn file(header: &str, array: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(array);
        bytes
    }

    fn open(bytes: Vec<u8>) -> Result<Npy, NpyError> {
        let length = bytes.len() as u64;
        Npy::read(Path::new("a.npy"), Box::new(Cursor::new(bytes)), length)
    }

    #[track_caller]
    fn refused(bytes: Vec<u8>, problem: &str) {
        let error = open(bytes).err().unwrap().to_string();
        assert!(error.contains(problem), "{error}");
    }

    const F32_2X2: &str = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }\n";

    fn array(values: [f32; 4]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    #[test]
    fn rows_come_in_order_and_again_after_a_seek() {
        let mut npy = open(file(F32_2X2, &array([1.0, 2.0, 3.0, 4.0]))).unwrap();
        assert_eq!((npy.rows(), npy.dimension(), npy.component()), (2, 2, Component::F32));
        assert_eq!(npy.next_f32().unwrap(), Some(vec![1.0, 2.0]));
        assert_eq!(npy.next_f32().unwrap(), Some(vec![3.0, 4.0]));
        assert_eq!(npy.next_f32().unwrap(), None);
        npy.seek(1).unwrap();
        assert_eq!(npy.next_f32().unwrap(), Some(vec![3.0, 4.0]));
        assert!(npy.seek(3).is_err());
    }

    #[test]
    fn half_precision_and_a_single_vector_are_taken() {
        let header = "{'descr': '<f2', 'fortran_order': False, 'shape': (3,)}";
        let mut npy = open(file(header, &[0, 0x3c, 0, 0x40, 0, 0])).unwrap();
        assert_eq!(npy.next_f32().unwrap(), Some(vec![1.0, 2.0, 0.0]));
    }

    #[test]
    fn a_row_that_is_not_finite_is_named_and_can_be_passed_over() {
        let mut npy = open(file(F32_2X2, &array([1.0, f32::NAN, 3.0, 4.0]))).unwrap();
        assert_eq!(
            npy.next_row().unwrap_err().to_string(),
            "a.npy: row 0, component 1: not a finite number"
        );
        assert_eq!(npy.next_f32().unwrap(), Some(vec![3.0, 4.0]));
    }

    #[test]
    fn hostile_files_are_refused_before_anything_is_read() {
        let swap = |from: &str, to: &str| file(&F32_2X2.replace(from, to), &array([0.0; 4]));
        refused(Vec::new(), "too short");
        refused(b"PK\x03\x04aaaaaaaaaa".to_vec(), "not a .npy file");
        refused(b"\x93NUMPY\x09\x00aa".to_vec(), "version 9");
        refused(
            b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec(),
            "a header of 4294967295 bytes",
        );
        refused(b"\x93NUMPY\x01\x00\xff\xff".to_vec(), "too short");
        refused(swap("<f4", ">f4"), "components are >f4");
        refused(swap("<f4", "|O"), "components are |O");
        refused(swap("False", "True"), "fortran_order");
        refused(swap("(2, 2)", "(2, 2, 1)"), "must be (rows, dimension)");
        refused(swap("(2, 2)", "(2, 0)"), "dimension 0");
        refused(swap("(2, 2)", "(-1, 2)"), "shape");
        refused(swap("(2, 2)", "(3, 2)"), "is it cut off?");
        refused(swap("(2, 2)", "(18446744073709551615, 8192)"), "more than any file");
        refused(swap("'shape'", "'form'"), "no shape");
        let mut cut = file(F32_2X2, &array([0.0; 4]));
        cut.pop();
        refused(cut, "is it cut off?");
    }
}
