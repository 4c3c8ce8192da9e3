//! Where do the links of a Markdown file lead? To files, folders and headings of this tree; the world outside is not asked.

use crate::tree::File;

/// A link that leads into the tree.
pub struct Link {
    pub line: usize,
    /// As written, without the part after `#`; empty for a heading of the same file.
    pub path: String,
    /// The part after `#`.
    pub heading: Option<String>,
}

/// The relative links of a Markdown file, code left out.
pub fn links(file: &File) -> Vec<Link> {
    let mut found = Vec::new();
    for (line, text) in outside_fences(file) {
        for target in without_code(text).split("](").skip(1) {
            let target = target
                .split([')', ' '])
                .next()
                .unwrap_or_default()
                .trim_matches(['<', '>']);
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, heading) = match target.split_once('#') {
                Some((path, heading)) => (path, Some(heading.to_owned())),
                None => (target, None),
            };
            found.push(Link {
                line,
                path: path.to_owned(),
                heading,
            });
        }
    }
    found
}

/// The names by which a file's headings are linked to.
pub fn headings(file: &File) -> Vec<String> {
    let lines = outside_fences(file).filter(|(_, text)| text.starts_with('#'));
    lines
        .map(|(_, text)| slug(text.trim_start_matches('#').trim()))
        .collect()
}

/// `folder/../other` -> `other`, relative to the root; `None` if it leaves the tree.
pub fn resolve(from: &str, path: &str) -> Option<String> {
    let folder = from.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut parts: Vec<&str> = if path.starts_with('/') {
        Vec::new()
    } else {
        folder.split('/').collect()
    };
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.retain(|part| !part.is_empty());
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    parts.retain(|part| !part.is_empty());
    Some(parts.join("/"))
}

fn outside_fences(file: &File) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    file.lines().filter(move |(_, text)| {
        let fence = text.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// The text between backticks is not a link.
fn without_code(text: &str) -> String {
    if text.matches('`').count() % 2 == 1 {
        return text.to_owned();
    }
    text.split('`').step_by(2).collect::<Vec<_>>().join("`")
}

fn slug(heading: &str) -> String {
    let kept = heading
        .chars()
        .filter(|character| character.is_alphanumeric() || matches!(character, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_resolved_from_their_file() {
        assert_eq!(resolve("docs/a.md", "../b.md").as_deref(), Some("b.md"));
        assert_eq!(resolve("a.md", "docs/./b.md").as_deref(), Some("docs/b.md"));
        assert_eq!(resolve("docs/a.md", "/b.md").as_deref(), Some("b.md"));
        assert_eq!(resolve("a.md", "../b.md"), None);
    }
}
