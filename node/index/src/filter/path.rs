//! Which values does a path name? `a.b` descends into objects, `a[]` into every element of a list, `a[2]` into one of
//! them; `"a.b"` in quotes is one key. As in Qdrant, a list is entered only where the path says so.

use serde_json::Value;

/// Longest path, in steps.
const STEPS_MAX: usize = 64;

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Key(String),
    Each,
    At(usize),
}

/// A path that was read. At least one step.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Path {
    steps: Vec<Step>,
}

impl Path {
    /// `None` for what is no path.
    pub fn parse(text: &str) -> Option<Path> {
        let mut steps = Vec::new();
        let mut rest = text;
        loop {
            let (key, after) = key(rest)?;
            steps.push(Step::Key(key));
            rest = after;
            while let Some(inside) = rest.strip_prefix('[') {
                let (index, after) = inside.split_once(']')?;
                steps.push(if index.is_empty() {
                    Step::Each
                } else {
                    Step::At(index.parse().ok()?)
                });
                rest = after;
            }
            if steps.len() > STEPS_MAX {
                return None;
            }
            match rest.strip_prefix('.') {
                Some(after) => rest = after,
                None if rest.is_empty() => return Some(Path { steps }),
                None => return None,
            }
        }
    }

    /// The field of the root that the path goes through: paths begin with a key.
    pub fn field(&self) -> &str {
        match self.steps.first() {
            Some(Step::Key(key)) => key,
            _ => unreachable!("`parse` begins with a key"),
        }
    }

    /// The same path with `[]` at its end, if it is not there: the elements of a list.
    pub fn elements(mut self) -> Path {
        if self.steps.last() != Some(&Step::Each) {
            self.steps.push(Step::Each);
        }
        self
    }

    /// The path `rest` below each value that this one names.
    pub fn join(&self, rest: &Path) -> Path {
        let steps = self.steps.iter().chain(&rest.steps).cloned().collect();
        Path { steps }
    }

    /// Calls `visit` with each value that the path names, until it returns true; returns whether it did.
    pub fn any<'a>(&self, root: &'a Value, visit: &mut dyn FnMut(&'a Value) -> bool) -> bool {
        descend(&self.steps, root, visit)
    }
}

/// Reads a key, quoted or up to the next `.` or `[`.
fn key(text: &str) -> Option<(String, &str)> {
    if let Some(quoted) = text.strip_prefix('"') {
        let (key, rest) = quoted.split_once('"')?;
        return (!key.is_empty()).then(|| (key.to_owned(), rest));
    }
    let end = text.find(['.', '[']).unwrap_or(text.len());
    let (key, rest) = text.split_at(end);
    (!key.is_empty() && !key.contains([']', '"'])).then(|| (key.to_owned(), rest))
}

fn descend<'a>(steps: &[Step], value: &'a Value, visit: &mut dyn FnMut(&'a Value) -> bool) -> bool {
    let Some((step, rest)) = steps.split_first() else {
        return visit(value);
    };
    match (step, value) {
        (Step::Key(key), Value::Object(fields)) => fields.get(key).is_some_and(|field| descend(rest, field, visit)),
        (Step::Each, Value::Array(elements)) => elements.iter().any(|element| descend(rest, element, visit)),
        (Step::At(at), Value::Array(elements)) => {
            elements.get(*at).is_some_and(|element| descend(rest, element, visit))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[track_caller]
    fn check(path: &str, expected: &[Value]) {
        let root = json!({"a": {"b": 1, "c.d": 2}, "l": [{"x": 3}, {"x": [4, 5]}, 6], "n": null});
        let mut found = Vec::new();
        Path::parse(path).unwrap().any(&root, &mut |value| {
            found.push(value.clone());
            false
        });
        assert_eq!(found, expected, "{path}");
    }

    #[test]
    fn paths_name_values() {
        check("a.b", &[json!(1)]);
        check("a.\"c.d\"", &[json!(2)]);
        check("l[].x", &[json!(3), json!([4, 5])]);
        check("l[].x[]", &[json!(4), json!(5)]);
        check("l[1].x[0]", &[json!(4)]);
        check("l.x", &[]);
        check("a.b.c", &[]);
        check("n", &[json!(null)]);
        check("absent", &[]);
    }

    proptest! {
        #[test]
        fn what_the_model_takes_for_a_path_is_one(text in "[a-c.\\[\\]\"0-2]{0,12}") {
            prop_assert_eq!(granum_model::filter::is_path(&text), Path::parse(&text).is_some(), "{}", text);
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for text in [
            "", ".", "a.", ".a", "a..b", "a[", "a[x]", "a]", "a[]b", "\"a", "\"\"", "a\"b",
        ] {
            assert_eq!(Path::parse(text), None, "{text}");
        }
        assert_eq!(Path::parse(&"a.".repeat(100)), None);
    }
}
