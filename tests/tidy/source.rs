//! What of a Rust file is code? Comments and literals are blanked, so that a rule about code does not trip over prose.
//!
//! This is no parser: it knows just enough of Rust's lexical rules. A macro's body counts as code.

/// `text` with comments, strings and characters replaced by spaces; lines and offsets stay.
pub fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        match end_of_prose(bytes, at) {
            Some(end) => {
                blank(&mut code[at..end]);
                at = end;
            }
            None => at += 1,
        }
    }
    String::from_utf8(code).expect("whole comments and literals were blanked, so no character is cut")
}

/// `code` without the items under `#[cfg(test)]`.
pub fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut left = code.as_bytes().to_vec();
    let mut from = 0;
    while let Some(found) = code[from..].find(MARK) {
        let start = from + found;
        let end = end_of_item(code.as_bytes(), start + MARK.len());
        blank(&mut left[start..end]);
        from = end;
    }
    String::from_utf8(left).expect("whole items were blanked, so no character is cut")
}

/// Whether the code names the package `name`: `name::...`, `use name;`, but not `ours::name::...` nor `its_name::...`.
pub fn names_package(code: &str, name: &str) -> Option<usize> {
    words(code, name).find(|&at| {
        let before = code[..at].trim_end();
        let after = code[at + name.len()..].trim_start();
        let ours = before.strip_suffix("::").is_some_and(|path| path.ends_with(is_word));
        let used = before.ends_with("use") || before.ends_with("extern crate");
        !ours && (after.starts_with("::") || used && after.starts_with([';', ' ', 'a']))
    })
}

/// Where `word` stands alone in the code.
pub fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |&at| !code[..at].ends_with(is_word) && !code[at + word.len()..].starts_with(is_word))
}

/// The line of the offset `at`, from 1.
pub fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn blank(part: &mut [u8]) {
    for byte in part.iter_mut().filter(|byte| **byte != b'\n') {
        *byte = b' ';
    }
}

/// The end of the comment or literal that begins at `at`, if one does.
fn end_of_prose(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    match rest[0] {
        b'/' if rest.starts_with(b"//") => Some(find(bytes, at, b"\n").unwrap_or(bytes.len())),
        b'/' if rest.starts_with(b"/*") => Some(end_of_block(bytes, at)),
        b'"' => Some(end_of_string(bytes, at)),
        b'r' => end_of_raw_string(bytes, at),
        b'\'' => end_of_character(bytes, at),
        _ => None,
    }
}

fn end_of_block(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// `r"..."`, `r#"..."#`, also after `b` and `c`; not the `r` at the end of another word.
fn end_of_raw_string(bytes: &[u8], start: usize) -> Option<usize> {
    let before = &bytes[..start];
    let before = before
        .strip_suffix(b"b")
        .or(before.strip_suffix(b"c"))
        .unwrap_or(before);
    if before
        .last()
        .is_some_and(|&byte| byte.is_ascii_alphanumeric() || byte == b'_')
    {
        return None;
    }
    let hashes = bytes[start + 1..].iter().take_while(|&&byte| byte == b'#').count();
    let open = start + 1 + hashes;
    if bytes.get(open) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'"'];
    close.extend(std::iter::repeat_n(b'#', hashes));
    Some(find(bytes, open + 1, &close).map_or(bytes.len(), |at| at + close.len()))
}

/// `'x'` and `'\n'` are characters, `'a` is a lifetime.
fn end_of_character(bytes: &[u8], start: usize) -> Option<usize> {
    if bytes.get(start + 1) == Some(&b'\\') {
        return find(bytes, start + 3, b"'").map(|at| at + 1);
    }
    let text = std::str::from_utf8(&bytes[start + 1..]).ok()?;
    let close = start + 1 + text.chars().next()?.len_utf8();
    (bytes.get(close) == Some(&b'\'')).then_some(close + 1)
}

/// The end of the item that begins at or after `start`: its `;`, or the brace that closes its body.
fn end_of_item(code: &[u8], start: usize) -> usize {
    let mut depth = 0;
    for (at, byte) in code.iter().enumerate().skip(start) {
        match byte {
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => {
                depth -= 1;
                if depth == 0 && *byte == b'}' {
                    return at + 1;
                }
            }
            b';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

fn find(bytes: &[u8], from: usize, wanted: &[u8]) -> Option<usize> {
    let rest = bytes.get(from..)?;
    rest.windows(wanted.len())
        .position(|window| window == wanted)
        .map(|at| from + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_is_not_code() {
        let text = "let a = \"unsafe\"; // unsafe\n/* unsafe /* nested */ unsafe */ let b = r#\"un\"safe\"#; let c: &'a str = '\\''; unsafe";
        let code = code(text);
        assert_eq!(code.len(), text.len());
        assert_eq!(words(&code, "unsafe").count(), 1);
        assert!(code.contains("&'a str"));
    }

    #[test]
    fn items_for_tests_are_not_product() {
        let code = "fn a() {} #[cfg(test)] mod tests { fn b() { c([1; 2]); } } fn d() {} #[cfg(test)] use e; fn f() {}";
        let product = without_tests(code);
        assert!(
            ["fn a", "fn d", "fn f"].iter().all(|kept| product.contains(kept)),
            "{product}"
        );
        assert!(
            ["fn b", "use e", "mod tests"]
                .iter()
                .all(|gone| !product.contains(gone)),
            "{product}"
        );
    }

    #[test]
    fn a_package_is_known_by_its_paths() {
        for code in [
            "use sled::Db;",
            "sled::open()",
            "use sled;",
            "use {sled::Db}",
            "::sled::open()",
            "use sled as store;",
        ] {
            assert!(names_package(code, "sled").is_some(), "{code}");
        }
        for code in [
            "use unsled::Db;",
            "sled_path()",
            "crate::disk::sled::open()",
            "let sled = 1;",
            "sledge::hammer()",
        ] {
            assert!(names_package(code, "sled").is_none(), "{code}");
        }
    }
}
