//! What was said (and, or, not, at least), folded into must, should and must_not.

use granum_model::filter::{FILTER_CONDITIONS_MAX, FILTER_DEPTH_MAX};
use granum_model::{Condition, Filter};

use super::Mistake;

/// A filter as it was said.
#[derive(Debug)]
pub(super) enum Tree {
    /// One condition.
    One(Condition),
    /// Same element of a list of objects.
    Nested(String, Box<Tree>),
    /// All of these; none of them: everything.
    All(Vec<Tree>),
    /// At least so many of these.
    Some(u32, Vec<Tree>),
    /// Not this.
    Not(Box<Tree>),
}

/// The whole as a filter, within the bounds that every filter has.
pub(super) fn fold(tree: Tree) -> Result<Filter, Mistake> {
    let filter = filter(tree);
    let (depth, conditions) = measure(&filter);
    if depth > FILTER_DEPTH_MAX {
        return Err(Mistake::new(0, format!("{depth} levels, at most {FILTER_DEPTH_MAX}")));
    }
    if conditions > FILTER_CONDITIONS_MAX {
        let problem = format!("{conditions} conditions, at most {FILTER_CONDITIONS_MAX}");
        return Err(Mistake::new(0, problem));
    }
    Ok(filter)
}

fn filter(tree: Tree) -> Filter {
    let parts = match tree {
        Tree::All(parts) => parts,
        Tree::Some(at_least, parts) => return some(at_least, parts),
        other => vec![other],
    };
    // The one alternative among several parts is this filter's own `should`; a second would need a level of its own.
    let alternatives = parts.iter().filter(|part| matches!(part, Tree::Some(..))).count();
    let mut all = Filter::default();
    for part in parts {
        match part {
            Tree::Not(inner) => all.must_not.push(condition(*inner)),
            Tree::Some(at_least, parts) if alternatives == 1 => {
                let some = some(at_least, parts);
                (all.should, all.min_should) = (some.should, some.min_should);
            }
            part => all.must.push(condition(part)),
        }
    }
    all
}

/// `min_should` 0 says 1, so that equal filters are equal values.
fn some(at_least: u32, parts: Vec<Tree>) -> Filter {
    Filter {
        should: parts.into_iter().map(condition).collect(),
        min_should: if at_least == 1 { 0 } else { at_least },
        ..Filter::default()
    }
}

fn condition(tree: Tree) -> Condition {
    match tree {
        Tree::One(condition) => condition,
        Tree::Nested(key, inner) => Condition::Nested {
            key,
            filter: filter(*inner),
        },
        Tree::All(mut parts) if parts.len() == 1 => condition(parts.remove(0)),
        other => Condition::Filter(filter(other)),
    }
}

/// Depth and number of conditions, as every reader of a filter counts them.
fn measure(filter: &Filter) -> (usize, usize) {
    let lists = [&filter.must, &filter.should, &filter.must_not];
    lists
        .into_iter()
        .flatten()
        .fold((1, 0), |(depth, conditions), condition| {
            let (inner_depth, inner_conditions) = match condition {
                Condition::Filter(inner) | Condition::Nested { filter: inner, .. } => measure(inner),
                _ => (0, 0),
            };
            (depth.max(inner_depth + 1), conditions + 1 + inner_conditions)
        })
}
