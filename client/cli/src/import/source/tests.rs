//! Which line is taken, with which row, and what is said of the others?

use std::io::Cursor;

use super::*;

fn npy(rows: &[f32]) -> Npy {
    let header = format!(
        "{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, 1)}}",
        rows.len()
    );
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(rows.iter().flat_map(|value| value.to_le_bytes()));
    let length = bytes.len() as u64;
    Npy::read(Path::new("v.npy"), Box::new(Cursor::new(bytes)), length).unwrap()
}

fn source(text: &str, rows: Option<&[f32]>) -> Source {
    let vectors = rows.into_iter().map(|rows| Vectors {
        name: String::new(),
        npy: npy(rows),
    });
    let id = IdFrom::Field("id".into());
    Source::read(Cursor::new(text.to_owned()), false, id, Vec::new(), vectors.collect()).unwrap()
}

/// Number and row of each line, with what is wrong with it.
fn lines(source: &mut Source) -> Vec<(u64, u64, Option<String>)> {
    let mut lines = Vec::new();
    while let Some(line) = source.next().unwrap() {
        lines.push((line.number, line.row, line.document.err()));
    }
    lines
}

#[test]
fn bad_lines_are_told_by_number_and_use_up_their_row() {
    let text = "{\"id\": 1}\n\n{\"id\": -1}\n[1]\n{\"id\": \"\"}\n{\"x\": 1}\n{\"id\": 2";
    let found = lines(&mut source(text, Some(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0])));
    let wanted = [
        (1, 0, None),
        (3, 1, Some("field \"id\": -1, must be a whole number from 0 or a text")),
        (4, 2, Some("not a JSON object")),
        (5, 3, Some("field \"id\": id: must not be empty")),
        (6, 4, Some("no field \"id\" to take the id from")),
        (7, 5, Some("not JSON: EOF while parsing an object at column 8")),
    ];
    let wanted = wanted.map(|(line, row, problem)| (line, row, problem.map(str::to_owned)));
    assert_eq!(found, wanted);
}

#[test]
fn a_vector_that_is_not_finite_makes_its_line_bad() {
    let found = lines(&mut source("{\"id\": 1}\n{\"id\": 2}", Some(&[f32::NAN, 1.0])));
    assert!(found[0].2.as_ref().unwrap().contains("row 0, component 0"), "{found:?}");
    assert_eq!(found[1].2, None);
}

#[test]
fn rows_and_lines_must_be_as_many() {
    let mut short = source("{\"id\": 1}\n{\"id\": 2}", Some(&[1.0]));
    assert!(short.next().unwrap().is_some());
    assert!(short.next().err().unwrap().to_string().contains("only 1 vectors"));
    let mut long = source("{\"id\": 1}", Some(&[1.0, 2.0]));
    assert!(long.next().unwrap().is_some());
    assert!(
        long.next()
            .err()
            .unwrap()
            .to_string()
            .contains("1 lines, but 2 vectors")
    );
}

#[test]
fn going_on_gives_the_lines_that_were_left() {
    let text = "{\"id\": 1}\n\n{\"id\": 2}\n{\"id\": 3}\n";
    let all = lines(&mut source(text, Some(&[1.0, 2.0, 3.0])));
    let mut rest = source(text, Some(&[1.0, 2.0, 3.0]));
    rest.skip(3, 2).unwrap();
    assert_eq!(lines(&mut rest), all[2..]);
    assert!(source(text, None).skip(9, 9).is_err());
}

#[test]
fn a_line_too_long_is_passed_over_without_being_held() {
    let text = format!(
        "{{\"id\": 1, \"x\": \"{}\"}}\n{{\"id\": 2}}\n",
        "y".repeat(LINE_BYTES_MAX)
    );
    let found = lines(&mut source(&text, None));
    assert_eq!(found[0].2, Some(format!("longer than {LINE_BYTES_MAX} bytes")));
    assert_eq!((found[1].0, found[1].2.clone()), (2, None));
}

#[test]
fn texts_are_joined_in_the_order_asked() {
    let fields = serde_json::from_str(r#"{"a": "x", "b": ["y", "z"], "c": null, "n": 1}"#).unwrap();
    let joined = |names: &str| {
        let names: Vec<String> = names.split(',').map(str::to_owned).collect();
        super::joined(&fields, &names)
    };
    assert_eq!(joined("b,a,c,d").unwrap(), "y z x");
    assert_eq!(joined("c,d").unwrap_err(), "no text in c, d");
    assert_eq!(joined("n").unwrap_err(), "field \"n\": 1, must be a text");
}
